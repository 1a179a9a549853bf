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
    submitting.add_argument("what", help="a method, `suite` or `confirm`")
    submitting.add_argument("options", nargs=argparse.REMAINDER, help="what it takes, such as --benchmark nano")
    submitting.set_defaults(command=submit, parser=submitting)
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
    """What jobs that were killed have left in stores of their own."""
    from slurm import profile, stores

    cluster = profile.load(Path(parsed.cluster))
    if cluster.is_served:
        raise BenchmarkError(f"store is {cluster.store}: jobs write there themselves, and leave nothing to collect")
    for own in sorted(Path(cluster.logs).glob(f"*/{stores.FILE}")):
        print(f"{own.parent.name}: {stores.collect(own, Path(cluster.store))} runs added")
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
    from slurm import environment, head, profile, submit, worker

    cluster = profile.load(Path(environment.value("CLUSTER", given)))
    cluster = cluster.model_copy(update={"workers": environment.workers(given, cluster.workers)})
    content, file = environment.space(given, spec.load(environment.value("BENCHMARK", given))), ""
    if content:
        path = Path(cluster.logs) / f"space-{worker.job_id()}.yaml"
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
