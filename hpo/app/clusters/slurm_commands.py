"""The commands `python -m hpo slurm ...`: parse and join, no logic of their own."""

from __future__ import annotations

import argparse
import importlib.util
import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.files import yaml_text
from benchmarks.spec import Benchmark, BenchmarkError
from hpo.app import request
from hpo.app.parser import parse
from hpo.terminal import errors
from hpo.terminal.console import open_console

if TYPE_CHECKING:
    from slurm.arrays import Evaluation
    from slurm.jobs.head_job import HeadJob
    from slurm.profile import Profile

VERBS_TO_SUBMIT = ("suite", "confirm", "resume")
"""Commands that a head job runs beside a method's study."""


def submit(parsed: argparse.Namespace) -> int:
    """Check, render and submit the job of a study."""
    from slurm import capacity, profile, submit

    command = [*([] if parsed.what in VERBS_TO_SUBMIT else ["run"]), parsed.what, *parsed.options]
    benchmark = _check(command, parsed.parser)
    file = Path(parsed.cluster)
    cluster = profile.load(file)
    fits = capacity.of(cluster, benchmark.ranks_per_trial, benchmark.trials_per_gpu)
    if not fits.trials:
        raise BenchmarkError(f"no trial fits on this cluster: {capacity.sentence(fits)}")
    check_start(benchmark)
    name, script = submit.job_name(cluster, command), submit.head_script(cluster, file, command, Path.cwd())
    worker = ""
    if cluster.layout == "jobs":
        worker = submit.worker_script(cluster, name, submit.connection_file(cluster, name, "JOB"), Path.cwd())
    if parsed.dry_run:
        print(*filter(None, (script, worker)), sep="\n", end="")
        return 0
    number = submit.submit(cluster, name, script, worker)
    print(capacity.describe(fits))
    print(f"submitted job {number}; watch it: {submit.watching(cluster, name, number)}")
    return 0


def array(parsed: argparse.Namespace) -> int:
    """Submit an array: a job for each trial."""
    return _submit_without_ray(parsed, *_evaluation(parsed))


def serial(parsed: argparse.Namespace) -> int:
    """Submit one job that trains one trial after the other."""
    return _submit_without_ray(parsed, "sequential", 0, [])


def _submit_without_ray(parsed: argparse.Namespace, evaluation: Evaluation, at_once: int, own: Sequence[str]) -> int:
    """Submit a study without Ray.

    Args:
        parsed: the command.
        evaluation: sequential, batch or asynchronous.
        at_once: most trials at a time, 0 for no limit.
        own: the options that say so.
    """
    import shlex

    from slurm import arrays, profile, scheduler, submit

    file = Path(parsed.cluster)
    cluster = profile.load(file)
    study = request.study_of(parse(["run", parsed.what, *parsed.options], parsed.parser))
    arrays.require_whole_gpus(study.benchmark)
    arrays.require_one_node(cluster, study.benchmark.ranks_per_trial)
    check_start(study.benchmark)
    words = ["python", "-m", "hpo", *parsed.command.verb.split(), parsed.what]
    command = shlex.join([*words, "--cluster", str(file), *own, *parsed.options])
    submitted = arrays.prepare(study, evaluation, cluster, at_once, command)
    name, limit = submit.job_name(cluster, ["run", study.method]), scheduler.max_array_size()
    if parsed.dry_run:
        folder = Path(cluster.logs) / f"{name}-STUDY"
        for submission in arrays.submissions(cluster, file, name, folder, submitted, range(submitted.trials), limit):
            print(shlex.join(["sbatch", *submission.options]), submission.script, sep="\n")
        return 0
    if not os.environ.get("MLFLOW_TRACKING_URI"):  # a warm start reads the results of earlier studies
        os.environ["MLFLOW_TRACKING_URI"] = cluster.tracking_uri
    with arrays.new_folder(cluster, name, submitted) as folder:
        wanted = arrays.submissions(cluster, file, name, folder, submitted, range(submitted.trials), limit)
        if submitted.trials > limit and evaluation != "sequential":
            print(f"MaxArraySize is {limit} here, and an array's numbers are below it: {len(wanted) - 1} arrays")
        return _say_submitted(folder, arrays.submit(folder, name, wanted))


def _evaluation(parsed: argparse.Namespace) -> tuple[Evaluation, int, list[str]]:
    """Read from an array's options its evaluation, the most tasks at a time, and the options that say so."""
    if parsed.at_once < 0 or parsed.batch < 0 or (parsed.at_once and parsed.batch):
        raise BenchmarkError(
            f"at-once is {parsed.at_once} and batch is {parsed.batch}, "
            "but one of them may be given, as a number of tasks"
        )
    if parsed.batch:
        return "batch", parsed.batch, ["--batch", str(parsed.batch)]
    return "asynchronous", parsed.at_once, ["--at-once", str(parsed.at_once)] if parsed.at_once else []


def resume(parsed: argparse.Namespace) -> int:
    """Train the trials of a study that have no result yet."""
    from slurm import arrays, gather, profile, scheduler, study_folder, submit

    file, folder = Path(parsed.cluster), Path(parsed.study).resolve()
    cluster, submitted = profile.load(file), study_folder.SubmittedStudy.read(folder)
    done = study_folder.finished(folder)
    os.environ["MLFLOW_TRACKING_URI"] = cluster.tracking_uri
    missing = [trial for trial in range(submitted.trials) if trial not in done]
    if not missing:
        raise BenchmarkError(f"{folder}: all {submitted.trials} trials have a result; to store them: slurm collect")
    if gather.is_gathered(folder):
        raise BenchmarkError(f"{folder}: is in the store already, without {len(missing)} trials")
    if running := scheduler.unfinished(study_folder.jobs_of(folder)):
        raise BenchmarkError(f"{folder}: jobs {', '.join(running)} still work on it; see squeue")
    check_start(submitted.study.benchmark)
    name = submit.job_name(cluster, ["run", submitted.study.method])
    wanted = arrays.submissions(cluster, file, name, folder, submitted, missing, scheduler.max_array_size())
    return _say_submitted(folder, arrays.submit(folder, name, wanted))


def _say_submitted(folder: Path, jobs: Sequence[str]) -> int:
    print(f"submitted job{'s' * (len(jobs) > 1)} {', '.join(jobs)}; the study is in {folder}")
    return 0


def task(parsed: argparse.Namespace) -> int:
    """Run a task of an array."""
    from slurm.jobs import trial_job

    return trial_job.task(Path(parsed.study), trial_job.trial_of_task(os.environ))


def serial_job(parsed: argparse.Namespace) -> int:
    """Run a serial job."""
    from slurm import profile
    from slurm.jobs import trial_job

    file = Path(parsed.cluster)
    return trial_job.serial(Path(parsed.study), profile.load(file), file)


def gather_job(parsed: argparse.Namespace) -> int:
    """Run the last job of an array."""
    from slurm import gather, profile
    from slurm.processes import Stamps, job_id

    file = Path(parsed.cluster)
    with Stamps(f"job {job_id()} (gathers {Path(parsed.study).name})") as stamps:
        stamps.status = gather.gather_into_store(Path(parsed.study), profile.load(file), file)
    return stamps.status


def check_start(benchmark: Benchmark) -> None:
    """Check model and data here with the libraries of ranks, before a job waits in the queue to fail.

    Raises:
        BenchmarkError: they cannot be used.
    """
    from benchmarks.check.start import check_start

    if importlib.util.find_spec("torch") is None:
        errors.warn("torch is not installed here: the model's tokenizer and architecture are checked by the job")
        return
    for warning in check_start(benchmark):
        errors.warn(warning)


def _check(command: Sequence[str], parser: argparse.ArgumentParser | None = None) -> Benchmark:
    """Check the driver's command as it will be checked in the job; returns its benchmark.

    Args:
        command: arguments of `python -m hpo`.
        parser: of the verb that was given them, whose options are named too where one is unknown.

    Raises:
        BenchmarkError: an unknown method or option, or a value that does not hold.
    """
    from hpo.engine import study_folder
    from hpo.planning import contest

    parsed = parse(command, parser)
    if command[0] not in ("run", *VERBS_TO_SUBMIT):
        raise BenchmarkError(f"a job does not run {command[0]!r}, but run, {', '.join(VERBS_TO_SUBMIT)}")
    if command[0] == "run":
        return request.study_of(parsed).benchmark
    if command[0] == "resume":
        return study_folder.Unfinished(parsed.run_id).asked().study.benchmark
    if command[0] == "suite":
        contest.parse_methods(parsed.methods, parsed.budget)
        contest.parse_seeds(parsed.seeds)
    return request.load_benchmark(parsed.benchmark, getattr(parsed, "space", ""))


def capacity(parsed: argparse.Namespace) -> int:
    """Print both inequalities of a cluster and a benchmark."""
    from benchmarks import spec
    from slurm import capacity, profile

    cluster, benchmark = profile.load(Path(parsed.cluster)), spec.load(parsed.benchmark)
    fits = capacity.of(cluster, benchmark.ranks_per_trial, benchmark.trials_per_gpu)
    print(capacity.describe(fits))
    return 0 if fits.trials else 1


def doctor(parsed: argparse.Namespace) -> int:
    """Compare the login node with a compute node."""
    from rich.table import Table

    from slurm import doctor, profile

    rows = doctor.compare_nodes(profile.load(Path(parsed.cluster)))
    table = Table("", "", "here", "on the compute node", box=None, header_style="bold")
    for row in rows:
        table.add_row(row.verdict, row.name, row.here, row.there if row.there != row.here else "the same")
    open_console().print(table)
    lacks = [row.name for row in rows if row.verdict == "LACKS"]
    print(f"a study would not run there as here: {', '.join(lacks)}" if lacks else "a study would run there as here")
    if "sbatch" in lacks:
        print("jobs may not submit jobs there: set `layout: one_job` in the profile")
    return 1 if lacks else 0


def doctor_job(parsed: argparse.Namespace) -> int:
    """Run the job that describes its node."""
    from slurm import doctor

    doctor.answer(Path(parsed.mark))
    return 0


def collect(parsed: argparse.Namespace) -> int:
    """Tell the store all that jobs could not tell it, because they were killed or could not reach it."""
    from hpo.engine import study_folder as unfinished
    from hpo.store import client
    from slurm import profile, stores, study_folder

    file = Path(parsed.cluster)
    cluster = profile.load(file)
    gathers = {
        path.parent.name: partial(_gather, path.parent, cluster, file, parsed.incomplete)
        for path in sorted(Path(cluster.logs).glob(f"*/{study_folder.STUDY}"))
    }
    delivers = {f"study {one.run_id}": partial(stores.deliver, one) for one in unfinished.found()}
    status = 0
    with stores.opened(cluster):
        for name, add in {**gathers, **delivers}.items():
            try:
                print(f"{name}: {add()}")
            except BenchmarkError as error:  # one that cannot be added keeps no other from it
                errors.show(f"{name}: {error}")
                status = 1
    print(f"the store is {client.shown(cluster.store)}")
    return status


def _gather(folder: Path, cluster: Profile, file: Path, incomplete: bool) -> str:
    """Gather a study without Ray; return the result in a few words."""
    from slurm import gather, scheduler, study_folder

    if running := scheduler.unfinished(study_folder.jobs_of(folder)):
        return f"left to job {', '.join(running)}, which has not ended"
    if gather.is_gathered(folder):
        return "is there"
    gather.gather_into_store(folder, cluster, file, incomplete)
    return "added"


def head(parsed: argparse.Namespace) -> int:
    """Run the head job."""
    from hpo.cluster import access
    from slurm import profile
    from slurm.jobs import head_job

    token = access.new_token()
    os.environ |= access.authentication(token)  # Ray looks once, when it is imported, as checking a study does
    if parsed.from_environment:
        return head_job.run_head_job(_head_job_from_environment(os.environ), token)
    words = parsed.words[parsed.words[:1] == ["--"] :]
    return head_job.run_head_job(_head_job(profile.load(Path(parsed.cluster)), parsed.cluster, words), token)


def _head_job(cluster: Profile, file: str, command: Sequence[str]) -> HeadJob:
    """Return the work of a head job."""
    from slurm import capacity, submit
    from slurm.jobs import head_job

    benchmark, name = _check(command), submit.job_name(cluster, command)
    fits = capacity.of(cluster, benchmark.ranks_per_trial, benchmark.trials_per_gpu)
    return head_job.HeadJob(cluster, file, name, tuple(command), Path.cwd(), fits)


def _head_job_from_environment(given: Mapping[str, str]) -> HeadJob:
    """Read the command of `sbatch slurm/head_node.slurm`; a search space of its own lies beside the logs."""
    from benchmarks import spec
    from slurm import processes, profile
    from slurm.jobs import environment

    cluster = profile.load(Path(environment.value("CLUSTER", given)))
    cluster = cluster.with_workers(environment.workers(given, cluster.workers.count))
    content, file = environment.space(given, spec.load(environment.value("BENCHMARK", given))), ""
    if content:
        path = Path(cluster.logs) / f"space-{processes.job_id()}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml_text(content))
        file = str(path)
    return _head_job(cluster, environment.value("CLUSTER", given), environment.command(given, file))


def worker(parsed: argparse.Namespace) -> int:
    """Run a worker job."""
    from slurm.jobs import worker

    return worker.run_worker_job(Path(parsed.connection), parsed.cpus, parsed.gpus)
