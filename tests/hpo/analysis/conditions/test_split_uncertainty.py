"""Uncertainty of the test split: what other records and blocks would have shown, where the truth is plain."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.spec import Benchmark
from benchmarks.tasks.record_scores import ANSWER_TOKENS, pack
from hpo.analysis import compare
from hpo.analysis.compare import Result
from hpo.analysis.studies import Confirmation
from hpo.report import page, sentences, tables
from tests.hpo.analysis.stored import BENCHMARK, BY_LOSS, confirmed, records, study

NUMBER = 200
Records = Callable[[str, int], Sequence[float]]
"""F1 of each record by method and block."""


def with_records(training: Confirmation, f1: Sequence[float]) -> Confirmation:
    figures = {"f1": f1, "exact_match": f1, "eval_loss": [1 - value for value in f1], ANSWER_TOKENS: [2.0] * len(f1)}
    return replace(training, records={name: pack(values) for name, values in figures.items()})


def compared(f1: Records, blocks: int = 6, benchmark: Benchmark = BENCHMARK) -> Result:
    studies = [study(method, block) for method in ("asha", "random") for block in range(blocks)]
    answers = {s.run_id: f1(s.method, s.seed) for s in studies}
    trainings = [
        with_records(one, answers[s.run_id]) for s in studies for one in confirmed(s, float(np.mean(answers[s.run_id])))
    ]
    return compare.compare(records(studies, trainings, benchmark=benchmark))


def noisy(method: str, block: int) -> list[float]:
    """Records of which each method answers others: the difference depends on the sample."""
    rng = np.random.default_rng([block % 1, method == "asha"])
    return (rng.random(NUMBER) < (0.6 if method == "asha" else 0.55)).astype(float).tolist()


def test_records_that_are_answered_alike_add_nothing() -> None:
    split = compared(lambda method, block: [0.75 if method == "asha" else 0.5] * NUMBER).verdicts.split
    assert split is not None
    ends = split.intervals["asha", "random"]
    assert (split.num_records, split.standard_error) == (NUMBER, 0.0)
    assert (ends.low, ends.high) == pytest.approx((0.25, 0.25))


def test_the_standard_error_is_that_of_a_sample_of_records() -> None:
    split = compared(noisy).verdicts.split
    assert split is not None
    share = float(np.mean([np.mean(noisy(method, 0)) for method in ("asha", "random")]))
    assert split.standard_error == pytest.approx((share * (1 - share) / NUMBER) ** 0.5, rel=0.15)


def test_blocks_that_agree_are_no_evidence_against_other_records() -> None:
    """Each block has the same records and answers: six blocks seem sure, 200 records are not."""
    result = compared(noisy)
    [pair] = result.pairs
    assert pair.interval is not None
    assert pair.interval.high - pair.interval.low < 0.01
    assert result.verdicts.split is not None
    ends = result.verdicts.split.intervals["asha", "random"]
    assert ends.high - ends.low > 0.1


def test_a_loss_is_weighted_by_the_tokens_of_its_answers() -> None:
    def uneven(method: str, block: int) -> list[float]:
        return [0.5] * NUMBER

    plain = compared(uneven, benchmark=BY_LOSS).verdicts.split
    assert plain is not None
    ends = plain.intervals["asha", "random"]
    assert (ends.low, ends.high) == (0.0, 0.0)


def test_trainings_without_records_tell_nothing() -> None:
    studies = [study(method) for method in ("asha", "random")]
    trainings = [one for s in studies for one in confirmed(s, 0.5)]
    assert compare.compare(records(studies, trainings)).verdicts.split is None
    mixed = [with_records(trainings[0], [0.5] * 10), with_records(trainings[1], [0.5] * 9)]
    assert compare.compare(records(studies, mixed)).verdicts.split is None  # other splits


def test_a_training_that_diverged_is_the_worst_on_any_records() -> None:
    sound, lost = ([study(method, block) for block in range(5)] for method in ("asha", "random"))
    trainings = [with_records(one, [0.5] * 10) for s in sound for one in confirmed(s, 0.5)]
    trainings += [one for s in lost for one in confirmed(s, None)]
    split = compare.compare(records([*sound, *lost], trainings)).verdicts.split
    assert split is not None
    assert split.intervals["asha", "random"].low == pytest.approx(0.5)


def test_no_interval_is_shown_below_five_blocks() -> None:
    few = compared(noisy, blocks=4)
    assert few.verdicts.split is not None
    assert few.verdicts.split.intervals == {}
    assert sentences.of_test_split(few).endswith(" has a standard error of 0.036.")
    assert tables.pair_rows(few)[0]["low_over_records"] is None
    enough = compared(noisy, blocks=5).verdicts.split
    assert enough is not None
    assert list(enough.intervals) == [("asha", "random")]


def test_terminal_page_and_csv_show_it() -> None:
    result = compared(noisy)
    text, *_ = sentences.beside(result)
    assert text.startswith("The test split is a sample too: over its 200 records")
    assert "asha - random [" in text
    assert "a - b, other records" in page.pairs_table(result).headings
    assert len(page.pairs_table(result).rows[0]) == len(page.pairs_table(result).headings)
    [first, *_] = tables.pair_rows(result)
    assert first["low_over_records"] < first["mean_difference"] < first["high_over_records"]
