"""Extractive question answering: from a SQuAD v1.1 record to tokens and labels, and back to a score.

One record, its text and its labels::

    Record(id="5733be28", title="Notre_Dame", question="What sits on top of the Main Building?",
           context="... Atop the Main Building's gold dome is a golden statue of the Virgin Mary. ...",
           answers=(Answer("a golden statue of the Virgin Mary", start=92),))

    Question: What sits on top of the Main Building? Context: ... Atop the ... Answer: a golden statue ...</s>
    <------------------------- labels -100 ------------------------------------><------ labels ----------->

Prompt and answer are ONE sequence, and only the answer and the end token are predicted. Scores follow the
official evaluation of SQuAD v1.1 (https://rajpurkar.github.io/SQuAD-explorer/; Rajpurkar et al. 2016,
https://arxiv.org/abs/1606.05250): answers are lower-cased, stripped of punctuation, articles and extra
white space, F1 counts tokens with multiplicity, and the best of the reference answers counts.

Contexts that do not fit `max_length`: in training the window of the context that fits is centred on the
answer; in evaluation, where the answer is not known, the context's beginning is kept. The question and the
final `Answer:` are never cut. `token_statistics` says how many records that concerns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.splits import Split
from benchmarks.tasks.question_answering import records as squad
from benchmarks.tasks.question_answering import tokens
from benchmarks.tasks.question_answering.records import Answer as Answer
from benchmarks.tasks.question_answering.records import Record as Record
from benchmarks.tasks.question_answering.scores import exact_match as exact_match
from benchmarks.tasks.question_answering.scores import f1 as f1
from benchmarks.tasks.question_answering.scores import normalize_answer as normalize_answer
from benchmarks.tasks.question_answering.tokens import prompt_of as prompt_of
from benchmarks.tasks.question_answering.tokens import tokenize as tokenize
from benchmarks.tasks.task import Example, Metric, Task

EXACT_MATCH = Metric("exact_match", "Exact Match", "max", worst=0.0, margin=0.005, digits=3, label="EM")
F1 = Metric("f1", "F1", "max", worst=0.0, margin=0.005, digits=3, label="F1")
"""Half a point, on the scale from 0 to 1, is of no practical interest."""


class QuestionAnswering(Task[Record]):
    """Questions about a text, whose answers are parts of it."""

    metrics = (EXACT_MATCH, F1)
    noun = "question"
    prompt = prompt_of("{question}", "{context}")
    example = {  # noqa: RUF012 - constant, as all of it
        "question": "What sits on top of the Main Building?",
        "context": "Atop the Main Building's gold dome is a golden statue of the Virgin Mary.",
    }
    shared_advice = "take splits without common articles, such as `articles: rest` and `held_out`"

    def read_all(self, split: Split) -> list[Record]:
        """Read all questions of the split's source."""
        return squad.read_all(split)

    def article(self, record: Record) -> str:
        """Return the article that the question is about."""
        return record.title

    def tokenize(
        self, records: Sequence[Record], tokenizer: Any, max_length: int, max_answer_tokens: int, training: bool
    ) -> list[Example]:
        """Tokenise records, see `tokens.tokenize`."""
        return tokens.tokenize(records, tokenizer, max_length, max_answer_tokens, training)

    def score(self, prediction: str, references: Sequence[str]) -> tuple[float, ...]:
        """Return Exact Match and F1 of an answer."""
        return exact_match(prediction, references), f1(prediction, references)

    def uncut(self, record: Record) -> str:
        """Return the prompt without its context, which alone is cut."""
        return tokens.uncut(record)

    def lacks_room(self, record: Record, max_length: int) -> str:
        """Say that a question leaves no room for a context."""
        return tokens.lacks_room(record, max_length)

    def shared(self, splits: Mapping[str, Sequence[Record]]) -> dict[tuple[str, str], str]:
        """Describe the questions, or else the articles, that each pair of splits has in common."""
        return squad.shared(splits)


TASK = QuestionAnswering()
read_split = TASK.read
