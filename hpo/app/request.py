"""Read the words of a command: texts become a study, a benchmark, numbers. Refuses before anything is spent."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import spec
from benchmarks.check import check
from benchmarks.files import whole_number
from benchmarks.spec import Benchmark, BenchmarkError
from hpo.search import registry

if TYPE_CHECKING:
    from hpo.core.study import Study


def load_benchmark(name: str, space: str = "") -> Benchmark:
    """The benchmark that was asked for, its files checked."""
    benchmark = spec.load(name, Path(space) if space else None)
    check(benchmark)
    return benchmark


def study_of(parsed: argparse.Namespace) -> Study:
    """The study that `run` is asked for, checked as far as it can be before anything starts.

    Raises:
        BenchmarkError: a value that does not hold, or a file that is not there.
    """
    benchmark, gpu_hours = load_benchmark(parsed.benchmark, parsed.space), optional_float("gpu_hours", parsed.gpu_hours)
    return registry.get(parsed.method).study(benchmark, parsed.seed, parsed.budget, gpu_hours, method_arguments(parsed))


def method_arguments(parsed: argparse.Namespace) -> dict[str, str]:
    """The method's own arguments."""
    return {key.removeprefix("method."): value for key, value in vars(parsed).items() if key.startswith("method.")}


def optional_float(name: str, text: str) -> float | None:
    """The number in a text, None where it is empty.

    Raises:
        BenchmarkError: it is no number.
    """
    if not text:
        return None
    try:
        return float(text)
    except ValueError:
        raise BenchmarkError(f"{name} is {text!r}, but must be a number") from None


def optional_int(name: str, text: str) -> int | None:
    """The whole number in a text, None where it is empty.

    Raises:
        BenchmarkError: it is no whole number.
    """
    if not text:
        return None
    number = whole_number(text)
    if number is None:
        raise BenchmarkError(f"{name} is {text!r}, but must be a whole number")
    return number


def command_line(verb: str, parsed: argparse.Namespace, names: Sequence[str], **given: Any) -> str:
    """The command that was given, for the record."""
    words = ["python", "-m", "hpo", *verb.split()]
    for name, value in {**{name: getattr(parsed, name) for name in names}, **given}.items():
        if value != "":
            words += [f"--{name.replace('_', '-')}", str(value)]
    return shlex.join(words)


def whole_numbers(name: str, text: str) -> list[int]:
    """Of a comma list."""
    numbers = [whole_number(word.strip()) for word in text.split(",")]
    if None in numbers:
        raise BenchmarkError(f"{name} is {text!r}, but must be whole numbers with commas between them, such as 1,2")
    return [number for number in numbers if number is not None]


def name_of(benchmark: str) -> str:
    """The name of a benchmark, which may be given as a file."""
    return spec.load(benchmark).name if Path(benchmark).suffix in (".yaml", ".yml") else benchmark
