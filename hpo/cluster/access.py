"""Access to a Ray: processes that know its token, and on one machine only those of this machine.

A Ray by itself listens on all interfaces of a machine, keeps its sockets and logs in a folder that all may write,
and takes its token from a file that it leaves in the home folder. Imports no Ray: SLURM jobs settle the token first.
"""

from __future__ import annotations

import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from benchmarks.clock import REAL

LOOPBACK = "127.0.0.1"
PREFIX = "hpo-ray-"
NEW_SECONDS = 60.0
PLACES = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 - for a folder of our own, on the machine itself
MAX_SOCKET_BYTES = 107
"""Bytes that the path of a Unix socket may have, see unix(7)."""
_LONGEST = f"/{PREFIX}12345678/ray/session_2026-01-31_12-00-00_123456_4194304/sockets/plasma_store"
"""The longest path of a socket of Ray's below the place of its folder."""


def new_token() -> str:
    """Draw a token that cannot be guessed."""
    return secrets.token_hex(32)


def authentication(token: str) -> dict[str, str]:
    """Return variables that make Ray ask for the token, and know it; only its owner can read an environment."""
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}


@contextmanager
def private() -> Iterator[dict[str, Any]]:
    """Settle the token, address and folder of a Ray on this machine before it starts; return arguments of `ray.init`.

    The token is new each time, under any RAY_AUTH_MODE and RAY_AUTH_TOKEN: no other process has to know it, and a Ray
    without one runs any code that reaches it. Afterwards variables and settings are as they were.
    """
    from ray._private import ray_constants

    variables, is_clustered = authentication(new_token()), ray_constants.ENABLE_RAY_CLUSTER
    before = {name: os.environ.get(name) for name in variables}
    where = place_for_sockets(os.environ.get("RAY_TMPDIR", ""), os.environ.get("TMPDIR", ""))
    with temporary_folder(where) as folder:
        os.environ |= variables
        _read_token_again()
        ray_constants.ENABLE_RAY_CLUSTER = False  # else `ray.init` takes another interface in place of loopback
        try:
            yield {"_node_ip_address": LOOPBACK, "_temp_dir": str(folder)}
        finally:
            ray_constants.ENABLE_RAY_CLUSTER = is_clustered
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})
            _read_token_again()


def place_for_sockets(*wanted: str) -> str:
    """Return the first of these folders in which Ray can make its sockets, or else a short one of this machine.

    Prints a warning where a wanted folder cannot be taken.

    Args:
        wanted: folders in order of preference; empty ones are left out.
    """
    given = [place for place in wanted if place]
    faults = {place: _fault(place) for place in given}
    found = next((place for place in [*given, *PLACES] if not _fault(place)), PLACES[0])
    if given and found != given[0]:
        print(f"warning: Ray's files lie in {found}, since {faults[given[0]]}", file=sys.stderr)
    return found


def _fault(place: str) -> str:
    """Return why Ray cannot make sockets in a folder; empty if it can."""
    if not os.path.isdir(place) or not os.access(place, os.W_OK | os.X_OK):
        return f"{place} is no folder that can be written"
    room = MAX_SOCKET_BYTES - len(_LONGEST)
    if len(os.fsencode(place)) > room:
        return f"{place} is longer than the {room} bytes that leave room for the name of a socket"
    return ""


@contextmanager
def temporary_folder(where: str) -> Iterator[Path]:
    """Make a folder for Ray's sockets and logs, for its owner alone, deleted at the end.

    Folders of killed drivers are deleted first: their locks ended with them.

    Args:
        where: the folder to make it in, see `place_for_sockets`.
    """
    for left in Path(where).glob(f"{PREFIX}*"):
        _delete_if_left(left)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=where))  # mode 700
    with FileLock(folder / "lock"):
        try:
            yield folder / "ray"  # Ray opens the folder that it is given to every user, so it gets one within
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _delete_if_left(folder: Path) -> None:
    with suppress(Timeout, OSError):  # it is in use, or gone by now
        status, is_ours = folder.stat(), (folder / "lock").is_file()
        is_new = REAL.epoch() - status.st_mtime < NEW_SECONDS  # and may not be locked yet
        if is_ours and status.st_uid == os.getuid() and not is_new:
            with FileLock(folder / "lock", timeout=0):
                shutil.rmtree(folder, ignore_errors=True)


def _read_token_again() -> None:
    """Make Ray read the variables again, which it does only on import."""
    from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]  # compiled

    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()
