"""A small bank, made by hand."""

from __future__ import annotations

import math

from benchmarks.banks.bank import Bank, Header
from benchmarks.banks.training import BankSession, BankTraining, BankUnit
from benchmarks.tasks.record_scores import pack

SESSION = BankSession(key="2026-01-01T00:00:00Z 1", accelerator="cpu", packages={"torch": "2.13.0"})
HEADER = Header(
    name="made",
    digest="0123456789abcdef",
    max_units=3,
    hyperparameters=("learning_rate", "batch_size_per_device", "lr_scheduler", "gradient_checkpointing"),
    metric="eval_loss",
    metrics=("eval_loss", "f1"),
    modes=("min", "max"),
    sessions=(SESSION,),
)


def unit(number: int, loss: float, **others: float) -> BankUnit:
    seconds = {"train_seconds": 0.5, "evaluate_seconds": 0.25, "train_cpu_seconds": 0.375}
    return BankUnit(unit=number, metrics={"eval_loss": loss, "f1": 0.5}, **{**seconds, **others})


def training(rate: float, seed: int, outcome: str = "completed", **others: object) -> BankTraining:
    """Make a training whose loss falls; one that diverged has no loss in its second unit."""
    units = tuple(unit(number, 4.0 / number + rate + seed / 128, train_loss=3.0) for number in (1, 2, 3))
    config = {"learning_rate": rate, "batch_size_per_device": 8, "lr_scheduler": "linear"}
    content: dict[str, object] = {
        "source": "random",
        "config": {**config, "gradient_checkpointing": False},
        "seed": seed,
        "session": SESSION.key,
        "outcome": outcome,
        "units": units,
        "test": {"eval_loss": 1.0, "f1": 0.75},
        "test_seconds": 0.5,
        "each": {"eval_loss": pack([0.5, 1.5]), "f1": pack([1.0, 0.5])},
    }
    if outcome == "diverged":
        content |= {"units": (units[0], unit(2, math.nan)), "test": {}, "test_seconds": None, "each": {}}
    if outcome in ("out_of_memory", "failed"):
        content |= {"units": (), "test": {}, "test_seconds": None, "each": {}, "reason": "it had a reason"}
    return BankTraining.model_validate({**content, **others})


def bank() -> Bank:
    rates = (0.125, 0.25, 0.5)
    sound = [training(rate, seed) for rate in rates for seed in (0, 1)]
    odd = [training(1.0, 0, "diverged"), training(2.0, 0, "out_of_memory", failed_seconds=1.5)]
    return Bank(HEADER, (*sound, *odd))
