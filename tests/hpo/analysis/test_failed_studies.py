"""Studies that ended with an error: counted per contestant, and scored as the worst in a sentence of their own."""

from __future__ import annotations

from hpo.analysis import compare
from hpo.analysis.compare import Result
from hpo.report import tables
from hpo.report.columns import columns
from tests.hpo.analysis.stored import BENCHMARK, confirmed, records, standing, study


def compared(failed: int, blocks: int = 8) -> Result:
    """Compare asha with random: it is better wherever it ends, and fails with the last seeds."""
    sound = [study("asha", seed) for seed in range(blocks - failed)] + [study("random", seed) for seed in range(blocks)]
    trainings = [t for s in sound for t in confirmed(s, (0.7 if s.method == "asha" else 0.6) + 0.001 * s.seed)]
    lost = [study("asha", seed, files={}) for seed in range(blocks - failed, blocks)]
    return compare.compare(records(sound, trainings, failed=lost))


def test_they_are_counted() -> None:
    result = compared(2)
    assert standing(result, "asha").failed_studies == (6, 7)
    assert "studies that failed have no score: asha: 2 studies (seeds 6, 7)" in result.notes
    [row, _] = tables.standing_rows(result)
    assert (row["method"], row["failed_studies"]) == ("asha", 2)
    [column] = [one for one in columns(BENCHMARK) if one.heading == "failed"]
    assert column.cell(standing(result, "asha")).small == "2 studies without a score"


def test_a_verdict_that_would_not_stand_with_them_as_the_worst_is_named() -> None:
    result = compared(2)
    assert result.pairs[0].verdict == "better"
    assert "with failed studies as the worst score there is, asha against random: not resolved" in result.notes


def test_verdicts_that_stand_are_said_to() -> None:
    result = compared(1, blocks=12)
    assert "with failed studies as the worst score there is, no verdict changes" in result.notes


def test_without_any_nothing_is_said() -> None:
    assert not [note for note in compared(0).notes if "fail" in note]


def test_one_that_was_run_again_and_finished_does_not_count_as_failed() -> None:
    sound = [study("asha", seed, started=9) for seed in range(2)]
    result = compare.compare(records(sound, failed=[study("asha", 0, run_id="lost")]))
    assert standing(result, "asha").failed_studies == ()


def test_a_method_all_of_whose_studies_failed_is_a_contestant() -> None:
    sound = [study("random", seed) for seed in range(8)]
    trainings = [t for s in sound for t in confirmed(s, 0.6 + 0.001 * s.seed)]
    result = compare.compare(records(sound, trainings, failed=[study("asha", seed) for seed in range(8)]))
    assert standing(result, "asha").failed_studies == tuple(range(8))


def test_a_method_all_of_whose_studies_failed_is_worse_with_them_as_the_worst() -> None:
    sound = [study("random", seed) for seed in range(8)]
    trainings = [t for s in sound for t in confirmed(s, 0.6 + 0.001 * s.seed)]
    lost = [study("asha", seed) for seed in range(8)]
    notes = compare.compare(records(sound, trainings, failed=lost)).notes
    assert "with failed studies as the worst score there is, random against asha: better" in notes or (
        "with failed studies as the worst score there is, asha against random: worse" in notes
    )
    every = compare.compare(records([study("bohb", s.seed) for s in sound], failed=lost)).notes
    assert "with failed studies as the worst score there is, no verdict changes" in every  # nothing is confirmed


def test_a_larger_random_search_that_failed_altogether_is_a_contestant() -> None:
    lost = [study("random", seed, budget=24) for seed in range(3)]
    result = compare.compare(records([study("asha"), study("random")], failed=lost))
    assert standing(result, "random budget=24").failed_studies == (0, 1, 2)


def test_a_failed_study_of_the_larger_random_search_s_budget_is_none_of_the_comparison_s() -> None:
    sound = [study("asha"), study("random"), study("random", budget=24)]
    result = compare.compare(records(sound, failed=[study("bohb", budget=24)]))
    assert [one.name for one in result.standings] == ["asha", "random", "random budget=24"]


def test_a_failed_study_of_another_budget_is_none_of_the_comparison_s() -> None:
    result = compare.compare(records([study("asha")], failed=[study("bohb", budget=99)]))
    assert [one.name for one in result.standings] == ["asha"]
