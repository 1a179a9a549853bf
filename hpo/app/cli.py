"""The command line: `python -m hpo ...`, which the MLproject entries call. Parses; `hpo.app.commands` does.

A user's mistake ends with one paragraph on stderr and exit status 2; a study that did not reach its end with
status 1; otherwise 0.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, NoReturn

from benchmarks.files import is_text
from benchmarks.spec import SPLITS, BenchmarkError
from benchmarks.zero.settings import Training
from hpo.app import commands
from hpo.engine import signals
from hpo.search import registry
from hpo.terminal import errors


class _Parser(argparse.ArgumentParser):
    """Errors as one paragraph that names the valid options; no abbreviations."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **settings)

    def error(self, message: str) -> NoReturn:
        raise BenchmarkError(f"{message}; see `{self.prog} --help`")

    def refuse(self, unknown: list[str], also: argparse.ArgumentParser | None = None) -> NoReturn:
        """Name what is unknown and the options there are, those of another parser too."""
        actions = [*self._actions, *(also._actions if also else [])]
        options = sorted({option for action in actions for option in action.option_strings if option != "-h"})
        self.error(f"unrecognized arguments: {' '.join(unknown)} (options here: {', '.join(options)})")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    if os.environ.get("MLFLOW_RUN_ID"):  # `mlflow run` has started this
        signals.end_with_parent()
    try:
        words = sys.argv[1:] if arguments is None else arguments
        _check_words(words)
        parsed = parse(words)
        status: int = parsed.command(parsed)
        return status
    except BenchmarkError as error:
        errors.show(str(error))
        return 2


def _check_words(words: Sequence[str]) -> None:
    """Refuse bytes that are no text, which the tracking store could not keep, and `--`, which argparse takes away."""
    for word in words:
        if word.startswith("--") and word.endswith("=--"):
            raise BenchmarkError(f"{word!r}: -- cannot be a value; give another")
        if not is_text(word):
            raise BenchmarkError(f"{word!r} is not UTF-8; rename the file, or type it anew")


def parse(arguments: Sequence[str], also: argparse.ArgumentParser | None = None) -> argparse.Namespace:
    """Options by name, and `command`, the function that does it.

    Args:
        arguments: the words.
        also: a parser that has taken its options out of them, named too where one is unknown.

    Raises:
        BenchmarkError: an unknown command, option or method.
    """
    parsed, unknown = make_parser(_wanted_method(arguments)).parse_known_args(arguments)
    if "options" in parsed:  # the verb passes on what it does not know
        parsed.options = unknown
    elif unknown:
        parsed.parser.refuse(unknown, also)
    return parsed


def _wanted_method(words: Sequence[str]) -> str | None:
    """The method after `run`, if there is one: its module is imported for its options, and no other."""
    return words[1] if len(words) > 1 and words[0] == "run" and not words[1].startswith("-") else None


def make_parser(method: str | None = None) -> argparse.ArgumentParser:
    """All commands; `run` with the options of `method` alone.

    Raises:
        BenchmarkError: no such method.
    """
    parser = _Parser(
        prog="python -m hpo", description="Hyperparameter optimisation methods for LLM fine-tuning, compared."
    )
    verbs = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)
    _add_run(verbs, method)
    _add_resume(verbs)
    _add_sync(verbs)
    _add_suite(verbs)
    _add_compare(verbs)
    _add_confirm(verbs)
    _add_export(verbs)
    _add_train(verbs)
    _add_deepspeed(verbs)
    _add_import(verbs)
    _add_fetch(verbs)
    _add_slurm(verbs)
    pages = verbs.add_parser("methods", help="list the methods, or print the page of one")
    pages.add_argument("name", nargs="?", help="a method")
    pages.set_defaults(command=commands.methods, parser=pages)
    for name, command, text in (
        ("benchmarks", commands.benchmarks, "list the benchmarks"),
        ("doctor", commands.doctor, "what this machine has and lacks"),
        ("mlproject", commands.mlproject, "print the MLproject file"),
    ):
        added = verbs.add_parser(name, help=text)
        added.set_defaults(command=command, parser=added)
    return parser


def _add_run(verbs: Any, method: str | None) -> None:
    parser = verbs.add_parser("run", help="run one study: a method on a benchmark")
    parser.set_defaults(command=commands.run, parser=parser)
    parser.add_argument("method", help="see `python -m hpo methods`")
    parser.add_argument("--benchmark", default="nano", help="name or YAML path (default: nano)")
    parser.add_argument("--budget", type=int, default=12, help="full trainings that may be spent (default: 12)")
    parser.add_argument("--seed", type=int, default=0, help="drives everything random (default: 0)")
    parser.add_argument("--space", default="", help="YAML file that replaces the search space")
    parser.add_argument("--gpu-hours", default="", help="cap in device-hours")
    if method is not None:
        for name, field in registry.get(method).arguments.model_fields.items():
            text = f"{field.description} (default: {field.default})"
            parser.add_argument(
                f"--{name.replace('_', '-')}", default=argparse.SUPPRESS, help=text, dest=f"method.{name}"
            )


def _add_resume(verbs: Any) -> None:
    parser = verbs.add_parser("resume", help="go on with a study that was interrupted")
    parser.set_defaults(command=commands.resume, parser=parser)
    parser.add_argument("run_id", nargs="?", default="", help="its run in MLflow (default: list unfinished studies)")


def _add_sync(verbs: Any) -> None:
    parser = verbs.add_parser("sync", help="bring into the store what it did not take while studies ran")
    parser.set_defaults(command=commands.sync, parser=parser)
    parser.add_argument("run_id", nargs="?", default="", help="a study's run in MLflow (default: all that wait)")


def _add_suite(verbs: Any) -> None:
    parser = verbs.add_parser("suite", help="run several methods with several seeds")
    parser.set_defaults(command=commands.suite, parser=parser)
    methods_help = "comma list; arguments as asha:searcher=optuna, another budget as random:budget=24 (default: all)"
    parser.add_argument("--methods", default="all", help=methods_help)
    parser.add_argument("--seeds", default="0,1,2", help="comma list (default: 0,1,2)")
    parser.add_argument("--benchmark", default="nano", help="name or YAML path (default: nano)")
    parser.add_argument("--budget", type=int, default=12, help="full trainings of each study (default: 12)")
    parser.add_argument("--space", default="", help="YAML file that replaces the search space")
    parser.add_argument("--gpu-hours", default="", help="cap of each study in device-hours")
    _add_flag(parser, "force", "run again what the store has finished already")


def _add_compare(verbs: Any) -> None:
    parser = verbs.add_parser("compare", help="the methods of a benchmark side by side, with a report")
    parser.set_defaults(command=commands.compare, parser=parser)
    parser.add_argument("--benchmark", default="nano", help="name or YAML path (default: nano)")
    parser.add_argument("--budget", default="", help="only studies of this budget (default: the one there is)")
    _add_flag(parser, "mixed-budgets", "compare studies of different budgets, and say so")
    reference_help = "compare the others with this method only, which takes fewer seeds (default: all, every pair)"
    parser.add_argument("--reference", default="all", help=reference_help)
    parser.add_argument("--max-gpu-hours", default="", help="also name the best trial that cost no more device-hours")
    parser.add_argument("--max-memory-mb", default="", help="also name the best trial that took no more memory")
    parser.add_argument("--output", default="results", help="folder for tables and report (default: results)")


def _add_confirm(verbs: Any) -> None:
    parser = verbs.add_parser("confirm", help="train what studies found again, and score it on the test split")
    parser.set_defaults(command=commands.confirm, parser=parser)
    parser.add_argument("--benchmark", default="nano", help="name or YAML path (default: nano)")
    parser.add_argument("--methods", default="all", help="comma list (default: all that are stored)")
    parser.add_argument("--repeats", type=int, default=5, help="fresh seeds of each (default: 5)")
    parser.add_argument("--gpu-hours", default="", help="cap in device-hours")


def _add_export(verbs: Any) -> None:
    parser = verbs.add_parser("export", help="write what won as files for a Trainer script")
    parser.set_defaults(command=commands.export, parser=parser)
    parser.add_argument("--benchmark", default="nano", help="name or YAML path (default: nano)")
    parser.add_argument(
        "--method", default="best", help="a method as compare names it (default: best, by what is confirmed)"
    )
    parser.add_argument("--output", default="exported", help="folder for the files (default: exported)")


def _add_train(verbs: Any) -> None:
    parser = verbs.add_parser("train", help="train an exported configuration to the end, and save the model")
    parser.set_defaults(command=commands.train, parser=parser)
    parser.add_argument("--config", default="exported", help="folder of an export, or its best_config.json")
    parser.add_argument("--benchmark", default="nano", help="name or YAML path (default: nano)")
    for split in SPLITS:
        parser.add_argument(f"--data-{split}", default="", help=f"SQuAD v1.1 JSON in place of the {split} split")
    parser.add_argument("--seed", default="", help="drives everything random (default: the study's)")
    parser.add_argument("--output", default="trained", help="folder for the model (default: trained)")


def _add_deepspeed(verbs: Any) -> None:
    parser = verbs.add_parser("deepspeed", help="one Trainer script with and without DeepSpeed, ZeRO stage by stage")
    parser.set_defaults(command=commands.deepspeed, parser=parser)
    parser.add_argument("--benchmark", default="nano", help="name or YAML path; its model and data (default: nano)")
    parser.add_argument(
        "--configurations", default="all", help="comma list, such as plain,zero3-offload (default: all)"
    )
    parser.add_argument("--ranks", default="1", help="ranks of a node, a comma list for scaling (default: 1)")
    parser.add_argument("--nodes", default="1", help="nodes of a SLURM job, likewise (default: 1)")
    scaling_help = "strong keeps examples and global batch, weak keeps both for each rank (default: strong)"
    parser.add_argument("--scaling", default="strong", choices=["strong", "weak", "both"], help=scaling_help)
    for option in fields(Training):
        if option.name != "benchmark":
            text = f"{option.metadata['help']} (default: {option.default})"
            flag = f"--{option.name.replace('_', '-')}"
            parser.add_argument(flag, type=type(option.default), default=option.default, help=text)
    precisions = ["auto", "fp32", "bf16", "fp16"]
    parser.add_argument("--precision", default="auto", choices=precisions, help="arithmetic (default: by the device)")
    launchers = ["torchrun", "deepspeed"]
    parser.add_argument(
        "--launcher", default="torchrun", choices=launchers, help="what starts ranks (default: torchrun)"
    )
    parser.add_argument("--output", default="deepspeed", help="folder for table, figure and logs (default: deepspeed)")


def _add_import(verbs: Any) -> None:
    parser = verbs.add_parser("import", help="bring a study that was run elsewhere into the store, from a CSV file")
    parser.set_defaults(command=commands.import_, parser=parser)
    parser.add_argument("file", help="see docs/import.md")
    parser.add_argument("--benchmark", required=True, help="name or YAML path")
    parser.add_argument("--method", required=True, help="a label of your own")
    parser.add_argument("--seed", type=int, default=0, help="its seed, the block it belongs to (default: 0)")
    parser.add_argument(
        "--accelerator", required=True, help="what it ran on, such as 'Tesla V100'; cpu counts no GPU hours"
    )
    parser.add_argument("--wall-seconds", default="", help="how long it took (default: the sum of its trials)")
    parser.add_argument("--devices", default="", help="devices it had reserved; needs --wall-seconds")
    parser.add_argument("--space", default="", help="YAML file with the search space that it searched")
    _add_flag(parser, "force", "store a file again that is stored already")


def _add_fetch(verbs: Any) -> None:
    parser = verbs.add_parser("fetch", help="bring model and data from the hub, for nodes without internet")
    parser.set_defaults(command=commands.fetch, parser=parser)
    parser.add_argument("--benchmark", required=True, help="name or YAML path")
    parser.add_argument("--output", required=True, help="folder that the compute nodes reach")


def _add_slurm(verbs: Any) -> None:
    from hpo.app import slurm_verbs as cli

    parser = verbs.add_parser("slurm", help="submit studies to a SLURM cluster")
    cli.add_verbs(parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser))


def _add_flag(parser: argparse.ArgumentParser, name: str, text: str) -> None:
    """An option that MLproject entries can give a value."""
    choices = ["true", "false"]
    text = f"true: {text} (default: false)"
    parser.add_argument(f"--{name}", nargs="?", const="true", default="false", choices=choices, help=text)
