"""Scores of an answer, as in the official evaluation of SQuAD v1.1."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Iterable

_ARTICLES = re.compile(r"\b(a|an|the)\b", re.UNICODE)
_PUNCTUATION = frozenset(string.punctuation)


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
