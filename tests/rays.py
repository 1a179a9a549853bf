"""A Ray within the test's own process, for tests of many small studies."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest

REPOSITORY = Path(__file__).parent.parent


@contextmanager
def ray_of(devices: int, *by_value: ModuleType) -> Iterator[None]:
    """A Ray on loopback with some of this machine's cores, which are all that a study sees.

    Args:
        devices: how many cores.
        by_value: modules whose classes Ray's workers get with what is sent to them, and do not import.
    """
    import ray
    from ray import cloudpickle

    from hpo.cluster.helpers import no_helpers

    cores = os.sched_getaffinity(0)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))  # workers change their directory before they import hpo
        os.sched_setaffinity(0, sorted(cores)[:devices])
        for module in by_value:
            cloudpickle.register_pickle_by_value(module)
        with no_helpers():
            ray.init(
                address="local",
                num_cpus=devices,
                include_dashboard=False,
                log_to_driver=False,
                object_store_memory=100 * 2**20,
                _node_ip_address="127.0.0.1",
            )
        try:
            yield
        finally:
            ray.shutdown()
            for module in by_value:
                cloudpickle.unregister_pickle_by_value(module)
            os.sched_setaffinity(0, cores)
