"""A replayed study and the description of a replay, as its file has them. Pure."""

from __future__ import annotations

from typing import Any, Self

from pydantic import ConfigDict, Field, NonNegativeFloat, NonNegativeInt

from benchmarks.space import Scalar, Strict
from benchmarks.spec import Benchmark

SCHEMA_VERSION = 1
OUTCOMES = ("completed", "stopped", "diverged", "failed", "interrupted")
NO_CERTIFICATE = "no certificate: no real studies stand beside this replay, so nothing shows that its verdicts hold"


class _OfAReplay(Strict):
    model_config = ConfigDict(allow_inf_nan=True, ser_json_inf_nan="strings", extra="forbid", frozen=True)


class Improvement(_OfAReplay):
    """A moment at which a study found a better incumbent.

    Attributes:
        wall_seconds: since the study began.
        device_seconds: reserved until then.
        units: trained by the whole study until then.
        value: the benchmark's metric on validation.
    """

    wall_seconds: NonNegativeFloat
    device_seconds: NonNegativeFloat
    units: NonNegativeInt
    value: float


class FreshTraining(_OfAReplay):
    """A full training of a study's incumbent with another seed.

    Attributes:
        seed: the fresh one.
        metrics: on validation and, with the prefix `test_`, on test; none if it diverged or ran out of memory.
        device_seconds: its cost, which no study pays.
    """

    seed: NonNegativeInt
    metrics: dict[str, float]
    device_seconds: NonNegativeFloat


class ReplayedStudy(_OfAReplay):
    """One study, replayed from its begin to its end.

    Attributes:
        method: name of the method.
        variant: its arguments other than the defaults.
        seed: drove searcher, scheduler and the curves' noise.
        budget: full trainings that it might spend.
        reason: cause of an early end; empty if it reached its end.
        outcomes: number of trials by outcome.
        units: resource units trained.
        wall_seconds: from its first request for devices to its end, by the virtual clock.
        device_seconds: devices that it had reserved, times seconds.
        parts: device-seconds by part of the ledger.
        model_share: share of its trials that a model proposed; None for a method without one.
        config: the incumbent's hyperparameters; none if no trial was sound.
        incumbent_units: resource units of the incumbent.
        best: the incumbent's metrics on validation, which chose it.
        test: its metrics on test, as the trial itself scores there; none unless it reached the full resource.
        fresh: trainings of the incumbent with fresh seeds.
        improvements: of the incumbent at the full resource, in order.
        cpu_seconds: computing time of the replay itself.
    """

    method: str
    variant: str = ""
    seed: NonNegativeInt
    budget: NonNegativeInt
    reason: str = ""
    outcomes: dict[str, NonNegativeInt]
    units: NonNegativeInt
    wall_seconds: NonNegativeFloat
    device_seconds: NonNegativeFloat
    parts: dict[str, float]
    model_share: float | None = None
    config: dict[str, Scalar] = Field(default_factory=dict)
    incumbent_units: NonNegativeInt = 0
    best: dict[str, float] = Field(default_factory=dict)
    test: dict[str, float] = Field(default_factory=dict)
    fresh: tuple[FreshTraining, ...] = ()
    improvements: tuple[Improvement, ...] = ()
    cpu_seconds: NonNegativeFloat = 0.0

    @property
    def identity(self) -> tuple[str, str, int, int]:
        """Identity of a study within its replay: method, arguments, seed and budget."""
        return self.method, self.variant, self.seed, self.budget

    @property
    def label(self) -> str:
        """The method with its arguments other than the defaults."""
        return " ".join(filter(None, [self.method, self.variant]))

    @property
    def num_trials(self) -> int:
        """Number of its trials."""
        return sum(self.outcomes.values())


class ReplayHeader(_OfAReplay):
    """Description of a replay.

    Attributes:
        schema_version: of the columns.
        benchmark: the recorded benchmark.
        digest: its version, that of the bank included.
        devices: devices of each study.
        repeats: fresh trainings of each incumbent.
        protocol: version of the rules.
        versions: packages that decide results, by tag.
        source: a sentence on the bank: its trainings, and how far it is recorded.
        left_out: methods that cannot be replayed, a sentence each.
        certificate: sentence on the certificate of the bank.
        uncertified: methods for which the certificate does not hold, with the reason; no verdict rests on them.
    """

    schema_version: int = SCHEMA_VERSION
    benchmark: dict[str, Any]
    digest: str
    devices: NonNegativeInt
    repeats: NonNegativeInt
    protocol: str
    versions: dict[str, str] = Field(default_factory=dict)
    source: str = ""
    left_out: tuple[str, ...] = ()
    certificate: str = NO_CERTIFICATE
    uncertified: dict[str, str] = Field(default_factory=dict)

    @property
    def content(self) -> Benchmark:
        """The benchmark, read from its description."""
        return Benchmark.model_validate(self.benchmark)

    def differs_from(self, other: Self) -> str:
        """Name the first part in which another replay differs, so that their studies do not go together; else empty."""
        for name in ("digest", "devices", "repeats", "protocol", "versions"):
            own, its = getattr(self, name), getattr(other, name)
            if own != its:
                return f"{name.replace('_', ' ')} ({_short(own)}, here {_short(its)})"
        return ""


def _short(value: object) -> str:
    return "others" if isinstance(value, dict) else str(value)
