"""The benchmark's search space in Ray Tune's terms, and its grid moved by an offset."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

from ray import tune

from benchmarks.space import Choice, Domain, Integer, LogUniform, Scalar, Space, Uniform

Grid = Mapping[str, Sequence[Scalar]]
DIGITS = 4
"""Significant digits of a moved value: a person would write no more."""


def rotated(grid: Grid, space: Space, seed: int) -> dict[str, list[Scalar]]:
    """Move each axis of a grid by a random offset, around the end of its range (Cranley-Patterson rotation).

    So a grid holds the optimum by chance alone, and not by its author's choice. Numbers move on the scale of their
    domain, choices along their list. The distances within an axis stay; an axis of one value stays as it is.

    Cranley and Patterson 1976, https://doi.org/10.1137/0713071.

    Args:
        grid: values by axis, each within its domain.
        space: the domain of each axis.
        seed: of the offsets; the same seed and axis have the same one.
    """
    offsets = {name: random.Random(f"{seed} {name}").random() for name in grid}
    return {
        name: [_moved(space[name], value, offsets[name]) for value in values] if len(values) > 1 else list(values)
        for name, values in grid.items()
    }


def _moved(domain: Domain, value: Scalar, offset: float) -> Scalar:
    """Move a value by a share of its domain."""
    if isinstance(domain, Choice):
        place = domain.values.index(value) + int(offset * len(domain.values))
        return domain.values[place % len(domain.values)]
    assert isinstance(value, int | float)
    if isinstance(domain, Integer):
        number = domain.high - domain.low + 1
        return domain.low + (int(value) - domain.low + int(offset * number)) % number
    share = (_share(domain, float(value)) + offset) % 1.0
    if isinstance(domain, LogUniform):
        moved = domain.low * math.exp(share * math.log(domain.high / domain.low))
    else:
        moved = domain.low + share * (domain.high - domain.low)
    return min(domain.high, max(domain.low, float(f"{moved:.{DIGITS}g}")))


def _share(domain: Uniform | LogUniform, value: float) -> float:
    """Return the share of a range that lies below a value, in [0, 1]."""
    if isinstance(domain, LogUniform):
        return math.log(value / domain.low) / math.log(domain.high / domain.low)
    return (value - domain.low) / (domain.high - domain.low)


def to_tune(space: Space) -> dict[str, Any]:
    """Return each domain as Ray Tune's sampler, which every searcher of Ray converts further."""
    return {name: _to_tune(domain) for name, domain in space.items()}


def _to_tune(domain: Domain) -> Any:
    if isinstance(domain, Choice):
        return tune.choice(list(domain.values))
    if isinstance(domain, Integer):
        return tune.randint(domain.low, domain.high + 1)  # Tune leaves the upper bound out
    if isinstance(domain, LogUniform):
        return tune.loguniform(domain.low, domain.high)
    return tune.uniform(domain.low, domain.high)
