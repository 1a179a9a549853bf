"""Commands that a user types next, in the form that works where they were printed.

A study may have been started by `python -m hpo`, by `mlflow run` of a folder or a git address, or inside a SLURM job.
"""

from __future__ import annotations

import importlib.metadata
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

PROJECT = Path(__file__).parents[2]
SHARED_STORE, CLUSTER_PROFILE = "HPO_SHARED_STORE", "HPO_CLUSTER_PROFILE"
"""Variables by which a SLURM job tells its driver the final store, and the profile for another job."""
SUBMITTED = ("run", "resume", "suite", "confirm")
"""Commands that train, and so need a job on a cluster."""
IN_EXPERIMENT = ("run", "suite", "confirm", "compare", "export", "train")
"""Commands that read or store in an experiment of the user's choice."""
CHOSEN_EXPERIMENT = "MLFLOW_EXPERIMENT_NAME"
"""MLflow's variable for the experiment, which `--experiment` sets too."""
EXPERIMENT_ID, DEFAULT_EXPERIMENT_ID = "MLFLOW_EXPERIMENT_ID", "0"
"""MLflow's variable for an experiment by its number, which `mlflow run` sets for its project, and its default one."""
FLAGS = ("--build-image",)
"""Options of `mlflow run` without a value."""
LOCAL_UI = "http://127.0.0.1:5000"
"""Address at which `mlflow ui` listens."""


def command(verb: str, *words: str, **options: object) -> str:
    """Write a command of the suite, for the experiment that this one was given.

    Args:
        verb: such as `compare`.
        words: its arguments without a name; the method is that of `run`.
        options: its options, by the names that functions know; those that are None or empty are left out.
    """
    given = {name: str(value) for name, value in options.items() if value not in (None, "")}
    number = ""
    if verb in IN_EXPERIMENT:
        if experiment := _chosen_experiment():
            given["experiment"] = experiment
        else:
            number = _experiment_id()
    variables = {EXPERIMENT_ID: number} if number else {}
    profile = os.environ.get(CLUSTER_PROFILE)
    if profile and verb in SUBMITTED:
        submitted = words if verb == "run" else (verb, *words)
        return _with(
            variables, spell(["python", "-m", "hpo", "slurm", "submit", "--cluster", profile, *submitted], given)
        )
    launcher = _launcher()
    if launcher is not None and not _is_importable():
        return _mlflow_run(launcher.words, verb, words, given, number)
    if shared := os.environ.get(SHARED_STORE):
        variables["MLFLOW_TRACKING_URI"] = shared
    return _with(variables, spell(["python", "-m", "hpo", verb, *words], given))


def _with(variables: Mapping[str, str], line: str) -> str:
    """Write variables of the environment in front of a command."""
    return " ".join([*(f"{name}={shlex.quote(value)}" for name, value in variables.items()), line])


def spell(words: Sequence[str], options: Mapping[str, str]) -> str:
    """Write a command line of words and options, quoted for a shell; options are named as functions know them."""
    pairs = [(f"--{name.replace('_', '-')}", value) for name, value in options.items()]
    return shlex.join([*words, *(word for pair in pairs for word in pair)])


def _chosen_experiment() -> str:
    """Name the experiment that the user chose for this command; an empty text for the benchmark's own."""
    launcher = _launcher()
    launched_in = _values(launcher.words, "--experiment-name") if launcher else []
    return os.environ.get(CHOSEN_EXPERIMENT) or "".join(launched_in[-1:])


def _experiment_id() -> str:
    """Return the number of the experiment that `mlflow run` was given; an empty text for MLflow's default one."""
    number = os.environ.get(EXPERIMENT_ID, "")
    return "" if number == DEFAULT_EXPERIMENT_ID else number


def _values(words: Sequence[str], option: str) -> list[str]:
    """Return the values of an option among the words of a command."""
    apart = [value for name, value in pairwise(words) if name == option]
    return apart + [word.partition("=")[2] for word in words if word.startswith(f"{option}=")]


def _mlflow_run(
    launcher: list[str], verb: str, words: tuple[str, ...], options: dict[str, str], experiment_id: str
) -> str:
    """Write the command as an entry of MLproject, which takes names alone; `resume` and `sync` take a run."""
    if verb == "run":
        (verb,), words = words, ()  # each method is an entry
    given = [*(f"run_id={word}" for word in words), *(f"{name}={value}" for name, value in options.items())]
    parameters = [word for pair in given for word in ("-P", pair)]
    chosen = ["--experiment-id", experiment_id] if experiment_id else []
    return shlex.join(["mlflow", "run", *_project(launcher), "-e", verb, *chosen, *parameters])


def _project(words: list[str]) -> list[str]:
    """Read the project, its version and its environment manager from the words of `mlflow run`."""
    rest, kept = words[words.index("run") + 1 :], []
    while rest:
        word = rest.pop(0)
        if word in ("--env-manager", "-v", "--version") and rest:
            kept += [word, rest.pop(0)]
        elif word.startswith("-"):
            rest = rest[0 if "=" in word or word in FLAGS else 1 :]
        else:
            kept.insert(0, word)
    return kept


def enter_users_folder() -> None:
    """Go where the user typed `mlflow run`, which starts a project in the project's own folder.

    That may be a clone that MLflow deletes. Benchmarks, outputs, artifacts and unfinished studies are looked for, and
    kept, where the user is.
    """
    launcher = _launcher()
    if launcher is not None:
        os.chdir(launcher.folder)
        _is_importable()  # Ray's workers get a path of their own later


@dataclass(frozen=True)
class _Launcher:
    """The `mlflow run` that has started this process, as it was then: it may end before us.

    Attributes:
        folder: where it was typed.
        words: its command.
    """

    folder: str
    words: list[str]


@cache
def _launcher() -> _Launcher | None:
    """Find the `mlflow run` that has started this process."""
    if not os.environ.get("MLFLOW_RUN_ID"):
        return None
    import psutil  # a twentieth of `--help`, which asks nothing of it

    try:
        found = next((p for p in psutil.Process().parents() if _is_mlflow_run(p.cmdline())), None)
        return _Launcher(found.cwd(), found.cmdline()) if found else None
    except psutil.Error:
        return None


def _is_mlflow_run(words: list[str]) -> bool:
    names = [Path(word).name for word in words]
    return "run" in names and "mlflow" in names[: names.index("run")]


@cache
def _is_importable() -> bool:
    """Tell whether `python -m hpo` works in this folder: it is the project's, or the suite is installed."""
    if Path.cwd() == PROJECT or str(PROJECT) in os.environ.get("PYTHONPATH", "").split(os.pathsep):
        return True
    return PROJECT.name in ("site-packages", "dist-packages") or _is_installed()


def _is_installed() -> bool:
    try:
        importlib.metadata.distribution("hpo-llm-finetuning")
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def browser_lines(uri: str, experiment_id: str | None, view: str) -> list[str]:
    """Write how to look at an experiment in MLflow's browser interface.

    Args:
        uri: of the tracking store, as it may be printed.
        experiment_id: of the experiment; None where the store does not tell.
        view: key of the saved view to open, see `hpo.store.ui_views`.
    """
    shared = os.environ.get(SHARED_STORE, uri)
    is_server = shared.startswith(("http://", "https://"))
    first = "" if is_server else f"mlflow ui --backend-store-uri {shlex.quote(shared)}"
    address = shared.rstrip("/") if is_server else LOCAL_UI
    link = f"{address}/#/experiments/{experiment_id}/runs?viewStateShareKey={view}" if experiment_id else address
    return [line for line in (first, link) if line]


def given_benchmark(recorded: str, name: str) -> str:
    """Find how a study's benchmark was asked for: by name, or as a file, which its name would not find again.

    Args:
        recorded: the command that started the study.
        name: the benchmark's.
    """
    try:
        words = shlex.split(recorded)
    except ValueError:
        return name
    after = words.index("--benchmark") + 1 if "--benchmark" in words else len(words)
    return words[after] if after < len(words) else name
