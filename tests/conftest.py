"""Fixtures that several test files use."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks import spec
from benchmarks.spec import Benchmark
from tests.rays import ray_of
from tests.studies import STARTED

REPOSITORY = Path(__file__).parent.parent
LONGEST_FIRST = (
    "test_readme.py",
    "test_suite.py",
    "test_study_on_nano.py",
    "test_jobs.py",
    "test_arrays.py",
    "test_population.py",
    "test_driver.py",
    "test_trials.py",
    "test_store.py",
    "test_machine.py",
)
"""Files that take minutes, begun first so that both of pytest's workers end at about the same time."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-faults", action="store_true", help="write the table of faults, see tests/faults")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in LONGEST_FIRST)


@pytest.fixture(autouse=True)
def _end_what_was_started() -> Iterator[None]:
    """A test that fails leaves no study running."""
    yield
    while STARTED:
        STARTED.pop().kill()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium without a window."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: no browser tests")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no chromium on this machine (apt-get install chromium): no page is looked at in a browser")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def small_nano() -> Callable[..., Benchmark]:
    """Makes nano with short trainings on a part of its data; keyword arguments replace fields of `finetune`."""

    def make(unit_samples: int = 64, max_units: int = 3, stage: int = 0, **finetune: Any) -> Benchmark:
        nano = spec.load("nano")
        assert nano.finetune is not None
        data = nano.finetune.data
        limited = data.model_copy(
            update={
                "train": data.train.model_copy(update={"limit": 512}),
                "validation": data.validation.model_copy(update={"limit": 48}),
            }
        )
        deepspeed = spec.load_json(REPOSITORY / f"benchmarks/zero/stage{stage}.json")
        settings = nano.finetune.model_copy(update={"data": limited, "deepspeed": deepspeed, **finetune})
        resource = spec.Resource(unit_samples=unit_samples, max_units=max_units)
        return nano.model_copy(update={"finetune": settings, "resource": resource})

    return make


@pytest.fixture(scope="session")
def process_group() -> None:
    """This process as the only rank of a trial."""
    from benchmarks.training.process import join_process_group, prepare_process

    prepare_process(threads=1)
    join_process_group()


@pytest.fixture(scope="module")
def ray_of_two() -> Iterator[None]:
    with ray_of(2):
        yield
