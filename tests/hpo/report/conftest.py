"""A comparison that every figure has data of, and its report."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks import spec
from benchmarks.spec import Benchmark
from hpo.analysis.compare import Result
from hpo.analysis.over_cost import curves
from hpo.report import page as report
from hpo.report.figures import catalogue
from tests.hpo.report.comparisons import (
    IMPORTANCE,
    MAX_UNITS,
    make_result,
)


@pytest.fixture(scope="module", autouse=True)
def _coarse_curves() -> Iterator[None]:
    """Each point of a curve costs a bootstrap."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(curves, "POINTS", 12)
        yield


@pytest.fixture(scope="module")
def benchmark() -> Benchmark:
    """The synthetic one, with short trainings."""
    resource = spec.Resource(unit_samples=64, max_units=MAX_UNITS)
    return spec.load("synthetic").model_copy(update={"resource": resource})


@pytest.fixture(scope="module")
def result(benchmark: Benchmark) -> Result:
    return make_result(benchmark)


@pytest.fixture(scope="module")
def files(result: Result) -> dict[str, str]:
    """Every figure has data."""
    return report.files(result, catalogue.all_of(result, IMPORTANCE))
