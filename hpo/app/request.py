"""Turn a parsed command into the study or benchmark that it asks for. Refuses before anything is spent."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import spec
from benchmarks.check import check
from benchmarks.spec import Benchmark
from hpo.search import registry
from hpo.terminal import errors
from hpo.terminal.next_steps import spell

if TYPE_CHECKING:
    from hpo.core.study import Study


def load_benchmark(name: str, space: str = "") -> Benchmark:
    """Load a benchmark, check the files that it names, and print warnings about its data and its default.

    Args:
        name: of the benchmark, or the path of its YAML file.
        space: path of a YAML file that replaces its search space; empty for none.

    Raises:
        BenchmarkError: a file that is not there or cannot be used.
    """
    benchmark = spec.load(name, Path(space) if space else None)
    for warning in check(benchmark):
        errors.warn(warning)
    if outside := benchmark.default_outside_space():
        errors.warn(f"{outside}; no search begins with the default")
    return benchmark


def study_of(parsed: argparse.Namespace) -> Study:
    """Make the study that `run` is asked for, checked as far as it can be before anything starts.

    Raises:
        BenchmarkError: a value that does not hold, or a file that is not there.
    """
    benchmark, method = load_benchmark(parsed.benchmark, parsed.space), registry.get(parsed.method)
    study = method.study(benchmark, parsed.seed, parsed.budget, parsed.gpu_hours, parsed.given)
    if not parsed.plan:
        return study
    from hpo.analysis.conditions.planned import read_plan
    from hpo.planning.contest import require_planned

    plan = read_plan(Path(parsed.plan))
    require_planned(plan, study, parsed.plan)
    return replace(study, plan=plan.text)


def differs_from_default(parsed: argparse.Namespace, names: Iterable[str]) -> dict[str, bool]:
    """Tell for options whether the user gave them another value than their default."""
    return {
        option.name: parsed.texts[option.name] != option.default
        for option in parsed.command.options
        if option.name in names
    }


def command_line(parsed: argparse.Namespace) -> str:
    """Write the command that was given, for the record, without options that were not given and have no default."""
    words, options = ["python", "-m", "hpo", *parsed.command.verb.split()], {}
    for option in parsed.command.options:
        text = parsed.texts[option.name]
        if option.is_positional:
            words.append(text)
        elif text and option.kind != "flag":
            options[option.name] = text
    return spell(words, {**options, **parsed.given})


def name_of(benchmark: str) -> str:
    """Return the name of a benchmark, which may be given as a file.

    Raises:
        BenchmarkError: the file cannot be used.
    """
    return spec.load(benchmark).name if Path(benchmark).suffix in spec.SUFFIXES else benchmark
