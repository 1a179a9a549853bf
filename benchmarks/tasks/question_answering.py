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

import hashlib
import re
import statistics
import string
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise, takewhile
from pathlib import Path
from typing import Any

from benchmarks.files import is_text, parse_json, read_text
from benchmarks.spec import BenchmarkError, Split

IGNORED_LABEL = -100
JSON_LINES = (".jsonl", ".ndjson")
ADVICE = "; give the path of a SQuAD v1.1 JSON file, or of a .jsonl file"
_ARTICLES = re.compile(r"\b(a|an|the)\b", re.UNICODE)
_PUNCTUATION = frozenset(string.punctuation)


@dataclass(frozen=True)
class Answer:
    """A reference answer and where it starts in the context, in characters."""

    text: str
    start: int


@dataclass(frozen=True)
class Record:
    """One question about one context."""

    id: str
    title: str
    question: str
    context: str
    answers: tuple[Answer, ...]


@dataclass(frozen=True)
class Example:
    """A tokenised record.

    Attributes:
        prompt: token ids up to and including `Answer:`.
        target: token ids of the first reference answer and the end token.
        references: all reference answers, for Exact Match and F1.
        truncated: whether the context was cut to fit.
        answer_cut: whether the target lacks the end of the answer.
    """

    prompt: list[int]
    target: list[int]
    references: tuple[str, ...]
    truncated: bool
    answer_cut: bool

    @property
    def length(self) -> int:
        """Length of the sequence that is trained on, in tokens."""
        return len(self.prompt) + len(self.target)


@dataclass(frozen=True)
class TokenStatistics:
    """Lengths of a split's sequences: prompt, answer and end token, as they are trained on, in tokens.

    Attributes:
        split: name of the split.
        questions: their number, at least 1.
        mean: mean length.
        median: median length.
        p95: the least length that 95 % of the sequences do not exceed.
        longest: greatest length.
        max_length: the benchmark's limit.
        truncated_share: share of the contexts that were cut to fit, in [0, 1].
        cut_answers_share: share of the first reference answers that were cut to `max_answer_tokens`, in [0, 1].
    """

    split: str
    questions: int
    mean: float
    median: float
    p95: int
    longest: int
    max_length: int
    truncated_share: float
    cut_answers_share: float


def read_split(split: Split) -> list[Record]:
    """Read the records of one split.

    Raises:
        BenchmarkError: the source is missing or malformed; names the article and the field.
    """
    if split.file is None:
        records = _from_datasets(split)
    elif split.file.suffix in JSON_LINES:
        records = _from_json_lines(split.file)
    else:
        records = _from_file(split.file)
    if split.articles != "all":
        held_out = split.articles == "held_out"
        records = [r for r in records if _is_held_out(r.title, split.held_out_share) == held_out]
    records = records[: split.limit]
    if not records:
        raise BenchmarkError(f"{split.file or split.dataset}: no questions left after `articles` and `limit`")
    return records


def _is_held_out(title: str, share: float) -> bool:
    """Tell whether an article is held out: by a hash of its title, the same on every machine."""
    digest = hashlib.sha256(title.encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


def _from_json_lines(path: Path) -> list[Record]:
    """Read one question per line; `id`, `title` and the start of an answer may be left out."""
    records = []
    for number, line in enumerate(
        read_text(path, ADVICE).split("\n"), start=1
    ):  # a string may hold other ends of lines
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        row = parse_json(line, where)
        context = _get(row, "context", str, where)
        pairs = [_placed(answer, context, f"{where}, answers[{i}]") for i, answer in enumerate(_answers(row, where))]
        title = _get(row, "title", str, where) if "title" in row else context  # questions on one context stay together
        row = {"id": f"line {number}", **row, "answers": pairs}
        records.append(_read_question(row, title, context, where))
    _refuse_repeated_ids(records, str(path))
    return records


def _answers(row: dict[str, Any], where: str) -> list[Any]:
    """Take a list of texts or of objects, or the two lists that `datasets` writes."""
    if isinstance(row.get("answers"), dict):
        return _paired(row["answers"], where)
    answers: list[Any] = _get(row, "answers", list, where)
    return answers


def _placed(answer: Any, context: str, where: str) -> Any:
    """Let an answer given as text alone start where it first occurs in the context."""
    if not isinstance(answer, str):
        return answer
    start = context.find(answer)
    if start < 0:
        raise BenchmarkError(f"{where}: the text {answer!r} does not occur in the context")
    return {"text": answer, "answer_start": start}


def _paired(answers: dict[str, Any], where: str) -> list[dict[str, Any]]:
    texts, starts = _get(answers, "text", list, where), _get(answers, "answer_start", list, where)
    if len(texts) != len(starts):
        raise BenchmarkError(f"{where}: `answers` has {len(texts)} texts, but {len(starts)} values of answer_start")
    return [{"text": text, "answer_start": start} for text, start in zip(texts, starts, strict=True)]


def _from_file(path: Path) -> list[Record]:
    content = parse_json(read_text(path, ADVICE), path)
    records = []
    for i, article in enumerate(_get(content, "data", list, str(path))):
        where = f"{path}: article {i}"
        title = _get(article, "title", str, where)
        for j, paragraph in enumerate(_get(article, "paragraphs", list, f"{where} ({title})")):
            there = f"{where} ({title}), paragraph {j}"
            context = _get(paragraph, "context", str, there)
            for k, qa in enumerate(_get(paragraph, "qas", list, there)):
                records.append(_read_question(qa, title, context, f"{there}, question {k}"))
    _refuse_repeated_ids(records, str(path))
    return records


def _read_question(qa: Any, title: str, context: str, where: str) -> Record:
    answers = []
    for number, answer in enumerate(_get(qa, "answers", list, where)):
        here = f"{where}, answers[{number}]"
        text, start = _get(answer, "text", str, here), _get(answer, "answer_start", int, here)
        if start < 0 or context[start : start + len(text)] != text:
            found = context[max(start, 0) : max(start, 0) + len(text)]
            raise BenchmarkError(f"{here}: answer_start {start} points at {found!r}, not at the text {text!r}")
        answers.append(Answer(text, start))
    if not answers:
        raise BenchmarkError(f"{where}: `answers` is empty, but SQuAD v1.1 needs at least one")
    return Record(_get(qa, "id", str, where), title, _get(qa, "question", str, where), context, tuple(answers))


def _get(mapping: Any, key: str, kind: type, where: str) -> Any:
    if not isinstance(mapping, dict):
        raise BenchmarkError(f"{where}: expected an object with `{key}`, found {type(mapping).__name__}")
    if key not in mapping:
        raise BenchmarkError(f"{where}: field `{key}` is missing")
    if not isinstance(mapping[key], kind) or isinstance(mapping[key], bool):
        raise BenchmarkError(f"{where}: field `{key}` is {type(mapping[key]).__name__}, but must be {kind.__name__}")
    if kind is str and not is_text(mapping[key]):
        raise BenchmarkError(f"{where}: field `{key}` has half of a surrogate pair; write the whole character")
    return mapping[key]


def _refuse_repeated_ids(records: list[Record], source: str) -> None:
    repeated = [name for name, count in Counter(r.id for r in records).items() if count > 1]
    if repeated:
        raise BenchmarkError(f"{source}: question id {repeated[0]!r} occurs more than once ({len(repeated)} such ids)")


def _from_datasets(split: Split) -> list[Record]:
    """Read from the hub or a local folder, through `datasets`; imported here because it costs a second."""
    import datasets

    try:
        rows = datasets.load_dataset(split.dataset, split.config, split=split.split, revision=split.revision)
    except Exception as error:  # the library raises many kinds; all mean the same to the user
        raise BenchmarkError(
            f"data set {split.dataset!r}, split {split.split!r}: cannot be loaded ({type(error).__name__}: {error}); "
            "on a machine without internet give a local folder, or a SQuAD v1.1 file with `file:`"
        ) from None
    missing = {"id", "title", "question", "context", "answers"} - set(rows.column_names)
    if missing:
        raise BenchmarkError(f"data set {split.dataset!r}: column `{sorted(missing)[0]}` is missing")
    source = f"data set {split.dataset!r}, split {split.split!r}"
    records = []
    for number, row in enumerate(rows):
        where = f"{source}, row {number}"
        pairs = _paired(_get(row, "answers", dict, where), where)
        title, context = _get(row, "title", str, where), _get(row, "context", str, where)
        records.append(_read_question({**row, "answers": pairs}, title, context, where))
    _refuse_repeated_ids(records, source)
    return records


def prompt_of(question: str, context: str) -> str:
    """Write the text before the answer."""
    return f"{_before_context(question)}{context} Answer:"


def tokenize(
    records: Sequence[Record], tokenizer: Any, max_length: int, max_answer_tokens: int, training: bool
) -> list[Example]:
    """Tokenise records: each one's prompt and answer as one text, which character offsets then part.

    A tokenizer that puts a mark before every text it is given, as sentencepiece does, thus puts one before the whole.

    Args:
        records: of one split.
        tokenizer: a fast Hugging Face tokenizer with an end token.
        max_length: longest prompt + answer, in tokens.
        max_answer_tokens: room kept for the answer; longer training answers are cut to it.
        training: cut a long context around its answer instead of at its end.

    Raises:
        BenchmarkError: a question alone leaves no room for its context.
    """
    prefix = _prefix(tokenizer)
    texts = [f"{prompt_of(r.question, r.context)} {r.answers[0].text}" for r in records]
    encoded = tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True)
    examples = []
    for record, ids, offsets in zip(records, encoded["input_ids"], encoded["offset_mapping"], strict=True):
        pieces = _pieces(record, offsets)
        question, context, ending, answer = (ids[piece] for piece in pieces)
        room = max_length - len(prefix) - len(question) - len(ending) - max_answer_tokens
        if room < 1:
            raise BenchmarkError(
                f"question {record.id!r} leaves no room for a context in max_length {max_length}; raise it"
            )
        start = len(_before_context(record.question)) + record.answers[0].start
        place = (start, start + len(record.answers[0].text))
        kept = _window(offsets[pieces[1]], place, room) if training else slice(0, room)
        prompt = [*prefix, *question, *context[kept], *ending]
        target = [*answer[: max_answer_tokens - 1], tokenizer.eos_token_id]
        references = tuple(answer.text for answer in record.answers)
        is_cut = len(answer) > max_answer_tokens - 1
        examples.append(Example(prompt, target, references, truncated=len(context) > room, answer_cut=is_cut))
    return examples


def _prefix(tokenizer: Any) -> list[int]:
    """Return the special tokens that the tokenizer puts in front of a text, such as Llama's <s> or OPT's </s>."""
    encoded = tokenizer(_before_context(""), return_special_tokens_mask=True)
    marked = zip(encoded["input_ids"], encoded["special_tokens_mask"], strict=True)
    return [token for token, _ in takewhile(lambda pair: pair[1], marked)]


def _before_context(question: str) -> str:
    return f"Question: {question} Context: "


def _pieces(record: Record, offsets: Sequence[tuple[int, int]]) -> list[slice]:
    """Part the tokens of a record's text into question, context, the final `Answer:`, and the answer.

    A token belongs where its last character does: the space before a word goes with the word.
    """
    last_characters = list(accumulate((end - 1 for _, end in offsets), max))
    context = len(_before_context(record.question)) - 1  # with the space before it, as all pieces
    prompt = len(prompt_of(record.question, record.context))
    ends = [bisect_left(last_characters, end) for end in (context, context + 1 + len(record.context), prompt)]
    return [slice(begin, end) for begin, end in pairwise([0, *ends, len(offsets)])]


def _window(offsets: Sequence[tuple[int, int]], place: tuple[int, int], room: int) -> slice:
    """Choose the `room` context tokens around the characters of the answer, from the first to behind the last."""
    begin, end = place
    inside = [t for t, (token_begin, token_end) in enumerate(offsets) if token_begin < end and token_end > begin]
    middle = (inside[0] + inside[-1]) // 2 if inside else 0
    start = max(0, min(middle - (room - 1) // 2, len(offsets) - room))
    return slice(start, start + room)


def token_statistics(split: str, examples: Sequence[Example], max_length: int) -> TokenStatistics:
    """Describe the lengths of a split's sequences.

    Args:
        split: its name.
        examples: at least one.
        max_length: the limit that they were cut to.
    """
    lengths, number = sorted(e.length for e in examples), len(examples)
    return TokenStatistics(
        split=split,
        questions=number,
        mean=statistics.fmean(lengths),
        median=statistics.median(lengths),
        p95=lengths[(95 * number - 1) // 100],
        longest=lengths[-1],
        max_length=max_length,
        truncated_share=sum(e.truncated for e in examples) / number,
        cut_answers_share=sum(e.answer_cut for e in examples) / number,
    )


def normalize_answer(text: str) -> str:
    """Write a text in lower case, without punctuation, articles and extra white space, as the official script does."""
    without_punctuation = "".join(c for c in text.lower() if c not in _PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", without_punctuation).split())


def exact_match(prediction: str, references: Iterable[str]) -> float:
    """Return 1.0 if the prediction equals a reference after normalisation, else 0.0."""
    return float(any(normalize_answer(prediction) == normalize_answer(reference) for reference in references))


def f1(prediction: str, references: Iterable[str]) -> float:
    """Compute token F1 against the best reference, in [0, 1]; 0 if no token is shared, as by two empty texts."""
    return max(_f1_one(normalize_answer(prediction).split(), normalize_answer(r).split()) for r in references)


def _f1_one(predicted: list[str], reference: list[str]) -> float:
    shared = (Counter(predicted) & Counter(reference)).total()
    if shared == 0:
        return 0.0
    precision, recall = shared / len(predicted), shared / len(reference)
    return 2 * precision * recall / (precision + recall)
