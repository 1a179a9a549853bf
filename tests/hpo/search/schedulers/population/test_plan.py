"""Plans of populations and the moves of values, without a study."""

from __future__ import annotations

import itertools
from typing import ClassVar

import pytest

from benchmarks.space import Choice, Integer, LogUniform, Space
from benchmarks.spec import BenchmarkError
from hpo.core.study import Study
from hpo.engine.in_process import InProcess
from hpo.search import registry
from hpo.search.schedulers.population import clip, interval_units, into_space, move_integers
from tests.hpo.engine.in_process import run as run_in_process
from tests.hpo.search.schedulers.population.members import BOUNDED
from tests.hpo.search.schedulers.population.studies import MAX_UNITS, synthetic


class TestPlan:
    """Refusals before anything starts."""

    @pytest.mark.parametrize("method", ["pbt", "pb2"])
    def test_a_budget_of_one_is_refused(self, method: str) -> None:
        with pytest.raises(BenchmarkError, match=f"budget is 1, but {method} needs a population of at least 2"):
            registry.get(method).make_plan(Study(method, synthetic(), budget=1))

    @pytest.mark.parametrize("method", ["pbt", "pb2"])
    def test_a_search_for_the_model_itself_is_refused(self, method: str) -> None:
        """Members take over each other's weights."""
        benchmark = synthetic()
        space = {**benchmark.space, "lora_rank": Choice(type="choice", values=(4, 8))}
        study = Study(method, benchmark.model_copy(update={"space": space}))
        with pytest.raises(BenchmarkError, match=f"has lora_rank, which cannot change within a trial, as {method}"):
            registry.get(method).make_plan(study)

    @pytest.mark.parametrize("interval", [MAX_UNITS, MAX_UNITS + 1])
    def test_an_interval_that_leaves_no_exchange_is_refused(self, interval: int) -> None:
        study = Study("pbt", synthetic(), arguments={"interval_units": interval})
        with pytest.raises(BenchmarkError, match=f"interval_units is {interval}, but must be < max_units, which is 9"):
            registry.get("pbt").make_plan(study)

    def test_the_interval_is_a_fifth_of_the_full_training_where_none_is_given(self) -> None:
        assert [interval_units(Study("pbt", synthetic()), given) for given in (0, 1, 8)] == [2, 1, 8]


class TestIntoSpace:
    def test_numbers_are_moved_to_the_nearest_bound(self) -> None:
        moved = into_space(
            BOUNDED, {"learning_rate": 1.7, "gradient_accumulation_steps": 0, "batch_size_per_device": 8}
        )
        assert moved == {"learning_rate": 1.0, "gradient_accumulation_steps": 1, "batch_size_per_device": 8}

    def test_numbers_within_stay(self) -> None:
        config = {"learning_rate": 0.3, "gradient_accumulation_steps": 3, "batch_size_per_device": 32, "seed": 5}
        assert into_space(BOUNDED, config) == config

    def test_whole_numbers_stay_whole(self) -> None:
        value = clip(Integer(type="int", low=1, high=4), 2.4)
        assert (value, type(value)) == (2, int)

    def test_bounds_are_hit_exactly(self) -> None:
        domain = LogUniform(type="loguniform", low=1e-6, high=1e-1)
        assert [clip(domain, value) for value in (1e-7, 0.12)] == [1e-6, 1e-1]


class TestWholeNumbers:
    SPACE: ClassVar[Space] = {"lora_rank": Integer(type="int", low=1, high=4)}

    @pytest.mark.parametrize(
        ("before", "after", "operation", "expected"),
        [
            (1, 1, "* 1.2", 2),
            (2, 2, "* 1.2", 3),
            (2, 2, "* 0.8", 1),
            (1, 1, "* 0.8", 1),  # at the bound
            (4, 4, "* 1.2", 4),
            (3, 3, "resample", 3),
            (2, 2, "* 1.0", 2),
            (2, 2, "* 1", 2),
            (3, 4, "* 1.2", 4),
        ],
    )
    def test_one_that_rounding_brought_back_moves_by_one(
        self, before: int, after: int, operation: str, expected: int
    ) -> None:
        moved = move_integers(self.SPACE, {"lora_rank": before}, {"lora_rank": after}, {"lora_rank": operation})
        assert moved == {"lora_rank": expected}

    @pytest.mark.slow  # eight members, in process
    def test_a_population_whose_best_is_1_tries_2(self) -> None:
        """Without resampling, Ray's rounding alone would leave every member at the donor's 1 for ever."""
        benchmark = synthetic()
        space = {"batch_size_per_device": Integer(type="int", low=1, high=4)}
        study = registry.get("pbt").study(
            benchmark.model_copy(update={"space": space, "grid": {}}), 0, 8, None, {"resample_probability": "0"}
        )
        rows = run_in_process(study, InProcess(2)).books.rows
        pairs = [
            (before["batch_size_per_device"], after["batch_size_per_device"])
            for row in rows
            for (_, before), (_, after) in itertools.pairwise(row.schedule)
        ]
        assert pairs
        assert all(before != after or before in (1, 4) for before, after in pairs)
        assert any(before < 4 and after == before + 1 for before, after in pairs)
