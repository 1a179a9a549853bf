"""Members made by hand: exchanges under this suite's scheduler and under Ray's, failures, divergence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ray.tune.experiment import Trial

from benchmarks import spec
from benchmarks.space import Config, Integer
from hpo.core.memory.feasibility import Feasibility
from hpo.core.study import Study
from hpo.search.schedulers.population import clip, within_memory
from tests.hpo.search.schedulers.population.members import BOUNDED, Population, shrinkage, train_ours, train_rays_own
from tests.hpo.search.schedulers.population.studies import BUDGET, EXCHANGES, INTERVAL, MAX_UNITS
from tests.rays import ray_of


def step(domain: Any, value: float, factor: float) -> float:
    """Scale a number within its bounds; a whole number that rounding would bring back moves by one."""
    moved = clip(domain, factor * value)
    if isinstance(domain, Integer) and moved == value:
        return clip(domain, value + (1 if factor > 1 else -1))
    return moved


def outside(configs: list[Config]) -> list[Config]:
    """List the configurations that do not lie in the space."""
    return [config for config in configs if not all(d.contains(config[name]) for name, d in BOUNDED.items())]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Population:
    return train_ours(tmp_path_factory.mktemp("undisturbed"))


DIVERGING, DIVERGING_LATE, FAILING = 0, 1, 4


@pytest.fixture(scope="module")
def troubled(tmp_path_factory: pytest.TempPathFactory) -> Population:
    diverging = ((DIVERGING, 2), (DIVERGING_LATE, 8))
    return train_ours(tmp_path_factory.mktemp("troubled"), (FAILING, "step", 2), for_good=True, diverging=diverging)


@pytest.mark.slow
class TestMembers:
    """Members made by hand, the better the larger their rates: the search pushes against the bounds."""

    def test_weights_carry_what_the_schedule_says(self, undisturbed: Population) -> None:
        """Each member's loss is its schedule, replayed from scratch."""
        schedules = [[(0, undisturbed.trained_with[number, 1])] for number in range(BUDGET)]
        for e in undisturbed.exploits:
            schedules[e.member] = [*schedules[e.donor], (e.units, e.config)]
        for number, schedule in enumerate(schedules):
            loss = 1.0
            for unit in range(MAX_UNITS):
                loss *= shrinkage(next(config for units, config in reversed(schedule) if units <= unit))
            assert undisturbed.losses[number] == loss

    def test_numbers_are_scaled_and_clipped_and_choices_moved_by_one_place(self, undisturbed: Population) -> None:
        places = BOUNDED["batch_size_per_device"].values
        for e in undisturbed.exploits:
            donor = undisturbed.trained_with[e.donor, e.units]
            for name in ("learning_rate", "gradient_accumulation_steps"):
                assert e.config[name] in [step(BOUNDED[name], donor[name], factor) for factor in (0.8, 1.2)]
            here, there = (places.index(config["batch_size_per_device"]) for config in (donor, e.config))
            assert abs(here - there) == 1 or here == there in (0, len(places) - 1)

    def test_no_value_leaves_the_space_where_the_best_lies_at_its_bound(self, undisturbed: Population) -> None:
        assert outside(list(undisturbed.trained_with.values())) == []
        assert BOUNDED["learning_rate"].high in [exploit.config["learning_rate"] for exploit in undisturbed.exploits]

    def test_rays_own_scheduler_leaves_the_space(self, tmp_path: Path) -> None:
        """Ray scales values past the bounds, which is why they are clipped."""
        with ray_of(2):  # Tune starts one for it, and would leave it running
            population = train_rays_own(tmp_path)
        assert outside(list(population.trained_with.values())) != []

    def test_members_that_fail_once_keep_their_places(self, undisturbed: Population, tmp_path: Path) -> None:
        """Members fail in a unit or while they write the checkpoint for an exchange; lost units are trained again."""
        donor, clone = undisturbed.exploits[0].donor, undisturbed.exploits[0].member
        bystander = next(number for number in range(BUDGET) if number not in (donor, clone))
        faults = (donor, "step", 5), (clone, "step", 4), (bystander, "save", 3)
        population = train_ours(tmp_path, *faults)
        assert sorted(path.name for path in tmp_path.glob("*[0-9]")) == sorted(" ".join(map(str, f)) for f in faults)
        assert population.exploits == undisturbed.exploits
        assert population.losses == undisturbed.losses
        assert set(population.statuses.values()) == {Trial.TERMINATED}
        whole = list(range(1, MAX_UNITS + 1))
        assert population.units[donor] == [1, 2, 3, 4, *whole[3:]]
        assert population.units[clone] == whole
        assert population.units[bystander] == [1, 2, 3, *whole]

    # ---- one fails for good, one diverges on its way, one after the last exchange

    def test_a_member_that_fails_for_good_is_tried_twice(self, troubled: Population) -> None:
        assert troubled.units[FAILING] == [1, 1]
        assert troubled.statuses == {n: Trial.ERROR if n == FAILING else Trial.TERMINATED for n in range(BUDGET)}

    def test_a_member_that_fails_for_good_does_not_hold_up_the_others(self, troubled: Population) -> None:
        others = set(range(BUDGET)) - {FAILING, DIVERGING, DIVERGING_LATE}
        assert [troubled.units[n] for n in others] == [list(range(1, MAX_UNITS + 1))] * len(others)
        assert sorted({exploit.units for exploit in troubled.exploits}) == EXCHANGES

    def test_a_member_that_fails_for_good_is_no_longer_exchanged(self, troubled: Population) -> None:
        assert FAILING not in {number for exploit in troubled.exploits for number in (exploit.member, exploit.donor)}

    def test_a_diverged_member_goes_on_with_another_s_weights(self, troubled: Population) -> None:
        assert (DIVERGING, INTERVAL) in [(exploit.member, exploit.units) for exploit in troubled.exploits]
        assert troubled.units[DIVERGING] == [1, 2, 4, 5, 6, 7, 8, 9]

    def test_a_member_that_diverges_after_the_last_exchange_ends_there(self, troubled: Population) -> None:
        assert troubled.units[DIVERGING_LATE] == list(range(1, 9))


def test_a_batch_that_ran_out_is_not_explored() -> None:
    benchmark = spec.load("synthetic").model_copy(update={"rescue": False})
    known = Feasibility(Study("pbt", benchmark))
    donor: Config = {"learning_rate": 0.5, "batch_size_per_device": 20}
    known.prove("donor", donor)
    known.lose("other", {**donor, "batch_size_per_device": 24})
    explored: Config = {"learning_rate": 0.6, "batch_size_per_device": 24}
    assert within_memory(known, donor, explored) == {**explored, "batch_size_per_device": 20}
    assert within_memory(known, donor, smaller := {**explored, "batch_size_per_device": 16}) == smaller
    assert within_memory(None, donor, explored) == explored
