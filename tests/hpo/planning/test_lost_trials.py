"""Studies with a limit of memory: what they lose is counted, and told for people."""

from __future__ import annotations

import pytest

from benchmarks.measure import memory
from hpo.planning import lost_trials


@pytest.mark.slow
@pytest.mark.parametrize("space", lost_trials.SPACES)
def test_nearly_half_of_each_space_does_not_fit(space: str) -> None:
    assert 0.4 <= lost_trials.too_large(lost_trials.benchmark_of(*lost_trials.SPACES[space])) <= 0.52


@pytest.mark.slow
def test_random_search_loses_two_trials_at_most() -> None:
    rows = list(lost_trials.measure(["random"], [1, 2], budget=8, seeds=3))
    assert [sum(row["lost"].values()) for row in rows] == [6] * 4
    assert memory.beyond([{"lost": {str(number): count for number, count in row["lost"].items()}} for row in rows]) == 0


def test_a_study_that_lost_more_is_counted_and_shown() -> None:
    rows = [
        {"space": "a", "too_large": 0.5, "lost": {"1": 4, "3": 1}},
        {"space": "b", "too_large": 0.4, "lost": {"0": 5}},
    ]
    assert memory.beyond(rows) == 1
    first, second, _, last = memory.text_of(rows).splitlines()
    assert first.endswith("studies that lost 0, 1, 2, 3 trials")
    assert second.split() == ["a", "50%", "0", "4", "0", "1"]
    assert last == "9 of 10 studies lost at most 2 trials"
