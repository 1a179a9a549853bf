"""From records to tokens: prompt, target, contexts cut around the answer, statistics."""

from __future__ import annotations

import re
from typing import Any

import pytest

from benchmarks.spec import HERE, BenchmarkError
from benchmarks.tasks.question_answering import (
    Answer,
    Record,
    prompt_of,
    tokenize,
)
from benchmarks.tasks.task import Example, token_statistics


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(HERE / "assets/nano/model")


def record_of(context: str, answer: str, question: str = "Who drew it?") -> Record:
    return Record("q0", "Alpha", question, context, (Answer(answer, context.index(answer)),))


def example_of(
    record: Record, tokenizer: Any, training: bool = True, max_length: int = 160, max_answer_tokens: int = 10
) -> Example:
    return tokenize([record], tokenizer, max_length, max_answer_tokens, training)[0]


def padded(answer: str, before: int, after: int) -> str:
    return "old " * before + answer + " old" * after


SHORT = record_of("The old mill was the work of Mara Velt.", "Mara Velt")
LONG = record_of(padded("Mara Velt", before=60, after=60), "Mara Velt")


@pytest.mark.parametrize("training", [True, False])
def test_prompt_is_the_question_the_context_and_a_final_answer(tokenizer: Any, training: bool) -> None:
    text = tokenizer.decode(example_of(SHORT, tokenizer, training).prompt)
    assert text == "Question: Who drew it? Context: The old mill was the work of Mara Velt. Answer:"


def test_target_is_the_first_answer_and_the_end_token(tokenizer: Any) -> None:
    record = Record("q0", "Alpha", "Who?", "Mara Velt", (Answer("Mara Velt", 0), Answer("Velt", 5)))
    example = example_of(record, tokenizer)
    assert (tokenizer.decode(example.target[:-1]), example.target[-1]) == (" Mara Velt", tokenizer.eos_token_id)


def test_all_answers_are_references(tokenizer: Any) -> None:
    record = Record("q0", "Alpha", "Who?", "Mara Velt", (Answer("Mara Velt", 0), Answer("Velt", 5)))
    assert example_of(record, tokenizer).references == ("Mara Velt", "Velt")


@pytest.mark.parametrize(
    ("question", "context"),
    [
        ("Who drew it?", "The old mill was the work of Mara Velt."),
        (" Who  drew it? ", " Mara Velt  drew\nit. "),
        ("Qui a dessiné l'église?", "L'église, 東京 — par Mara Velt…"),
        ("Who?", "Mara Velt"),
        ("Question: Answer: Context:", "Context: Mara Velt Answer:"),
    ],
)
def test_pieces_are_the_tokens_of_the_whole_prompt(tokenizer: Any, question: str, context: str) -> None:
    prompt = example_of(record_of(context, "Mara Velt", question), tokenizer).prompt
    assert prompt == tokenizer(prompt_of(question, context))["input_ids"]


def test_prompt_and_target_together_are_the_tokens_of_the_whole_text(tokenizer: Any) -> None:
    example = example_of(SHORT, tokenizer)
    text = prompt_of(SHORT.question, SHORT.context) + " Mara Velt" + tokenizer.eos_token
    assert example.prompt + example.target == tokenizer(text)["input_ids"]


@pytest.mark.parametrize(("before", "after"), [(0, 120), (3, 117), (60, 60), (117, 3), (120, 0)])
@pytest.mark.parametrize("max_length", [24, 25, 40, 41, 60])
def test_training_keeps_the_answer_of_a_long_context(tokenizer: Any, before: int, after: int, max_length: int) -> None:
    record = record_of(padded("Mara Velt", before, after), "Mara Velt")
    assert "Mara Velt" in tokenizer.decode(example_of(record, tokenizer, max_length=max_length).prompt)


@pytest.mark.parametrize("answer", ["Mara Velt qzxjqzxj", "qzxjqzxj Mara Velt", "Elvaston Ostrava Penrith qzxjqzxj"])
def test_training_keeps_an_answer_of_uneven_tokens(tokenizer: Any, answer: str) -> None:
    record = record_of(padded(answer, before=60, after=60), answer)
    room = len(tokenizer(f" {answer}")["input_ids"]) + 1
    question = len(tokenizer("Question: Who drew it? Context: Answer:")["input_ids"])
    example = example_of(record, tokenizer, max_length=question + room + 12, max_answer_tokens=12)
    assert answer in tokenizer.decode(example.prompt)


def test_training_fills_the_room_around_the_answer(tokenizer: Any) -> None:
    text = tokenizer.decode(example_of(LONG, tokenizer, max_length=40).prompt)
    before, after = text.removeprefix("Question: Who drew it? Context:").removesuffix(" Answer:").split(" Mara Velt")
    assert abs(before.count(" old") - after.count(" old")) <= 2


def test_evaluation_cuts_a_long_context_at_its_end(tokenizer: Any) -> None:
    record = record_of("Mara Velt drew it. " + padded("Tobin", 60, 60), "Tobin")
    text = tokenizer.decode(example_of(record, tokenizer, training=False, max_length=40).prompt)
    assert re.fullmatch(r"Question: Who drew it\? Context: Mara Velt drew it\.( old)+ Answer:", text)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("max_length", range(22, 72, 7))
def test_question_and_final_answer_are_never_cut(tokenizer: Any, training: bool, max_length: int) -> None:
    text = tokenizer.decode(example_of(LONG, tokenizer, training, max_length).prompt)
    assert (text.startswith("Question: Who drew it? Context:"), text.endswith(" Answer:")) == (True, True)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("max_length", range(22, 72, 7))
def test_sequence_is_never_longer_than_max_length(tokenizer: Any, training: bool, max_length: int) -> None:
    record = record_of(padded("qzxjqzxjqzxjqzxj", 60, 60), "qzxjqzxjqzxjqzxj")
    example = example_of(record, tokenizer, training, max_length, max_answer_tokens=4)
    assert len(example.prompt) + len(example.target) <= max_length


def test_long_training_answer_is_cut_and_still_ends(tokenizer: Any) -> None:
    record = record_of("Mara Velt Mara Velt Mara Velt", "Mara Velt Mara Velt Mara Velt")
    target = example_of(record, tokenizer, max_answer_tokens=4).target
    assert (tokenizer.decode(target[:-1]), target[-1]) == (" Mara Velt Mara", tokenizer.eos_token_id)


def test_question_without_room_for_a_context_is_refused(tokenizer: Any) -> None:
    record = record_of("Mara Velt", "Mara Velt", question="Who drew it? " * 20)
    message = "question 'q0' leaves no room for a context in max_length 40; raise it"
    with pytest.raises(BenchmarkError, match=message):
        example_of(record, tokenizer, max_length=40)


def test_smallest_room_is_one_context_token(tokenizer: Any) -> None:
    question = len(tokenizer("Question: Who drew it? Context: Answer:")["input_ids"])
    assert len(example_of(LONG, tokenizer, max_length=question + 10 + 1).prompt) == question + 1


def test_context_that_just_fits_is_not_truncated(tokenizer: Any) -> None:
    length = len(tokenizer(prompt_of(SHORT.question, SHORT.context))["input_ids"])
    exact, short = (example_of(SHORT, tokenizer, max_length=length + 10 - less) for less in (0, 1))
    assert (exact.truncated, short.truncated) == (False, True)


def test_token_statistics_count_cut_contexts_and_cut_answers(tokenizer: Any) -> None:
    wordy = record_of("Mara Velt Mara Velt", "Mara Velt Mara Velt")
    kept = len(tokenizer(" Mara Velt")["input_ids"])
    examples = tokenize([SHORT, LONG, LONG, wordy], tokenizer, 40, max_answer_tokens=kept + 1, training=True)
    found = token_statistics("train", examples, max_length=40)
    assert (found.split, found.questions, found.max_length) == ("train", 4, 40)
    assert (found.truncated_share, found.cut_answers_share) == (0.5, 0.25)


def test_token_statistics_are_of_prompt_answer_and_end_token() -> None:
    examples = [Example([1] * (length - 2), [1, 2], ("x",), False, False) for length in range(100, 1, -1)]
    found = token_statistics("test", examples, max_length=512)
    assert (found.questions, found.mean, found.median) == (99, 51, 51)
    assert (found.p95, found.longest) == (96, 100)  # 95 of 99 are no longer than 96, but 94 no longer than 95


def test_token_statistics_of_one_question(tokenizer: Any) -> None:
    example = example_of(SHORT, tokenizer)
    found, length = token_statistics("test", [example], 160), len(example.prompt) + len(example.target)
    assert (found.mean, found.median, found.p95, found.longest) == (length, length, length, length)
    assert (found.truncated_share, found.cut_answers_share) == (0, 0)


def test_example_does_not_depend_on_its_neighbours(tokenizer: Any) -> None:
    assert tokenize([LONG, SHORT], tokenizer, 40, 10, training=True)[1] == example_of(SHORT, tokenizer, max_length=40)
