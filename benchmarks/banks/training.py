"""The parts of a bank: one training and its units, and the session that recorded it. Pure."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, NonNegativeFloat, NonNegativeInt, PositiveInt

from benchmarks.space import Config, Scalar, Strict

Source = Literal["default", "grid", "random", "dense", "study", "import"]
"""Origin of a configuration: the benchmark's default, its grid as written, a random sample of the search space, a
proposal of a study that was trained in full, a trial of a stored study, or a file of another program."""
BankOutcome = Literal["completed", "stopped", "diverged", "out_of_memory", "failed"]
"""End of a training. A stopped one is of a study that stopped it early; a bank's own trainings are never stopped."""


class _Recorded(Strict):
    model_config = ConfigDict(
        allow_inf_nan=True,  # a diverged training has such metrics
        ser_json_inf_nan="strings",
        defer_build=True,  # few commands read a bank
    )


class BankUnit(_Recorded):
    """One resource unit of a training, with its evaluation.

    Attributes:
        unit: resource units trained with it, from 1.
        metrics: the validation loss (`eval_loss`) and the task's metrics.
        train_loss: mean loss of its training steps; None where no step fell into it, or it is not known.
        skipped_steps: optimizer steps that were skipped for gradients that are not finite.
        peak_memory_mb: largest memory of any rank since the training began, MiB.
        train_seconds: wall seconds of the training steps; None where it is not known.
        evaluate_seconds: wall seconds of the evaluation on validation.
        train_cpu_seconds: seconds that rank 0 computed meanwhile, which other processes do not prolong; none on GPUs.
        evaluate_cpu_seconds: likewise in the evaluation.
    """

    unit: PositiveInt
    metrics: dict[str, float]
    train_loss: float | None = None
    skipped_steps: float | None = None
    peak_memory_mb: float | None = None
    train_seconds: NonNegativeFloat | None = None
    evaluate_seconds: NonNegativeFloat | None = None
    train_cpu_seconds: NonNegativeFloat | None = None
    evaluate_cpu_seconds: NonNegativeFloat | None = None


class BankTraining(_Recorded):
    """One training of a configuration with a seed.

    Attributes:
        source: origin of the configuration.
        config: all hyperparameters by name.
        seed: drove model initialisation, dropout and data order.
        session: key of the session that recorded it.
        outcome: its end.
        reason: cause of an end that is not "completed", in a sentence.
        micro_batch: samples of a forward pass that fitted into memory, where the batch size did not; else None.
        startup_seconds: time from the order to the first step: model and engine.
        failed_seconds: time lost before a rescue from running out of memory.
        units: its units in order, those before its end.
        test: metrics on the test split at the end, by the names of validation.
        test_seconds: time of that evaluation.
        each: scores of each record of the test split by figure, packed, see `benchmarks.tasks.record_scores`.
    """

    source: Source
    config: Config
    seed: NonNegativeInt
    session: str
    outcome: BankOutcome
    reason: str = ""
    micro_batch: PositiveInt | None = None
    startup_seconds: NonNegativeFloat = 0.0
    failed_seconds: NonNegativeFloat = 0.0
    units: tuple[BankUnit, ...] = ()
    test: dict[str, float] = Field(default_factory=dict)
    test_seconds: NonNegativeFloat | None = None
    each: dict[str, str] = Field(default_factory=dict)

    @property
    def identity(self) -> Identity:
        """Identity of a training within its bank: hyperparameters and seed."""
        return tuple(sorted(self.config.items())), self.seed

    @property
    def seconds(self) -> float:
        """Device seconds per rank that trained or evaluated, the evaluation on test included."""
        units = sum((unit.train_seconds or 0.0) + (unit.evaluate_seconds or 0.0) for unit in self.units)
        return units + (self.test_seconds or 0.0)


Identity = tuple[tuple[tuple[str, Scalar], ...], int]


class BankSession(_Recorded):
    """One run of the command that recorded trainings, or one origin of collected or imported ones.

    Attributes:
        key: its name within the bank: the time it began, UTC, and the number of its process.
        accelerator: name of the GPUs; "cpu" for cores.
        processor: model of the CPU, as the system names it.
        precision: arithmetic of the trainings; empty where nothing is trained.
        devices: devices that trained at once.
        packages: versions by package.
        commit: of the suite; empty where it is not a checkout.
        origin: for trainings that were not recorded by the suite, a sentence on their source.
    """

    key: Annotated[str, Field(min_length=1)]
    accelerator: str
    processor: str = ""
    precision: str = ""
    devices: NonNegativeInt = 1
    packages: dict[str, str] = Field(default_factory=dict)
    commit: str = ""
    origin: str = ""
