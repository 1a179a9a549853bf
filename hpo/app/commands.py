"""Each command of the command line: joins the parts, prints, and returns the exit status; no logic of its own.

Parts are imported where they are used: a comparison needs no Ray, and `--help` needs nothing.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from benchmarks import spec
from benchmarks.check import check
from benchmarks.spec import BenchmarkError
from hpo.app.request import command_line, differs_from_default, load_benchmark, study_of
from hpo.search import registry
from hpo.terminal import errors, next_steps
from hpo.terminal.console import open_console, print_line

if TYPE_CHECKING:
    from hpo.cluster.devices import Placement
    from hpo.cluster.ray import EarlyRay
    from hpo.core.study import Study
    from hpo.engine.runner import Finished
    from hpo.engine.study_folder import Unfinished
    from hpo.search.plan import Plan

STEP_WIDTH = 24
"""Columns of a next step's title."""


def suite(parsed: argparse.Namespace) -> int:
    """Run several methods with several seeds."""
    from hpo.analysis.records import finished
    from hpo.planning import contest
    from hpo.workflows import doctor, suite

    doctor.require()
    options = contest.SuiteOptions(
        parsed.methods, parsed.seeds, parsed.budget, parsed.gpu_hours, parsed.reference, parsed.looks
    )
    contest.parse_methods(parsed.methods, parsed.budget)  # refused before files are read
    contest.parse_seeds(parsed.seeds)
    benchmark, console = load_benchmark(parsed.benchmark, parsed.space), open_console()
    plan = contest.settle(parsed.plan, options, differs_from_default(parsed, vars(options)), benchmark)
    print_line(console, f"plan {plan.checksum}: {plan.words}")
    print_line(console, contest.explain_blocks(plan, finished(benchmark.name)))
    given_as = contest.GivenBenchmark(benchmark, parsed.benchmark, parsed.space)
    outcome = suite.run_suite(
        contest.methods_of(plan), given_as, plan.seeds, plan.gpu_hours, parsed.force, console, plan=plan.text
    )
    console.print(suite.summary(outcome))
    _print_next(console, benchmark.name, parsed.benchmark, parsed.budget, outcome.is_sound)
    for study, reason in outcome.failures:
        errors.show(f"{study.name} did not reach its end ({reason})")
    return 1 if outcome.failures else 0


def run(parsed: argparse.Namespace) -> int:
    """Run one study."""
    from hpo.workflows import doctor

    doctor.require()
    method, study, console = registry.get(parsed.method), study_of(parsed), open_console()
    if interrupted := _interrupted_in_this_job(study):
        from hpo.engine import runner

        print_line(console, f"this job was queued again; it goes on with study {interrupted}")
        return _end(console, study, parsed.benchmark, runner.resume(interrupted, console))
    plan = method.make_plan(study)
    with _ray_in_background(parsed, study, plan) as (early, placement):
        from hpo.engine import runner  # MLflow, beside the start of Ray

        executor = runner.OnRay(early=early) if early else None
        finished = runner.run(study, command_line(parsed), console, executor, plan, placement)
    return _end(console, study, parsed.benchmark, finished)


@contextmanager
def _ray_in_background(
    parsed: argparse.Namespace, study: Study, plan: Plan
) -> Iterator[tuple[EarlyRay | None, Placement | None]]:
    """Start a Ray while the driver imports the rest, in a process that runs this command alone; None elsewhere."""
    if not parsed.is_process or os.environ.get("RAY_ADDRESS"):
        yield None, None
        return
    from hpo.cluster.devices import place
    from hpo.cluster.ray import EarlyRay, detect
    from hpo.cluster.room import require_room_for

    placement = place(study.benchmark, detect(), plan.concurrency)  # refused before anything starts
    if not study.benchmark.trial.trains_model or Path(study.benchmark.training_settings().model).is_absolute():
        require_room_for(placement, study.method, plan.paused)  # a model on the hub takes libraries, and comes later
    early = EarlyRay(placement.devices)
    try:
        yield early, placement
    finally:
        early.close()


def _interrupted_in_this_job(study: Study) -> str | None:
    """Find the run of the same study that this SLURM job began before it was queued again, or None."""
    if not os.environ.get("SLURM_RESTART_COUNT"):
        return None
    from benchmarks.identity import digest
    from hpo.engine import study_folder

    return study_folder.like(
        study.fingerprint(digest(study.benchmark)), study_folder.of_job(os.environ["SLURM_JOB_ID"])
    )


def resume(parsed: argparse.Namespace) -> int:
    """Resume a study that was interrupted; without an id, list the studies that can be resumed."""
    from hpo.engine import study_folder

    if not parsed.run_id:
        return _list_unfinished(study_folder.found())
    asked = study_folder.Unfinished(parsed.run_id).asked()
    given = next_steps.given_benchmark(asked.command, asked.study.benchmark.name)
    if asked.study.kind != "study":
        raise BenchmarkError(
            f"{parsed.run_id} is a confirmation: run `{next_steps.command('confirm', benchmark=given)}` again, which "
            f"trains the missing ones; `{next_steps.command('sync')}` stores the trainings of this one"
        )
    from hpo.workflows import doctor

    doctor.require()
    check(asked.study.benchmark)
    from hpo.engine import runner
    from hpo.store import client

    console = open_console()
    finished = runner.resume(parsed.run_id, console)
    is_there = finished.is_delivered
    with client.choosing_that_of(parsed.run_id, asked.study.benchmark.name) if is_there else nullcontext():
        return _end(console, asked.study, given, finished)


def _list_unfinished(studies: Sequence[Unfinished]) -> int:
    console = open_console()
    if not studies:
        print_line(console, "no study here is unfinished")
    for one in studies:
        try:
            study = one.asked().study
        except BenchmarkError as error:
            print_line(console, str(error))
            continue
        verb = ("resume", one.run_id) if study.kind == "study" else ("sync",)
        how = "is running" if one.is_running else next_steps.command(*verb)
        print_line(console, f"{study.name} on {study.benchmark.name}: {how}")
    return 0


def sync(parsed: argparse.Namespace) -> int:
    """Deliver the missing results of unfinished studies to the store."""
    from hpo.engine import study_folder
    from hpo.workflows.sync import deliver

    console, status = open_console(), 0
    studies = [study_folder.Unfinished(parsed.run_id)] if parsed.run_id else study_folder.found()
    if not studies:
        print_line(console, "no study here has anything to deliver")
    for one in studies:
        if one.is_running:
            print_line(console, f"{one.run_id}: is running, and delivers by itself")
            continue
        try:
            print_line(console, f"{one.run_id}: {deliver(one)}")
        except BenchmarkError as error:  # the next one may lie in another store
            errors.show(f"{one.run_id}: {error}")
            status = 1
    return status


def _end(console: Console, study: Study, benchmark: str, finished: Finished) -> int:
    """Print the last lines of a study; return the exit status.

    Args:
        console: where to print.
        study: the study.
        benchmark: its benchmark as it was asked for, by name or as a file.
        finished: its outcome.
    """
    if finished.is_kept:
        _print_step(console, "resume it", next_steps.command("resume", finished.run_id))
    if not finished.is_delivered:
        return end_undelivered(console, finished)
    _print_next(console, study.benchmark.name, benchmark, study.budget, is_sound=finished.best is not None)
    if finished.best is None and not finished.is_kept and finished.reason:
        errors.show_nothing_found(finished.reason)
    elif not finished.reached_end:
        outcome = "its results are shown above, and stored as far as possible"
        errors.show(f"the study did not reach its end ({finished.reason}); {outcome}")
    return 0 if finished.reached_end else 1


def end_undelivered(console: Console, finished: Finished) -> int:
    """Print the last lines of a study whose store lacks some results; return the exit status."""
    deliver = next_steps.command("sync")
    _print_step(console, "deliver its results", deliver)
    errors.show(
        f"not all results of this study could be stored ({finished.reason}); they are shown above and kept in "
        f"unfinished/{finished.run_id}; once the store is back, `{deliver}` brings them there"
    )
    return 1


def _print_next(console: Console, experiment: str, benchmark: str, budget: int, is_sound: bool = True) -> None:
    """Print the next commands; studies that found nothing leave nothing to confirm."""
    from hpo.store import client, ui_views

    uri, known = client.shown_uri(), client.experiment_id(experiment)
    first, *others = next_steps.browser_lines(uri, known, ui_views.TRIALS)
    _print_step(console, "open it in the browser", first)
    for line in others:
        _print_step(console, "", line)
    if is_sound:
        _print_step(console, "confirm on test", next_steps.command("confirm", benchmark=benchmark))
        _print_step(console, "compare the methods", next_steps.command("compare", benchmark=benchmark, budget=budget))


def _print_step(console: Console, title: str, line: str) -> None:
    """Print a next step: its purpose, and the command."""
    print_line(console, f"{title + ':' if title else '':<{STEP_WIDTH}}{line}")


def train(parsed: argparse.Namespace) -> int:
    """Train an exported configuration in full; save the model and score it once on test."""
    from hpo.workflows import doctor, train

    doctor.require()
    own = {name: Path(path) for name in spec.SPLITS if (path := getattr(parsed, f"data_{name}"))}
    benchmark = train.with_data(spec.load(parsed.benchmark), **own)
    done = train.train(
        Path(parsed.config),
        benchmark,
        Path(parsed.output),
        open_console(),
        seed=parsed.seed,
        command=command_line(parsed),
    )
    if done.reason:
        errors.show(f"the training did not reach its end ({done.reason})")
    elif done.fault:
        errors.show(f"MLflow lacks a part of this training ({done.fault}); {parsed.output} has all of it")
    return 1 if done.reason or done.fault else 0


def deepspeed(parsed: argparse.Namespace) -> int:
    """Compare one Trainer script with and without DeepSpeed, ZeRO stage by stage."""
    from benchmarks.training.deepspeed import precision_on
    from benchmarks.zero.settings import Machine, Training
    from hpo.cluster import devices
    from hpo.report import deepspeed as zero_report
    from hpo.terminal import files as output
    from hpo.workflows import deepspeed as zero_study
    from hpo.workflows import doctor

    doctor.require()
    names = [field.name for field in dataclasses.fields(Training)]
    training = Training(**{name: getattr(parsed, name) for name in names})
    scales = zero_study.scales(parsed.ranks, parsed.nodes, parsed.scaling)
    wanted, found = zero_study.configurations(parsed.configurations), devices.detect_here()
    devices.require_usable(found)
    os.environ.update(found.variables)  # its ranks are processes of this one
    precision = precision_on(parsed.precision, found.compute_capability, found.gpu_name)
    gpus = found.count if found.gpu_name else 0
    machine = Machine(gpus, found.cpus, precision, parsed.launcher, found.are_slices)
    console, folder = open_console(), Path(parsed.output)
    done = zero_study.run_configurations(
        training,
        wanted,
        scales,
        machine,
        found.accelerator,
        folder / "rows",
        command_line(parsed),
        told=partial(print_line, console),
    )
    console.print(*zero_report.tables(done.lines, f"{training.benchmark} on {found.accelerator}, {precision}"))
    for reason in zero_report.reasons(done.lines):
        print_line(console, reason)
    print_line(console, f"written to {output.write(folder, done.files)}: {', '.join([*done.files, 'rows/'])}")
    if done.reason:
        errors.show(f"the study did not reach its end ({done.reason}); its results are in {folder}")
    return 1 if done.reason or any(line.row.outcome == "failed" for line in done.lines) else 0


def import_(parsed: argparse.Namespace) -> int:
    """Store a study that was run elsewhere, from a CSV file."""
    from hpo.workflows import importing

    benchmark = spec.load(parsed.benchmark, Path(parsed.space) if parsed.space else None)
    done = importing.import_csv(
        Path(parsed.file),
        benchmark,
        parsed.method,
        parsed.seed,
        parsed.accelerator,
        precision=parsed.precision or "",
        wall_seconds=parsed.wall_seconds,
        devices=parsed.devices,
        command=command_line(parsed),
        force=parsed.force,
    )
    console, outcomes = open_console(), ", ".join(f"{number} {name}" for name, number in done.outcomes.items())
    print_line(console, f"{done.name}: {done.num_trials} trials ({outcomes}), {done.device_hours:.4f} device-hours")
    if done.reason:
        errors.show_nothing_found(done.reason)
        return 1
    print_line(console, f"compare the methods: {next_steps.command('compare', benchmark=parsed.benchmark)}")
    return 0


def fetch(parsed: argparse.Namespace) -> int:
    """Download a benchmark's model and data from the hub into a folder."""
    from hpo.workflows import fetch

    places, path = fetch.fetch(spec.load(parsed.benchmark), Path(parsed.output))
    console = open_console()
    print_line(console, "fetched and checked; the folders to put into the benchmark in place of the names:")
    for name, place in places.items():
        print_line(console, f"  {name}: {place}")
    print_line(console, f"{path} has them already; jobs need no hub: export HF_HUB_OFFLINE=1")
    print_line(console, f"try it: {next_steps.command('run', 'random', budget=1, benchmark=path)}")
    return 0
