"""Configurations as points of a cube, in which distances mean likeness: one axis per number, one per text of a choice.

A number lies between the bounds of its domain, on the logarithm's scale where the domain has that. Numbers of a choice
have equal distances, others lie between them, and two texts of a choice are as far apart as two ends of an axis.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from benchmarks.space import Choice, Domain, LogUniform, Scalar, Space, describe

Floats = NDArray[np.float64]


def encode(config: Mapping[str, Scalar], space: Space) -> Floats:
    """Return a configuration as a point, `(axes,)`; values within their domains lie in [0, 1].

    Args:
        config: a value for each hyperparameter of the space; others are not looked at.
        space: the search space.

    Raises:
        KeyError: a hyperparameter of the space is missing.
        ValueError: a choice of texts does not have the value, or a value has no logarithm.
    """
    return np.array([x for name, domain in space.items() for x in _axes(domain, config[name])], dtype=float)


def _axes(domain: Domain, value: Scalar) -> list[float]:
    if isinstance(domain, Choice):
        return _choice_axes(domain, value)
    low, high, here = float(domain.low), float(domain.high), float(value)
    if isinstance(domain, LogUniform):
        low, high, here = math.log(low), math.log(high), math.log(here)
    return [(here - low) / (high - low)]


def _choice_axes(domain: Choice, value: Scalar) -> list[float]:
    numbers = [float(one) for one in domain.values if not isinstance(one, bool | str)]
    if len(numbers) == len(domain.values):
        return [float(np.interp(float(value), sorted(numbers), np.linspace(0, 1, len(numbers))))]
    if value not in domain.values:
        raise ValueError(f"{value!r} is no {describe(domain)}")
    return [math.sqrt(0.5) * (value == one) for one in domain.values]
