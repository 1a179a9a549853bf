"""The command line: `python -m hpo ...`, which the MLproject entries call.

A user's mistake ends with one paragraph on stderr and exit status 2; a study that did not reach its end with
status 1; otherwise 0.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

from benchmarks.files import is_text
from benchmarks.parent import end_with_parent
from benchmarks.spec import BenchmarkError
from hpo.app.options import Command
from hpo.app.parser import parse
from hpo.terminal import errors, next_steps
from hpo.terminal.console import discard


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status."""
    if os.environ.get("MLFLOW_RUN_ID"):  # `mlflow run` has started this
        end_with_parent()
        next_steps.enter_users_folder()
    try:
        words = sys.argv[1:] if arguments is None else arguments
        _check_words(words)
        parsed = parse(words)
        parsed.is_process = arguments is None
        with _experiment(getattr(parsed, "experiment", "")):
            return _function(parsed.command)(parsed)
    except BenchmarkError as error:
        errors.show(str(error))
        return 2
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        discard(sys.stdout)
        return 0


def _experiment(name: str) -> AbstractContextManager[None]:
    """Choose the experiment for a command; MLflow is imported only where one was given."""
    if not name:
        return nullcontext()
    from hpo.store.client import choosing

    return choosing(name)


def _function(command: Command) -> Callable[..., int]:
    """Import the function of a command, and with it only the parts that the command needs."""
    module, _, name = command.function.rpartition(".")
    function: Callable[..., int] = getattr(importlib.import_module(f"hpo.app.{module}"), name)
    return function


def _check_words(words: Sequence[str]) -> None:
    """Refuse bytes that are no text, which the tracking store could not keep, and `--`, which argparse takes away."""
    for word in words:
        if word.startswith("--") and word.endswith("=--"):
            raise BenchmarkError(f"{word!r}: -- cannot be a value; give another")
        if not is_text(word):
            raise BenchmarkError(f"{word!r} is not UTF-8; rename the file, or type it anew")
