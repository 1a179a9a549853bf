"""The DeepSpeed study: one Trainer script under every ZeRO stage, with offload, on several ranks; stored in MLflow.

    mlflow run . -e deepspeed -P benchmark=nano -P ranks=1,2

The study is a run, each row a run nested below it, stored as soon as it is known.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks import spec
from benchmarks.spec import BenchmarkError
from benchmarks.training.deepspeed import Precision
from benchmarks.zero import plan, study
from benchmarks.zero.settings import ALL, Configuration, Machine, Scale, Scaling, Training
from benchmarks.zero.study import Row
from hpo.engine.signals import GracefulSignals, InterruptibleCall
from hpo.report import deepspeed as zero_report
from hpo.report.deepspeed import BY_EPOCH, ScaledRow, numbers
from hpo.store.runs import CommandRun, versions

KIND = "deepspeed"
SCALING: tuple[Scaling, ...] = ("strong", "weak")
STATUS = {"completed": "FINISHED", "out of memory": "FAILED", "failed": "FAILED", "not run": "KILLED"}


@dataclass(frozen=True)
class Done:
    """A DeepSpeed study that has ended.

    Attributes:
        lines: in the order in which they were trained.
        files: table and figure, by name.
        reason: the cause if it did not reach its end, or if MLflow lacks a part of it; else empty.
    """

    lines: list[ScaledRow]
    files: dict[str, str]
    reason: str = ""


def scales(ranks: Sequence[int], nodes: Sequence[int], scaling: str) -> list[Scale]:
    """Combine ranks, nodes and scaling; one rank alone scales neither way, and comes once.

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
    """Find configurations by a comma list of names; "all" stands for all.

    Raises:
        BenchmarkError: no configuration has such a name.
    """
    if names == "all":
        return list(ALL)
    known = {one.name: one for one in ALL}
    wanted = [name.strip() for name in names.split(",")]
    for name in wanted:
        if name not in known:
            raise BenchmarkError(f"configurations has {name!r}; known are: {', '.join(known)}")
    return [known[name] for name in dict.fromkeys(wanted)]


def run_configurations(
    training: Training,
    wanted: Sequence[Configuration],
    at: Sequence[Scale],
    machine: Machine,
    accelerator: str,
    folder: Path,
    command: str,
    told: Callable[[str], None],
) -> Done:
    """Run the study. Every line is stored as soon as it is known; an interruption ends the study with the lines so far.

    Args:
        training: the training that each row repeats.
        wanted: the configurations of DeepSpeed.
        at: the numbers of ranks and nodes.
        machine: the machine that trains.
        accelerator: its name.
        folder: gets configuration, log and memory samples of each row.
        command: the command that was given, for the record.
        told: called with the plan of memory, and with every line.

    Raises:
        BenchmarkError: the benchmark names no model, or the store cannot be used.
    """
    benchmark = spec.load(training.benchmark)
    size = plan.model_size(benchmark.training_settings().model)
    told(zero_report.plan_text(size, wanted, at, machine.precision))
    tags = {
        "hpo.kind": KIND,
        "hpo.benchmark": benchmark.name,
        "hpo.accelerator": accelerator,
        "hpo.precision": machine.precision,
        "hpo.launcher": machine.launcher,
        "hpo.command": command,
        **versions(),
    }
    lines: list[ScaledRow] = []
    params = {**asdict(training), "parameters": size.parameters}
    record = CommandRun(benchmark.name, f"{KIND} of {benchmark.name}", params, tags)
    status, reason = "FINISHED", ""
    try:
        with GracefulSignals(InterruptibleCall()):
            for row in study.run(training, wanted, at, machine, folder):
                lines.append(judged(row, size, machine.precision, lines))
                _store(record, lines[-1])
                told(f"{len(lines)}/{len(wanted) * len(at)} {lines[-1]}")
    except KeyboardInterrupt:
        status, reason = "KILLED", "interrupted"
    except (OSError, BenchmarkError) as error:  # such as a folder that cannot be written
        status, reason = "FAILED", str(error)
    files = zero_report.files(lines)
    record.log_files(files)
    record.end(status)
    return Done(lines, files, reason or record.fault)


def judged(row: Row, size: plan.ModelSize, precision: Precision, before: Sequence[ScaledRow]) -> ScaledRow:
    """Put a row beside its plan, and beside the same configuration on fewer ranks among the lines before it."""
    made, scale = row.configuration, row.scale
    planned = plan.plan_memory(size, made.stage, made.offload, precision, scale.ranks_per_node, scale.nodes)
    if row.outcome != "completed":
        return ScaledRow(row, planned)
    done = [line.row for line in before if line.row.configuration == made and line.row.outcome == "completed"]
    same = [other for other in done if other.scale.ranks == 1 or other.scale.scaling == scale.scaling]
    base = min([*same, row], key=lambda other: other.scale.ranks)
    speed_up = row.measured["train_samples_per_second"] / base.measured["train_samples_per_second"]
    return ScaledRow(row, planned, base.scale.ranks, speed_up, speed_up / (scale.ranks / base.scale.ranks))


def _store(run: CommandRun, line: ScaledRow) -> None:
    """Store a line as a run of its own."""
    row, known = line.row, numbers(line)
    tags = {
        "hpo.kind": "configuration",
        "hpo.outcome": row.outcome,
        **({"hpo.reason": row.reason} if row.reason else {}),
    }
    points = [(metric, value, 0) for metric, value in known.items() if metric not in BY_EPOCH.values()]
    for name, metric in BY_EPOCH.items():
        points += [(metric, value, epoch) for epoch, value in enumerate(row.measured.get(name, []), start=1)]
    params = {"configuration": row.configuration.name, **asdict(row.scale)}
    run.add_child(f"{row.configuration.name}, {row.scale.name}", params, tags, points, STATUS[row.outcome])
