"""Commands that confirm and compare studies, and export the winner; see `hpo.app.commands`."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
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
    from hpo.analysis.forest import Grow
    from hpo.report.figures.plots import Figure, LeftOut

SEVERAL = "several benchmarks"
"""MLflow experiment of comparisons over several benchmarks."""


def compare(parsed: argparse.Namespace) -> int:
    """Compare the methods of a benchmark or of several, as tables, files and a report."""
    given = list(dict.fromkeys(parsed.benchmark))
    if given == ["all"] or len(given) > 1:
        return _compare_tasks(parsed, given)
    if not given:
        raise BenchmarkError("benchmark is empty, but must be a name or a YAML file, or all (--benchmark)")
    from hpo.app.second_process import growing_forests

    with growing_forests() as grow:
        return _compare_one(parsed, given[0], grow)


def _compare_one(parsed: argparse.Namespace, given: str, grow: Grow) -> int:
    from hpo.analysis import compare, pareto
    from hpo.analysis.conditions import planned
    from hpo.analysis.replayed import records
    from hpo.analysis.studies import trials_of
    from hpo.report import page, tables

    budget, mixed, limits = parsed.budget, parsed.mixed_budgets, (parsed.max_gpu_hours, parsed.max_memory_mb)
    stored, console = records.read(name_of(given), given), open_console()
    plan = planned.read_plan(Path(parsed.plan)) if parsed.plan else None
    result = compare.compare(stored, budget=budget, mixed_budgets=mixed, reference=parsed.reference, plan=plan)
    figures = _show(console, result, grow)
    if any(limit is not None for limit in limits):
        trials = trials_of(result.studies, result.benchmark)
        tables.print_best_within(console, pareto.best_within(trials, result.benchmark, *limits))
    tags = {"hpo.benchmark": result.benchmark.name, "hpo.benchmark_digest": result.digest, **result.look}
    smaller = {page.REPORT: page.smaller(result, figures)}
    files = {**tables.files(result), **page.files(result, figures)}
    _deliver(console, Path(parsed.output), result.benchmark.name, files, tags, smaller)
    if not result.replay:  # whose trials were trained
        print_line(console, f"export the winner: {next_steps.command('export', benchmark=given)}")
    return 0


def _show(console: Console, result: Result, grow: Grow) -> list[Figure | LeftOut]:
    """Print a comparison and the importance of hyperparameters; return the figures, drawn while the forests grow."""
    from hpo.analysis import importance
    from hpo.report import tables
    from hpo.report.figures import catalogue

    if result.replay:  # it keeps no trials for the importance
        tables.print_all(console, result)
        return catalogue.all_of(result)
    with ThreadPoolExecutor(1) as beside:
        growing = beside.submit(importance.importances, result.studies, result.benchmark, grow=grow)
        tables.print_all(console, result)
        figures = catalogue.all_of(result)
        found = growing.result()
    tables.print_importance(console, found)
    return catalogue.with_importance(figures, tables.importance_shares(found), tables.importance_notes(found))


def _compare_tasks(parsed: argparse.Namespace, given: list[str]) -> int:
    """Compare over several benchmarks; options of a single one are refused."""
    from hpo.analysis.across import comparison, task_scores
    from hpo.report.across import page, tables

    of_one = ("plan", "max_gpu_hours", "max_memory_mb")
    if unused := [
        option.flag for option in parsed.command.options if option.name in of_one and parsed.texts[option.name]
    ]:
        raise BenchmarkError(
            f"{', '.join(unused)} is for one benchmark, but {', '.join(given)} are several; leave it out"
        )
    names = {} if given == [task_scores.ALL] else {name_of(one): one for one in given}
    tasks, left_out = task_scores.read_tasks(names, parsed.budget, parsed.mixed_budgets)
    found = comparison.compare_tasks(tasks, left_out, parsed.reference, parsed.mixed_budgets)
    console = open_console()
    tables.print_tasks(console, found)
    tags = {"hpo.benchmarks": ",".join(task.name for task in found.tasks)}
    files = {**tables.files(found), **page.files(found)}
    _deliver(console, Path(parsed.output), SEVERAL, files, tags, {page.REPORT: page.smaller(found)})
    return 0


def _deliver(
    console: Console,
    folder: Path,
    experiment: str,
    files: Mapping[str, str],
    tags: Mapping[str, str],
    smaller: Mapping[str, Iterable[str]],
) -> None:
    """Write a comparison's files into a folder, and store them in MLflow as far as it takes them."""
    from hpo.store import runs
    from hpo.terminal import files as output

    print_line(console, f"written to {output.write(folder, files)}: {', '.join(files)}")
    try:
        lacking = runs.store_files(experiment, "comparison", files, tags, smaller)
    except BenchmarkError as error:  # such as another user's experiment, which one may only read
        print_line(console, f"note: MLflow lacks the comparison, the folder has all of it: {error}")
    else:
        if lacking:
            print_line(console, f"note: MLflow lacks a part of it, the folder has all: {lacking}")


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
