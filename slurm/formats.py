"""Values as SLURM writes them: times, memory, options of sbatch; understood, or refused with the right words. Pure."""

from __future__ import annotations

import math
import re
import shlex
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator

UNLIMITED = "UNLIMITED"
SIGNAL_SECONDS = 60
"""SLURM may send the signal before a time limit by so much earlier (https://slurm.schedmd.com/sbatch.html#OPT_signal)."""
_TIME = re.compile(
    r"(?:(?P<days>[0-9]{1,4})-)?(?P<first>[0-9]{1,6})(?::(?P<second>[0-5][0-9]))?(?::(?P<third>[0-5][0-9]))?"
)
_WORD = re.compile(r"[\w.@,+:=/\[\]-]+", re.ASCII)
_JOB_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,99}", re.ASCII)
GPU_TYPE = re.compile(r"([\w.-]*[A-Za-z][\w.-]*):([0-9]{1,9})", re.ASCII)
_MEMORY = re.compile(r"([0-9]{1,12}) ?(?:([KMGT])(?:i?B)?)?", re.IGNORECASE)
GRES = "--gres"
TRES = "node.gpus and node.cpus; a directive for other generic resources is --gres, for licences --licenses"
OWNED = {
    "--job-name": "job_name",
    **dict.fromkeys(("--output", "--error", "--open-mode"), "logs"),
    "--time": "time",
    **dict.fromkeys(("--cpus-per-task", "--threads"), "node.cpus and head.cpus"),
    "--cpus-per-gpu": "cpus_per_rank",
    **dict.fromkeys(("--mem", "--mem-per-cpu", "--mem-per-gpu"), "node.memory and head.memory"),
    **dict.fromkeys(("--gpus", "--gpus-per-node", "--gpus-per-task", "--gpus-per-socket"), "node.gpus"),
    **dict.fromkeys(("--tres-per-task", "--tres-per-node", "--tres-per-socket", "--tres-per-job"), TRES),
    **dict.fromkeys(("--nodes", "--ntasks", "--ntasks-per-node", "--ntasks-per-gpu", "--tasks-per-node"), "workers"),
    "--partition": "partition and head.partition",
    "--account": "account",
    "--signal": "grace_seconds",
    **dict.fromkeys(("--requeue", "--no-requeue"), "requeue"),
    "--chdir": "the folder that you submit from",
    **dict.fromkeys(("--array", "--dependency"), "the options of `slurm array`"),
    **dict.fromkeys(("--parsable", "--test-only", "--wait", "--wrap"), "`slurm submit`"),
}
"""Options of sbatch that the suite writes itself, and the key that says so."""
SHORT = {
    "-J": "--job-name",
    "-o": "--output",
    "-e": "--error",
    "-t": "--time",
    "-c": "--cpus-per-task",
    "-G": "--gpus",
    "-N": "--nodes",
    "-n": "--ntasks",
    "-p": "--partition",
    "-A": "--account",
    "-D": "--chdir",
    "-a": "--array",
    "-d": "--dependency",
    "-W": "--wait",
    "-C": "--constraint",
    "-q": "--qos",
    "-w": "--nodelist",
    "-x": "--exclude",
    "-L": "--licenses",
    "-M": "--clusters",
    "-b": "--begin",
    "-H": "--hold",
    "-k": "--no-kill",
    "-m": "--distribution",
}
"""Short options of sbatch, by their long names (https://slurm.schedmd.com/sbatch.html#SECTION_OPTIONS)."""


def option_of(directive: str) -> str:
    """Return the name of a directive's option, such as `--gres`."""
    return re.split(r"[=\s]", directive, maxsplit=1)[0]


def _check_directive(value: str) -> str:
    option = SHORT.get(value[:2], option_of(value))
    if not option.startswith("--") or option == "--":
        raise ValueError(f"{value!r} is no option of sbatch; one per entry, such as --constraint=v100")
    owned = next((name for name in OWNED if name.startswith(option)), None)  # sbatch takes a beginning for the whole
    if owned is not None:
        raise ValueError(f"{value!r} is set by the profile's own keys: {OWNED[owned]}")
    if option == GRES and "gpu" in value.lower():
        raise ValueError(f"{value!r} is set by the profile's own keys: node.gpus, such as 4 or v100:4")
    if value[:2] in SHORT:
        raise ValueError(f"{value!r} must have its long name: {option}{value[2:] and '='}{value[2:].strip(' =')}")
    if len(_options_in(value)) > 1:
        raise ValueError(f"{value!r} must be one option; write each as an entry of its own")
    return value


def _options_in(directive: str) -> list[str]:
    """Return the words of a directive that sbatch takes for options.

    Raises:
        ValueError: a quote is not closed.
    """
    try:
        return [word for word in shlex.split(directive) if re.match(r"--?[A-Za-z]", word)]
    except ValueError:
        raise ValueError(f"{directive!r} must close its quotes") from None


def _as_text(value: Any) -> Any:
    """Turn a number that was not put into quotes into text, as SLURM reads it."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _as_name(value: Any) -> Any:
    """Turn a whole number that was not put into quotes into a name.

    Raises:
        ValueError: a number with a point, of which YAML may have dropped digits, as of 3.10.
    """
    if isinstance(value, float):
        raise ValueError("must be text; put it into quotes")
    return _as_text(value)


def _check_memory(value: str) -> str:
    found = _MEMORY.fullmatch(value)
    if value and not found:
        raise ValueError(
            "must be a number of megabytes, or a whole number with K, M, G or T, such as 180G; 0 for all of a node's"
        )
    return f"{found[1]}{(found[2] or '').upper()}" if found else ""


def _check_time(value: str) -> str:
    if value.upper() in (UNLIMITED, "INFINITE"):
        return UNLIMITED
    found = _TIME.fullmatch(value)
    if not found:
        raise ValueError("must be minutes, [days-]hours:minutes:seconds, or UNLIMITED")
    if found["second"] and not found["third"] and not found["days"]:
        minutes, rest = int(found["first"]), found["second"]
        raise ValueError(
            f"must be minutes, or hours:minutes:seconds; to SLURM this is {minutes} minutes and {rest} seconds: "
            f"for hours and minutes write {value}:00, for minutes {minutes + 1}"
        )
    if not seconds_of(value):
        raise ValueError("must be above 0, which is no limit to SLURM; for none write UNLIMITED")
    return value


def seconds_of(time: str) -> float:
    """Return the seconds of a time limit, as SLURM writes it; infinity for none."""
    found = _TIME.fullmatch(time)
    if not found:
        return math.inf
    days, first, second, third = (int(found[name] or 0) for name in ("days", "first", "second", "third"))
    if found["days"] or found["second"]:
        return 86400 * days + 3600 * first + 60 * second + third
    return 60 * first


def _check_name(value: str) -> str:
    if value and not _WORD.fullmatch(value):
        raise ValueError("must be a name without spaces or quotes")
    return value


def _check_job_name(value: str) -> str:
    if not _JOB_NAME.fullmatch(value):
        raise ValueError("must be letters, digits, dots, dashes and underscores, such as my-study")
    return value


def _check_text(value: str) -> str:
    if not value.isprintable():
        raise ValueError("must be one line of printable characters")
    return value


def _check_bind(value: str) -> str:
    _check_text(value)
    if not value.startswith("/") or "," in value or value.count(":") > 2:
        raise ValueError("must be a folder, folder:folder or folder:folder:ro, each a whole path without commas")
    return value


def _check_lines(value: str) -> str:
    for line in value.split("\n"):
        _check_text(line.replace("\t", " "))
    return value


Time = Annotated[str, BeforeValidator(_as_text), AfterValidator(_check_time)]
Memory = Annotated[str, BeforeValidator(_as_text), AfterValidator(_check_memory)]
Name = Annotated[str, BeforeValidator(_as_name), AfterValidator(_check_name)]
JobName = Annotated[str, BeforeValidator(_as_name), AfterValidator(_check_job_name)]
Text = Annotated[str, BeforeValidator(_as_name), AfterValidator(_check_text)]
Lines = Annotated[str, AfterValidator(_check_lines)]
Bind = Annotated[str, AfterValidator(_check_bind)]
Directive = Annotated[str, AfterValidator(_check_text), AfterValidator(_check_directive)]
