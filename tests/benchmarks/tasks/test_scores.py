"""Exact Match and F1 of predicted answers, against the official evaluation of SQuAD v1.1."""

from __future__ import annotations

import pytest

from benchmarks.tasks.question_answering import (
    exact_match,
    f1,
)

# prediction, references, Exact Match and F1 as the official evaluation of SQuAD v1.1 counts them
SCORES: list[tuple[str, list[str], float, float]] = [
    ("Mara Velt", ["Mara Velt"], 1, 1),
    ("mara velt.", ["Mara Velt"], 1, 1),
    ("  Mara \t Velt\n", ["Mara Velt"], 1, 1),
    ("Mara\u00a0Velt", ["Mara Velt"], 1, 1),  # a no-break space is white space
    ("Velt Mara", ["Mara Velt"], 0, 1),  # F1 ignores the order
    ("the old mill", ["old mill"], 1, 1),
    ("An old mill", ["the old mill"], 1, 1),
    ("Velt", ["A. Velt"], 1, 1),  # the initial becomes an article
    ("theatre", ["atre"], 0, 0),  # an article inside a word stays
    ("the\u2019s", ["\u2019s"], 1, 1),  # a curly apostrophe ends the word `the`
    ("t.h.e. mill", ["mill"], 1, 1),  # articles are removed after punctuation
    ("the", ["a"], 1, 0),  # both are empty after normalisation: no token is shared
    ("An", ["an apple"], 0, 0),
    ("", [""], 1, 0),
    ("", ["Mara"], 0, 0),
    ("Mara", ["the"], 0, 0),
    ("?!", ["..."], 1, 0),
    ("Tobin", ["Mara"], 0, 0),
    ("O'Brien", ["OBrien"], 1, 1),
    ("a.m.", ["am"], 1, 1),
    ("old_mill", ["oldmill"], 1, 1),
    ("well-known", ["wellknown"], 1, 1),
    ("well-known", ["well known"], 0, 0),  # a hyphen joins
    ("the-the", ["the"], 0, 0),  # `thethe` is a word
    ("1990\u20131995", ["1990-1995"], 0, 0),  # an en dash is no ASCII punctuation
    ("“Velt”", ["Velt"], 0, 0),  # nor are curly quotes
    ("1,000", ["1000"], 1, 1),
    ("3.14", ["314"], 1, 1),
    ("50%", ["50 %"], 1, 1),
    ("$5", ["5"], 1, 1),
    ("€5", ["5"], 0, 0),  # the dollar is ASCII punctuation, euro and pound are not
    ("£5 million", ["5 million"], 0, 1 / 2),
    ("ZÜRICH", ["Zürich"], 1, 1),
    ("Zürich", ["Zurich"], 0, 0),
    ("STRASSE", ["straße"], 0, 0),  # lower case, not case folding
    ("东京 塔", ["东京"], 0, 2 / 3),
    ("to be or not to be", ["to be"], 0, 1 / 2),  # a repeated token counts once per occurrence
    ("New New York", ["New York"], 0, 4 / 5),
    ("very very very good", ["very very bad"], 0, 4 / 7),
    ("very", ["very very very"], 0, 1 / 2),
    ("atop the gold dome", ["gold dome"], 0, 4 / 5),
    ("Denver", ["Denver Broncos", "Denver", "Broncos"], 1, 1),
    ("Broncos of Denver", ["Carolina", "Denver Broncos"], 0, 4 / 5),
    ("Mara Velt", ["Velt", "Mara Velt the architect"], 0, 4 / 5),  # the best of 2/3 and 4/5
    ("the", ["the mill", "an"], 1, 0),  # EM and F1 may come from different references
]


@pytest.mark.parametrize(("prediction", "references", "expected"), [(p, r, em) for p, r, em, _ in SCORES])
def test_exact_match_is_the_official_one(prediction: str, references: list[str], expected: float) -> None:
    assert exact_match(prediction, references) == expected


@pytest.mark.parametrize(("prediction", "references", "expected"), [(p, r, score) for p, r, _, score in SCORES])
def test_f1_is_the_official_one(prediction: str, references: list[str], expected: float) -> None:
    assert f1(prediction, references) == pytest.approx(expected, abs=1e-12)
