"""The DeepSpeed study: one Trainer script under every ZeRO stage, with offload, on several ranks; kept in MLflow.

    mlflow run . -e deepspeed -P benchmark=nano -P ranks=1,2

The study is a run, each row a run nested below it, stored as soon as it is known.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mlflow.entities import Metric, Param, RunTag

from benchmarks import spec
from benchmarks.spec import BenchmarkError
from benchmarks.training.deepspeed import Precision
from benchmarks.zero import plan, study
from benchmarks.zero.settings import ALL, Configuration, Machine, Scale, Scaling, Training
from benchmarks.zero.study import Row
from hpo.report import deepspeed as zero_report
from hpo.report.deepspeed import BY_EPOCH, ScaledRow, numbers
from hpo.store import client as store
from hpo.store.runs import log_files, open_run, versions

KIND = "deepspeed"
SCALING: tuple[Scaling, ...] = ("strong", "weak")
STATUS = {"completed": "FINISHED", "out of memory": "FAILED", "failed": "FAILED", "not run": "KILLED"}


@dataclass(frozen=True)
class Done:
    """What a study gave.

    Attributes:
        lines: in the order in which they were trained.
        files: table and figure, by name.
        reason: why it did not reach its end; empty if it did.
    """

    lines: list[ScaledRow]
    files: dict[str, str]
    reason: str = ""


def scales(ranks: Sequence[int], nodes: Sequence[int], scaling: str) -> list[Scale]:
    """All combinations; one rank alone scales neither way, and comes once.

    Args:
        ranks: of a node.
        nodes: numbers of nodes.
        scaling: "strong", "weak" or "both".

    Raises:
        BenchmarkError: a number below 1.
    """
    for name, least in (("ranks", min(ranks)), ("nodes", min(nodes))):
        if least < 1:
            raise BenchmarkError(f"{name} is {least}, but must be at least 1")
    found = []
    for number in sorted(set(nodes)):
        for per_node in sorted(set(ranks)):
            kinds = [kind for kind in SCALING if scaling in (kind, "both")]
            found += [Scale(per_node, number, kind) for kind in (kinds if number * per_node > 1 else kinds[:1])]
    return found


def configurations(names: str) -> list[Configuration]:
    """By a comma list of names; "all" for all.

    Raises:
        BenchmarkError: a name that is none.
    """
    if names == "all":
        return list(ALL)
    known = {one.name: one for one in ALL}
    wanted = [name.strip() for name in names.split(",")]
    for name in wanted:
        if name not in known:
            raise BenchmarkError(f"configurations has {name!r}; known are: {', '.join(known)}")
    return [known[name] for name in dict.fromkeys(wanted)]


def run(
    training: Training,
    wanted: Sequence[Configuration],
    at: Sequence[Scale],
    machine: Machine,
    accelerator: str,
    folder: Path,
    command: str,
    told: Callable[[str], None],
) -> Done:
    """Run the study. Every line is stored as soon as it is known; an interruption ends the study with what there is.

    Args:
        training: what is trained each time.
        wanted: how.
        at: on how many ranks.
        machine: what trains.
        accelerator: its name.
        folder: gets configuration, log and memory samples of each row.
        command: for the record.
        told: called with the plan of memory, and with every line.

    Raises:
        BenchmarkError: the benchmark names no model, or the store cannot be used.
    """
    benchmark = spec.load(training.benchmark)
    size = plan.model_size(benchmark.training_settings().model)
    told(zero_report.plan_text(size, wanted, at, machine.precision))
    tags = {
        "hpo.benchmark": benchmark.name,
        "hpo.accelerator": accelerator,
        "hpo.precision": machine.precision,
        "hpo.launcher": machine.launcher,
        "hpo.command": command,
        **versions(),
    }
    lines: list[ScaledRow] = []
    kept = _Store(benchmark.name, tags, {**asdict(training), "parameters": size.parameters})
    status, reason = "FINISHED", ""
    try:
        with _terminated_as_interrupted():
            for row in study.run(training, wanted, at, machine, folder):
                lines.append(judged(row, size, machine.precision, lines))
                kept.add(lines[-1])
                told(f"{len(lines)}/{len(wanted) * len(at)} {lines[-1]}")
    except KeyboardInterrupt:
        status, reason = "KILLED", "interrupted"
    except (OSError, BenchmarkError) as error:  # such as a folder that cannot be written
        status, reason = "FAILED", str(error)
    files = zero_report.files(lines)
    kept.close(files, status)
    return Done(lines, files, reason or kept.fault)


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM, and a terminal that goes away, end the study as Ctrl-C does: with its ranks and what it found."""
    before = {number: signal.signal(number, signal.default_int_handler) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def judged(row: Row, size: plan.ModelSize, precision: Precision, before: Sequence[ScaledRow]) -> ScaledRow:
    """A row beside its plan, and beside the same configuration on fewer ranks among the lines before it."""
    made, scale = row.configuration, row.scale
    planned = plan.plan_memory(size, made.stage, made.offload, precision, scale.ranks_per_node, scale.nodes)
    if row.outcome != "completed":
        return ScaledRow(row, planned)
    done = [line.row for line in before if line.row.configuration == made and line.row.outcome == "completed"]
    same = [other for other in done if other.scale.ranks == 1 or other.scale.scaling == scale.scaling]
    base = min([*same, row], key=lambda other: other.scale.ranks)
    speed_up = row.measured["train_samples_per_second"] / base.measured["train_samples_per_second"]
    return ScaledRow(row, planned, base.scale.ranks, speed_up, speed_up / (scale.ranks / base.scale.ranks))


class _Store:
    """The study's run, and a run for each line. A store that breaks on the way costs no measurement.

    Attributes:
        fault: what could not be stored, and why; empty if all was.
    """

    def __init__(self, benchmark: str, tags: Mapping[str, str], params: Mapping[str, Any]) -> None:
        self.fault = ""
        launch_run = os.environ.pop("MLFLOW_RUN_ID", None)  # ranks must not inherit it
        self._client, self._experiment_id = store.open_experiment(benchmark)
        with store.readable_errors():
            self._run_id = open_run(self._client, self._experiment_id, f"{KIND} of {benchmark}", launch_run)
            there = self._client.get_run(self._run_id).data.params
            self._client.log_batch(
                self._run_id,
                params=[Param(key, str(value)) for key, value in params.items() if key not in there],
                tags=[RunTag("hpo.kind", KIND), *(RunTag(key, value) for key, value in tags.items())],
            )

    @contextmanager
    def _noting_faults(self) -> Iterator[None]:
        try:
            with store.readable_errors():
                yield
        except BenchmarkError as error:
            self.fault = str(error)

    def add(self, line: ScaledRow) -> None:
        """Store a line as a run of its own."""
        row, known = line.row, numbers(line)
        tags = {"mlflow.parentRunId": self._run_id, "hpo.kind": "configuration", "hpo.outcome": row.outcome}
        if row.reason:
            tags["hpo.reason"] = row.reason
        metrics = [Metric(key, value, 0, 0) for key, value in known.items() if key not in BY_EPOCH.values()]
        for name, metric in BY_EPOCH.items():
            by_epoch = enumerate(row.measured.get(name, []), start=1)
            metrics += [Metric(metric, value, 0, epoch) for epoch, value in by_epoch]
        params = {"configuration": row.configuration.name, **asdict(row.scale)}
        with self._noting_faults():
            name = f"{row.configuration.name}, {row.scale.name}"
            child = self._client.create_run(self._experiment_id, run_name=name, tags=tags).info.run_id
            told = [Param(key, str(value)) for key, value in params.items()]
            self._client.log_batch(child, params=told, metrics=metrics)
            self._client.set_terminated(child, STATUS[row.outcome])

    def close(self, files: Mapping[str, str], status: str) -> None:
        """Store the files and end the study's run."""
        with self._noting_faults():
            log_files(self._client, self._run_id, files)
            self._client.set_terminated(self._run_id, status)
