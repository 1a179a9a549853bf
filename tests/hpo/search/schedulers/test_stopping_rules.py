"""ASHA's cutoff without numpy's arrays: the numbers of Ray's own."""

from __future__ import annotations

import math
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ray.tune.schedulers.async_hyperband import _Bracket

from hpo.search.schedulers.stopping_rules import AshaKeepingFirst, QuickBracket, percentile

REWARDS = st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=1, max_size=40)


@given(REWARDS, st.sampled_from([1.5, 2.0, 3.0, 4.0, 10.0]))
def test_the_cutoff_is_ray_s_to_the_bit(rewards: list[float], reduction_factor: float) -> None:
    recorded = {str(number): reward for number, reward in enumerate(rewards)}
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # of NaN alone, and of infinities
        expected = _Bracket(1, 9, reduction_factor, 0).cutoff(recorded)
    found = QuickBracket(1, 9, reduction_factor, 0).cutoff(recorded)
    assert found is not None
    assert found == expected or (math.isnan(found) and math.isnan(expected))


def test_there_is_none_before_the_first_result() -> None:
    assert QuickBracket(1, 9, 3, 0).cutoff({}) is None


@pytest.mark.parametrize(("percent", "value"), [(0.0, 1.0), (50.0, 2.0), (75.0, 2.5)])
def test_a_percentile_lies_between_its_neighbours(percent: float, value: float) -> None:
    assert percentile([3.0, math.nan, 1.0, 2.0], percent) == value


def test_asha_decides_by_it() -> None:
    asha = AshaKeepingFirst(metric="objective", mode="max", max_t=9, grace_period=1, reduction_factor=3)
    for number, reward in enumerate((0.0, 3.0, 1.0, 2.0)):
        trial = SimpleNamespace(trial_id=f"t_{number:05}")
        asha.on_trial_add(None, trial)
        result = {"training_iteration": 1, "objective": reward}
        expected = "STOP" if number == 2 else "CONTINUE"  # 2 is below two thirds of the way from 0 to 3, 3 is not
        assert asha.on_trial_result(None, trial, result) == expected
    assert {type(bracket) for bracket in asha._brackets} == {QuickBracket}
