"""Classification as text: the model reads a text and writes its label.

One record, as a line of a .jsonl file and as the sequence that is trained on::

    {"text": "The harbour froze over in March.", "label": "weather"}

    Text: The harbour froze over in March. Label: weather</s>
    <---------- labels -100 ----------------->  <-- labels -->

Only the label and the end token are predicted. A text that does not fit `max_length` is cut at its end; the final
`Label:` is never cut. Accuracy is the share of texts whose greedy answer is the label, whatever its case and white
space: an answer that is no label at all counts as wrong. There is no F1, since the labels are not known beforehand.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.files import BenchmarkError
from benchmarks.splits import Split
from benchmarks.tasks import sources
from benchmarks.tasks.sequences import pieces, special_prefix
from benchmarks.tasks.task import Example, Metric, Task

ACCURACY = Metric("accuracy", "accuracy", "max", worst=0.0, margin=0.005, digits=3)
"""Half a point, on the scale from 0 to 1, is of no practical interest."""
BEFORE, AFTER = "Text: ", " Label:"
COLUMNS = ("text", "label")
ADVICE = "; give the path of a .jsonl file with `text` and `label` in each line"


@dataclass(frozen=True)
class LabelledText:
    """A text with its label; two records with the same text are equal.

    Attributes:
        text: the text.
        label: its label.
        place: its place in the source, for messages.
        article: the text that it belongs to; texts of one article stay together in one split.
    """

    text: str
    label: str = field(compare=False)
    place: str = field(compare=False)
    article: str = field(compare=False)


class Classification(Task[LabelledText]):
    """Texts that have a label each."""

    metrics = (ACCURACY,)
    noun = "text"
    prompt = f"{BEFORE}{{text}}{AFTER}"
    example = {"text": "The harbour froze over in March."}  # noqa: RUF012 - constant, as all of it
    shared_advice = "take splits without common texts or articles"

    def read_all(self, split: Split) -> list[LabelledText]:
        """Read all texts of the split's source.

        Raises:
            BenchmarkError: the source is missing or malformed; names the place and the field.
        """
        return list(_from_lines(split.file) if split.file is not None else _from_dataset(split))

    def article(self, record: LabelledText) -> str:
        """Return the article that the text belongs to; by default the text itself."""
        return record.article

    def tokenize(
        self,
        records: Sequence[LabelledText],
        tokenizer: Any,
        max_length: int,
        max_answer_tokens: int,
        training: bool,
    ) -> list[Example]:
        """Tokenise records: each one's prompt and label as one text; a long text is cut at its end.

        Raises:
            BenchmarkError: prompt and label leave no room for a text.
        """
        prefix = special_prefix(tokenizer, BEFORE)
        whole = [f"{self.prompt.format(text=record.text)} {record.label}" for record in records]
        encoded = tokenizer(whole, add_special_tokens=False, return_offsets_mapping=True)
        examples = []
        for record, ids, offsets in zip(records, encoded["input_ids"], encoded["offset_mapping"], strict=True):
            ends = (len(BEFORE) - 1, len(BEFORE) + len(record.text), len(BEFORE) + len(record.text) + len(AFTER))
            before, text, after, label = (ids[piece] for piece in pieces(offsets, ends))
            room = max_length - len(prefix) - len(before) - len(after) - max_answer_tokens
            if room < 1:
                raise BenchmarkError(f"{self.lacks_room(record, max_length)}; raise it")
            prompt = [*prefix, *before, *text[:room], *after]
            target = [*label[: max_answer_tokens - 1], tokenizer.eos_token_id]
            is_cut = len(label) > max_answer_tokens - 1
            examples.append(Example(prompt, target, (record.label,), len(text) > room, answer_cut=is_cut))
        return examples

    def score(self, prediction: str, references: Sequence[str]) -> tuple[float, ...]:
        """Return 1 if the answer is the label, else 0."""
        return (float(_plain(prediction) == _plain(references[0])),)

    def uncut(self, record: LabelledText) -> str:
        """Return the prompt without its text and without the space in front of it, which goes with its first token."""
        return f"{BEFORE[:-1]}{AFTER}"

    def lacks_room(self, record: LabelledText, max_length: int) -> str:
        """Say that the prompt leaves no room for a text."""
        return f"the prompt leaves no room for the text of {record.place} in max_length {max_length}"


def _plain(label: str) -> str:
    return " ".join(label.split()).casefold()


def _from_lines(path: Path) -> Iterator[LabelledText]:
    """Read one text per line; `article` may be left out, and a label may be a whole number."""
    if path.suffix not in sources.JSON_LINES:
        raise BenchmarkError(f"{path}: is no {' or '.join(sources.JSON_LINES)} file{ADVICE}")
    for number, where, row in sources.json_lines(path, ADVICE):
        yield _record(row, where, f"line {number}")


def _from_dataset(split: Split) -> Iterator[LabelledText]:
    """Read from the hub or a local folder; the numbers of a column of class labels become their names."""
    rows = sources.load_dataset(split, COLUMNS, "on a machine without internet give a local folder, or a .jsonl file")
    names = getattr(rows.features["label"], "names", None)
    for number, row in enumerate(rows):
        where = f"{sources.place_in(split)}, row {number}"
        if names is not None:
            row = {**row, "label": _name(row["label"], names, where)}
        yield _record(row, where, f"row {number}")


def _name(number: Any, names: Sequence[str], where: str) -> str:
    """Return the name of a class; data sets without public labels have -1 or nothing in its place."""
    if number is None or not 0 <= number < len(names):
        raise BenchmarkError(f"{where}: `label` is {number}, which is no class; take a split whose labels are public")
    return str(names[number])


def _record(row: Any, where: str, place: str) -> LabelledText:
    text = sources.field(row, "text", str, where)
    is_number = isinstance(row.get("label"), int) and not isinstance(row["label"], bool)
    label = str(row["label"]) if is_number else sources.field(row, "label", str, where)
    if not label.strip():
        raise BenchmarkError(f"{where}: `label` is empty; give each text the label that the model shall write")
    article = sources.field(row, "article", str, where) if row.get("article") is not None else text
    return LabelledText(text, label.strip(), place, article)


TASK = Classification()
