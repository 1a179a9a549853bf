"""Write a bank as a tabular blackbox of Syne Tune, for its own schedulers and searchers.

The folder has the files that `syne_tune.blackbox_repository.blackbox_tabular.deserialize` reads
(https://github.com/syne-tune/syne-tune): configuration and fidelity space, hyperparameters, and an array of objectives,
`(task, configuration, seed, unit, objective)`. A blackbox has no gaps, so configurations with fewer seeds than asked
for are left out, and those that ran out of memory. A diverged training has the worst value of the bank from its last
unit on.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.banks.bank import Bank, Header
from benchmarks.banks.training import BankTraining
from benchmarks.files import BenchmarkError, replacing_folder
from benchmarks.space import Config

ELAPSED = "elapsed_time"
"""Objective with the wall seconds of a training so far, evaluations included."""
FIDELITY = "unit"


def export(bank: Bank, seeds: int, folder: Path) -> tuple[int, int]:
    """Write the blackbox, whole or not at all.

    Args:
        bank: the bank.
        seeds: trainings of each configuration, at least 1.
        folder: to write; it must be new or empty.

    Returns:
        The number of configurations in it, and of those that were left out.

    Raises:
        BenchmarkError: no configuration has so many seeds, or the folder cannot be written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BenchmarkError(f"output {folder}: is there already; give a new folder with --output")
    if seeds < 1:
        raise BenchmarkError(f"seeds is {seeds}, but must be >= 1")
    whole = [_sound(of_one) for of_one in bank.configurations()]
    kept = [of_one[:seeds] for of_one in whole if len(of_one) >= seeds]
    if not kept:
        raise BenchmarkError(f"no configuration of {bank.header.name} has {seeds} seeds; lower --seeds, or record more")
    names, objectives = _searched(bank.header, kept), _objectives(bank.header, kept)
    evaluations = np.array([[_table(one, bank.header, objectives, kept) for one in of_one] for of_one in kept])
    configs = [{name: of_one[0].config[name] for name in names} for of_one in kept]
    try:
        with replacing_folder(folder) as part:
            part.mkdir(parents=True)
            _write(part, bank.header, configs, evaluations[np.newaxis].astype(np.float32), objectives)
    except OSError as error:
        raise BenchmarkError(f"output {folder}: cannot be written ({error.strerror})") from None
    return len(kept), len(whole) - len(kept)


def _sound(trainings: Sequence[BankTraining]) -> list[BankTraining]:
    return [training for training in trainings if training.outcome in ("completed", "diverged") and training.units]


def _searched(header: Header, kept: Sequence[Sequence[BankTraining]]) -> list[str]:
    """Name the hyperparameters of the search space; of a bank without one, those of which there are several values."""
    if header.space:
        return list(header.space)
    return [name for name in header.hyperparameters if len({of_one[0].config[name] for of_one in kept}) > 1]


def _objectives(header: Header, kept: Sequence[Sequence[BankTraining]]) -> list[str]:
    has_seconds = all(unit.train_seconds is not None for of_one in kept for one in of_one for unit in one.units)
    return [*header.metrics, *([ELAPSED] if has_seconds else [])]


def _table(
    training: BankTraining, header: Header, objectives: Sequence[str], kept: Sequence[Sequence[BankTraining]]
) -> NDArray[np.float64]:
    """Return the objectives of a training, `(units, objectives)`."""
    rows = [[unit.metrics.get(name, math.nan) for name in header.metrics] for unit in training.units]
    if training.outcome == "diverged":
        rows[-1] = _worst(header, kept)
    rows += [rows[-1]] * (header.max_units - len(rows))
    if ELAPSED in objectives:
        seconds = [(unit.train_seconds or 0.0) + (unit.evaluate_seconds or 0.0) for unit in training.units]
        elapsed = list(accumulate(seconds + [0.0] * (header.max_units - len(seconds))))
        rows = [[*row, spent] for row, spent in zip(rows, elapsed, strict=True)]
    return np.array(rows)


def _worst(header: Header, kept: Sequence[Sequence[BankTraining]]) -> list[float]:
    """Return the worst finite value of each metric in the bank."""
    units = [unit.metrics for of_one in kept for one in of_one for unit in one.units]
    worst = []
    for name, mode in zip(header.metrics, header.modes, strict=True):
        values = [value for metrics in units if math.isfinite(value := metrics.get(name, math.nan))]
        worst.append((max(values) if mode == "min" else min(values)) if values else math.nan)
    return worst


def _write(
    folder: Path, header: Header, configs: Sequence[Config], evaluations: NDArray[np.float32], objectives: Sequence[str]
) -> None:
    import pandas
    from pyarrow import Table, parquet

    domains = {name: _domain(header.space.get(name), [config[name] for config in configs]) for name in configs[0]}
    texts: dict[str, Any] = {
        "configspace.json": domains,
        "fidelityspace.json": {FIDELITY: _sampled("Integer", lower=1, upper=header.max_units)},
        "metadata.json": {"objectives_names": list(objectives), "task_names": [header.name]},
    }
    for name, content in texts.items():
        (folder / name).write_text(json.dumps(content))
    table = Table.from_pandas(pandas.DataFrame(configs), preserve_index=False)
    parquet.write_table(table, folder / "hyperparameters.parquet", compression="gzip")
    np.save(folder / "objectives_evaluations.npy", evaluations, allow_pickle=False)
    np.save(folder / "fidelities_values.npy", np.arange(1, header.max_units + 1), allow_pickle=False)


def _domain(given: Mapping[str, Any] | None, values: Sequence[Any]) -> dict[str, Any]:
    """Write a domain as Syne Tune does; without a given one, the range of the values, or the list of texts."""
    if given is None:
        if not all(isinstance(value, int | float) for value in values):
            return _sampled("Categorical", categories=sorted(set(values), key=str))
        kind = "Integer" if all(isinstance(value, int) for value in values) else "Float"
        return _sampled(kind, lower=min(values), upper=max(values))
    if given["type"] == "choice":
        return _sampled("Categorical", categories=list(given["values"]))
    bounds = {"lower": given["low"], "upper": given["high"]}
    if given["type"] == "int":
        return _sampled("Integer", **bounds)
    if given["type"] == "loguniform":
        return {**_sampled("Float", **bounds), "sampler_cls": "LogUniform", "sampler_kwargs": {"base": math.e}}
    return _sampled("Float", **bounds)


def _sampled(kind: str, **arguments: Any) -> dict[str, Any]:
    return {"domain_cls": kind, "domain_kwargs": arguments, "sampler_cls": "Uniform", "sampler_kwargs": {}}
