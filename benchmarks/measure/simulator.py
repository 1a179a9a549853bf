"""Computing time of studies on a virtual clock: `python -m benchmarks.measure.simulator`.

ASHA with 64 and with 512 trials of 9 units, reduction factor 3, on two virtual devices; with `--syne-tune` also that of
Syne Tune's simulator (https://github.com/syne-tune/syne-tune), in turns, so that both meet the same machine. It needs
an environment of its own::

    python -m venv syne && syne/bin/pip install "syne-tune[extra]==0.16.0"
    python -m benchmarks.measure.simulator --syne-tune syne/bin/python

Both run on curves from a formula. Then the time of a replayed study by method, with a model between recorded curves.
All seconds are those that one process computed: medians, with the least and the most. Other work on the machine adds to
them, so ASHA is held to its limits by the least. The command fails if it takes longer.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

LIMITS = {64: 0.1, 512: 1.0}
"""Seconds of ASHA at most, by number of trials."""
OTHER_SIDE = Path(__file__).parent / "syne_tune_side.py"
OF_SUITE = ["-m", "hpo.replays.timing"]
SYNE_TUNE = "syne-tune[extra]==0.16.0"
METHODS, SEEDS = 12, 100
"""Size of the replay whose time is told: studies of so many methods, with so many seeds."""


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.measure.simulator", description=__doc__.split("\n")[0])
    parser.add_argument("--syne-tune", metavar="PYTHON", help="the Python of an environment with Syne Tune")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each side (default: 3)")
    parser.add_argument("--seeds", type=int, default=5, help="studies of each turn (default: 5)")
    given = parser.parse_args()
    are_met = [_asha(trials, limit, given) for trials, limit in LIMITS.items()]
    by_method = _run([sys.executable, *OF_SUITE, "--seeds", str(given.seeds)])
    print("\nnano_recorded, budget 12, a study by method:")
    for method, seconds in by_method.items():
        print(f"  {method:12} {seconds:.3f} s")
    mean = statistics.fmean(by_method.values())
    print(
        f"  mean {mean:.3f} s; {METHODS} x {SEEDS} studies of this mean take {METHODS * SEEDS * mean:.0f} s of one core"
    )
    return 0 if all(are_met) else 1


def _asha(trials: int, limit: float, given: argparse.Namespace) -> bool:
    """Time ASHA on both sides, and print a line; return whether the suite's keeps to its limit."""
    sides = {"suite": [sys.executable, *OF_SUITE]}
    if given.syne_tune:
        sides["Syne Tune"] = [given.syne_tune, str(OTHER_SIDE)]
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    units = dict.fromkeys(sides, 0)
    for _ in range(given.rounds):
        for side, command in sides.items():
            found = _run([*command, "--trials", str(trials), "--seeds", str(given.seeds)])
            seconds[side] += found["seconds"]
            units[side] = found["units"]
    medians = {side: statistics.median(values) for side, values in seconds.items()}
    told = [
        f"{side} {medians[side]:.3f} s ({min(values):.3f} .. {max(values):.3f}), {units[side]} units"
        for side, values in seconds.items()
    ]
    ratio = f" | ratio {medians['Syne Tune'] / medians['suite']:.1f}" if given.syne_tune else ""
    verdict = "PASS" if min(seconds["suite"]) <= limit else "FAIL"
    print(f"ASHA, {trials} trials: {' | '.join(told)}{ratio} | {verdict}, at most {limit:g}", flush=True)
    return verdict == "PASS"


def _run(command: list[str]) -> Any:
    """Run a side on one thread; return what it prints."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    try:
        done = subprocess.run(command, env={**os.environ, **threads}, stdout=subprocess.PIPE, text=True, check=True)
    except OSError as error:
        sys.exit(f"error: {command[0]} cannot be run ({error.strerror}); name the Python of an environment")
    except subprocess.CalledProcessError as error:
        sys.exit(
            f"error: {' '.join(command)} ended with status {error.returncode}, for the reason above; an environment "
            f"with Syne Tune is made by: python -m venv syne && syne/bin/pip install '{SYNE_TUNE}'"
        )
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    sys.exit(main())
