"""Configurations as points: scales of domains, choices of numbers and of texts."""

from __future__ import annotations

import pytest
from pydantic import TypeAdapter

from benchmarks.banks.encoding import encode
from benchmarks.space import Config, Space

SPACE = TypeAdapter(Space).validate_python(
    {
        "rate": {"type": "loguniform", "low": 1e-4, "high": 1e-2},
        "ratio": {"type": "uniform", "low": 0.0, "high": 0.5},
        "rank": {"type": "int", "low": 2, "high": 10},
        "batch": {"type": "choice", "values": [32, 8, 16]},
        "schedule": {"type": "choice", "values": ["linear", "cosine", "constant"]},
    }
)
MIDDLE: Config = {"rate": 1e-3, "ratio": 0.25, "rank": 6, "batch": 16, "schedule": "cosine"}


def test_values_lie_on_the_scale_of_their_domain() -> None:
    assert encode(MIDDLE, SPACE)[:4] == pytest.approx([0.5, 0.5, 0.5, 0.5])
    assert encode({**MIDDLE, "rate": 1e-4, "ratio": 0.5, "rank": 10, "batch": 8}, SPACE)[:4] == pytest.approx(
        [0, 1, 1, 0]
    )


def test_two_texts_are_as_far_apart_as_the_ends_of_an_axis() -> None:
    points = [encode({**MIDDLE, "schedule": name}, SPACE) for name in ("linear", "cosine", "constant")]
    distances = [((a - b) ** 2).sum() for a in points for b in points if a is not b]
    assert distances == pytest.approx([1.0] * 6)


def test_a_choice_of_one_value_has_one_place() -> None:
    space = TypeAdapter(Space).validate_python({"batch": {"type": "choice", "values": [8]}})
    assert encode({"batch": 8}, space).tolist() == [0.0]


def test_other_hyperparameters_are_not_looked_at() -> None:
    assert encode({**MIDDLE, "weight_decay": 0.1}, SPACE).tolist() == encode(MIDDLE, SPACE).tolist()
