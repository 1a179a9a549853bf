"""`python -m hpo slurm ...`: parses and joins, no logic of its own."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.spec import BenchmarkError

if TYPE_CHECKING:
    from slurm.head import Order

VERBS_TO_SUBMIT = ("suite", "confirm")
"""What a head job runs beside a method's study."""


def add_verbs(verbs: Any) -> None:
    """The verbs of `python -m hpo slurm`."""
    submitting = verbs.add_parser("submit", help="submit a study, or with `suite` or `confirm` one of these")
    _add_cluster(submitting)
    submitting.add_argument("--dry-run", action="store_true", help="print the job script instead")
    _add_what(submitting, "a method, `suite` or `confirm`, and then what it takes, such as --benchmark nano")
    submitting.set_defaults(command=submit)
    _add_alone(verbs)
    fits = verbs.add_parser("capacity", help="how many trials run at once, and what binds")
    _add_cluster(fits)
    fits.add_argument("--benchmark", default="nano", help="name or YAML path (default: nano)")
    fits.set_defaults(command=capacity, parser=fits)
    collecting = verbs.add_parser("collect", help="add what jobs found and could not add themselves to the store")
    _add_cluster(collecting)
    collecting.set_defaults(command=collect, parser=collecting)
    head_ = verbs.add_parser("head", help="what the head job runs")
    head_.add_argument("--cluster", default="", help="YAML file of the cluster profile")
    head_.add_argument(
        "--from-environment", action="store_true", help="as head_node.slurm has it, see slurm/environment.py"
    )
    head_.add_argument("words", nargs=argparse.REMAINDER, help="arguments of `python -m hpo`, after --")
    head_.set_defaults(command=head, parser=head_)
    worker_ = verbs.add_parser("worker", help="what a worker job runs")
    worker_.add_argument("--connection", required=True, help="the head job's connection file")
    worker_.add_argument("--cpus", type=int, required=True, help="CPU cores for trials")
    worker_.add_argument("--gpus", type=int, required=True, help="GPUs for trials")
    worker_.set_defaults(command=worker, parser=worker_)


def _add_alone(verbs: Any) -> None:
    """Studies without Ray."""
    array = verbs.add_parser("array", help="without Ray: a job for each trial of random search, Optuna or a grid")
    array.add_argument("--at-once", type=int, default=0, help="tasks at once at most; 0 for no limit (default: 0)")
    array.add_argument("--batch", type=int, default=0, help="in batches of so many, each after the one before it")
    serial = verbs.add_parser("serial", help="without Ray: one job that trains one trial after the other")
    for parser in (array, serial):
        _add_cluster(parser)
        parser.add_argument("--dry-run", action="store_true", help="print the job scripts instead")
        _add_what(parser, "manual, random, default or optuna, and then what it takes, such as --benchmark nano")
        parser.set_defaults(command=submit_alone, is_array=parser is array)
    resuming = verbs.add_parser("resume", help="train the trials of an array or a serial job that have no result")
    _add_cluster(resuming)
    resuming.add_argument("study", help="the study's folder, among the logs")
    resuming.set_defaults(command=resume, parser=resuming, at_once=0)
    for name, command, text in (
        ("task", task, "what a task of an array runs"),
        ("serial-job", serial_job, "what a serial job runs"),
        ("gather-job", gather_job, "what runs at the end of an array"),
    ):
        job = verbs.add_parser(name, help=text)
        job.add_argument("--cluster", default="", help="YAML file of the cluster profile")
        job.add_argument("study", help="the study's folder")
        job.set_defaults(command=command, parser=job)


def _add_what(parser: argparse.ArgumentParser, text: str) -> None:
    """A method, and beside it options that are not this verb's own."""
    parser.add_argument("what", help=text)
    parser.set_defaults(parser=parser, options=[])


def _add_cluster(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cluster", required=True, help="YAML file of the cluster profile, see slurm/README.md")


def submit(parsed: argparse.Namespace) -> int:
    """Check, render and submit."""
    from slurm import capacity, profile, submit

    command = [*([] if parsed.what in VERBS_TO_SUBMIT else ["run"]), parsed.what, *parsed.options]
    ranks_per_trial = _check(command)
    file = Path(parsed.cluster)
    cluster = profile.load(file)
    fits = capacity.of(cluster, ranks_per_trial)
    if not fits.trials:
        raise BenchmarkError(f"no trial fits on this cluster\n{capacity.describe(fits)}")
    script = submit.head_script(cluster, file, command, Path.cwd())
    if parsed.dry_run:
        print(script, end="")
        return 0
    name = submit.job_name(command)
    number = submit.submit(cluster, script, name)
    print(capacity.describe(fits))
    print(f"submitted job {number}; watch it: tail -F {cluster.logs}/{name}-{number}.out")
    return 0


def submit_alone(parsed: argparse.Namespace) -> int:
    """An array, or a serial job."""
    import shlex

    from hpo import cli, commands
    from slurm import alone, profile

    if getattr(parsed, "at_once", 0) < 0 or getattr(parsed, "batch", 0) < 0:
        raise BenchmarkError("at-once and batch are numbers of tasks, and must be >= 0")
    file = Path(parsed.cluster)
    cluster = profile.load(file)
    study = commands.study_of(cli.parse(["run", parsed.what, *parsed.options]))
    alone.require_one_node(cluster, study.benchmark.ranks_per_trial)
    evaluation: alone.Evaluation = "sequential"
    if parsed.is_array:
        evaluation = "batch" if parsed.batch else "asynchronous"
    words = ["array" if parsed.is_array else "serial", "--cluster", str(file), parsed.what, *parsed.options]
    order = alone.order(study, evaluation, cluster.cpus_per_rank, shlex.join(["python", "-m", "hpo", "slurm", *words]))
    name, at_once = f"hpo-{study.method}", parsed.batch or parsed.at_once if parsed.is_array else 0
    folder = Path(cluster.logs) / f"{name}-STUDY" if parsed.dry_run else alone.new_folder(cluster, name)
    wanted = alone.submissions(cluster, file, name, folder, order, range(order.trials), at_once)
    if parsed.dry_run:
        for submission in wanted:
            print(shlex.join(["sbatch", *submission.options]), submission.script, sep="\n")
        return 0
    if not os.environ.get("MLFLOW_TRACKING_URI"):  # a warm start reads what earlier studies found
        os.environ["MLFLOW_TRACKING_URI"] = cluster.tracking_uri
    alone.write(folder, order)
    return _say_submitted(folder, alone.submit(folder, name, wanted))


def resume(parsed: argparse.Namespace) -> int:
    """The trials of a study that have no result yet."""
    from slurm import alone, profile, scheduler, tasks

    file, folder = Path(parsed.cluster), Path(parsed.study).resolve()
    cluster, order, done = profile.load(file), tasks.Order.read(folder), tasks.finished(folder)
    missing = [trial for trial in range(order.trials) if trial not in done]
    if not missing:
        raise BenchmarkError(f"{folder}: all {order.trials} trials have a result; to store them: slurm collect")
    if running := scheduler.unfinished(tasks.jobs_of(folder)):
        raise BenchmarkError(f"{folder}: jobs {', '.join(running)} still work on it; see squeue")
    name = f"hpo-{order.study.method}"
    return _say_submitted(
        folder, alone.submit(folder, name, alone.submissions(cluster, file, name, folder, order, missing, 0))
    )


def _say_submitted(folder: Path, jobs: Sequence[str]) -> int:
    print(f"submitted job{'s' * (len(jobs) > 1)} {', '.join(jobs)}; the study is in {folder}")
    return 0


def task(parsed: argparse.Namespace) -> int:
    """A task of an array."""
    from slurm import trials

    number = os.environ.get("SLURM_ARRAY_TASK_ID", "")
    if not number.isdigit():
        raise BenchmarkError("SLURM_ARRAY_TASK_ID is not set: a task is run by SLURM; submit it with `slurm array`")
    return trials.task(Path(parsed.study), int(number))


def serial_job(parsed: argparse.Namespace) -> int:
    """A serial job."""
    from slurm import profile, trials

    file = Path(parsed.cluster)
    return trials.serial(Path(parsed.study), profile.load(file), file)


def gather_job(parsed: argparse.Namespace) -> int:
    """The end of an array."""
    from slurm import gather, profile
    from slurm.processes import Stamps, job_id

    file = Path(parsed.cluster)
    with Stamps(f"job {job_id()} (gathers {Path(parsed.study).name})") as stamps:
        gather.run(Path(parsed.study), profile.load(file), file)
        stamps.status = 0
    return 0


def _check(command: Sequence[str]) -> int:
    """Check the driver's command as it will be checked in the job; returns the ranks of its trials.

    Raises:
        BenchmarkError: an unknown method or option, or a value that does not hold.
    """
    from benchmarks import spec
    from hpo import cli, commands, suite

    parsed = cli.parse(command)
    if command[0] == "run":
        return commands.study_of(parsed).benchmark.ranks_per_trial
    if command[0] == "suite":
        suite.parse_methods(parsed.methods, parsed.budget)
        suite.parse_seeds(parsed.seeds)
    space = getattr(parsed, "space", "")
    return spec.load(parsed.benchmark, Path(space) if space else None).ranks_per_trial


def capacity(parsed: argparse.Namespace) -> int:
    """Both inequalities."""
    from benchmarks import spec
    from slurm import capacity, profile

    cluster = profile.load(Path(parsed.cluster))
    fits = capacity.of(cluster, spec.load(parsed.benchmark).ranks_per_trial)
    print(capacity.describe(fits))
    return 0 if fits.trials else 1


def collect(parsed: argparse.Namespace) -> int:
    """What jobs could not add to the store themselves: they were killed, or the store could not be reached."""
    from slurm import gather, profile, scheduler, stores, tasks

    file = Path(parsed.cluster)
    cluster = profile.load(file)
    for own in [] if cluster.is_served else sorted(Path(cluster.logs).glob(f"*/{stores.FILE}")):
        print(f"{own.parent.name}: {stores.collect(own, Path(cluster.store))} runs added")
    os.environ["MLFLOW_TRACKING_URI"] = cluster.tracking_uri
    for study in sorted(path.parent for path in Path(cluster.logs).glob(f"*/{tasks.STUDY}")):
        if running := scheduler.unfinished(tasks.jobs_of(study)):
            print(f"{study.name}: waits for jobs {', '.join(running)}")
        elif gather.is_gathered(study):
            print(f"{study.name}: is there")
        else:
            gather.run(study, cluster, file)
    print(f"the store is {cluster.store}")
    return 0


def head(parsed: argparse.Namespace) -> int:
    """The head job."""
    from slurm import head, profile, submit

    if parsed.from_environment:
        return head.run(_order_from_environment(os.environ))
    words = parsed.words[parsed.words[:1] == ["--"] :]
    cluster = profile.load(Path(parsed.cluster))
    return head.run(head.Order(cluster, submit.job_name(words), tuple(words), Path.cwd()))


def _order_from_environment(given: Mapping[str, str]) -> Order:
    """What `sbatch slurm/head_node.slurm` asks for; a search space of its own lies beside the logs."""
    import yaml

    from benchmarks import spec
    from slurm import environment, head, processes, profile, submit

    cluster = profile.load(Path(environment.value("CLUSTER", given)))
    cluster = cluster.model_copy(update={"workers": environment.workers(given, cluster.workers)})
    content, file = environment.space(given, spec.load(environment.value("BENCHMARK", given))), ""
    if content:
        path = Path(cluster.logs) / f"space-{processes.job_id()}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(content))
        file = str(path)
    words = environment.command(given, file)
    _check(words)
    return head.Order(cluster, submit.job_name(words), tuple(words), Path.cwd())


def worker(parsed: argparse.Namespace) -> int:
    """A worker job."""
    from slurm import worker

    return worker.run(Path(parsed.connection), parsed.cpus, parsed.gpus)
