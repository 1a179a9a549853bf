"""The ledger: every device-second that a study reserves, by its use. Pure.

Reserved is devices x time, summed up where their number changes, from the study's first request for devices to the
release of the last. Trials report the seconds of each part: start-up (process, imports, model, engine), training,
evaluation, checkpoints and the waiting between. All time of a failed attempt is booked as failed, its useful-looking
parts included. Devices that no trial held (before the first, after the last, between two actors) are idle.
"""

from __future__ import annotations

from dataclasses import dataclass

MEASURED = ("startup", "train", "evaluate", "checkpoint", "idle")
"""Parts that a trial measures itself and reports as `<part>_seconds`."""
FAILED = "failed"
"""Part that the study books for a failed attempt; a trial that rescues itself reports its own."""
PARTS = (*MEASURED, FAILED)


@dataclass(frozen=True)
class Shares:
    """A closed ledger.

    Attributes:
        seconds: device-seconds by part; they add up to `reserved_seconds`.
        reserved_seconds: devices x seconds.
    """

    seconds: dict[str, float]
    reserved_seconds: float

    @property
    def device_hours(self) -> float:
        """Reserved device-hours."""
        return self.reserved_seconds / 3600

    @property
    def utilization(self) -> float:
        """Share of the reserved time that trained or evaluated, in trials that did not fail."""
        useful = self.seconds["train"] + self.seconds["evaluate"]
        return useful / self.reserved_seconds if self.reserved_seconds else 0.0
