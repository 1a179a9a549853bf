"""Measure the overhead of short trials: `python -m benchmarks.measure.tiny --output docs/images/tiny-trials.png`.

As root on a Debian machine with slurm-wlm and munge, on two free cores: it starts a SLURM of two nodes for itself. Each
size of trial is run by each way in turn, so that all ways meet the same machine. The table shows, for each way, the
seconds from the command to the first trial, and the overhead of a trial: the time that a place was taken for it beyond
its training.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.measure.tiny.figure import draw
from benchmarks.measure.tiny.ways import PLACES, PROJECT, RATE, WAYS, Bench, Span

SUMMARY = "Measure the overhead of short trials."
TESTBED = [sys.executable, "-m", "slurm.testbed"]


def overhead_seconds(bench: Bench, span: Span) -> float:
    """Return the seconds of a place for each trial, beyond its training."""
    return span.seconds * PLACES / bench.trials - bench.sequences / RATE


def lines(sizes: list[int], found: dict[str, list[Span]], benches: list[Bench]) -> list[str]:
    """Return the table in Markdown."""
    titles = [f"{size} sequences ({size / RATE:g} s)" for size in sizes]
    table = ["| way | seconds to the first trial | overhead of a trial: " + " | ".join(titles) + " |"]
    table.append("|---" * (2 + len(sizes)) + "|")
    for way, spans in found.items():
        starts = sorted(span.start_seconds for span in spans)
        costs = " | ".join(f"{overhead_seconds(bench, span):.2f} s" for bench, span in zip(benches, spans, strict=True))
        table.append(f"| {way} | {starts[len(starts) // 2]:.1f} | {costs} |")
    return table


def main() -> None:
    """Print the table and draw the figure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.measure.tiny", description=SUMMARY)
    parser.add_argument("--sizes", default="8,64,512", help="sequences of a trial, with commas (default: 8,64,512)")
    parser.add_argument("--trials", type=int, default=32, help="trials of each size and way (default: 32)")
    parser.add_argument("--output", type=Path, default=Path("tiny-trials.png"), help="picture to write")
    parsed = parser.parse_args()
    sizes = [int(size) for size in parsed.sizes.split(",")]
    with tempfile.TemporaryDirectory(prefix="tiny-") as name:
        work, bed = Path(name) / "work", Path(name) / "bed"
        work.mkdir()
        environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
        if subprocess.run([*TESTBED, "start", str(bed)], env=environment, check=False).returncode:
            sys.exit(1)  # it says why
        os.environ["SLURM_CONF"] = str(bed / "slurm.conf")
        try:
            benches = [Bench(work, parsed.trials, size) for size in sizes]
            found: dict[str, list[Span]] = {way: [] for way in WAYS}
            for bench in benches:
                bench.write()
                for way, run in WAYS.items():
                    found[way].append(run(bench))
                    print(f"{way}, {bench.sequences} sequences: {found[way][-1]}", file=sys.stderr, flush=True)
        finally:
            subprocess.run([*TESTBED, "stop", str(bed)], env=environment, check=True)
    print("\n".join(lines(sizes, found, benches)))
    rates = {
        way: [bench.trials * bench.sequences / span.seconds for bench, span in zip(benches, spans, strict=True)]
        for way, spans in found.items()
    }
    draw(sizes, rates, parsed.output)


if __name__ == "__main__":
    main()
