"""Measure how often the rules of verdicts err, and what they can find: `python -m benchmarks.measure.verdicts`.

Simulates families of comparisons with the scores of real studies, and prints family-wise errors, wrong equivalences,
coverage of intervals, and the blocks that a difference takes. Seeds are fixed; two minutes on one core.

The scores that come with it are the confirmed test F1 of 12 contestants with 40 seeds on `synthetic`, three trainings
each, of studies that ran in one process::

    python -m hpo.planning.simulated_scores --seeds 40 --output benchmarks/measure/synthetic_scores.csv

`--scores` takes the `figure_confirmed_scores.csv` of a comparison, such as a pilot on a model of your own. `--tasks`
measures statements across tasks instead: how often a family of them errs, and how many tasks it takes to find a true
difference. That takes two and a half minutes.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

FAMILIES, TASK_FAMILIES = 400, 120
SCORES = Path(__file__).parent / "synthetic_scores.csv"
RATES = {
    "blocks": "blocks",
    "family_wise_error": "false better or worse, % of families",
    "wrong_equivalence": "false equivalent, % of families",
    "equivalences": "equivalent pairs in a family",
    "coverage": "coverage of 95 % intervals, Student's t, %",
    "coverage_of_bootstrap": "the same, percentile bootstrap, %",
    "flattery": "score of the best method above its true one, points",
    "flattery_of_corrected": "the same, corrected for having been chosen, points",
    "best_called_worse": "the truly best method called worse, % of families",
}
TASK_ERRORS = {
    "alike": "alike: better or worse",
    "better_at_margin": "at margin: better",
    "equal_at_margin": "at margin: equal",
}
FALSE = {
    **TASK_ERRORS,
    "alike_uncorrected": "alike, uncorrected",
    "at_margin_uncorrected": "margin, uncorrected",
    "alike_pooled": "alike, seeds pooled",
}
"""Shares of families with a false statement, by name, with their headings."""
COVERED = {
    "over_seeds": "over seeds",
    "over_tasks": "over tasks",
    "over_tasks_without_worst": "tasks, worst left out",
}
WIDTH = 22
"""Characters of a column of shares."""


def main() -> int:
    """Simulate, print, judge: exit status 1 if more than 5 % of families err beyond the simulation's noise."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.measure.verdicts", description=__doc__.split("\n")[0])
    parser.add_argument("--scores", type=Path, default=SCORES, help="figure_confirmed_scores.csv of a comparison")
    parser.add_argument("--families", type=int, help="families drawn for each rate (default: 400, of tasks 120)")
    parser.add_argument("--tasks", action="store_true", help="statements across tasks, not verdicts on one benchmark")
    parser.add_argument("--output", type=Path, help="write the figures as JSON too")
    arguments = parser.parse_args()
    families = arguments.families or (TASK_FAMILIES if arguments.tasks else FAMILIES)
    module = "hpo.planning.task_rates" if arguments.tasks else "hpo.planning.verdict_rates"
    command = [sys.executable, "-m", module, str(arguments.scores), str(families)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        return done.returncode
    found = json.loads(done.stdout)
    if arguments.output:
        arguments.output.write_text(json.dumps(found, indent=1) + "\n")
    print(text_of_tasks(found) if arguments.tasks else text_of(found))
    return 0 if (tasks_hold if arguments.tasks else holds)(found, families) else 1


def text_of(found: Mapping[str, Any]) -> str:
    """Write the figures for people."""
    low, middle, high = (f"{share:.0%}" for share in found["ties"])
    lines = [
        f"{found['methods']} methods with {found['rows']} blocks; pairs are within the margin in {low} to {high} of "
        f"blocks (median {middle}); median skewness of differences {found['skewness']:.1f}",
    ]
    for row in found["rates"]:
        lines.append("")
        lines += [f"{title:52} {_shown(name, row[name]):>7}" for name, title in RATES.items()]
    lines += ["", *_pairings(found["pairings"])]
    lines += ["", "blocks for a power of 80 %, one comparison (standard deviation, true difference, in points):"]
    lines += [
        f"  {100 * one['spread']:.1f}  {100 * one['difference']:.1f}  {one['blocks'] or 'more than 120'}"
        for one in found["needed"]
    ]
    return "\n".join(lines)


def holds(found: Mapping[str, Any], families: int) -> bool:
    """Tell whether errors stay at 5 % of families, or above by no more than two standard errors of the simulation."""
    return all(
        row[name] <= _most(families) for row in found["rates"] for name in ("family_wise_error", "wrong_equivalence")
    )


def tasks_hold(found: Mapping[str, Any], families: int) -> bool:
    """Tell the same of statements across tasks."""
    return all(row[name] <= _most(families) for row in found["rates"] for name in TASK_ERRORS)


def _most(families: int) -> float:
    return 0.05 + 2 * math.sqrt(0.05 * 0.95 / families)


def text_of_tasks(found: Mapping[str, Any]) -> str:
    """Write the figures of statements across tasks for people."""
    lines = [f"{found['families']} families, 8 seeds on each task; shares in %", *_heading("tasks  rivals", FALSE)]
    lines += [f"{one['tasks']:5}  {one['rivals']:6}" + _percent(one[name] for name in FALSE) for one in found["rates"]]
    lines += _heading("intervals of a mean that hold it\ntasks", COVERED)
    lines += [f"{one['tasks']:5}" + _percent(one[name] for name in COVERED) for one in found["coverage"]]
    pairs = list(found["power"][0]["found"])
    names = {number: f"of {number} {'pair' if number == '1' else 'pairs'}" for number in pairs}
    lines += _heading("differences that are found, in margins\ntasks  mean  spread over tasks", names)
    lines += [
        f"{one['tasks']:5}  {one['difference']:4g}  {one['spread']:17g}"
        + _percent(one["found"][name] for name in pairs)
        for one in found["power"]
    ]
    return "\n".join(lines)


def _heading(first: str, names: Mapping[str, str]) -> list[str]:
    return ["", first + "".join(f"  {title:>{WIDTH}}" for title in names.values())]


def _percent(shares: Iterable[float]) -> str:
    return "".join(f"  {'-' if math.isnan(share) else f'{100 * share:.1f}':>{WIDTH}}" for share in shares)


def _pairings(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """Lay out the spread of each method's difference from random search, in points; no line without random search."""
    if not found:
        return []
    lines = ["standard deviations in points, each method beside random search:"]
    lines += [f"  {'':18}   own  paired  apart  correlation  ties  worst block"]
    for one in found:
        own, paired, apart, worst = (100 * one[name] for name in ("spread", "paired", "apart", "worst"))
        lines += [
            f"  {one['method']:18} {own:5.1f}  {paired:6.1f}  {apart:5.1f}  {one['correlation']:11.2f}  "
            f"{one['ties']:4.0%}  {worst:11.1f}"
        ]
    return lines


def _shown(name: str, value: float) -> str:
    if name == "blocks":
        return str(value)
    return f"{value:.2f}" if name == "equivalences" else f"{100 * value:.1f}"


if __name__ == "__main__":
    sys.exit(main())
