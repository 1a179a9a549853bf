"""Time that commands take before and after their work: `python -m benchmarks.measure.startup`.

Each command runs five times, in turns with `python -c "import ray.tune, mlflow"`, so that both meet the same machine.
The table shows medians, in seconds and as multiples of that import. A study is split by its own timestamps: from its
command to its first trial, and from its last trial's end to the exit. `compare` reads eight studies, once those exist,
in turns with imports of its own. Ray's own start is what `ray.init` takes in a process that has imported Ray. The
command fails if a median is above its limit; a busy machine adds to it, as the import beside it shows.
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.clock import REAL

PROJECT = Path(__file__).parents[2]
IMPORT = [sys.executable, "-c", "import ray.tune, mlflow"]
RAY_CODE = """
import ray, time
began = time.perf_counter()
ray.init(address="local", num_cpus=2, include_dashboard=False)
print(time.perf_counter() - began)
"""
PAGES = {"methods": ["methods"], "--help": ["--help"], "run asha --help": ["run", "asha", "--help"]}
STUDY = ["run", "asha", "--benchmark", "synthetic", "--budget", "2"]
BASE = "import ray.tune, mlflow"
"""The command that others are set beside; those after a second row of it are set beside that one."""
RAY, FIRST, LAST, COMPARE = "ray.init", "command to first trial", "last trial to exit", "compare"
OF_PAGE, OF_EXIT, OF_COMPARE = 0.6, 1.5, 3.0
"""Seconds at most of a page of text, of a study's end, and of `compare`."""
OF_FIRST_TRIAL = 1.3
"""Imports that a study may take until its first trial begins, beside Ray's own start."""
COMPARED = 8
"""Studies that `compare` reads, at least."""


def seconds_of(command: list[str], folder: Path) -> float:
    """Run a command to its end; return its wall seconds."""
    began = REAL.now()
    _output_of(command, folder)
    return REAL.now() - began


def ray_seconds(folder: Path) -> float:
    """Return the seconds that `ray.init` takes as Ray's users call it, its import and its end left out."""
    return float(_output_of([sys.executable, "-c", RAY_CODE], folder))


def _output_of(command: list[str], folder: Path) -> str:
    return subprocess.run(
        command, cwd=folder, env=_environment(folder), check=True, stdout=subprocess.PIPE, text=True
    ).stdout


def _environment(folder: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != "MLFLOW_RUN_ID"}
    return {**kept, "PYTHONPATH": str(PROJECT), "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}


def study_edges(folder: Path) -> tuple[float, float]:
    """Run a study; return the seconds before its first trial began, and after its last trial ended."""
    began = REAL.epoch()
    seconds = seconds_of([sys.executable, "-m", "hpo", *STUDY], folder)
    first, last = _trials(folder / "mlflow.db", began)
    return first - began, began + seconds - last


def _trials(database: Path, since: float) -> tuple[float, float]:
    """Read when the newest study's first trial began and its last one ended, in seconds since the epoch."""
    with sqlite3.connect(database) as connection:
        query = (
            "SELECT min(start_time), max(end_time) FROM runs JOIN tags ON tags.run_uuid = runs.run_uuid "
            "WHERE tags.key = 'hpo.kind' AND tags.value = 'trial' AND start_time >= ?"
        )
        first, last = connection.execute(query, [int(1000 * since)]).fetchone()
    return first / 1000, last / 1000


def measure(rounds: int, folder: Path) -> dict[str, list[float]]:
    """Run every command in turns; return seconds by name."""
    hpo = [sys.executable, "-m", "hpo"]
    timed: Mapping[str, Callable[[], float]] = {
        BASE: lambda: seconds_of(IMPORT, folder),
        RAY: lambda: ray_seconds(folder),
        **{name: lambda words=words: seconds_of([*hpo, *words], folder) for name, words in PAGES.items()},  # type: ignore[misc]
    }
    found: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name, run in timed.items():
            found.setdefault(name, []).append(run())
        first, last = study_edges(folder)
        found.setdefault(FIRST, []).append(first)
        found.setdefault(LAST, []).append(last)
    for _ in range(rounds, COMPARED):
        study_edges(folder)
    for _ in range(rounds):
        found.setdefault(f"{BASE}, again", []).append(seconds_of(IMPORT, folder))
        found.setdefault(COMPARE, []).append(seconds_of([*hpo, "compare", "--benchmark", "synthetic"], folder))
    return found


def limits(found: Mapping[str, list[float]]) -> dict[str, float]:
    """Return the seconds that the median of each command is held to, by its name."""
    of_first = OF_FIRST_TRIAL * statistics.median(found[BASE]) + statistics.median(found[RAY])
    return {**dict.fromkeys(PAGES, OF_PAGE), FIRST: of_first, LAST: OF_EXIT, COMPARE: OF_COMPARE}


def table(found: Mapping[str, list[float]]) -> list[str]:
    """Return a line per command: its median in seconds and imports, its range, and whether it keeps its limit."""
    lines, base, most = list[str](), 0.0, limits(found)
    for name, seconds in found.items():
        median = statistics.median(seconds)
        base = median if name.startswith(BASE) else base
        line = (
            f"{name:30} {median:6.2f} s  {median / base:5.2f} x the import  ({min(seconds):.2f} .. {max(seconds):.2f})"
        )
        if name in most:
            line += f" | {'PASS' if median <= most[name] else 'FAIL'}, at most {most[name]:.1f}"
        lines.append(line)
    return lines


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.measure.startup", description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="how often each command runs (default: 5)")
    with tempfile.TemporaryDirectory() as name:
        lines = table(measure(parser.parse_args().rounds, Path(name)))
    print("\n".join(lines))
    return int(any("FAIL" in line for line in lines))


if __name__ == "__main__":
    sys.exit(main())
