"""Check a node's GPU with one command: `python -m benchmarks.measure.device`, in less than eight minutes.

Each check is a process with a time box. The command prints a table, and exits with status 1 if a check failed.
`--output` writes one JSON line per check. `--cpu` runs the checks without a GPU, on small models, to test themselves.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from benchmarks.clock import REAL
from benchmarks.devices.torch_build import fault_of, installed
from benchmarks.devices.visible import look_at_visible
from benchmarks.files import BenchmarkError, first_line
from benchmarks.measure.device.checks import CHECKS
from benchmarks.measure.device.table import Line, render
from benchmarks.measure.device.trials import CheckedNode

PROJECT = Path(__file__).parents[3]
BUDGET_SECONDS = 460.0
MIN_SECONDS = 12.0
"""Time without which no check is begun."""
ONE_GPU = "0"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the checks and print their table; return the exit status."""
    options = _parser().parse_args(arguments)
    if options.one:
        return _check_here(options.one, CheckedNode(options.folder, not options.cpu))
    if fault := _fault_of_file(options.output) or ("" if options.cpu else _fault()):
        print(f"error: {fault}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="device-") as folder:
        lines = check(options.only.split(",") if options.only else list(CHECKS), options, Path(folder))
    print(render(lines))
    return int(any(line.outcome == "failed" for line in lines))


def _fault() -> str:
    """Return a sentence if there is no GPU here that torch can use; else an empty text."""
    try:
        gpus, inventory = look_at_visible()
    except BenchmarkError as error:
        return str(error)
    return (
        fault_of(installed(), gpus, inventory) if gpus else "there is no GPU here; --cpu tries the checks without one"
    )


def _fault_of_file(path: Path | None) -> str:
    """Return a sentence if the file for the lines cannot be written, before any check has run; else an empty text."""
    if path is None:
        return ""
    try:
        path.open("a").close()
    except OSError as error:
        return f"output {path}: cannot be written ({error.strerror}); give a file in a folder of yours"
    return ""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.measure.device", description=__doc__.split("\n")[0])
    parser.add_argument("--only", type=_names, help=f"checks, separated by commas: {', '.join(CHECKS)}")
    parser.add_argument("--output", type=Path, help="file that gets one JSON line per check")
    parser.add_argument("--budget", type=_seconds, default=BUDGET_SECONDS, help="seconds for all checks (default: 460)")
    parser.add_argument("--cpu", action="store_true", help="run without a GPU, on small models")
    parser.add_argument("--one", choices=list(CHECKS), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser


def _names(text: str) -> str:
    unknown = [name for name in text.split(",") if name not in CHECKS]
    if unknown:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is no check; choose from {', '.join(CHECKS)}")
    return text


def _seconds(text: str) -> float:
    with suppress(ValueError):
        if 0 <= (seconds := float(text)) < math.inf:
            return seconds
    raise argparse.ArgumentTypeError(f"{text!r} must be a number of seconds, 0 or more, such as {BUDGET_SECONDS:g}")


def check(names: Sequence[str], options: argparse.Namespace, folder: Path) -> list[Line]:
    """Run checks one after the other; each line is written as soon as it is there."""
    began, lines = REAL.now(), []
    for name in names:
        left = options.budget - (REAL.now() - began)
        line = (
            Line(name, "skipped") if left < MIN_SECONDS else _run(name, min(left, CHECKS[name][1]), options.cpu, folder)
        )
        lines.append(line)
        print(f"{line.check}: {line.outcome}", file=sys.stderr, flush=True)
        if options.output:
            with options.output.open("a") as file:
                file.write(json.dumps(line.content()) + "\n")
    return lines


def _run(name: str, limit_seconds: float, cpu: bool, folder: Path) -> Line:
    """Run one check in a process group of its own, which does not outlive its time box."""
    words = [sys.executable, "-m", "benchmarks.measure.device", "--one", name, "--folder", str(folder)]
    path = os.pathsep.join([str(PROJECT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path, "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
    # A session is one rank, on one GPU.
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", ONE_GPU).split(",")[0]
    environment["CUDA_VISIBLE_DEVICES"] = "" if cpu else visible
    began = REAL.now()
    process = subprocess.Popen(
        [*words, *(["--cpu"] if cpu else [])],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        output, errors = process.communicate(timeout=limit_seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return Line(name, "failed", limit_seconds, {"error": f"took more than {limit_seconds:.0f} s"})
    seconds = REAL.now() - began
    if process.returncode or not output.strip():
        last = (errors.strip().splitlines() or [f"status {process.returncode}"])[-1]
        return Line(name, "failed", seconds, {"error": last[:300]})
    verdict, found = json.loads(output.strip().splitlines()[-1])
    return Line(name, "measured" if verdict is None else "ok" if verdict else "failed", seconds, found)


def _check_here(name: str, node: CheckedNode) -> int:
    """Run a check in this process, and answer with a line of JSON; output of libraries goes to standard error."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    try:
        verdict, found = CHECKS[name][0](node)
    except Exception as error:
        traceback.print_exc()
        print(f"{type(error).__name__}: {first_line(error)}", file=sys.stderr, flush=True)
        os._exit(1)  # without the farewells of NCCL and CUDA, which may hang
    print(json.dumps([verdict, found], default=str), file=answers, flush=True)
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
