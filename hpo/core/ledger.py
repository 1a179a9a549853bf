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


class Ledger:
    """Books device-seconds while a study runs; times are seconds since the study began.

    Args:
        devices: devices the study has reserved; shares count as such.
        devices_per_trial: devices one trial occupies.
    """

    def __init__(self, devices: float, devices_per_trial: float) -> None:
        self._devices, self._devices_per_trial = devices, devices_per_trial
        self._reserved, self._resized = 0.0, 0.0
        self._booked = dict.fromkeys(PARTS, 0.0)
        self._attempts: dict[str, dict[str, float]] = {}
        self._last_seen: dict[str, float] = {}

    def start(self, trial_id: str, now: float) -> None:
        """Record that a trial, or another attempt at it, got its devices."""
        self._last_seen[trial_id] = now

    def report(self, trial_id: str, seconds: dict[str, float], now: float) -> float:
        """Book the seconds that a trial measured since its last report; return device-seconds."""
        attempt = self._attempts.setdefault(trial_id, dict.fromkeys(PARTS, 0.0))
        for part, value in seconds.items():
            attempt[part] += value * self._devices_per_trial
        self._last_seen[trial_id] = now
        return sum(seconds.values()) * self._devices_per_trial

    def end(self, trial_id: str) -> None:
        """Record the end of a trial; its parts stand."""
        for part, value in self._attempts.pop(trial_id, {}).items():
            self._booked[part] += value
        self._last_seen.pop(trial_id, None)

    def fail(self, trial_id: str, now: float) -> float:
        """Book all time of a failed attempt as failed; return the device-seconds since its last report."""
        lost = (now - self._last_seen.pop(trial_id, now)) * self._devices_per_trial
        self._booked["failed"] += lost + sum(self._attempts.pop(trial_id, {}).values())
        return lost

    @property
    def open_attempts(self) -> list[str]:
        """Trials that hold their devices."""
        return list(self._last_seen)

    def resize(self, devices: float, now: float) -> None:
        """Change the number of the study's devices: workers of a cluster join late, and die."""
        if devices != self._devices:
            self._reserved += self._devices * (now - self._resized)
            self._devices, self._resized = devices, now

    def shares(self, now: float) -> Shares:
        """Return the ledger as it stands at `now`."""
        seconds = {part: self._booked[part] + sum(a[part] for a in self._attempts.values()) for part in PARTS}
        measured, reserved = sum(seconds.values()), self._reserved + self._devices * (now - self._resized)
        seconds["idle"] += max(0.0, reserved - measured)
        return Shares(seconds, reserved)
