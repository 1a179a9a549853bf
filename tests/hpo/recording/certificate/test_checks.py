"""The checks of a certificate: each finds its own fault, and none where studies and replays are alike."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hpo.recording.certificate.checks import (
    ALPHA,
    MethodEvidence,
    StudyFigures,
    check,
    difference_interval,
    same_distribution,
)
from hpo.recording.certificate.decisions import DecisionsCompared

REAL_SEEDS = range(6)
REPLAYED_SEEDS = range(40)


def figures(seed: int, mean: float, noise: int = 0) -> StudyFigures:
    """Draw the figures of a study; `noise` sets real ones apart from replays of the same seed."""
    ours, own = np.random.default_rng(seed), np.random.default_rng([seed, noise])
    loss = mean + 0.1 * ours.standard_normal() + 0.01 * own.standard_normal()
    return StudyFigures(loss, 108.0 - float(own.integers(3)), 20.0 + float(own.integers(3)), 100.0)


def evidence(label: str = "asha", mean: float = 1.0) -> MethodEvidence:
    return MethodEvidence(
        label,
        real={seed: figures(seed, mean, noise=1) for seed in REAL_SEEDS},
        replayed={seed: figures(seed, mean, noise=2) for seed in REPLAYED_SEEDS},
        decisions=[DecisionsCompared(40, 40) for _ in REAL_SEEDS],
    )


def faults_of(*several: MethodEvidence) -> list[tuple[str, ...]]:
    methods, _ = check(several)
    return [method.faults for method in methods]


def changed(one: MethodEvidence, **factors: float) -> MethodEvidence:
    """Multiply figures of all real studies."""
    one.real = {
        seed: replace(of, **{name: factor * getattr(of, name) for name, factor in factors.items()})
        for seed, of in one.real.items()
    }
    return one


def test_a_method_whose_replays_are_like_its_studies_holds() -> None:
    methods, pairs = check([evidence("asha"), evidence("random", mean=2.0)])
    assert [method.faults for method in methods] == [(), ()]
    assert all(method.holds for method in methods)
    assert (pairs.pairs, pairs.resolved) == (1, 1)
    assert (methods[0].decisions, methods[0].equal_decisions) == (240, 240)
    assert methods[0].seconds_ratio == 1.0


@pytest.mark.parametrize("name", ["incumbent", "units", "trials"])
def test_a_figure_that_is_off_is_found(name: str) -> None:
    [faults] = faults_of(changed(evidence(), **{name: 1.5}))
    assert any(fault.startswith(f"mean {name}") and "does not hold zero" in fault for fault in faults)
    assert any(fault.startswith(f"{name} is distributed otherwise") for fault in faults)


def test_replays_that_spread_wider_are_found() -> None:
    one = evidence()
    one.replayed |= {
        seed: replace(of, incumbent=1.0 + 4 * (-1) ** seed) for seed, of in one.replayed.items() if seed > 5
    }
    [faults] = faults_of(one)
    assert [fault.split(" is ")[0] for fault in faults] == ["incumbent"]


@pytest.mark.parametrize(("factor", "is_off"), [(0.94, True), (0.96, False), (1.04, False), (1.06, True)])
def test_device_seconds_hold_within_a_twentieth(factor: float, is_off: bool) -> None:
    [faults] = faults_of(changed(evidence(), device_seconds=1 / factor))
    assert bool(faults) == is_off
    assert all("device-seconds" in fault for fault in faults)


def test_one_other_decision_is_found_and_told() -> None:
    one = evidence()
    one.decisions[3] = DecisionsCompared(
        40, 12, "trial 3 at unit 1 stopped; in the replay, trial 3 at unit 1 continues"
    )
    assert faults_of(one) == [(f"1 study decided otherwise, first: {one.decisions[3].difference}",)]


def test_methods_in_the_other_order_are_both_marked() -> None:
    one, other = evidence("asha"), evidence("random", mean=1.001)
    one.replayed = {seed: replace(of, incumbent=of.incumbent + 0.05) for seed, of in one.replayed.items()}
    other.real = {seed: replace(of, incumbent=of.incumbent + 0.05) for seed, of in other.real.items()}
    faults = faults_of(one, other, evidence("bohb", mean=3.0))
    assert "asha and random are in the other order in replays" in faults[0]
    assert "random and asha are in the other order in replays" in faults[1]
    assert faults[2] == ()


def test_a_study_whose_decisions_cannot_be_compared_counts_with_its_figures() -> None:
    one = evidence()
    one.notes.append("seed 5 is not replayed unit by unit: its log has the event interrupted")
    one.decisions.pop()
    assert faults_of(one) == [()]
    one.decisions.clear()
    assert faults_of(one) == [("no real study could be replayed unit by unit",)]


def test_few_seeds_certify_nothing() -> None:
    one = evidence()
    one.real = {seed: of for seed, of in one.real.items() if seed < 4}
    assert faults_of(one) == [("4 real studies, but a certificate takes 5",)]


def test_a_method_without_replays_keeps_its_own_fault_alone() -> None:
    [faults] = faults_of(MethodEvidence("pbt", faults=["not replayable"]))
    assert faults == ("not replayable",)


@pytest.mark.slow
def test_the_energy_distance_rejects_as_often_as_its_level_says() -> None:
    lot = np.random.default_rng(0)
    p_values = [same_distribution(lot.normal(size=5), lot.normal(size=20), seed) for seed in range(40)]
    assert np.mean(np.array(p_values) < ALPHA) <= 0.15
    assert same_distribution(lot.normal(size=5) + 5.0, lot.normal(size=20)) < 0.001
    assert same_distribution([1.0] * 5, [1.0] * 20) == 1.0


def test_the_interval_is_student_s() -> None:
    low, high = difference_interval([1.0, 2.0, 3.0, 4.0, 5.0], 0.95) or (0.0, 0.0)
    assert (low, high) == (pytest.approx(1.0368, abs=1e-3), pytest.approx(4.9632, abs=1e-3))
    assert difference_interval([1.0] * 4, 0.95) is None
    assert difference_interval([0.5] * 5, 0.95) == (0.5, 0.5)
