"""The process that has started this one: its end is this one's end too."""

from __future__ import annotations

import ctypes
import os
import signal

PR_SET_PDEATHSIG = 1  # from linux/prctl.h


def end_with_parent(by: signal.Signals = signal.SIGTERM) -> None:
    """Have this process receive a signal when its parent dies, where the system can do that (Linux).

    A signal to `mlflow run` or to a launcher alone ends it, but not the process that it has started.

    Args:
        by: the signal.
    """
    parent = os.getppid()
    try:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, by)
    except (OSError, AttributeError):
        return
    if os.getppid() != parent:  # it has died meanwhile
        signal.raise_signal(by)
