"""Questions with the lengths of SQuAD v1.1 and without its text, which is not in this repository.

Speed depends on lengths alone. These are drawn from a log-normal distribution with median 158 and shape 0.4, cut at
`MAX_LENGTH`: the lengths of contexts of 120 words, questions of 10 and 1.3 tokens per word, with a tail of which
few are cut. It is a model of the data, not a count of them.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from benchmarks.spec import Benchmark, Split

QUESTIONS, MEDIAN, SHAPE = 2048, 158.0, 0.4
MAX_LENGTH = 512
SHORTEST = 32
QUESTION, ANSWER, FILLER = "Who drew the old mill on the hill?", "Mara Velt", "old"


def draw_lengths(number: int, seed: int = 0) -> list[int]:
    """Draw lengths in tokens before they are cut, the same for the same seed."""
    draw = random.Random(seed)
    return [max(SHORTEST, round(draw.lognormvariate(0.0, SHAPE) * MEDIAN)) for _ in range(number)]


def write(path: Path, tokenizer: Any) -> None:
    """Write `QUESTIONS` questions of such lengths as JSON lines; the context is filled up with one repeated word.

    Args:
        path: the file.
        tokenizer: counts the tokens; the word should be one of them.
    """
    without = f"Question: {QUESTION} Context: {ANSWER} Answer: {ANSWER}"
    fixed = len(tokenizer(without, add_special_tokens=False)["input_ids"]) + 1  # the end token
    rows = [
        {"question": QUESTION, "context": " ".join([ANSWER, *[FILLER] * max(0, length - fixed)]), "answers": [ANSWER]}
        for length in draw_lengths(QUESTIONS)
    ]
    path.write_text("\n".join(map(json.dumps, rows)))


def with_squad_lengths(benchmark: Benchmark, path: Path) -> Benchmark:
    """Return a benchmark that trains on the questions in `path`, cut to `MAX_LENGTH`."""
    settings = benchmark.training_settings()
    data = settings.data.model_copy(update={"train": Split(file=path)})
    finetune = settings.model_copy(update={"data": data, "max_length": MAX_LENGTH})
    return benchmark.model_copy(update={"finetune": finetune})
