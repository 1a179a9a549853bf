"""Ray ends the process that releases one of its objects while it shuts down; the driver must not."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from filelock import FileLock

from hpo.cluster import access as ray_access

REPOSITORY = Path(__file__).parents[3]
DRIVER = """
import gc, ray
from ray._private.worker import global_worker
from hpo.cluster.ray import detect, ray_cluster


class Worker:
    '''Ray's worker; as its shutdown ends, an object of Ray is in a cycle, and Python looks for such, if it may.'''

    def __init__(self, worker):
        self.worker, self.held = worker, [ray.put(1)]

    def __getattr__(self, name):
        return getattr(self.worker, name)

    def shutdown_driver(self):
        self.worker.shutdown_driver()
        self.held.append(self.held)
        del self.held
        if gc.isenabled():
            gc.collect()


with ray_cluster(detect()):
    global_worker.core_worker = Worker(global_worker.core_worker)
    SHUT_DOWN
assert gc.isenabled() and not ray.is_initialized()
print("ended well")
"""


def drive(shut_down: str) -> subprocess.CompletedProcess[str]:
    code = DRIVER.replace("SHUT_DOWN", shut_down)
    return subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_a_collection_of_garbage_in_mid_shutdown_does_not_end_the_process() -> None:
    done = drive("pass")
    assert (done.returncode, done.stdout) == (0, "ended well\n"), done.stderr


@pytest.mark.thorough  # it shows that the test above can fail
@pytest.mark.slow
def test_ray_s_own_shutdown_ends_it() -> None:
    done = drive("ray.shutdown()")
    assert (done.returncode, done.stdout) == (1, ""), "Ray no longer does: _shut_down_ray may go"


HELPERS = """
import psutil, ray, time
from ray._private import parameter
from hpo.cluster.ray import detect, ray_cluster

original = parameter.RayParams
with ray_cluster(detect()) as cluster:
    scripts = " ".join(word for child in psutil.Process().children() for word in child.cmdline())
    assert ray.get(ray.remote(lambda: 1).remote()) == 1
    assert not cluster.fault, cluster.fault
    assert parameter.RayParams is original
assert "gcs_server" in scripts
assert "monitor.py" not in scripts, scripts
"""


@pytest.mark.slow
def test_neither_an_autoscaler_nor_a_log_monitor_runs_for_one_machine() -> None:
    done = subprocess.run([sys.executable, "-c", HELPERS], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_nothing_of_ray_s_stays_in_the_temporary_folder() -> None:
    with tempfile.TemporaryDirectory(prefix="hpo-") as folder:  # a short path: Ray's sockets lie in it
        code = "from hpo.cluster import ray\nwith ray.ray_cluster(ray.detect()): ..."
        subprocess.run(
            [sys.executable, "-c", code], cwd=REPOSITORY, env={**os.environ, "RAY_TMPDIR": folder}, check=True
        )
        assert list(Path(folder).iterdir()) == []


def test_what_a_killed_driver_has_left_there_goes_with_the_next_one(tmp_path: Path) -> None:
    long_ago = time.time() - 2 * ray_access.NEW_SECONDS
    left, in_use, unknown = (tmp_path / f"{ray_access.PREFIX}{name}" for name in ("left", "in-use", "unknown"))
    for folder in (left, in_use, unknown):
        (folder / "ray").mkdir(parents=True)
    (left / "lock").touch()
    with FileLock(in_use / "lock"):
        for folder in tmp_path.iterdir():
            os.utime(folder, (long_ago, long_ago))
        with ray_access.temporary_folder(str(tmp_path)) as mine:
            assert set(tmp_path.iterdir()) == {in_use, unknown, mine.parent}
        assert set(tmp_path.iterdir()) == {in_use, unknown}
