"""Where the time goes, measured side by side: `python -m benchmarks.speed` (about three minutes on 2 cores).

Each comparison runs its two sides in turn, A B A B ..., each side in a process of its own with one thread, and
prints the median ratio: machines drift, ratios measured side by side do not. The sides:

* allocator: glibc as it is, against keeping freed pages (the default here);
* padding: every batch to `max_length`, against to its longest sequence (the default);
* precision: fp32 (the default), against bf16;
* generation: one question at a time, against batches (the default).

`--rounds 0 --methods all` runs a study of 12 full trainings with each method instead, and prints the share of reserved
device time that trained or evaluated (about two minutes a method).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

from benchmarks import finetune, spec
from benchmarks.spec import Benchmark

WARMUP_STEPS, TIMED_STEPS = 3, 12
QUESTIONS = 48
Side = dict[str, Any]
COMPARISONS: dict[str, tuple[Side, Side]] = {
    "allocator, training": ({"keep_freed_memory": False}, {}),
    "padding, training": ({"pad_to_max": True}, {}),
    "precision, training": ({}, {"precision": "bf16"}),
    "precision, evaluation": ({"what": "evaluate"}, {"what": "evaluate", "precision": "bf16"}),
    "generation": ({"what": "generate", "batch": 1}, {"what": "generate", "batch": QUESTIONS}),
}


def main() -> int:
    """Run the comparisons and print a line each."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3, help="pairs per comparison")
    parser.add_argument("--benchmark", default="nano")
    parser.add_argument("--methods", default="", help="also run a study of 12 full trainings with each; or all")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        print(json.dumps(measure(spec.load(arguments.benchmark), json.loads(arguments.side))))
        return 0
    for name, (first, second) in COMPARISONS.items() if arguments.rounds else ():
        pairs = [
            (_in_process(arguments.benchmark, first), _in_process(arguments.benchmark, second))
            for _ in range(arguments.rounds)
        ]
        ratio = statistics.median(a / b for a, b in pairs)
        a, b = (statistics.median(side) for side in zip(*pairs, strict=True))
        print(
            f"{name:24} {first or 'default'} {a:8.4f} s | {second or 'default'} {b:8.4f} s | ratio {ratio:.2f}",
            flush=True,
        )
    return _suite(arguments.benchmark, arguments.methods) if arguments.methods else 0


def _in_process(benchmark: str, side: Side) -> float:
    command = [sys.executable, "-m", "benchmarks.speed", "--benchmark", benchmark, "--side", json.dumps(side)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.strip().splitlines()[-1])


def measure(benchmark: Benchmark, side: Side) -> float:
    """Seconds of one optimizer step, one evaluation, or the generation of `QUESTIONS` answers."""
    finetune.prepare_process(threads=1, keep_freed_memory=side.get("keep_freed_memory", True))
    finetune.join_process_group()
    assert benchmark.finetune is not None
    changes: dict[str, Any] = {key: side[key] for key in ("pad_to_max", "precision") if key in side}
    settings = benchmark.finetune.model_copy(update=changes)
    session = finetune.Session(benchmark.model_copy(update={"finetune": settings}))
    session.start({}, seed=0)
    for _ in range(WARMUP_STEPS):
        session.train_step()
    what = side.get("what", "train")
    began = time.perf_counter()
    if what == "evaluate":
        session.evaluate()
    elif what == "generate":
        examples = session.examples("validation")[:QUESTIONS]
        for i in range(0, len(examples), side["batch"]):
            session.predict(examples[i : i + side["batch"]])
    else:
        for _ in range(TIMED_STEPS):
            session.train_step()
        return (time.perf_counter() - began) / TIMED_STEPS
    return time.perf_counter() - began


def _suite(benchmark: str, methods: str) -> int:
    """A suite in a store of its own, through the command that users run: one line a study, with its useful share."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}
        command = [sys.executable, "-m", "hpo", "suite", "--methods", methods, "--seeds", "0", "--benchmark", benchmark]
        began = time.perf_counter()
        status = subprocess.run(command, env=environment, check=False).returncode
    print(f"whole command: {time.perf_counter() - began:.0f} s")
    return status


if __name__ == "__main__":
    sys.exit(main())
