"""The contract of a task: from records to tokens, and from answers to scores.

Every task is text: a prompt, the answer that follows it, and the end token. Only answer and end token are predicted.
The mean cross entropy per answer token is `LOSS`, which every task has, and a task adds its own `metrics`. Tables,
files, figures and MLflow show the metrics of the benchmark, whatever their names and directions are.
"""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from string import Formatter
from typing import Any, Generic, Literal, TypeVar

from benchmarks.files import BenchmarkError
from benchmarks.splits import Split

Record = TypeVar("Record")
Mode = Literal["min", "max"]
IGNORED_LABEL = -100
"""Label of a position that is not predicted."""
PERPLEXITY = "perplexity"
"""Exponential of the loss, stored beside it."""
MAX_PERPLEXITY_LOSS = 700.0
"""The exponential of a larger loss is no float."""
TRAIN_LOSS = "train_loss"
"""Mean loss of the unit's training steps, stored beside the metrics."""


@dataclass(frozen=True)
class Metric:
    """A metric of an evaluation.

    Attributes:
        name: key under which it is stored.
        title: its name for people, such as "Exact Match".
        mode: "min" or "max", the direction in which it improves.
        worst: value that a training without a sound end counts as; no evaluation is worse.
        margin: difference below which two methods count as equal, above 0.
        digits: decimals in tables of trials.
        best: value that no evaluation beats; by default 1 where more is better, and 0 where less is.
        label: short name for narrow columns; `name` by default.
    """

    name: str
    title: str
    mode: Mode
    worst: float
    margin: float
    digits: int
    best: float | None = None
    label: str = ""

    @property
    def on_test(self) -> str:
        """Key under which its value on the test split is stored."""
        return f"test_{self.name}"

    @property
    def short(self) -> str:
        """Its label, or the name without one."""
        return self.label or self.name

    @property
    def words(self) -> str:
        """The short name as people write it."""
        return self.short.replace("_", " ")

    @property
    def bare_words(self) -> str:
        """The short name without "eval", which belongs to validation."""
        return self.words.removeprefix("eval ")

    @property
    def words_on_test(self) -> str:
        """The short name of its value on the test split."""
        return f"test {self.bare_words}"

    @property
    def higher_is_better(self) -> bool:
        """True if more is better."""
        return self.mode == "max"

    @property
    def direction(self) -> str:
        """The better direction in words."""
        return "higher is better" if self.higher_is_better else "lower is better"

    @property
    def bounds(self) -> tuple[float, float]:
        """The least and the greatest value."""
        return min(self.best_value, self.worst), max(self.best_value, self.worst)

    @property
    def best_value(self) -> float:
        """The value that no evaluation beats."""
        if self.best is not None:
            return self.best
        return 1.0 if self.higher_is_better else 0.0

    def beats(self, a: float, b: float) -> bool:
        """Tell whether value `a` is better than value `b`."""
        return a > b if self.higher_is_better else a < b

    def gain(self, a: float, b: float) -> float:
        """Return by how much value `a` is better than value `b`; negative if it is worse."""
        return a - b if self.higher_is_better else b - a


LOSS = Metric("eval_loss", "eval loss", "min", worst=math.inf, margin=0.01, digits=4)
"""Mean cross entropy per answer token on validation. A benchmark sets its worst value: the loss of a divergence."""
RESERVED_NAMES = frozenset(
    (LOSS.name, PERPLEXITY, TRAIN_LOSS, "samples_per_second", "peak_memory_mb", "skipped_steps", "units")
)
"""Names of stored figures that no task may give to a metric."""


@dataclass(frozen=True)
class Example:
    """A tokenised record.

    Attributes:
        prompt: token ids of everything before the answer.
        target: token ids of the first reference answer and the end token.
        references: all reference answers, for the scores.
        truncated: whether the prompt was cut to fit.
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
        questions: number of records, at least 1.
        mean: mean length.
        median: median length.
        p95: the least length that 95 % of the sequences do not exceed.
        longest: greatest length.
        max_length: the benchmark's limit.
        truncated_share: share of the prompts that were cut to fit, in [0, 1].
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


class Task(ABC, Generic[Record]):
    """A task. Records are of a type of its own, frozen and hashable.

    Attributes:
        metrics: its metrics beside the loss, in the order of tables.
        noun: word for a record in messages.
        prompt: text of a prompt with `{field}` for each field of a record; a served model cuts the last one to fit.
        example: a value for each field of the prompt, shown beside a served model.
    """

    metrics: tuple[Metric, ...]
    noun: str = "record"
    prompt: str
    example: Mapping[str, str]

    @property
    def cut_field(self) -> str:
        """The prompt's last field, which is cut to fit."""
        return [name for _, name, _, _ in Formatter().parse(self.prompt) if name][-1]

    # ---- records

    @abstractmethod
    def read_all(self, split: Split) -> list[Record]:
        """Read all records of the split's source.

        Raises:
            BenchmarkError: the source is missing or malformed; names the place and the field.
        """

    def article(self, record: Record) -> str:
        """Return the text that a record belongs to: records of one article stay together in one split.

        Raises:
            BenchmarkError: the task has no articles.
        """
        raise BenchmarkError("`articles` goes with a task whose records belong to articles; leave it out")

    def read(self, split: Split) -> list[Record]:
        """Read the records of one split.

        Raises:
            BenchmarkError: the source is missing or malformed, or no record is left.
        """
        records = self.read_all(split)
        if split.articles != "all":
            held_out = split.articles == "held_out"
            records = [r for r in records if _is_held_out(self.article(r), split.held_out_share) == held_out]
        records = records[: split.limit]
        if not records:
            raise BenchmarkError(f"{split.file or split.dataset}: no {self.noun}s left after `articles` and `limit`")
        return records

    # ---- tokens

    @abstractmethod
    def tokenize(
        self, records: Sequence[Record], tokenizer: Any, max_length: int, max_answer_tokens: int, training: bool
    ) -> list[Example]:
        """Tokenise records.

        Args:
            records: of one split.
            tokenizer: a fast Hugging Face tokenizer with an end token.
            max_length: longest prompt + answer, in tokens.
            max_answer_tokens: room kept for the answer; longer training answers are cut to it.
            training: the answers are known, so that a prompt may be cut around them.

        Raises:
            BenchmarkError: the part of a record that is never cut leaves no room for the rest.
        """

    # ---- scores

    @abstractmethod
    def score(self, prediction: str, references: Sequence[str]) -> tuple[float, ...]:
        """Score one answer.

        Args:
            prediction: the generated text, without white space at its ends.
            references: of the example, at least one.

        Returns:
            Figures that are added up over a split, always as many: one per metric, unless `summarise` is overridden.
        """

    @property
    def figures(self) -> tuple[str, ...]:
        """Names of the figures of `score`; those of the metrics, unless `score` returns others."""
        return tuple(metric.name for metric in self.metrics)

    def summarise(self, sums: Sequence[float], number: int) -> dict[str, float]:
        """Return the value of each metric by name; by default the mean of each figure.

        Args:
            sums: of the figures of `score`, over the examples of all ranks.
            number: examples, at least 1.
        """
        return {metric.name: total / number for metric, total in zip(self.metrics, sums, strict=True)}

    # ---- checks of the data

    @abstractmethod
    def uncut(self, record: Record) -> str:
        """Return the text of a record's prompt that is never cut to fit."""

    @abstractmethod
    def lacks_room(self, record: Record, max_length: int) -> str:
        """Say that `uncut` fills `max_length` by itself, and name the record."""

    def shared(self, splits: Mapping[str, Sequence[Record]]) -> dict[tuple[str, str], str]:
        """Describe for each pair of splits the content that they share, such as "3 records"; no pair without any.

        Scores on the second split of a pair are better than on new data, so each is warned of. Splits without common
        records may have common articles.
        """
        kinds: dict[str, dict[str, set[Any]]] = {self.noun: {name: set(of) for name, of in splits.items()}}
        if type(self).article is not Task.article:
            kinds["article"] = {name: {self.article(record) for record in of} for name, of in splits.items()}
        found: dict[tuple[str, str], str] = {}
        for noun, content in kinds.items():
            for first, second in combinations(splits, 2):
                if number := len(content[first] & content[second]):
                    found.setdefault((first, second), f"{number:,} {noun}{'s' * (number != 1)}")
        return found

    shared_advice: str = "take splits without common records"
    """Next step in the warning of shared content."""


def _is_held_out(title: str, share: float) -> bool:
    """Tell whether an article is held out: by a hash of its title, the same on every machine."""
    digest = hashlib.sha256(title.encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


def perplexity(loss: float) -> float:
    """Return the exponential of a loss; of one beyond `MAX_PERPLEXITY_LOSS` that of the limit, and NaN of NaN."""
    return math.exp(min(loss, MAX_PERPLEXITY_LOSS))


def token_statistics(split: str, examples: Sequence[Example], max_length: int) -> TokenStatistics:
    """Describe the lengths of a split's sequences.

    Args:
        split: its name.
        examples: at least one.
        max_length: the limit that they were cut to.
    """
    import statistics  # it takes as long to import as the rest of this module

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
