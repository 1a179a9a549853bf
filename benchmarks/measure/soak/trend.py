"""Change of a quantity over a study's trials, and its bound."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scipy.stats import theilslopes

PER_TRIALS = 100
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Trend:
    """A quantity over trials.

    Attributes:
        first: its first value.
        last: its last.
        largest: its greatest.
        slope: change in 100 trials: the median of the slopes of all pairs of samples (Theil and Sen), which a few
            samples out of line do not move.
        interval: of the slope, at 95 %. Samples in a row are alike, so that it is rather too narrow.
    """

    first: float
    last: float
    largest: float
    slope: float
    interval: tuple[float, float]


def fit(trials: Sequence[int], values: Sequence[float]) -> Trend:
    """Fit the trend of at least two samples at different numbers of trials.

    Args:
        trials: number of ended trials, by sample.
        values: the quantity, by sample.
    """
    if len(set(values)) == 1:
        return Trend(values[0], values[0], values[0], 0.0, (0.0, 0.0))
    slope, _, low, high = (float(x) for x in theilslopes(values, trials, CONFIDENCE))
    scaled = slope * PER_TRIALS, (low * PER_TRIALS, high * PER_TRIALS)
    return Trend(values[0], values[-1], max(values), *scaled)
