"""Fixtures that several test files use."""

from __future__ import annotations

import gc
import re
import resource
import shutil
import sys
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks import spec
from benchmarks.spec import Benchmark
from tests.rays import ray_of
from tests.stores import copying_empty_stores
from tests.studies import STARTED

REPOSITORY = Path(__file__).parent.parent
LONGEST_FIRST = (
    "test_jobs.py",
    "test_readme.py",
    "test_train.py",
    "test_running_study.py",
    "test_trial_job.py",
    "test_ranks.py",
    "test_session.py",
    "test_deepspeed.py",
    "test_methods_contract.py",
    "test_arrays.py",
)
"""Files that take longest, begun first so that both of pytest's workers end at about the same time."""
MARK_OF_ALL = re.compile(r"^pytestmark = (?:\[\s*)?pytest\.mark\.(slow|thorough)\b", re.MULTILINE)
"""Line that marks all tests of a module, alone or as the first of several marks."""
NEW_OBJECTS_PER_COLLECTION = 10_000
"""Objects after which the garbage collector looks at new ones; 700 are Python's own number."""
MAX_CPU_SECONDS = 1.0
"""Computing that a test without a mark should take at most, on a quiet machine."""
NOISE = 1.5
"""Times as long that the same computing may take beside other processes, in ways that `_slowdown` does not see."""
CPU_SECONDS_PER_IMPORT = 0.02
"""Computing that a module may take which a test is the first to import."""
QUIET_SECONDS = 0.05
"""Computing that `_count` takes on a quiet machine."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-faults", action="store_true", help="write the table of faults, see tests/faults")


def pytest_report_header() -> str:
    """Say why tests take twice as long where they do."""
    is_set = sys.dont_write_bytecode
    return "PYTHONDONTWRITEBYTECODE is set: packages without bytecode are compiled in every process" * is_set


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out modules of which no test is asked for, since they bear its mark as a whole: their imports take long."""
    if not collection_path.name.startswith("test_"):
        return None
    mark = MARK_OF_ALL.search(collection_path.read_text())
    return True if mark and f"not {mark[1]}" in config.option.markexpr else None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first and those of fast tests last, after pytest-randomly has shuffled them."""
    slow = {item.path for item in items if item.get_closest_marker("slow") or item.get_closest_marker("thorough")}
    items.sort(key=lambda item: (item.path.name not in LONGEST_FIRST, item.path not in slow))


def pytest_configure() -> None:
    """Let the garbage collector rest while packages are imported, which leave little garbage."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Spare the garbage collector the imported packages: going through them takes a second and a half each time."""
    gc.freeze()
    gc.set_threshold(NEW_OBJECTS_PER_COLLECTION)
    gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Fail a test that computes for more than a second, noise aside, and is not marked `slow` or `thorough`."""
    before, modules = _cpu_seconds(), len(sys.modules)
    result = yield
    used, imports = _cpu_seconds() - before, len(sys.modules) - modules
    is_marked = any(item.get_closest_marker(mark) for mark in ("slow", "thorough"))
    allowed = NOISE * (MAX_CPU_SECONDS + CPU_SECONDS_PER_IMPORT * imports)
    if is_marked or used <= allowed:
        return result
    quiet = used / _slowdown()
    if quiet > allowed:
        pytest.fail(f"this test computes for {quiet:.1f} s; make it shorter, or mark it `slow`", pytrace=False)
    return result


def _cpu_seconds() -> float:
    """Count the computing of this process, and of those it has started and waited for."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def _slowdown() -> float:
    """Measure how many times longer computing takes now than on a quiet machine; at least 1."""
    began = time.process_time()
    _count()
    return max(1.0, (time.process_time() - began) / QUIET_SECONDS)


def _count() -> None:
    for _ in range(3_000_000):
        pass


@pytest.fixture(autouse=True, scope="session")
def _copy_empty_stores() -> Iterator[None]:
    """Spare tests MLflow's migrations."""
    with copying_empty_stores():
        yield


@pytest.fixture(autouse=True)
def _end_what_was_started() -> Iterator[None]:
    """End the studies that a failed test leaves running."""
    yield
    while STARTED:
        STARTED.pop().kill()


@pytest.fixture(scope="module")
def browser(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Chromium without a window; a module's `BROWSER_OPTIONS` are added to its options."""
    options = ["--no-sandbox", *getattr(request.module, "BROWSER_OPTIONS", [])]
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: no browser tests")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no chromium on this machine (apt-get install chromium): no page is looked at in a browser")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=options)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def small_nano() -> Callable[..., Benchmark]:
    """Make nano with short trainings on a part of its data; keyword arguments replace fields of `finetune`."""

    def make(
        unit_samples: int = 64, max_units: int = 3, stage: int = 0, validation: int = 48, **finetune: Any
    ) -> Benchmark:
        nano = spec.load("nano")
        assert nano.finetune is not None
        data = nano.finetune.data
        limited = data.model_copy(
            update={
                "train": data.train.model_copy(update={"limit": 512}),
                "validation": data.validation.model_copy(update={"limit": validation}),
            }
        )
        deepspeed = spec.load_json(REPOSITORY / f"benchmarks/zero/stage{stage}.json")
        settings = nano.finetune.model_copy(update={"data": limited, "deepspeed": deepspeed, **finetune})
        resource = spec.Resource(unit_samples=unit_samples, max_units=max_units)
        return nano.model_copy(update={"finetune": settings, "resource": resource})

    return make


@pytest.fixture(scope="session")
def process_group() -> Iterator[None]:
    """Make this process the only rank of a trial.

    Its sessions hide what is there from the garbage collector and do not let it go through all of it before: that
    takes half a second each, with what tests have imported.
    """
    from benchmarks.training.process import join_process_group, prepare_process

    prepare_process(threads=1)
    join_process_group()
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr("benchmarks.training.session.hide_from_collector", gc.freeze)
        yield


@pytest.fixture(scope="module")
def ray_of_two() -> Iterator[None]:
    with ray_of(2):
        yield
