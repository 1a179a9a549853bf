"""Timeline of a study's devices, rebuilt from the units that it stored. Pure.

A row of `units.csv` covers the time from `ended_seconds` less the sum of its parts to `ended_seconds`. The store does
not tell equal devices apart: trials are packed on as few rows as their times allow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from hpo.analysis.studies import StudyRecord
from hpo.core.ledger import MEASURED

TIME_BINS = 60
"""Bins of a study's time, each with the share of devices in use."""
IN_A_UNIT = ("idle", "startup", "checkpoint", "train", "evaluate")
"""The order in which a unit's parts are drawn; waiting comes first, since ranks that stay warm wait for a trial."""


def unit_parts(study: StudyRecord, devices_per_trial: float = 1) -> pd.DataFrame:
    """Divide the time of a study's devices into the parts of its units.

    A row of `units.csv` covers the time from `ended_seconds` less the sum of its parts to `ended_seconds`.

    Returns:
        One row per part of a unit, ordered by time: `row` (devices of one trial, from 0), `trial`, `units`, `part`,
        `began_seconds`, `ended_seconds`, and `begins`: it is the first of a stint of the trial on its row.
    """
    units = study.units
    spans = pd.DataFrame({part: units.get(f"{part}_seconds", 0.0) for part in MEASURED}, index=units.index).fillna(0.0)
    began_at = (units["ended_seconds"] - spans.sum(axis=1)).clip(lower=0.0).tolist()
    stints = _stints(units["trial"].tolist(), began_at, units["ended_seconds"].tolist())
    rows = pack([(stint.began, stint.ended) for stint in stints], rows_of(study, devices_per_trial))
    numbers = list(zip(units["trial"].tolist(), units["units"].tolist(), strict=True))
    seconds_of, found = spans[list(IN_A_UNIT)].to_numpy(float).tolist(), []
    for row, stint in sorted(zip(rows, stints, strict=True), key=lambda pair: pair[1].began):
        for number in stint.units:
            now, is_first = began_at[number], number == stint.units[0]
            for part, seconds in zip(IN_A_UNIT, seconds_of[number], strict=True):
                if seconds > 0:
                    of = (row, *map(int, numbers[number]), part)
                    found.append((*of, round(now, 4), round(now + seconds, 4), is_first))
                    now, is_first = now + seconds, False
    columns = ["row", "trial", "units", "part", "began_seconds", "ended_seconds", "begins"]
    return pd.DataFrame(found, columns=columns)


def rows_of(study: StudyRecord, devices_per_trial: float = 1) -> int:
    """Return the number of trials that the study's devices held at once at most; 0 if that was not kept."""
    return round(max((devices for _, devices in study.reservations), default=0.0) / devices_per_trial)


@dataclass
class _Stint:
    """Units that a trial trained without giving up its devices, by their place in `units.csv`."""

    began: float
    ended: float
    units: list[int]


def _stints(trials: Sequence[int], began: Sequence[float], ended: Sequence[float]) -> list[_Stint]:
    """Join units without a pause between them: a paused trial comes back after at least half a unit's time."""
    found: list[_Stint] = []
    last: dict[int, _Stint] = {}
    for number, trial in enumerate(trials):
        stint = last.get(trial)
        if stint is None or began[number] - stint.ended > 0.5 * (ended[number] - began[number]):
            stint = last[trial] = _Stint(began[number], ended[number], [])
            found.append(stint)
        stint.ended = ended[number]
        stint.units.append(number)
    return found


def pack(intervals: Sequence[tuple[float, float]], most: int = 0) -> list[int]:
    """Put intervals on as few rows as they need, so that those on one row do not overlap.

    An interval goes to the row that became free last before it. If there are `most` rows and none is free, it goes to
    the one that is free first: a study has no more devices than it reserved, and results arrive milliseconds late.

    Args:
        intervals: begin and end of each.
        most: rows there can be; 0 if that is not known.

    Returns:
        The row of each interval, from 0.
    """
    ends: list[float] = []
    rows = [0] * len(intervals)
    for number in sorted(range(len(intervals)), key=lambda i: intervals[i][0]):
        began, ended = intervals[number]
        free = [row for row, end in enumerate(ends) if end <= began]
        if free:
            row = max(free, key=lambda r: ends[r])
        elif not most or len(ends) < most:
            row = len(ends)
            ends.append(0.0)
        else:
            row = min(range(len(ends)), key=lambda r: ends[r])
        ends[row] = max(ends[row], ended)
        rows[number] = row
    return rows


def in_use(parts: pd.DataFrame, rows: int, until_seconds: float, bins: int = TIME_BINS) -> pd.DataFrame:
    """Compute the share of a study's devices that train or evaluate, over time.

    Args:
        parts: see `unit_parts`.
        rows: number of rows of devices.
        until_seconds: when the study ended.
        bins: into which the time is divided.

    Returns:
        One row per bin: `began_seconds`, `ended_seconds` and `share`.
    """
    edges = np.linspace(0.0, until_seconds, bins + 1)
    useful = parts[parts["part"].isin(["train", "evaluate"])]
    began, ended = useful["began_seconds"].to_numpy(), useful["ended_seconds"].to_numpy()
    overlap = np.minimum(ended[:, None], edges[1:]) - np.maximum(began[:, None], edges[:-1])  # (parts, bins)
    seconds = np.clip(overlap, 0.0, None).sum(axis=0)
    share = seconds / (np.diff(edges) * max(1, rows))
    return pd.DataFrame({"began_seconds": edges[:-1], "ended_seconds": edges[1:], "share": np.minimum(share, 1.0)})
