"""Bad input of every kind ends in one paragraph and status 2, or in something that works; the same cases each time."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.fuzz.runs import run
from tests.fuzz.targets import TARGETS
from tests.fuzz.workspace import workspace

CASES = 60
"""Generated cases of each kind; `python -m tests.fuzz` tries others, and as many as wanted."""
THOROUGH_CASES = 250

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def _workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One folder and one store for all, since making a store takes more than a second."""
    with workspace(tmp_path_factory.mktemp("fuzz")):
        yield


@pytest.mark.parametrize("cases", [CASES, pytest.param(THOROUGH_CASES, marks=pytest.mark.thorough)])
@pytest.mark.parametrize("name", TARGETS)
def test_bad_input_is_used_or_refused_in_a_paragraph(
    name: str, cases: int, record_property: Callable[[str, object], None]
) -> None:
    counts = run(name, cases)
    record_property("cases", str(counts))
    assert counts.cases >= cases
    assert counts.accepted > 0, "accepted input must work, so some must be accepted"


def test_there_are_thousands_of_cases() -> None:
    assert len(TARGETS) * THOROUGH_CASES >= 2000
