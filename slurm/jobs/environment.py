"""Environment variables of `sbatch slurm/head_node.slurm`, for users who submit with sbatch alone. Pure.

==============  =====================================================================================
CLUSTER         the cluster profile (cluster.yaml)
METHOD          a method (asha)
BENCHMARK       name or YAML path (nano)
BUDGET          full trainings (12)
SEED            drives everything random (0)
NUM_WORKERS     worker jobs (as the profile says)
LR_LOWER        lower bound of the learning rate; with LR_UPPER, a log-uniform prior
LR_UPPER        upper bound of the learning rate
BS_CHOICES      batch sizes per device, such as "1,2" or "1 2"
WD_CHOICES      weight decays, such as "0.0,0.01"
==============  =====================================================================================

Hyperparameters that are not named keep the benchmark's search space.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.files import whole_number
from benchmarks.spec import Benchmark, BenchmarkError

DEFAULTS = {"CLUSTER": "cluster.yaml", "METHOD": "asha", "BENCHMARK": "nano", "BUDGET": "12", "SEED": "0"}


def value(name: str, environment: Mapping[str, str]) -> str:
    """Return a variable's value, or its default; an empty one counts as not given."""
    return environment.get(name) or DEFAULTS[name]


def command(environment: Mapping[str, str], space_file: str = "") -> list[str]:
    """Return the arguments of `python -m hpo`.

    Args:
        environment: the variables.
        space_file: the search space that the variables make, written to a file; empty for the benchmark's.

    Raises:
        BenchmarkError: METHOD is an option.
    """
    method = value("METHOD", environment)
    if method.startswith("-"):
        raise BenchmarkError(f"METHOD is {method!r}, but must be a method; see `python -m hpo methods`")
    words = ["run", method, "--benchmark", value("BENCHMARK", environment)]
    words += ["--budget", value("BUDGET", environment), "--seed", value("SEED", environment)]
    return [*words, "--space", space_file] if space_file else words


def workers(environment: Mapping[str, str], otherwise: int) -> int:
    """Return the number of worker jobs.

    Raises:
        BenchmarkError: NUM_WORKERS is no whole number above 0.
    """
    text = environment.get("NUM_WORKERS", "")
    number = whole_number(text) if text else otherwise
    if not number:
        raise BenchmarkError(f"NUM_WORKERS is {text!r}, but must be a whole number above 0")
    return number


def space(environment: Mapping[str, str], benchmark: Benchmark) -> dict[str, Any]:
    """Return the content of a search space file; empty where no variable changes the benchmark's.

    Raises:
        BenchmarkError: a variable is no number, or only one bound is given.
    """
    changed: dict[str, Any] = {}
    lower, upper = environment.get("LR_LOWER", ""), environment.get("LR_UPPER", "")
    if bool(lower) != bool(upper):
        given, lacks = ("LR_LOWER", "LR_UPPER") if lower else ("LR_UPPER", "LR_LOWER")
        raise BenchmarkError(f"{given} is given without {lacks}; the learning rate takes both bounds")
    if lower:
        low, high = _number("LR_LOWER", lower, float), _number("LR_UPPER", upper, float)
        changed["learning_rate"] = {"type": "loguniform", "low": low, "high": high}
    for name, hyperparameter, kind in (
        ("BS_CHOICES", "batch_size_per_device", int),
        ("WD_CHOICES", "weight_decay", float),
    ):
        words = environment.get(name, "").replace(",", " ").split()
        if words:
            changed[hyperparameter] = {"type": "choice", "values": [_number(name, word, kind) for word in words]}
    if not changed:
        return {}
    before = {name: domain.model_dump(mode="json") for name, domain in benchmark.space.items()}
    return {"space": {**before, **changed}}


def _number(name: str, text: str, kind: Callable[[str], Any]) -> Any:
    try:
        return kind(text)
    except ValueError:
        wanted = "whole numbers" if kind is int else "numbers"
        raise BenchmarkError(f"{name} has {text!r}, but takes {wanted}") from None
