"""Tokens of a record: prompt and answer as one text, cut to fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.files import BenchmarkError
from benchmarks.tasks.question_answering.records import Record
from benchmarks.tasks.sequences import Offsets, pieces, special_prefix
from benchmarks.tasks.task import Example

AFTER = " Answer:"
"""Text between the context and the answer."""


def prompt_of(question: str, context: str) -> str:
    """Write the text before the answer."""
    return f"{_before_context(question)}{context}{AFTER}"


def uncut(record: Record) -> str:
    """Return the prompt without its context and without the space in front of it, which goes with its first token."""
    return f"{_before_context(record.question)[:-1]}{AFTER}"


def lacks_room(record: Record, max_length: int) -> str:
    """Say that a question leaves no room for its context."""
    return f"question {record.id!r} leaves no room for a context in max_length {max_length}"


def tokenize(
    records: Sequence[Record], tokenizer: Any, max_length: int, max_answer_tokens: int, training: bool
) -> list[Example]:
    """Tokenise records: each one's prompt and answer as one text, which character offsets then part.

    Args:
        records: of one split.
        tokenizer: a fast Hugging Face tokenizer with an end token.
        max_length: longest prompt + answer, in tokens.
        max_answer_tokens: room kept for the answer; longer training answers are cut to it.
        training: cut a long context around its answer instead of at its end.

    Raises:
        BenchmarkError: a question alone leaves no room for its context.
    """
    prefix = special_prefix(tokenizer, _before_context(""))
    texts = [f"{prompt_of(r.question, r.context)} {r.answers[0].text}" for r in records]
    encoded = tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True)
    examples = []
    for record, ids, offsets in zip(records, encoded["input_ids"], encoded["offset_mapping"], strict=True):
        parts = _parts(record, offsets)
        question, context, ending, answer = (ids[part] for part in parts)
        room = max_length - len(prefix) - len(question) - len(ending) - max_answer_tokens
        if room < 1:
            raise BenchmarkError(f"{lacks_room(record, max_length)}; raise it")
        start = len(_before_context(record.question)) + record.answers[0].start
        place = (start, start + len(record.answers[0].text))
        kept = _window(offsets[parts[1]], place, room) if training else slice(0, room)
        prompt = [*prefix, *question, *context[kept], *ending]
        target = [*answer[: max_answer_tokens - 1], tokenizer.eos_token_id]
        references = tuple(answer.text for answer in record.answers)
        is_cut = len(answer) > max_answer_tokens - 1
        examples.append(Example(prompt, target, references, truncated=len(context) > room, answer_cut=is_cut))
    return examples


def _before_context(question: str) -> str:
    return f"Question: {question} Context: "


def _parts(record: Record, offsets: Offsets) -> list[slice]:
    """Part the tokens of a record's text into question, context, the final `Answer:`, and the answer."""
    context = len(_before_context(record.question)) - 1  # with the space before it, as all parts
    prompt = len(prompt_of(record.question, record.context))
    return pieces(offsets, (context, context + 1 + len(record.context), prompt))


def _window(offsets: Offsets, place: tuple[int, int], room: int) -> slice:
    """Choose the `room` context tokens around the characters of the answer, from the first to behind the last."""
    begin, end = place
    inside = [t for t, (token_begin, token_end) in enumerate(offsets) if token_begin < end and token_end > begin]
    middle = (inside[0] + inside[-1]) // 2 if inside else 0
    start = max(0, min(middle - (room - 1) // 2, len(offsets) - room))
    return slice(start, start + room)
