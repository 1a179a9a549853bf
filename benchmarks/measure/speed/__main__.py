"""Measure speed in turns: `python -m benchmarks.measure.speed` (15 minutes or more on 2 cores).

Each comparison starts its two sides, each a process of its own, with one thread unless said, and lets them take turns,
A B B A ..., a block of steps each; start-up and the first block do not count. It prints the median of the pairs'
ratios, first side to second, with the quartiles: machines drift, ratios measured side by side do not. The sides:

* noise: the same thing twice;
* Trainer: Hugging Face Trainer, against our loop, with the same DeepSpeed configuration, order and batches; the losses
  of all blocks are compared too;
* padding: every batch to `max_length`, against to its longest sequence (the default), and against that with batches of
  similar lengths (`length_grouped`);
* allocator: glibc as it is, against keeping freed pages (the default);
* waiting: two threads that spin while they wait for each other, as OpenMP lets them, against threads that sleep (the
  default); once alone, and once beside a process that computes;
* precision: fp32, against bf16, on a CPU alone, since a GPU trains in bf16 here anyway;
* generation: one question at a time, against batches (the default).

"SQuAD-like" comparisons train on sequences with the lengths of SQuAD, see `benchmarks.measure.speed.data`. A comparison
with a limit passes or fails by it, and the exit status is 1 if one failed.

`--rounds 0 --methods all` runs a study of 12 full trainings with each method instead, and prints the share of reserved
device time that trained or evaluated (about two minutes per method).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import IO, Any

from benchmarks.clock import REAL
from benchmarks.measure.speed import data
from benchmarks.measure.speed.side import QUESTIONS, Answer, Block, Side
from benchmarks.spec import BenchmarkError
from benchmarks.training.batches import group_by_length, padding_share

NOT_SLOWER, TWICE = 0.98, 2.0
BATCH_SIZES = (2, 8, 16, 32)


@dataclass(frozen=True)
class Pairing:
    """Two sides of a comparison.

    Attributes:
        name: subject of the comparison.
        first: the reference.
        second: ours.
        at_least: the ratio that must be reached; None where there is no such claim.
        lengths_vary: whether blocks of one side differ in lengths: the ratio is then of all blocks together.
        on_gpu: whether it says something where there is a GPU.
        busy: other processes that compute all the while.
    """

    name: str
    first: dict[str, Any]
    second: dict[str, Any]
    at_least: float | None = None
    lengths_vary: bool = False
    on_gpu: bool = True
    busy: int = 0


LIKE = {"squad_lengths": True}
TO_MAX = {**LIKE, "pad_to_max": True}
GROUPED = {**LIKE, "length_grouped": True}
BF16 = {"precision": "bf16"}
SPINNING, SLEEPING = {"threads": 2, "spins": 300_000}, {"threads": 2}  # libgomp's own number of spins
TWO, EIGHT = {"batch": 2}, {"batch": 8}  # of `bloom_560m_squad_two_gpus`, and Trainer's default
COMPARISONS = (
    Pairing("noise", {}, {}),
    Pairing("Trainer", {"work": "trainer"}, {}, NOT_SLOWER),
    Pairing("Trainer, SQuAD-like", {**LIKE, **EIGHT, "work": "trainer"}, {**LIKE, **EIGHT}, NOT_SLOWER),
    Pairing("padding, SQuAD-like, batch 2", {**TO_MAX, **TWO}, {**LIKE, **TWO}, TWICE),
    Pairing("padding, SQuAD-like, batch 8", {**TO_MAX, **EIGHT}, {**LIKE, **EIGHT}),
    Pairing("padding and grouping, batch 8", {**TO_MAX, **EIGHT}, {**GROUPED, **EIGHT}, TWICE, lengths_vary=True),
    Pairing("grouping alone, batch 8", {**LIKE, **EIGHT}, {**GROUPED, **EIGHT}, lengths_vary=True),
    Pairing("allocator", {"keep_freed_memory": False}, {}, on_gpu=False),
    Pairing("waiting", SPINNING, SLEEPING, on_gpu=False),
    Pairing("waiting, beside other work", SPINNING, SLEEPING, on_gpu=False, busy=1),
    Pairing("precision, training", {}, BF16, on_gpu=False),
    Pairing("precision, evaluation", {"work": "evaluate"}, {"work": "evaluate", **BF16}, on_gpu=False),
    Pairing("generation", {"work": "generate", "batch": 1}, {"work": "generate", "batch": QUESTIONS}),
)


@dataclass(frozen=True)
class Timing:
    """Result of a comparison.

    Attributes:
        seconds: median of a block, of both sides.
        ratio: of the first side's seconds to the second's, median over the pairs; of their sums where lengths vary.
        quartiles: of the pairs' ratios, the noise.
        loss_difference: greatest difference of a block's mean training loss; None where one side does not train.
    """

    seconds: tuple[float, float]
    ratio: float
    quartiles: tuple[float, float]
    loss_difference: float | None


def main() -> int:
    """Run the comparisons and print one line each."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.measure.speed", description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=8, help="pairs of blocks a comparison")
    parser.add_argument("--benchmark", default="nano")
    parser.add_argument("--only", default="", help="comparisons whose name contains this")
    parser.add_argument("--methods", default="", help="also run a study of 12 full trainings with each; or all")
    arguments = parser.parse_args()
    on_gpu, has_passed = _detect_gpu(), True
    for comparison in COMPARISONS if arguments.rounds else ():
        if arguments.only in comparison.name and (comparison.on_gpu or not on_gpu):
            measured = measure(comparison, arguments.benchmark, arguments.rounds)
            print(line(comparison, measured), flush=True)
            has_passed &= passes(comparison, measured)
    if arguments.rounds:
        print("\n".join(padding_lines()))
    status = _suite(arguments.benchmark, arguments.methods) if arguments.methods else 0
    return status if has_passed else 1


def _detect_gpu() -> bool:
    """Tell whether there is a GPU, and print it."""
    import torch

    found = torch.cuda.is_available()
    print(f"on {torch.cuda.get_device_name()}" if found else "no GPU here: on the CPU", flush=True)
    return found


def measure(comparison: Pairing, benchmark: str, rounds: int) -> Timing:
    """Let both sides take turns.

    Args:
        comparison: the two sides.
        benchmark: name or file.
        rounds: pairs of blocks, at least 1.

    Raises:
        BenchmarkError: a side could not run.
    """
    first, second = (Side(benchmark=benchmark, **given) for given in (comparison.first, comparison.second))
    with _computing(comparison.busy), _running(first) as one, _running(second) as other:
        pairs = [_pair(one, other, turn) for turn in range(rounds + 1)][1:]
    ratios = [a["seconds"] / b["seconds"] for a, b in pairs]
    low, _, high = statistics.quantiles(ratios, n=4, method="inclusive") if rounds > 1 else ratios * 3
    a, b = (statistics.median(found["seconds"] for found in side) for side in zip(*pairs, strict=True))
    losses = [abs(a["loss"] - b["loss"]) for a, b in pairs if "loss" in a and "loss" in b]
    together = sum(a["seconds"] for a, _ in pairs) / sum(b["seconds"] for _, b in pairs)
    ratio = together if comparison.lengths_vary else statistics.median(ratios)
    return Timing((a, b), ratio, (low, high), max(losses, default=None))


def _pair(one: Block, other: Block, turn: int) -> tuple[Answer, Answer]:
    """Run one block of each side; the first side changes from turn to turn."""
    if turn % 2:
        answer = other()
        return one(), answer
    return one(), other()


@contextmanager
def _computing(processes: int) -> Iterator[None]:
    """Keep so many other processes busy."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


@contextmanager
def _running(side: Side) -> Iterator[Block]:
    """Run a side's process; the function that is given runs a block in it."""
    command = [sys.executable, "-m", "benchmarks.measure.speed.side", side.model_dump_json()]
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, bufsize=1
        )
        try:
            yield partial(_ask, process, errors)
        finally:
            process.communicate()  # the end of its input is the end of its work


def _ask(process: subprocess.Popen[str], errors: IO[str]) -> Answer:
    """Let a side run a block.

    Raises:
        BenchmarkError: it has ended.
    """
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write("\n")
        answer: Answer = json.loads(process.stdout.readline())
    except (OSError, ValueError):
        errors.seek(0)
        said = errors.read().strip().splitlines() or ["nothing"]
        raise BenchmarkError(f"a side ended with status {process.wait()}, saying: {said[-1]}") from None
    return answer


def passes(comparison: Pairing, measured: Timing) -> bool:
    """Tell whether a comparison keeps its limit, if it has one."""
    return comparison.at_least is None or measured.ratio >= comparison.at_least


def line(comparison: Pairing, measured: Timing) -> str:
    """Describe a comparison in a line."""
    (a, b), (low, high) = measured.seconds, measured.quartiles
    text = f"{comparison.name:30} {a:7.3f} s {b:7.3f} s | ratio {measured.ratio:.3f} ({low:.3f} .. {high:.3f})"
    if comparison.first.get("work") == "trainer" or comparison.first.get("spins"):
        text += f" | losses differ by {measured.loss_difference:.0e} at most"
    if comparison.at_least is not None:
        text += f" | {'PASS' if passes(comparison, measured) else 'FAIL'}, at least {comparison.at_least:g}"
    return text


def padding_lines() -> list[str]:
    """Compute the share of padding in all tokens, and the most that packing could gain."""
    lengths = [min(length, data.MAX_LENGTH) for length in data.draw_lengths(data.QUESTIONS)]
    order = random.Random(0).sample(range(len(lengths)), len(lengths))
    grouped = group_by_length(order, lengths)
    to_max = 1 - statistics.fmean(lengths) / data.MAX_LENGTH
    lines = [f"padding among all tokens, SQuAD-like lengths: {to_max:.1%} where all are padded to {data.MAX_LENGTH}"]
    for size in BATCH_SIZES:
        at_random, together = (_share(found, lengths, size) for found in (order, grouped))
        lines.append(f"  batches of {size:2}: {at_random:6.1%} in random order, {together:5.1%} grouped by length")
    return lines


def _share(order: Sequence[int], lengths: Sequence[int], batch_size: int) -> float:
    return padding_share([lengths[example] for example in order], batch_size)


def _suite(benchmark: str, methods: str) -> int:
    """Run a suite in a store of its own, as users do; print one line per study, with its useful share."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}
        command = [sys.executable, "-m", "hpo", "suite", "--methods", methods, "--seeds", "0", "--benchmark", benchmark]
        began = REAL.now()
        status = subprocess.run(command, env=environment, check=False).returncode
    print(f"whole command: {REAL.now() - began:.0f} s")
    return status


if __name__ == "__main__":
    sys.exit(main())
