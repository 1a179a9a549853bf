"""Measure how many trials a study loses to memory: `python -m benchmarks.measure.memory`.

Studies run on a virtual clock, in search spaces of which 40 to 50 % of random draws do not fit into a simulated
memory, without the rescue by smaller micro-batches. Seeds are fixed; a minute on one core. The command fails if a study
loses more than two trials.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

ALLOWED = 2
"""Trials that a study may lose."""


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.measure.memory", description=__doc__.split("\n")[0])
    parser.add_argument("--methods", default="random", help="separated by commas (default: random)")
    parser.add_argument("--devices", type=int, nargs="+", default=[1, 2], help="numbers of devices (default: 1 2)")
    parser.add_argument("--budget", type=int, default=8, help="trainings of each study (default: 8)")
    parser.add_argument("--seeds", type=int, default=20, help="of each method and number of devices (default: 20)")
    given = parser.parse_args()
    words = [*given.methods.split(","), "--devices", *given.devices, "--budget", given.budget, "--seeds", given.seeds]
    command = [sys.executable, "-m", "hpo.planning.lost_trials", *map(str, words)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        return done.returncode
    found = json.loads(done.stdout)
    print(text_of(found))
    return 0 if beyond(found) == 0 else 1


def text_of(rows: Sequence[Mapping[str, Any]]) -> str:
    """Write the figures for people."""
    most = max((int(number) for row in rows for number in row["lost"]), default=0)
    lines = [f"{'search space':32}{'too large':>10}  studies that lost {', '.join(map(str, range(most + 1)))} trials"]
    for row in rows:
        studies = "".join(f"{row['lost'].get(str(number), 0):6}" for number in range(most + 1))
        lines.append(f"{row['space']:32}{row['too_large']:10.0%}  {studies}")
    total = sum(sum(row["lost"].values()) for row in rows)
    lines.append(f"{total - beyond(rows)} of {total} studies lost at most {ALLOWED} trials")
    return "\n".join(lines)


def beyond(rows: Sequence[Mapping[str, Any]]) -> int:
    """Count the studies that lost more trials than they may."""
    return sum(count for row in rows for number, count in row["lost"].items() if int(number) > ALLOWED)


if __name__ == "__main__":
    sys.exit(main())
