"""A network of its own for HyperQueue's server, since the Python package starts one without a key.

Its server listens on all addresses of the machine, and `access.json` has no key: any process that reaches one of two
ports may submit a program that runs as you. So server, worker and tasks live in a network namespace that has loopback
alone. No other process can reach it, those of the machine's other users included. Linux gives one to every user,
through a user namespace, unless the administrator has switched that off (user_namespaces(7), network_namespaces(7)).
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import subprocess
from collections.abc import Sequence

from benchmarks.spec import BenchmarkError, first_line

UNSHARE = ("unshare", "--user", "--map-root-user", "--net", "--uts", "--")
LOOPBACK = b"lo"
IFF_UP, SIOCGIFFLAGS, SIOCSIFFLAGS = 0x1, 0x8913, 0x8914  # from linux/if.h and linux/sockios.h
REQUEST = "16sH22x"  # struct ifreq: the interface's name, and its flags


def command(words: Sequence[str]) -> list[str]:
    """Return a command that starts in a network of its own; it calls `enter` first."""
    return [*UNSHARE, *words]


def require() -> None:
    """Refuse a machine that gives no network namespace.

    Raises:
        BenchmarkError: the reason, and another way to run the trials.
    """
    try:
        done = subprocess.run(command(["true"]), capture_output=True, text=True, check=False)
        fault = done.stderr.strip() if done.returncode else ""
    except OSError as error:
        fault = first_line(error)
    if fault:
        raise BenchmarkError(
            f"HyperQueue's server would listen without a key, so it needs a network of its own, and this machine gives "
            f"none ({fault}); train the trials by `slurm array` or `slurm serial`, or ask the administrator for user "
            "namespaces"
        )


def enter() -> None:
    """Take up the network that this process was started in: its loopback is up, and the machine is called localhost.

    The server tells its worker and clients the machine's name, which the network outside resolves to another address.

    Raises:
        RuntimeError: there is an interface beside loopback, so this is no network of its own.
    """
    others = [name for _, name in socket.if_nameindex() if name.encode() != LOOPBACK and _is_up(name.encode())]
    if others:
        raise RuntimeError(f"interface {others[0]} is up: this process has no network of its own")
    socket.sethostname("localhost")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack(REQUEST, LOOPBACK, _flags(LOOPBACK) | IFF_UP))
    os.environ["HF_HUB_OFFLINE"] = "1"  # nothing answers, and the hub's library would wait for it


def _is_up(interface: bytes) -> bool:
    return bool(_flags(interface) & IFF_UP)


def _flags(interface: bytes) -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        answer = fcntl.ioctl(any_socket, SIOCGIFFLAGS, struct.pack(REQUEST, interface, 0))
    return int(struct.unpack(REQUEST, answer)[1])
