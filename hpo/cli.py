"""The command line: `python -m hpo ...`, which the MLproject entries call. Parses and joins; no logic.

A user's mistake ends with one paragraph on stderr and exit status 2; a study that did not reach its end with
status 1; otherwise 0.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console

from benchmarks import spec
from benchmarks.check import check
from benchmarks.spec import Benchmark, BenchmarkError

LOG_WIDTH = 160


class _Parser(argparse.ArgumentParser):
    """Errors as one paragraph that names the valid options; no abbreviations."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **settings)

    def error(self, message: str) -> NoReturn:
        raise BenchmarkError(f"{message}; see `{self.prog} --help`")

    def refuse(self, unknown: list[str]) -> NoReturn:
        """Name what is unknown and the options there are."""
        options = sorted(option for action in self._actions for option in action.option_strings if option != "-h")
        self.error(f"unrecognized arguments: {' '.join(unknown)} (options here: {', '.join(options)})")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    try:
        parsed, unknown = make_parser(_wanted_method(arguments)).parse_known_args(arguments)
        if unknown:
            parsed.parser.refuse(unknown)
        status: int = parsed.command(parsed)
        return status
    except BenchmarkError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _wanted_method(arguments: Sequence[str] | None) -> str | None:
    """The method after `run`, if there is one: its module is imported for its options, and no other."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    return words[1] if len(words) > 1 and words[0] == "run" and not words[1].startswith("-") else None


def make_parser(method: str | None = None) -> argparse.ArgumentParser:
    """All commands; `run` with the options of `method` alone.

    Raises:
        BenchmarkError: no such method.
    """
    parser = _Parser(
        prog="python -m hpo", description="Hyperparameter optimisation methods for LLM fine-tuning, compared."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)
    _add_run(commands, method)
    _add_suite(commands)
    _add_compare(commands)
    _add_confirm(commands)
    pages = commands.add_parser("methods", help="list the methods, or print the page of one")
    pages.add_argument("name", nargs="?", help="a method")
    pages.set_defaults(command=_methods, parser=pages)
    for name, command, text in (
        ("benchmarks", _benchmarks, "list the benchmarks"),
        ("doctor", _doctor, "what this machine has and lacks"),
        ("mlproject", _mlproject, "print the MLproject file"),
    ):
        added = commands.add_parser(name, help=text)
        added.set_defaults(command=command, parser=added)
    return parser


def _add_run(commands: Any, method: str | None) -> None:
    parser = commands.add_parser("run", help="run one study: a method on a benchmark")
    parser.set_defaults(command=_run, parser=parser)
    parser.add_argument("method", help="see `python -m hpo methods`")
    parser.add_argument("--benchmark", default="nano", help="name or YAML path (default: nano)")
    parser.add_argument("--budget", type=int, default=12, help="full trainings that may be spent (default: 12)")
    parser.add_argument("--seed", type=int, default=0, help="drives everything random (default: 0)")
    parser.add_argument("--space", default="", help="YAML file that replaces the search space")
    parser.add_argument("--gpu-hours", default="", help="cap in device-hours")
    if method is not None:
        from hpo import methods

        for name, field in methods.get(method).arguments.model_fields.items():
            text = f"{field.description} (default: {field.default})"
            parser.add_argument(
                f"--{name.replace('_', '-')}", default=argparse.SUPPRESS, help=text, dest=f"method.{name}"
            )


def _add_suite(commands: Any) -> None:
    parser = commands.add_parser("suite", help="run several methods with several seeds")
    parser.set_defaults(command=_suite, parser=parser)
    methods_help = "comma list; arguments as asha:searcher=optuna, another budget as random:budget=24 (default: all)"
    parser.add_argument("--methods", default="all", help=methods_help)
    parser.add_argument("--seeds", default="0,1,2", help="comma list (default: 0,1,2)")
    parser.add_argument("--benchmark", default="nano", help="name or YAML path (default: nano)")
    parser.add_argument("--budget", type=int, default=12, help="full trainings of each study (default: 12)")
    parser.add_argument("--space", default="", help="YAML file that replaces the search space")
    parser.add_argument("--gpu-hours", default="", help="cap of each study in device-hours")
    _add_flag(parser, "force", "run again what the store has finished already")


def _add_compare(commands: Any) -> None:
    parser = commands.add_parser("compare", help="the methods of a benchmark side by side, with a report")
    parser.set_defaults(command=_compare, parser=parser)
    parser.add_argument("--benchmark", default="nano", help="name or YAML path (default: nano)")
    parser.add_argument("--budget", default="", help="only studies of this budget (default: the one there is)")
    _add_flag(parser, "mixed-budgets", "compare studies of different budgets, and say so")
    reference_help = "compare the others with this method only, which takes fewer seeds (default: all, every pair)"
    parser.add_argument("--reference", default="all", help=reference_help)
    parser.add_argument("--output", default="results", help="folder for tables and report (default: results)")


def _add_confirm(commands: Any) -> None:
    parser = commands.add_parser("confirm", help="train what studies found again, and score it on the test split")
    parser.set_defaults(command=_confirm, parser=parser)
    parser.add_argument("--benchmark", default="nano", help="name or YAML path (default: nano)")
    parser.add_argument("--methods", default="all", help="comma list (default: all that are stored)")
    parser.add_argument("--repeats", type=int, default=5, help="fresh seeds of each (default: 5)")
    parser.add_argument("--gpu-hours", default="", help="cap in device-hours")


def _add_flag(parser: argparse.ArgumentParser, name: str, text: str) -> None:
    """An option that MLproject entries can give a value."""
    choices = ["true", "false"]
    text = f"true: {text} (default: false)"
    parser.add_argument(f"--{name}", nargs="?", const="true", default="false", choices=choices, help=text)


def _suite(parsed: argparse.Namespace) -> int:
    from hpo import doctor, suite

    doctor.require()
    contestants = suite.parse_methods(parsed.methods, parsed.budget)
    seeds = suite.parse_seeds(parsed.seeds)
    benchmark = _load(parsed.benchmark, parsed.space)
    console, gpu_hours = _console(), _optional_float(parsed.gpu_hours)
    given_as = suite.GivenBenchmark(benchmark, parsed.benchmark, parsed.space)
    outcome = suite.run(contestants, given_as, seeds, gpu_hours, parsed.force == "true", console)
    console.print(suite.summary(outcome))
    _print_next(console, benchmark.name)
    for study, reason in outcome.failures:
        print(f"error: {study.name} did not reach its end ({reason})", file=sys.stderr)
    return 1 if outcome.failures else 0


def _load(name: str, space: str = "") -> Benchmark:
    """The benchmark that was asked for, its files checked."""
    benchmark = spec.load(name, Path(space) if space else None)
    check(benchmark)
    return benchmark


def _run(parsed: argparse.Namespace) -> int:
    from hpo import doctor, methods

    doctor.require()
    methods.get(parsed.method)
    benchmark = _load(parsed.benchmark, parsed.space)
    given = {key.removeprefix("method."): value for key, value in vars(parsed).items() if key.startswith("method.")}
    gpu_hours = _optional_float(parsed.gpu_hours)
    study = methods.get(parsed.method).study(benchmark, parsed.seed, parsed.budget, gpu_hours, given)
    from hpo import runner

    console = _console()
    names = ("benchmark", "budget", "seed", "space", "gpu_hours")
    finished = runner.run(study, _command_line(f"run {parsed.method}", parsed, names, **given), console)
    _print_next(console, benchmark.name)
    if not finished.reached_end:
        outcome = "its results are shown above, and stored as far as possible"
        print(f"error: the study did not reach its end ({finished.reason}); {outcome}", file=sys.stderr)
    return 0 if finished.reached_end else 1


def _optional_float(text: str) -> float | None:
    if not text:
        return None
    try:
        return float(text)
    except ValueError:
        raise BenchmarkError(f"gpu_hours is {text!r}, but must be a number of hours") from None


def _optional_int(name: str, text: str) -> int | None:
    if not text:
        return None
    if not text.isdigit():
        raise BenchmarkError(f"{name} is {text!r}, but must be a whole number")
    return int(text)


def _command_line(verb: str, parsed: argparse.Namespace, names: Sequence[str], **given: Any) -> str:
    """The command that was given, for the record."""
    words = ["python", "-m", "hpo", *verb.split()]
    for name, value in {**{name: getattr(parsed, name) for name in names}, **given}.items():
        if value != "":
            words += [f"--{name.replace('_', '-')}", str(value)]
    return shlex.join(words)


def _print_next(console: Console, benchmark: str) -> None:
    import mlflow

    store, name = shlex.quote(mlflow.get_tracking_uri()), shlex.quote(benchmark)
    _print_line(console, f"open it in the browser: mlflow ui --backend-store-uri {store}")
    _print_line(console, f"confirm on test:        python -m hpo confirm --benchmark {name}")
    _print_line(console, f"compare the methods:    python -m hpo compare --benchmark {name}")


def _print_line(console: Console, text: str) -> None:
    console.print(text, soft_wrap=True, highlight=False, markup=False)


def _compare(parsed: argparse.Namespace) -> int:
    from hpo import compare, output, records, tables, tracking

    stored = records.read(_name_of(parsed.benchmark))
    budget, mixed = _optional_int("budget", parsed.budget), parsed.mixed_budgets == "true"
    result = compare.compare(stored, budget=budget, mixed_budgets=mixed, reference=parsed.reference)
    console = _console()
    tables.print_all(console, result)
    files = tables.files(result)
    folder = output.write(Path(parsed.output), files)
    tracking.store_files(result.benchmark.name, "comparison", files, {"hpo.benchmark_digest": result.digest})
    _print_line(console, f"written to {folder}: {', '.join(files)}")
    return 0


def _confirm(parsed: argparse.Namespace) -> int:
    from hpo import compare, confirm, doctor, records, tables

    doctor.require()
    benchmark, console = _load(parsed.benchmark), _console()
    stored = records.read(benchmark.name)
    confirm.require_same(benchmark, stored)
    labels = [] if parsed.methods == "all" else [word.strip() for word in parsed.methods.split(",")]
    due = confirm.due(stored, labels, parsed.repeats)
    console.print(f"{len(due)} trainings are due", highlight=False)
    reason = ""
    if due:
        command = _command_line("confirm", parsed, ("benchmark", "methods", "repeats", "gpu_hours"))
        reason = confirm.run(benchmark, due, _optional_float(parsed.gpu_hours), command, console).reason
        stored = records.read(benchmark.name)
    tables.print_shrinkage(console, compare.compare(stored, mixed_budgets=True))
    _print_line(console, f"compare the methods: python -m hpo compare --benchmark {shlex.quote(parsed.benchmark)}")
    if reason:
        print(f"error: not all trainings reached their end ({reason}); run it again for the rest", file=sys.stderr)
    return 1 if reason else 0


def _name_of(benchmark: str) -> str:
    """The name of a benchmark, which may be given as a file."""
    return spec.load(benchmark).name if Path(benchmark).suffix in (".yaml", ".yml") else benchmark


def _methods(parsed: argparse.Namespace) -> int:
    from hpo import methods

    if parsed.name is not None:
        print(methods.get(parsed.name).page)
        return 0
    for name in methods.names():
        print(f"{name:10} {methods.get(name).summary}")
    return 0


def _benchmarks(parsed: argparse.Namespace) -> int:
    for name in spec.names():
        print(f"{name:20} {spec.load(name).description}")
    return 0


def _doctor(parsed: argparse.Namespace) -> int:
    from hpo import doctor

    return doctor.report(_console())


def _mlproject(parsed: argparse.Namespace) -> int:
    from hpo import mlproject

    print(mlproject.text(), end="")
    return 0


def _console() -> Console:
    """Stdout; in a file wide enough for a table's rows to stay on one line."""
    return Console() if sys.stdout.isatty() else Console(width=LOG_WIDTH)
