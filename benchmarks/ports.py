"""Find ports that no process listens on."""

from __future__ import annotations

import socket

LOOPBACK = "127.0.0.1"
ALL_INTERFACES = ""


def free_port(host: str = LOOPBACK) -> int:
    """Return a port that was free a moment ago; a server that can listen on port 0 should do that instead.

    Args:
        host: the interface on which the port is to be free.
    """
    return free_ports(1, host)[0]


def free_ports(number: int, host: str = LOOPBACK) -> list[int]:
    """Return different ports that were free at once, a moment ago."""
    probes = [socket.socket() for _ in range(number)]
    try:
        for probe in probes:
            probe.bind((host, 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()
