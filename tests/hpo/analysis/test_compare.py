"""Comparisons: what is compared with what, by which scores, and what is said where nothing can be."""

from __future__ import annotations

import json
import math
from typing import Any

import pandas as pd
import pytest

from benchmarks.spec import BenchmarkError
from hpo.analysis import compare
from hpo.analysis.choice import choose
from hpo.analysis.compare import Result
from hpo.analysis.over_cost import curves
from hpo.analysis.statistics.estimates import mean_of
from hpo.analysis.studies import Confirmation, StudyRecord
from hpo.core.study import default_schedule, fresh_seeds
from tests.hpo.analysis.stored import BENCHMARK, BY_LOSS, config_of, confirmed, records, standing, study, trained


class TestScores:
    def test_a_block_s_score_is_the_mean_over_its_fresh_trainings(self) -> None:
        one = study("asha")
        [contestant] = compare.compare(records([one], confirmed(one, 0.5, 0.7))).contestants
        assert contestant.scores(BENCHMARK.verdict_metric) == {0: pytest.approx(0.6)}

    def test_a_training_that_diverged_counts_as_the_worst_there_is(self) -> None:
        one = study("asha")
        [contestant] = compare.compare(records([one], confirmed(one, 0.6, None))).contestants
        assert contestant.scores(BENCHMARK.verdict_metric) == {0: pytest.approx(0.3)}
        worst = BENCHMARK.diverged_above
        assert contestant.scores(BENCHMARK.metrics[0]) == {0: pytest.approx((1.4 + worst) / 2)}

    def test_a_study_without_a_sound_trial_scores_the_worst(self) -> None:
        lost = StudyRecord("id", "asha", "", 0, 12, {}, {"device_hours": 1.0}, 0, {})
        [contestant] = compare.compare(records([lost])).contestants
        assert contestant.scores(BENCHMARK.verdict_metric) == {0: 0.0}

    @pytest.mark.parametrize("seeds", [slice(0, 250), slice(900, 901), slice(0, 2500)])
    def test_every_fresh_seed_of_a_block_counts_however_many_there_are(self, seeds: slice) -> None:
        one, other = study("asha", 0), study("asha", 1)
        kept = [*confirmed(one, *[0.5] * seeds.stop)[seeds], *confirmed(other, 0.5)]
        found = records([one, other], kept)
        assert [c.seed for c in found.confirmations_of(one)] == fresh_seeds(0, seeds.stop)[seeds]
        assert [c.seed for c in found.confirmations_of(other)] == fresh_seeds(1, 1)

    def test_trainings_of_another_block_do_not_count(self) -> None:
        one, other = study("asha", 0), study("asha", 1)
        result = compare.compare(records([one, other], confirmed(one, 0.5)))
        assert result.contestants[0].scores(BENCHMARK.verdict_metric) == {0: 0.5}

    def test_a_schedule_is_confirmed_by_its_own_trainings_alone(self) -> None:
        one = study("pbt")
        assert one.best is not None
        steps = [{"units": 0, "config": config_of("a", 0)}, {"units": 3, "config": config_of("b", 1)}]
        moved = study("pbt", files={"best_config.json": json.dumps({**one.best, "schedule": steps})})
        plain = [(0, config_of("a", 0))]
        assert compare.compare(records([moved], trained(plain, 0, 0.5))).standings[0].confirmed.trainings == 0
        assert compare.compare(records([moved], confirmed(moved, 0.5))).standings[0].confirmed.trainings == 1


class TestStandings:
    def test_figures_are_means_over_seeds_with_intervals(self) -> None:
        found_scores = [0.1, 0.5, 0.6, 0.9, 0.9]
        studies = [study("asha", seed, loss=1.0 + seed) for seed in range(5)]
        trainings = [t for s, score in zip(studies, found_scores, strict=True) for t in confirmed(s, score)]
        found = standing(compare.compare(records(studies, trainings)), "asha")
        test = found.confirmed.test["test_f1"]
        assert test is not None
        assert test.value == pytest.approx(0.6)
        assert test == mean_of(found_scores)
        assert found.validation is not None
        assert found.validation.value == pytest.approx((1 / 2 + 1 / 3 + 1 / 4 + 1 / 5 + 1 / 6) / 5)

    def test_blocks_that_failed_count_and_are_counted(self) -> None:
        """Two of eight diverge: a trimmed mean would put the method first."""
        risky, safe = ([study(method, seed) for seed in range(8)] for method in ("asha", "random"))
        trainings = [t for s in safe for t in confirmed(s, 0.6)]
        trainings += [t for s in risky for t in confirmed(s, 0.7 if s.seed < 6 else None)]
        result = compare.compare(records([*risky, *safe], trainings))
        assert [one.name for one in result.standings] == ["random", "asha"]
        last = result.standings[1].confirmed
        assert (last.failed, last.blocks) == (2, 8)
        assert last.test["test_f1"] == mean_of([0.7] * 6 + [0.0] * 2)
        assert choose(records([*risky, *safe], trainings), "best").contestant.name == "random"  # as the table has it

    def test_costs_are_means_of_a_study(self) -> None:
        found = standing(
            compare.compare(records([study("asha", 0), study("asha", 1, metrics={"device_hours": 4.0})])), "asha"
        )
        assert (found.costs.device_hours, found.costs.wall_seconds, found.costs.units) == (3.0, 3600.0, 108.0)
        assert found.costs.parts["train"] == 1.0
        assert found.outcomes == {"completed": 4, "stopped": 2}

    def test_cost_relative_to_the_grid(self) -> None:
        studies = [study("manual", metrics={"device_hours": 4.0}), study("asha")]
        result = compare.compare(records(studies))
        assert (standing(result, "asha").grid.cost_ratio, standing(result, "manual").grid.cost_ratio) == (0.5, 1.0)

    def test_no_grid_no_relative_cost(self) -> None:
        assert compare.compare(records([study("asha")])).standings[0].grid.cost_ratio is None

    def test_probability_of_improvement_over_random(self) -> None:
        studies = [study(method, seed) for method in ("asha", "random") for seed in (0, 1)]
        scores = {"asha": (0.5, 0.7), "random": (0.6, 0.4)}
        trainings = [t for s in studies for t in confirmed(s, scores[s.method][s.seed])]
        result = compare.compare(records(studies, trainings))
        over = standing(result, "asha").over_random
        assert over is not None
        assert over.value == 0.75  # of the four pairs of studies it wins three
        assert standing(result, "random").over_random is None

    def test_the_best_confirmed_comes_first_and_those_without_last(self) -> None:
        studies = [study("asha"), study("bohb"), study("pbt")]
        trainings = [*confirmed(studies[0], 0.4), *confirmed(studies[1], 0.6)]
        assert [found.name for found in compare.compare(records(studies, trainings)).standings] == [
            "bohb",
            "asha",
            "pbt",
        ]

    def test_the_default_is_a_contestant_once_it_is_confirmed(self) -> None:
        trainings = trained(default_schedule(BENCHMARK), 0, 0.2, 0.4)
        found = standing(compare.compare(records([study("asha")], trainings)), "default")
        assert (found.seeds, found.budget, found.costs.device_hours, found.confirmed.trainings) == ((), 0, None, 2)
        assert found.confirmed.test["test_f1"] is not None
        assert found.confirmed.test["test_f1"].value == pytest.approx(0.3)

    def test_of_a_study_run_twice_the_newer_counts(self) -> None:
        older, newer = study("asha", started=1, loss=3.0), study("asha", started=2, loss=1.0)
        result = compare.compare(records([newer, older]))
        assert result.standings[0].validation is not None
        assert (result.standings[0].seeds, result.standings[0].validation.value) == ((0,), 0.5)


class TestShrinkage:
    def test_sets_the_score_that_chose_beside_fresh_ones(self) -> None:
        one = study("asha", loss=1.0)
        [found] = compare.compare(records([one], confirmed(one, 0.3, 0.5))).shrinkage
        assert (found.selected, found.trainings) == (0.5, 2)
        assert (found.validation, found.test) == (pytest.approx(0.41), pytest.approx(0.4))


class TestVerdicts:
    def compared(self, blocks: int, gain: float, **options: Any) -> Result:
        studies = [study(method, seed) for method in ("asha", "random") for seed in range(blocks)]
        scores = {"asha": lambda seed: 0.5 + gain + 0.001 * seed, "random": lambda seed: 0.5 + 0.0011 * seed}
        trainings = [t for s in studies for t in confirmed(s, scores[s.method](s.seed))]
        return compare.compare(records(studies, trainings), **options)

    def test_ten_blocks_that_agree_are_resolved(self) -> None:
        [pair] = self.compared(10, 0.1).pairs
        assert (pair.a, pair.b, pair.verdict) == ("asha", "random", "better")

    def test_so_are_ten_that_differ_by_less_than_the_margin(self) -> None:
        [pair] = self.compared(10, 0.0).pairs
        assert pair.verdict == "equivalent"

    def test_five_never_are_however_large_the_difference(self) -> None:
        [pair] = self.compared(5, 0.4).pairs
        assert pair.verdict == "not resolved"
        assert "takes at least 6 for 1 comparison" in pair.reason

    def test_without_confirmations_nothing_is_said_and_the_next_command_is(self) -> None:
        result = compare.compare(records([study("asha"), study("random")]))
        assert result.pairs == []
        assert any("python -m hpo confirm --benchmark synthetic" in note for note in result.notes)

    def test_one_method_alone_has_no_verdict(self) -> None:
        one = study("asha")
        result = compare.compare(records([one], confirmed(one, 0.5)))
        assert (result.pairs, result.notes) == ([], ["1 confirmed contestants: a verdict takes two"])

    def test_a_reference_leaves_its_pairs_alone(self) -> None:
        studies = [study(method) for method in ("asha", "bohb", "random")]
        trainings = [t for s in studies for t in confirmed(s, 0.5)]
        result = compare.compare(records(studies, trainings), reference="random")
        assert [(pair.a, pair.b) for pair in result.pairs] == [("asha", "random"), ("bohb", "random")]

    def test_an_unknown_reference_is_refused(self) -> None:
        with pytest.raises(BenchmarkError, match="reference is 'grid', but must be 'all' or a confirmed contestant"):
            compare.compare(records([study("asha")]), reference="grid")


class TestBudgets:
    def test_different_budgets_are_refused(self) -> None:
        with pytest.raises(BenchmarkError, match=r"different budgets \(4 trainings, 12 trainings\).*--budget"):
            compare.compare(records([study("asha", budget=4), study("bohb", budget=12)]))

    def test_unless_asked_for_and_then_they_are_marked(self) -> None:
        result = compare.compare(records([study("asha", budget=4), study("bohb")]), mixed_budgets=True)
        assert result.is_marked
        assert "budgets differ" in result.notes[0]
        assert len(result.standings) == 2

    def test_one_of_them_can_be_chosen(self) -> None:
        result = compare.compare(records([study("asha", budget=4), study("bohb")]), budget=4)
        assert [found.name for found in result.standings] == ["asha"]
        assert "left out: 1 studies of other budgets" in result.notes

    def test_a_budget_that_no_study_has_is_refused(self) -> None:
        with pytest.raises(BenchmarkError, match="no study with budget 5; there are studies with budget 12"):
            compare.compare(records([study("asha")]), budget=5)

    def test_different_caps_in_hours_are_different_budgets(self) -> None:
        capped = study("bohb", tags={"hpo.gpu_hours": "0.5"})
        with pytest.raises(BenchmarkError, match=r"12 trainings within 0\.5 device-hours"):
            compare.compare(records([study("asha"), capped]))

    def test_the_default_of_two_budgets_is_one_contestant(self) -> None:
        studies = [study("asha"), study("default", budget=3), study("default", budget=12), study("default", seed=1)]
        found = [one for one in compare.compare(records(studies)).contestants if one.name == "default"]
        assert [sorted(one.studies) for one in found] == [[0, 1]]
        assert found[0].runs == {0: 1, 1: 1}  # none counts as replaced

    def test_twice_the_budget_of_random_and_any_of_the_default_belong(self) -> None:
        studies = [study("asha"), study("random"), study("random", budget=24), study("default", budget=3)]
        result = compare.compare(records(studies))
        assert {found.name for found in result.standings} == {"asha", "random", "random budget=24", "default"}
        assert not result.is_marked

    def test_random_alone_with_two_budgets_is_no_mixture(self) -> None:
        result = compare.compare(records([study("random"), study("random", budget=24)]))
        assert not result.is_marked


class TestCurves:
    def units(self, *rows: tuple[int, int, float, float]) -> dict[str, str]:
        """(trial, unit, second at which it ended, eval loss) of a study."""
        frame = pd.DataFrame(rows, columns=["trial", "units", "ended_seconds", "eval_loss"])
        return {"units.csv": frame.to_csv(index=False), "devices.csv": "since_seconds,devices\n0.0,2\n3600.0,0\n"}

    def test_an_incumbent_is_one_at_the_full_resource(self) -> None:
        files = self.units((0, 8, 1800, 0.1), (0, 9, 2400, 0.9), (1, 9, 2700, 1.2), (2, 9, 3600, 0.4))
        curve = curves.anytime(study("asha", files=files), BY_LOSS)
        assert list(curve["value"]) == [0.9, 0.4]
        assert list(curve["device_hours"]) == pytest.approx([2 * 2400 / 3600, 2.0])
        assert list(curve["units"]) == [2, 4]

    def test_devices_that_come_late_and_die_cost_only_the_time_that_they_were_there(self) -> None:
        units = self.units((0, 9, 1800, 0.9), (1, 9, 3600, 0.4), (2, 9, 5400, 0.2))
        devices = "since_seconds,devices\n0.0,1\n1800.0,3\n3600.0,0\n4500.0,2\n5400.0,0\n"
        curve = curves.anytime(study("asha", files={**units, "devices.csv": devices}), BY_LOSS)
        assert list(curve["device_hours"]) == pytest.approx([0.5, 2.0, 2.5])

    def test_a_study_that_kept_no_devices_has_no_curve(self) -> None:
        files = self.units((0, 9, 1800, 0.9))
        assert curves.anytime(study("asha", files={"units.csv": files["units.csv"]}), BY_LOSS).empty

    def test_a_diverged_trial_is_never_an_incumbent(self) -> None:
        files = self.units((0, 9, 10, math.nan), (1, 9, 20, 100.0), (2, 9, 30, 2.0))
        assert list(curves.anytime(study("asha", files=files), BY_LOSS)["value"]) == [2.0]

    def test_a_study_that_kept_no_units_has_no_curve(self) -> None:
        assert curves.anytime(study("asha"), BY_LOSS).empty

    def test_hours_to_a_target(self) -> None:
        record = study("asha", files=self.units((0, 9, 1800, 0.9), (1, 9, 3600, 0.4)))
        found = [curves.hours_to(record, BY_LOSS, target) for target in (1.0, 0.9, 0.5, 0.3)]
        assert found == [1.0, 1.0, 2.0, None]

    def test_who_never_reached_the_grid_is_counted(self) -> None:
        grid = [study("manual", seed, loss=0.5, files=self.units((0, 9, 3600, 0.5))) for seed in (0, 1)]
        reached = study("asha", 0, files=self.units((0, 9, 1800, 0.45)))
        never = study("asha", 1, files=self.units((0, 9, 1800, 0.6)))
        found = standing(compare.compare(records([*grid, reached, never], benchmark=BY_LOSS)), "asha")
        assert (found.grid.reached, found.grid.entered, found.grid.device_hours) == (1, 2, 1.0)

    def test_a_band_runs_from_where_all_seeds_have_an_incumbent_to_where_the_first_study_ends(self) -> None:
        studies = [
            study("asha", 0, files=self.units((0, 9, 900, 1.0), (1, 9, 1800, 0.5))),
            study("asha", 1, files=self.units((0, 9, 1200, 2.0), (1, 9, 1800, 1.5)), metrics={"device_hours": 2.0}),
        ]
        band = curves.band(studies, BY_LOSS)
        hours = list(band["device_hours"])
        assert (hours[0], hours[-1]) == (pytest.approx(2 * 1200 / 3600), pytest.approx(2.0))
        assert (band["value"].iloc[0], band["value"].iloc[-1]) == (1.5, 1.0)
        assert band["low"].isna().all()  # of two seeds

    def test_a_band_of_five_seeds_is_the_interval_of_their_mean(self) -> None:
        losses = [0.5, 1.5, 1.0, 0.8, 1.2]
        studies = [study("asha", i, files=self.units((0, 9, 900, loss))) for i, loss in enumerate(losses)]
        last = curves.band(studies, BY_LOSS).iloc[-1]
        interval = mean_of(losses).interval
        assert interval is not None
        assert (last["value"], last["low"], last["high"]) == pytest.approx((1.0, interval.low, interval.high))


def test_incumbents_that_were_trained_again_unequally_often_are_named() -> None:
    a, b, c = study("asha", 0), study("asha", 1), study("random", 0)
    trainings = [*confirmed(a, 0.7, 0.7), *confirmed(b, 0.7), *confirmed(c, 0.6, 0.6)]
    assert "incumbents were trained again unequally often: asha 1 or 2, random 2 times" in notes([a, b, c], trainings)
    assert "unequally often" not in notes([a, c], [*trainings[:2], *trainings[3:]])


def notes(studies: list[StudyRecord], trainings: list[Confirmation]) -> str:
    return "; ".join(compare.compare(records(studies, trainings)).notes)
