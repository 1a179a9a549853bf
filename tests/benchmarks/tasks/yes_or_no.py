"""A task that no folder of the suite has: texts with the label yes or no, as one JSON object per line.

`tests.benchmarks.tasks.own_task` puts this file into `benchmarks/tasks`. Its metrics have other names and directions
than those of the tasks that ship. Its verdicts go by the one of which less is better, and that one is no mean.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.splits import Split
from benchmarks.tasks.task import Example, Metric, Task

LABELS = ("yes", "no")
ACCURACY = Metric("accuracy", "accuracy", "max", worst=0.0, margin=0.01, digits=3)
ECE = Metric("ece", "calibration error", "min", worst=1.0, margin=0.02, digits=2, label="ECE")
GUESS = 0.5
"""Confidence in an answer that is no label; in a label it is 1."""


@dataclass(frozen=True)
class Labelled:
    """A text with its label."""

    text: str
    label: str


class YesOrNo(Task[Labelled]):
    metrics = (ACCURACY, ECE)
    noun = "text"
    prompt = "Text: {text} Label:"
    example = {"text": "Is it raining?"}  # noqa: RUF012

    def read_all(self, split: Split) -> list[Labelled]:
        assert split.file is not None
        return [Labelled(**json.loads(line)) for line in split.file.read_text().splitlines()]

    def tokenize(
        self, records: Sequence[Labelled], tokenizer: Any, max_length: int, max_answer_tokens: int, training: bool
    ) -> list[Example]:
        return [self._example(record, tokenizer, max_length - max_answer_tokens) for record in records]

    def _example(self, record: Labelled, tokenizer: Any, room: int) -> Example:
        before, text, after, label = (
            tokenizer(part, add_special_tokens=False)["input_ids"]
            for part in ("Text:", f" {record.text}", " Label:", f" {record.label}")
        )
        kept = text[: room - len(before) - len(after)]
        target = [*label, tokenizer.eos_token_id]
        return Example([*before, *kept, *after], target, (record.label,), len(kept) < len(text), False)

    def score(self, prediction: str, references: Sequence[str]) -> tuple[float, ...]:
        is_sure = prediction in LABELS
        return float(prediction == references[0]), float(is_sure)

    def summarise(self, sums: Sequence[float], number: int) -> dict[str, float]:
        correct, sure = sums
        error = (sure - correct) + GUESS * (number - sure)
        return {"accuracy": correct / number, "ece": error / number}

    def uncut(self, record: Labelled) -> str:
        return self.prompt.format(text="")

    def lacks_room(self, record: Labelled, max_length: int) -> str:
        return f"text {record.text!r} leaves no room in max_length {max_length}"


TASK = YesOrNo()
