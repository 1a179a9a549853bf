"""Commands that confirm and compare studies, and export the winner; see `hpo.app.commands`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.spec import BenchmarkError
from hpo.app.commands import end_undelivered
from hpo.app.request import command_line, load_benchmark, name_of
from hpo.terminal import errors, next_steps
from hpo.terminal.console import open_console, print_line

if TYPE_CHECKING:
    from rich.console import Console

    from hpo.analysis.compare import Result
    from hpo.report.figures.importance import ImportanceShares


def compare(parsed: argparse.Namespace) -> int:
    """Compare the methods of a benchmark, as tables, files and a report."""
    from hpo.analysis import compare, pareto
    from hpo.analysis.conditions import planned
    from hpo.analysis.replayed import records
    from hpo.analysis.studies import trials_of
    from hpo.report import page, tables
    from hpo.store import runs
    from hpo.terminal import files as output

    budget, mixed, limits = parsed.budget, parsed.mixed_budgets, (parsed.max_gpu_hours, parsed.max_memory_mb)
    stored, console = records.read(name_of(parsed.benchmark), parsed.benchmark), open_console()
    plan = planned.read_plan(Path(parsed.plan)) if parsed.plan else None
    result = compare.compare(stored, budget=budget, mixed_budgets=mixed, reference=parsed.reference, plan=plan)
    tables.print_all(console, result)
    drawn = result, *_importance(console, result)
    if any(limit is not None for limit in limits):
        trials = trials_of(result.studies, result.benchmark)
        tables.print_best_within(console, pareto.best_within(trials, result.benchmark, *limits))
    files = {**tables.files(result), **page.files(*drawn)}
    folder = output.write(Path(parsed.output), files)
    print_line(console, f"written to {folder}: {', '.join(files)}")
    tags, smaller = {"hpo.benchmark_digest": result.digest}, {page.REPORT: page.smaller(*drawn)}
    if result.evidence:  # a look at the verdicts, which the next one counts
        tags |= {"hpo.evidence": result.evidence, "hpo.plan": result.plan.plan.checksum if result.plan.plan else ""}
    try:
        lacking = runs.store_files(result.benchmark.name, "comparison", files, tags, smaller)
    except BenchmarkError as error:  # such as another user's experiment, which one may only read
        print_line(console, f"note: MLflow lacks the comparison, the folder has all of it: {error}")
    else:
        if lacking:
            print_line(console, f"note: MLflow lacks a part of it, the folder has all: {lacking}")
    if result.replay:  # no trial of it was trained
        return 0
    print_line(console, f"export the winner: {next_steps.command('export', benchmark=parsed.benchmark)}")
    return 0


def _importance(console: Console, result: Result) -> tuple[ImportanceShares | str | None, list[str]]:
    """Print the importance of hyperparameters; return it as the report takes it. A replay keeps no trials for it."""
    from hpo.analysis import importance
    from hpo.report import tables

    if result.replay:
        return None, []
    found = importance.importances(result.studies, result.benchmark)
    tables.print_importance(console, found)
    return tables.importance_shares(found), tables.importance_notes(found)


def confirm(parsed: argparse.Namespace) -> int:
    """Train the studies' incumbents again and score them on test."""
    from hpo.analysis import compare, records
    from hpo.report import tables
    from hpo.workflows import confirm, doctor

    doctor.require()
    benchmark, console = load_benchmark(parsed.benchmark), open_console()
    stored = records.read(benchmark.name, parsed.benchmark)
    confirm.require_same(benchmark, stored)
    labels = [] if parsed.methods == "all" else [word.strip() for word in parsed.methods.split(",")]
    due = confirm.due(stored, labels, parsed.repeats, parsed.along)
    console.print(f"{len(due)} trainings are due", highlight=False)
    reason = ""
    if due:
        finished = confirm.train_again(benchmark, due, parsed.gpu_hours, command_line(parsed), console)
        if not finished.is_delivered:
            return end_undelivered(console, finished)
        reason = finished.reason
        stored = records.read(benchmark.name, parsed.benchmark)
    tables.print_shrinkage(console, compare.compare(stored, mixed_budgets=True))
    print_line(console, f"compare the methods: {next_steps.command('compare', benchmark=parsed.benchmark)}")
    if reason:
        errors.show(f"not all trainings reached their end ({reason}); run it again for the rest")
    return 1 if reason else 0


def export(parsed: argparse.Namespace) -> int:
    """Write the winning configuration as files for a Trainer script."""
    from hpo.report import model_card
    from hpo.workflows import export

    console, folder = open_console(), Path(parsed.output)
    done = export.export(name_of(parsed.benchmark), parsed.method, folder, parsed.benchmark, parsed.budget)
    chosen = done.choice
    sure = "confirmed on test" if done.is_confirmed else "not confirmed"
    print_line(console, f"{chosen.contestant.name}, study with seed {chosen.study.seed}, {sure}")
    for sentence in model_card.choice_in_words(chosen):
        print_line(console, sentence)
    print_line(console, f"written to {folder}: {', '.join(done.files)}")
    if not done.is_complete:
        print_line(console, f"note: the precision of its trials is not known, see {model_card.CARD_FILE}")
    if model_card.ARGUMENTS_FILE in done.files:  # of a benchmark that trains a model
        line = next_steps.command("train", config=folder, benchmark=parsed.benchmark)
        print_line(console, f"train it in full: {line}")
    return 0
