"""Ray's helper processes that a study on one machine has no use for."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

from ray._private import parameter

NO_ADDRESS, NO_PROCESS = "", None


@contextmanager
def no_helpers() -> Iterator[None]:
    """Let `ray.init` start no autoscaler, log monitor and API server meanwhile; it has no such arguments itself.

    The autoscaler has no other machine to start, and heeds no SIGTERM: Ray's shutdown waits a second for it. The log
    monitor brings workers' output to drivers that print it, and a study's driver does not. The API server is started
    for a report on the usage alone where the dashboard is off, and `ray.init` waits more than a second for it.
    """
    no_services = functools.partial(parameter.RayParams, no_monitor=True, include_log_monitor=False)
    with (
        patch("ray._private.parameter.RayParams", no_services),
        patch("ray._private.services.start_api_server", lambda *_, **__: (NO_ADDRESS, NO_PROCESS)),
    ):
        yield
