"""The whole course of a study's folder under HyperQueue: trained, stored, its end printed, the next command named."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.spec import BenchmarkError
from hpo.core.wording import counted
from hpo.store import client
from hpo.store.files import trials_csv
from hpo.terminal import errors, next_steps
from hpo.terminal.console import open_console, print_line
from hpo.terminal.tables import cost_table
from slurm import gather, study_folder
from slurm.gather import Gathered
from slurm.hq import study
from slurm.processes import Signals
from slurm.study_folder import SubmittedStudy

MOST_ROWS = 5
"""Failed trials that are named; the table has them all."""


def train_and_store(folder: Path, workers: int, per_task: int) -> int:
    """Train the trials of a study that have no result, store it, and print its end; return the exit status.

    Args:
        folder: the study's.
        workers: trials at once.
        per_task: trials that a task trains, one after the other.

    Raises:
        BenchmarkError: trials have no result, or the store cannot be used; the message has the command that resumes.
    """
    submitted, reason = SubmittedStudy.read(folder), ""
    left = submitted.trials - len(study_folder.finished(folder))
    if left:
        with Signals() as signals:
            try:
                left = study.train(folder, workers, per_task, signals)
            except KeyboardInterrupt:
                reason = "interrupted: "
        reason = f"{signals.reason}: " if signals.received else reason
    again = study.resume_command(folder)
    if left:
        raise BenchmarkError(
            f"{reason}{left} of {submitted.trials} trials have no result; the others are kept, and this trains the "
            f"missing ones: {again}"
        )
    try:
        client.make()
        found = gather.gather(folder)
    except BenchmarkError as error:
        raise BenchmarkError(f"{error}; nothing is lost, and this stores the study: {again}") from None
    _print_end(folder, submitted, found)
    return 1 if found.reason else 0


def _print_end(folder: Path, submitted: SubmittedStudy, found: Gathered) -> None:
    """Print cost, failures and best trial; thousands of rows go into a table beside the folder."""
    console, benchmark, rows = open_console(), submitted.study.benchmark, found.results.rows
    table = folder.with_suffix(".csv")
    table.write_text(trials_csv(benchmark, rows))
    console.print(cost_table(found.shares, found.accelerator))
    print_line(console, f"train + evaluate: {found.shares.utilization:.1%} of the reserved device time")
    failed = [row for row in rows if row.outcome == "failed"]
    for row in failed[:MOST_ROWS]:
        print_line(console, f"trial {row.number} failed: {row.reason}")
    if found.best is not None:
        print_line(console, f"best trial:\n{json.dumps(found.best, indent=2)}")
    print_line(console, f"{counted(len(rows), 'trial')} in {table}, {len(failed)} of them failed")
    if found.reason:
        errors.show_nothing_found(found.reason)
        return
    given = next_steps.given_benchmark(submitted.command, benchmark.name)
    print_line(console, f"compare: {next_steps.command('compare', benchmark=given)}")
