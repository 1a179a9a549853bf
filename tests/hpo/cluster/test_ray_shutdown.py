"""Ray ends the process that releases one of its objects while it shuts down; the driver must not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from filelock import FileLock

from hpo.cluster import access as ray_access

REPOSITORY = Path(__file__).parents[3]
DRIVER = """
import gc, json, os, psutil, ray
from ray._private import parameter
from ray._private.worker import global_worker
from hpo.cluster.actors import ActorClasses
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


class Actor:
    def process(self):
        return os.getpid()


original = parameter.RayParams
with ray_cluster(detect()) as cluster:
    helpers = [word for child in psutil.Process().children() for word in child.cmdline()]
    waiting = [child.pid for child in psutil.Process().children(recursive=True)]
    taken = ray.get(ActorClasses().get(Actor).remote().process.remote())
    assert ray.get(ray.remote(lambda: 1).remote()) == 1
    assert not cluster.fault, cluster.fault
    assert parameter.RayParams is original
    global_worker.core_worker = Worker(global_worker.core_worker)
    SHUT_DOWN
assert gc.isenabled() and not ray.is_initialized()
print(json.dumps({"helpers": helpers, "has_waited": taken in waiting}))
"""


@dataclass(frozen=True)
class Driven:
    """A process that has started a Ray and shut it down.

    Attributes:
        done: its exit status and its output.
        left: names in Ray's temporary folder after its end.
    """

    done: subprocess.CompletedProcess[str]
    left: list[str]


def drive(shut_down: str) -> Driven:
    code = DRIVER.replace("SHUT_DOWN", shut_down)
    with tempfile.TemporaryDirectory(prefix="hpo-") as folder:  # a short path: Ray's sockets lie in it
        environment = {**os.environ, "RAY_TMPDIR": folder}
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False
        )
        return Driven(done, sorted(path.name for path in Path(folder).iterdir()))


@pytest.fixture(scope="module")
def driven() -> Driven:
    return drive("pass")


@pytest.mark.slow
def test_a_collection_of_garbage_in_mid_shutdown_does_not_end_the_process(driven: Driven) -> None:
    assert driven.done.returncode == 0, driven.done.stderr
    assert driven.done.stdout.count("\n") == 1


@pytest.mark.thorough  # it shows that the test above can fail
@pytest.mark.slow
def test_ray_s_own_shutdown_ends_it() -> None:
    done = drive("ray.shutdown()").done
    assert (done.returncode, done.stdout) == (1, ""), "Ray no longer does: _shut_down_ray may go"


@pytest.mark.slow
def test_no_autoscaler_log_monitor_or_api_server_runs_for_one_machine(driven: Driven) -> None:
    scripts = " ".join(json.loads(driven.done.stdout)["helpers"])
    assert "gcs_server" in scripts
    assert "monitor.py" not in scripts, scripts
    assert "dashboard.py" not in scripts, scripts


@pytest.mark.slow
def test_an_actor_begins_on_a_worker_that_waits_for_one(driven: Driven) -> None:
    assert json.loads(driven.done.stdout)["has_waited"]


@pytest.mark.slow
def test_nothing_of_ray_s_stays_in_the_temporary_folder(driven: Driven) -> None:
    assert driven.left == []


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
