"""Grids moved by a random offset: within their domains, evenly, and the same for the same seed."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import spec
from benchmarks.space import Choice, Domain, Integer, LogUniform, Uniform
from hpo.search.space import rotated

SPACE: dict[str, Domain] = {
    "rate": LogUniform(type="loguniform", low=1e-6, high=1e-1),
    "share": Uniform(type="uniform", low=0.0, high=0.5),
    "rank": Integer(type="int", low=2, high=9),
    "batch": Choice(type="choice", values=(4, 8, 16)),
    "alone": LogUniform(type="loguniform", low=1e-6, high=1e-1),
}
GRID = {
    "rate": (1e-4, 1e-3, 1e-2),
    "share": (0.0, 0.1),
    "rank": (2, 4, 8),
    "batch": (4, 8),
    "alone": (1e-3,),
}


@given(st.integers(0, 2**32))
def test_every_value_lies_in_its_domain_and_none_comes_twice(seed: int) -> None:
    for name, values in rotated(GRID, SPACE, seed).items():
        assert all(SPACE[name].contains(value) for value in values)
        assert len(set(values)) == len(GRID[name])


def test_distances_stay_around_the_end_of_the_range() -> None:
    for seed in range(20):
        moved = rotated(GRID, SPACE, seed)
        decades = np.diff(np.log10(moved["rate"]))  # type: ignore[arg-type]
        assert np.allclose(decades % 5, 1, atol=1e-3)
        assert np.allclose(np.diff(moved["rank"]) % 8, [2, 4])  # type: ignore[arg-type]


def test_values_are_spread_over_the_whole_range() -> None:
    first = [rotated(GRID, SPACE, seed)["rate"][0] for seed in range(2000)]
    counts, _ = np.histogram(np.log10(first), bins=5, range=(-6, -1))  # type: ignore[arg-type]
    assert min(counts) > 330  # of 400 in each decade
    batches = [rotated(GRID, SPACE, seed)["batch"][0] for seed in range(2000)]
    assert min(batches.count(value) for value in (4, 8, 16)) > 580


def test_an_axis_of_one_value_stays() -> None:
    assert {rotated(GRID, SPACE, seed)["alone"][0] for seed in range(5)} == {1e-3}


def test_the_same_seed_gives_the_same_grid_and_axes_move_apart() -> None:
    assert rotated(GRID, SPACE, 3) == rotated(GRID, SPACE, 3) != rotated(GRID, SPACE, 4)
    twice = {"rate": SPACE["rate"], "alone": SPACE["alone"]}
    moved = rotated({"rate": (1e-4, 1e-3), "alone": (1e-4, 1e-3)}, twice, 0)
    assert moved["rate"] != moved["alone"]


@pytest.mark.parametrize("name", ["nano", "synthetic"])
def test_shipped_grids_do_not_hold_the_written_values(name: str) -> None:
    """Their authors knew the optimum; over 40 seeds the nearest rate is as often far from it as near."""
    benchmark = spec.load(name)
    written = benchmark.grid["learning_rate"]
    moved = [rotated(benchmark.grid, benchmark.space, seed)["learning_rate"] for seed in range(40)]
    assert not any(set(values) & set(written) for values in moved)
    nearest = [min(abs(math.log10(float(v) / 1e-3)) for v in values) for values in moved]
    assert 0.1 < float(np.median(nearest)) < 1.5
