"""The clock: the one place of the suite that reads the time and waits.

A study gets its clock with its executor and passes it down: to its log, its budget, its trials. So a study runs in real
time or on a clock that jumps, and nothing in it can tell. Waiting for others, such as SLURM, a store or a disk, is real
time in any case, and so is a person's: those parts take `REAL`. No other module asks Python's `time` or `datetime` for
the time, see `pyproject.toml`.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """A clock that never goes back."""

    def now(self) -> float:
        """Return seconds since any moment; only differences mean something."""

    def epoch(self) -> float:
        """Return seconds since 1970, for people and other machines; a clock that is set may go back."""

    def sleep(self, seconds: float) -> None:
        """Wait."""


class RealClock:
    """The machine's clock."""

    def now(self) -> float:
        """See `Clock`."""
        return time.monotonic()

    def epoch(self) -> float:
        """See `Clock`."""
        return time.time()

    def sleep(self, seconds: float) -> None:
        """See `Clock`."""
        time.sleep(seconds)


REAL = RealClock()


def utc() -> datetime:
    """Return the date and the time of the day in Greenwich, by `REAL`."""
    return datetime.fromtimestamp(REAL.epoch(), UTC)


def computed_seconds() -> float:
    """Return the time that this process has computed so far, which other processes do not prolong."""
    return time.process_time()


def process_began_at() -> float:
    """Return when this process was started, in seconds since 1970, to a hundredth.

    The kernel counts from its own start, which it tells in whole seconds only: `psutil` may be a second early.
    """
    import psutil  # no other user of the clock needs it

    since_boot = psutil.Process().create_time() - psutil.boot_time()
    return time.time() - (time.clock_gettime(time.CLOCK_BOOTTIME) - since_boot)


class Mark:
    """A moment of this process: by the clock, and by the computing until then."""

    def __init__(self) -> None:
        self.seconds, self.computed_seconds = REAL.now(), computed_seconds()

    def times(self, name: str, until: Mark, on_cpu: bool) -> dict[str, float]:
        """Return the time until a later mark as `<name>_seconds`.

        Args:
            name: of the work between the two.
            until: the later mark.
            on_cpu: the work ran here, not on a GPU that this process waits for: then also the computing, which other
                processes on the machine do not prolong, as `<name>_cpu_seconds`.
        """
        computed = {f"{name}_cpu_seconds": until.computed_seconds - self.computed_seconds} if on_cpu else {}
        return {f"{name}_seconds": until.seconds - self.seconds, **computed}


class VirtualClock:
    """A clock that jumps: waiting takes no time.

    Args:
        began_at: its second 0, in seconds since 1970; by default the time at which it is made.
    """

    def __init__(self, began_at: float | None = None) -> None:
        self._began_at = time.time() if began_at is None else began_at
        self._now = 0.0

    def now(self) -> float:
        """See `Clock`."""
        return self._now

    def epoch(self) -> float:
        """See `Clock`."""
        return self._began_at + self._now

    def sleep(self, seconds: float) -> None:
        """Jump so many seconds ahead."""
        self._now += seconds

    def jump_to(self, moment: float) -> None:
        """Jump ahead to a moment, unless it is past."""
        self._now = max(self._now, moment)
