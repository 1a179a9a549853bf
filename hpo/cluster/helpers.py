"""Ray's helper processes that a study on one machine has no use for."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager

from ray._private import parameter


@contextmanager
def no_helpers() -> Iterator[None]:
    """Let `ray.init` start neither the autoscaler nor the log monitor meanwhile; it has no such arguments itself.

    The autoscaler has no other machine to start, and heeds no SIGTERM: Ray's shutdown waits a second for it. The log
    monitor brings workers' output to drivers that print it, and a study's driver does not.
    """
    original = parameter.RayParams
    parameter.RayParams = functools.partial(original, no_monitor=True, include_log_monitor=False)
    try:
        yield
    finally:
        parameter.RayParams = original
