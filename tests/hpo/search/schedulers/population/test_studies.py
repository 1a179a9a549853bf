"""Studies on closed-form learning curves: takeovers, exploration, cost, records."""

from __future__ import annotations

import math
import random
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient

from benchmarks.trials.synthetic import SyntheticTrial
from hpo.engine.in_process import InProcess
from tests.hpo.search.schedulers.population.studies import (
    BUDGET,
    EXCHANGES,
    INTERVAL,
    MAX_UNITS,
    SECONDS_PER_UNIT,
    SEED,
    Ran,
    run_study,
    synthetic,
)


@pytest.fixture(scope="module")
def on_one_device(store: None) -> Ran:
    random.seed(6)
    np.random.seed(6)
    return run_study(synthetic(), InProcess(1))


@pytest.fixture(scope="module")
def ran(store: None) -> Ran:
    """Run the study that most tests look at; the process's generators, which Ray draws from, stand elsewhere."""
    random.seed(7)
    np.random.seed(7)
    return run_study(synthetic(), InProcess(2))


@pytest.mark.slow
class TestStudy:
    """A population on curves of which none diverges."""

    def test_the_population_is_the_budget(self, ran: Ran) -> None:
        assert [row.outcome for row in ran.rows] == ["completed"] * BUDGET

    def test_every_member_trains_every_unit_once(self, ran: Ran) -> None:
        assert [(row.units, row.trained_units) for row in ran.rows] == [(MAX_UNITS, MAX_UNITS)] * BUDGET

    def test_the_budget_is_spent_to_the_last_unit(self, ran: Ran) -> None:
        metrics = MlflowClient().get_run(ran.finished.run_id).data.metrics
        assert metrics["units"] == BUDGET * MAX_UNITS

    def test_members_are_exchanged_at_every_interval_before_the_end(self, ran: Ran) -> None:
        assert sorted({exploit.units for exploit in ran.exploits}) == EXCHANGES

    def test_the_worst_take_over_the_best(self, ran: Ran) -> None:
        share = math.ceil(0.25 * BUDGET)
        curves = [ran.history(member, "eval_loss") for member in range(BUDGET)]
        for units in EXCHANGES:
            ranked = sorted(range(BUDGET), key=lambda member: curves[member][units])
            exploits = [exploit for exploit in ran.exploits if exploit.units == units]
            assert {exploit.member for exploit in exploits} == set(ranked[-share:])
            assert {exploit.donor for exploit in exploits} <= set(ranked[:share])

    def test_every_explored_value_lies_in_the_space(self, ran: Ran) -> None:
        space, configs = ran.study.benchmark.space, [config for schedule in ran.schedules for _, config in schedule]
        assert [config for config in configs if not all(d.contains(config[name]) for name, d in space.items())] == []

    def test_something_is_explored_at_every_exploit(self, ran: Ran) -> None:
        donors = [ran.trained_with(exploit.donor)[exploit.units] for exploit in ran.exploits]
        assert all(donor != exploit.config for donor, exploit in zip(donors, ran.exploits, strict=True))

    def test_what_is_explored_reaches_the_next_unit(self, ran: Ran, tmp_path: Path) -> None:
        """The last losses are those of the schedule that trained the member's weights, by the curves' formula."""
        trial = SyntheticTrial(synthetic(seconds_per_unit=0.0))
        for member, schedule in enumerate(ran.schedules):
            curve, losses = ran.history(member, "eval_loss"), []
            ends = [*(units for units, _ in schedule[1:]), MAX_UNITS]
            for (begin, config), end in zip(schedule, ends, strict=True):
                trial.start(config, SEED)
                if begin:
                    trial.load(tmp_path)
                losses += [trial.run_unit()["eval_loss"] for _ in range(end - begin)]
                trial.save(tmp_path)
            assert losses[EXCHANGES[-1] :] == [curve[unit] for unit in range(EXCHANGES[-1] + 1, MAX_UNITS + 1)], member

    def test_a_schedule_is_the_donors_and_then_its_own(self, ran: Ran) -> None:
        schedules = [[(0, row.config)] for row in ran.rows]
        for e in ran.exploits:  # donors keep their places at an exchange, so that order does not matter
            schedules[e.member] = [*schedules[e.donor], (e.units, ran.study.full_config(e.config))]
        assert ran.schedules == schedules

    def test_exploits_are_counted(self, ran: Ran) -> None:
        members = [exploit.member for exploit in ran.exploits]
        assert [row.exploits for row in ran.rows] == [members.count(number) for number in range(BUDGET)]

    # ---- one seed, one sequence of decisions, whatever else was drawn

    def test_one_and_two_devices_give_the_same_schedules(self, ran: Ran, on_one_device: Ran) -> None:
        assert (ran.schedules, ran.exploits) == (on_one_device.schedules, on_one_device.exploits)

    def test_one_and_two_devices_give_the_same_results(self, ran: Ran, on_one_device: Ran) -> None:
        losses = [[row.metrics["eval_loss"] for row in study.rows] for study in (ran, on_one_device)]
        assert losses[0] == losses[1]

    # ---- cost

    def test_a_clone_s_time_is_its_own(self, ran: Ran) -> None:
        """Were a donor's time added to its clone, the trials' sum would exceed the devices' time."""
        shares = ran.finished.shares
        assert sum(row.device_seconds for row in ran.rows) == pytest.approx(ran.measured_seconds)
        assert ran.measured_seconds <= shares.reserved_seconds * 1.001

    def test_training_time_is_that_of_each_member_s_own_units(self, ran: Ran) -> None:
        own = [config for member in range(BUDGET) for config in ran.trained_with(member).values()]
        expected = sum(SECONDS_PER_UNIT * (0.5 + 4 / float(config["batch_size_per_device"])) for config in own)
        assert ran.finished.shares.seconds["train"] == pytest.approx(expected)

    # ---- records

    def test_the_hyperparameters_of_every_unit_are_stored(self, ran: Ran) -> None:
        for member in range(BUDGET):
            trained_with = ran.trained_with(member)
            for name in ran.study.benchmark.space:
                expected = {unit: float(config[name]) for unit, config in trained_with.items()}
                assert ran.history(member, f"hp.{name}") == expected

    def test_every_member_s_schedule_is_stored(self, ran: Ran) -> None:
        stored = [ran.artifact(child.info.run_id, "schedule.json") for child in ran.children]
        assert stored == [[{"units": u, "config": c} for u, c in schedule] for schedule in ran.schedules]

    def test_every_member_s_exploits_are_stored(self, ran: Ran) -> None:
        assert [int(child.data.tags["hpo.exploits"]) for child in ran.children] == [row.exploits for row in ran.rows]

    def test_the_winner_s_schedule_is_stored_with_it(self, ran: Ran) -> None:
        winner, best = ran.finished.books.incumbent(), ran.artifact(ran.finished.run_id, "best_config.json")
        assert winner is not None
        assert winner.exploits > 0, "this seed's winner should have taken over another"
        assert best["schedule"] == [{"units": u, "config": c} for u, c in winner.schedule]
        assert best["config"] == winner.schedule[-1][1]


LIMIT = 1e-3
"""Two of this seed's first rates lie above it, and none so close below that a step of 1.2 would cross it."""


@pytest.fixture(scope="module")
def diverging(store: None) -> Ran:
    return run_study(synthetic(diverge_above=LIMIT), InProcess(2), resample_probability=0.0)


@pytest.mark.slow
class TestDivergence:
    """Every learning rate above the limit gives NaN from its second unit on."""

    def test_a_diverged_member_takes_over_a_sound_one_at_the_next_exchange(self, diverging: Ran) -> None:
        bad = {row.number for row in diverging.rows if float(row.config["learning_rate"]) > LIMIT}
        assert 0 < len(bad) < BUDGET, "this seed should propose some"
        first = [exploit for exploit in diverging.exploits if exploit.units == INTERVAL]
        assert bad <= {exploit.member for exploit in first}
        assert not bad & {exploit.donor for exploit in first}

    def test_a_diverged_member_waits_for_the_exchange(self, diverging: Ran) -> None:
        units = [sorted(diverging.history(number, "device_seconds")) for number in range(BUDGET)]
        waited = [float(row.config["learning_rate"]) > LIMIT for row in diverging.rows]
        assert units == [[unit for unit in range(1, MAX_UNITS + 1) if unit != 3 or not w] for w in waited]

    def test_revived_members_train_to_the_end(self, diverging: Ran) -> None:
        assert [(row.outcome, row.units) for row in diverging.rows] == [("completed", MAX_UNITS)] * BUDGET

    def test_no_member_is_reported_as_diverged_any_more(self, diverging: Ran) -> None:
        assert [row.reason for row in diverging.rows] == [f"reached the full resource of {MAX_UNITS} units"] * BUDGET
        assert [child.data.tags["hpo.outcome"] for child in diverging.children] == ["completed"] * BUDGET

    def test_units_that_diverged_members_missed_are_not_spent(self, diverging: Ran) -> None:
        bad = sum(float(row.config["learning_rate"]) > LIMIT for row in diverging.rows)
        metrics = MlflowClient().get_run(diverging.finished.run_id).data.metrics
        assert metrics["units"] == BUDGET * MAX_UNITS - bad

    def test_a_study_of_which_all_members_diverge_ends(self, store: None) -> None:
        everywhere = run_study(synthetic(diverge_above=1e-9), InProcess(2), budget=3)
        assert [(row.outcome, row.units, row.exploits) for row in everywhere.rows] == [("diverged", 2, 0)] * 3
        assert everywhere.finished.books.incumbent() is None
