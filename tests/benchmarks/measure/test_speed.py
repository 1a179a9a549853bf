"""The command that measures speed: what it trains on, how its sides take turns, and what it makes of the times."""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest

from benchmarks import spec
from benchmarks.measure.speed import data
from benchmarks.measure.speed.__main__ import SLEEPING, SPINNING, Pairing, Timing, line, measure, padding_lines, passes
from benchmarks.spec import HERE, BenchmarkError
from benchmarks.tasks import question_answering as squad


def test_lengths_are_those_that_squad_is_taken_to_have() -> None:
    lengths = data.draw_lengths(20_000, seed=1)
    assert statistics.fmean(lengths) == pytest.approx(171, abs=2)
    assert sum(length > 384 for length in lengths) / len(lengths) == pytest.approx(0.013, abs=0.003)
    assert data.draw_lengths(9) == data.draw_lengths(9) != data.draw_lengths(9, seed=1)


@pytest.mark.slow
def test_questions_have_the_lengths_that_were_drawn(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    path, tokenizer = tmp_path / "data.jsonl", AutoTokenizer.from_pretrained(HERE / "assets/nano/model")
    data.write(path, tokenizer)
    settings = data.with_squad_lengths(spec.load("nano"), path).training_settings()
    records = squad.read_split(settings.data.train)
    examples = squad.tokenize(records, tokenizer, settings.max_length, settings.max_answer_tokens, training=True)
    whole = [e for e in examples if not e.truncated]
    drawn = [length for length, e in zip(data.draw_lengths(data.QUESTIONS), examples, strict=True) if not e.truncated]
    assert len(whole) > 0.99 * data.QUESTIONS
    assert [len(e.prompt) + len(e.target) for e in whole] == drawn


def measured(ratio: float) -> Timing:
    return Timing(seconds=(1.0, 2.0), ratio=ratio, quartiles=(0.4, 0.6), loss_difference=2e-7)


def test_a_ratio_is_held_against_its_limit() -> None:
    comparison = Pairing("Trainer", {"work": "trainer"}, {}, at_least=0.98)
    assert [passes(comparison, measured(ratio)) for ratio in (0.979, 0.98, 2.0)] == [False, True, True]
    shown = line(comparison, measured(0.5))
    assert shown.split(maxsplit=1)[1] == (
        "1.000 s   2.000 s | ratio 0.500 (0.400 .. 0.600) | losses differ by 2e-07 at most | FAIL, at least 0.98"
    )


def test_without_a_limit_there_is_no_verdict() -> None:
    comparison = Pairing("noise", {}, {})
    assert passes(comparison, measured(0.1))
    assert line(comparison, measured(0.1)).endswith("ratio 0.100 (0.400 .. 0.600)")


def test_padding_is_counted_for_every_batch_size() -> None:
    first, *rest = padding_lines()
    assert "padded to 512" in first
    assert [text.split(":")[0] for text in rest] == [f"  batches of {size:2}" for size in (2, 8, 16, 32)]


@pytest.mark.thorough
@pytest.mark.slow
def test_our_loop_and_trainer_take_turns_with_the_same_losses() -> None:
    found = measure(Pairing("Trainer", {"work": "trainer"}, {}), "nano", rounds=2)
    assert found.loss_difference == pytest.approx(0, abs=1e-4)
    assert min(found.seconds) > 0
    low, high = found.quartiles
    assert 0 < low <= found.ratio <= high


@pytest.mark.thorough
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_threads_that_sleep_are_quicker_beside_other_work_with_the_same_losses() -> None:
    found = measure(Pairing("waiting", SPINNING, SLEEPING, busy=1), "nano", rounds=3)
    assert found.loss_difference == 0
    assert found.ratio > 1


@pytest.mark.slow
def test_a_side_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match=r"a side ended with status 1, saying: .*no benchmark"):
        measure(Pairing("noise", {}, {}), "missing", rounds=1)
