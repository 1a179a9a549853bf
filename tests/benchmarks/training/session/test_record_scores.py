"""Scores of each record: they are those of the split, taken apart."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from benchmarks.spec import Benchmark
from benchmarks.tasks.question_answering import f1
from benchmarks.training.session import Session

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("process_group")]


def test_scores_of_records_add_up_to_those_of_their_split(small_nano: Callable[..., Benchmark]) -> None:
    session = Session(small_nano(eval_batch_size=7))
    session.start({"learning_rate": 1e-3}, seed=0)
    unit = session.run_unit()
    scores, each = session.evaluate_each("validation")
    assert scores == session.evaluate()
    assert {name: len(values) for name, values in each.items()} == dict.fromkeys(each, 48)
    tokens = each["answer_tokens"]
    loss = sum(a * b for a, b in zip(each["eval_loss"], tokens, strict=True)) / sum(tokens)
    assert loss == pytest.approx(scores["eval_loss"], rel=1e-5)
    for name in ("exact_match", "f1"):
        assert sum(each[name]) / 48 == pytest.approx(scores[name])
    examples = session.examples["validation"]
    answers = session.predict(examples)
    assert each["f1"] == pytest.approx(
        [f1(*pair) for pair in zip(answers, (e.references for e in examples), strict=True)]
    )
    assert 0 < unit["train_cpu_seconds"] < 10 * unit["train_seconds"]
    assert unit["evaluate_cpu_seconds"] > 0
