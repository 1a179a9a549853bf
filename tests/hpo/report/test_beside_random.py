"""Contestants beside random search: draws that count, worths in words, and the figure."""

from __future__ import annotations

import math
from dataclasses import replace

import pandas as pd
import pytest
from scipy.stats import spearmanr

from benchmarks.spec import Benchmark
from hpo.analysis.beside_random.early_looks import early_looks
from hpo.analysis.beside_random.worth import beside_random, random_search
from hpo.analysis.compare import Result
from hpo.analysis.statistics.random_search import Worth
from hpo.report import sentences
from hpo.report.figures import plots
from hpo.report.figures.over_cost.random_search import random_search_curve
from hpo.report.figures.plots import LeftOut
from tests.hpo.report.comparisons import drawn, make_result


@pytest.fixture(scope="module")
def six(benchmark: Benchmark) -> Result:
    """Six seeds, each with one random training that diverged and one that ended, beside the default."""
    return make_result(benchmark, seeds=range(6))


def test_the_default_is_no_random_draw_and_a_diverged_training_is_the_worst(six: Result) -> None:
    found = random_search(six.contestants, six.benchmark)
    assert found is not None
    assert found.draws == 12
    assert found.curve(2)["value"].iloc[1] == pytest.approx(0.83)  # the fourth of 0.8, ..., 0.85 and six of 25
    assert found.worth(24.0).trainings == pytest.approx(1.0)  # half of all draws are as good


def test_without_a_default_the_first_trial_is_a_draw_too(six: Result) -> None:
    contestants = [
        replace(
            one, studies={seed: replace(it, variant="start_with_default=False") for seed, it in one.studies.items()}
        )
        for one in six.contestants
    ]
    found = random_search(contestants, six.benchmark)
    assert found is not None
    assert found.draws == 18


def test_a_better_incumbent_is_worth_more(six: Result) -> None:
    rows = {one.name: one for one in beside_random(six.contestants, six.benchmark)}
    assert rows["asha"].value == pytest.approx(0.725)
    assert math.isinf(rows["asha"].worth.trainings)
    assert rows["random"].worth.trainings < rows["pbt"].worth.trainings


def test_too_few_draws_leave_it_out_with_the_number_that_it_takes(result: Result) -> None:
    found = random_search_curve(result, plots.styles(result))
    assert isinstance(found, LeftOut)
    assert found.why == "it takes 10 random trainings to the full resource"
    assert sentences.in_random_trainings(result) == ""


def test_the_figure_has_the_curve_and_a_row_for_each_contestant(six: Result) -> None:
    data = drawn(random_search_curve(six, plots.styles(six))).data
    assert data[data["method"] == ""]["trainings"].tolist() == [1, 2, 3, 4, 5, 6]
    marks = data[data["method"] != ""].set_index("method")
    assert marks.loc["random", "worth_low"] < marks.loc["random", "worth"] < marks.loc["random", "worth_high"]
    assert pd.isna(marks.loc["asha", "worth"])


def test_early_looks_compare_rungs_with_full_trainings(six: Result) -> None:
    """Beside the default, one training of each seed ends, and one diverges after its first unit."""
    [look] = early_looks(six.contestants, six.benchmark)
    assert (look.units, look.trainings) == (1, 12)
    early = [25.0, 2.5] * 6
    late = [value + 0.01 * seed if value < 25 else value for seed in range(6) for value in (25.0, 0.8)]
    assert look.correlation == pytest.approx(spearmanr(early, late).statistic)
    assert look.recall == 1.0
    assert sentences.of_early_looks(six).endswith(" at unit 1, where a cut keeps 100%.")


def test_early_looks_go_by_the_best_unit_where_the_benchmark_does(six: Result) -> None:
    """Curves that rise at the end: by the best unit so far, the first unit ranks them without error."""
    rows = [
        f"{trial},{unit},{0.5 + 0.01 * trial + (0.3 - 0.02 * trial) * (unit == 3)}"
        for trial in range(1, 13)
        for unit in (1, 2, 3)
    ]
    trials = "".join(f"{trial},completed\n" for trial in range(1, 13))
    files = {"units.csv": "\n".join(["trial,units,eval_loss", *rows]), "trials.csv": f"trial,outcome\n{trials}"}
    [random] = [one for one in six.contestants if one.name == "random"]
    random = replace(random, studies={0: replace(random.studies[0], files=files)})
    looks = [
        early_looks([random], six.benchmark.model_copy(update={"select": select}))[0]
        for select in ("last_unit", "best_unit")
    ]
    assert [look.correlation for look in looks] == pytest.approx([-1.0, 1.0])


def test_few_trainings_tell_nothing_of_early_looks(benchmark: Benchmark) -> None:
    assert sentences.of_early_looks(make_result(benchmark, seeds=[0, 1])) == ""


def test_the_comparison_says_it_in_words(six: Result) -> None:
    told = sentences.in_random_trainings(six)
    assert told in sentences.beside(six)
    assert "asha at 4 is worth more than" in told
    assert sentences.trainings_in_words(Worth(9.31, 7.2, 12.44)) == "9.3 (7.2 to 12)"
    assert sentences.trainings_in_words(Worth(9.31, 7.2, math.inf)) == "9.3 (7.2 or more)"
