"""The address at which a node's Ray listens: one that the other nodes reach."""

from __future__ import annotations

import ipaddress
import socket

import psutil

from benchmarks.spec import BenchmarkError
from slurm.processes import node_name

HOW_TO_MEND = (
    "name the cluster's network in the profile, by `interface:` (such as ib0) or by `address:` (such as 10.1.0.0/16)"
)


def own_address(interface: str, network: str) -> str:
    """Return this node's IPv4 address on the cluster's network; empty where the profile names none.

    Args:
        interface: name of a network interface, or empty.
        network: an address, or a network such as 10.1.0.0/16, or empty.

    Raises:
        BenchmarkError: this node has no such interface, or no address in the network.
    """
    if not (interface or network):
        return ""
    there = _addresses()
    found = there.get(interface, []) if interface else [address for own in there.values() for address in own]
    if network:
        wanted = ipaddress.ip_network(network, strict=False)
        found = [address for address in found if ipaddress.ip_address(address) in wanted]
    found = [address for address in found if not ipaddress.ip_address(address).is_loopback]
    if not found:
        asked = " and ".join(f"{key} {text}" for key, text in (("interface", interface), ("address", network)) if text)
        has = ", ".join(f"{name} ({', '.join(own)})" for name, own in there.items()) or "no IPv4 address at all"
        raise BenchmarkError(f"the profile asks for {asked}, but node {node_name()} has {has}")
    return found[0]


def _addresses() -> dict[str, list[str]]:
    """Return this node's IPv4 addresses by interface; interfaces without one are left out."""
    found = {
        name: [address.address for address in addresses if address.family == socket.AF_INET]
        for name, addresses in psutil.net_if_addrs().items()
    }
    return {name: own for name, own in found.items() if own}


def require_reachable(address: str) -> None:
    """Refuse an address at which a process on another node would find itself.

    Args:
        address: host and port of Ray's head.

    Raises:
        BenchmarkError: a loopback address.
    """
    host = address.rpartition(":")[0].strip("[]") or address
    if is_loopback(host):
        raise BenchmarkError(
            f"Ray's head on node {node_name()} listens at {address}, which no other node can reach: a loopback "
            f"address; {HOW_TO_MEND}"
        )


def is_loopback(host: str) -> bool:
    """Tell whether a host's name or address means the machine that asks."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        pass
    try:
        return ipaddress.ip_address(socket.gethostbyname(host)).is_loopback
    except (OSError, ValueError):
        return False
