"""Addresses that other nodes reach, and those that they do not."""

from __future__ import annotations

import socket

import psutil
import pytest

from benchmarks.spec import BenchmarkError
from slurm.jobs import network


@pytest.mark.parametrize("address", ["127.0.0.1:6379", "127.0.1.1:6379", "[::1]:6379", "localhost:6379"])
def test_a_loopback_address_is_refused_with_the_keys_that_mend_it(address: str) -> None:
    with pytest.raises(BenchmarkError, match=r"no other node can reach.*`interface:`.*`address:`"):
        network.require_reachable(address)


@pytest.mark.parametrize("address", ["10.1.2.3:6379", "[fe80::1]:6379", "192.168.0.7:1"])
def test_an_address_of_a_network_is_taken(address: str) -> None:
    network.require_reachable(address)


def addresses() -> list[tuple[str, str]]:
    """This machine's interfaces that others reach, with their addresses."""
    return [
        (name, address.address)
        for name, found in psutil.net_if_addrs().items()
        for address in found
        if address.family == socket.AF_INET and name != "lo"
    ]


def test_nothing_asked_for_is_left_to_ray() -> None:
    assert network.own_address("", "") == ""


@pytest.mark.skipif(not addresses(), reason="this machine has no network but loopback")
def test_an_interface_or_a_network_names_this_node_s_address() -> None:
    name, address = addresses()[0]
    assert network.own_address(name, "") == address
    assert network.own_address("", f"{address}/24") == address
    assert network.own_address("", address) == address
    assert network.own_address(name, "0.0.0.0/0") == address


@pytest.mark.parametrize(("interface", "asked"), [("none0", "interface none0"), ("", "address 203.0.113.0/24")])
def test_what_a_node_lacks_is_refused_with_what_it_has(interface: str, asked: str) -> None:
    with pytest.raises(BenchmarkError, match=rf"asks for {asked}, but node .* has .*lo \(127.0.0.1\)"):
        network.own_address(interface, "" if interface else "203.0.113.0/24")


def test_loopback_is_no_address_of_a_network() -> None:
    with pytest.raises(BenchmarkError, match="asks for interface lo"):
        network.own_address("lo", "")
