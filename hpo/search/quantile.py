"""The quantile by which ASHA stops trials, for schedulers of Ray and for studies without it. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return a quantile of numbers in ascending order, interpolated as numpy does, to the bit.

    Args:
        ordered: at least one number.
        share: of the numbers that lie below, in [0, 1].
    """
    place = (len(ordered) - 1) * share
    before = math.floor(place)
    low, high = ordered[before], ordered[min(before + 1, len(ordered) - 1)]
    part, step = place - before, high - low
    return low + step * part if part < 0.5 else high - step * (1 - part)
