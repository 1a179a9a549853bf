"""Draw the computed figures of the workshop: `python -m tests.workshop.figures docs/images`.

Those of chapters 2, 3, 5 and 7 are replays on the recorded curves of `nano`; that of chapter 4 is a population on
`synthetic`, since no curve is recorded whose hyperparameters change.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from benchmarks import spec
from benchmarks.space import Domain, LogUniform, Uniform
from hpo.analysis.timeline import pack
from hpo.core.books import BUDGET_SPENT, Books
from hpo.core.events import Event, Exploited, Proposed, Unit
from hpo.core.results import TrialRow
from hpo.engine.in_process import InProcess, Unkept
from hpo.engine.in_process.simulated import simulated
from hpo.search import registry
from hpo.search.space import to_tune

LOW, HIGH, DRAWS = 1e-5, 1e-1, 1000
PRIORS = {
    "flat (uniform)": Uniform(type="uniform", low=LOW, high=HIGH),
    "log-uniform": LogUniform(type="loguniform", low=LOW, high=HIGH),
}
DECADES = range(round(math.log10(LOW)), round(math.log10(HIGH)))
BLUE, ORANGE, GREEN, RED, GREY = "#4c72b0", "#dd8452", "#55a868", "#c44e52", "#999999"
DEVICES = 2
BRACKETS = {"s = 2": (range(9), BLUE), "s = 1": (range(9, 14), ORANGE), "s = 0": (range(14, 17), GREEN)}
"""Trials of each bracket of chapter 5, by number."""


def draws(domain: Domain) -> list[float]:
    """Draw learning rates by the sampler that searches use."""
    sampler = to_tune({"learning_rate": domain})["learning_rate"]
    return [float(value) for value in sampler.sample(size=DRAWS, random_state=np.random.RandomState(0))]


def shares(values: list[float]) -> list[float]:
    """Return the share of draws in each power of ten, from the least on."""
    return [sum(10.0**low <= value < 10.0 ** (low + 1) for value in values) / len(values) for low in DECADES]


def searched(method: str, benchmark: str, budget: int, **arguments: Any) -> Books:
    """Run a study of seed 0 in this process, and return its books."""
    study = registry.get(method).study(spec.load(benchmark), 0, budget, None, arguments)
    return simulated(study, InProcess(DEVICES)).books


def priors() -> Figure:
    """Draw the first 60 draws of both priors on a logarithmic axis, with the share of each power of ten."""
    figure = Figure(figsize=(7.2, 3.0), layout="constrained")
    for axes, (title, domain) in zip(figure.subplots(2, 1, sharex=True), PRIORS.items(), strict=True):
        values = draws(domain)
        axes.scatter(values[:60], [0.0] * 60, marker="|", s=300, color=BLUE)
        for low, share in zip(DECADES, shares(values), strict=True):
            axes.axvline(10.0**low, color="#888888", linewidth=0.6)
            axes.text(10.0 ** (low + 0.5), 0.6, f"{share:.1%}", ha="center", color="#555555")
        axes.set(xscale="log", xlim=(LOW, HIGH), ylim=(-0.7, 1.1), yticks=[], title=title)
    axes.set_xlabel("learning rate")
    return figure


def grid() -> Figure:
    """Draw the loss over the learning rate for twelve trainings of the grid, and for twelve random draws."""
    studies = {
        "grid": searched("manual", "nano_recorded", 12, shift=False, start_with_default=False),
        "random search": searched("random", "nano_recorded", 12, start_with_default=False),
    }
    figure = Figure(figsize=(7.2, 3.2), layout="constrained")
    for axes, (title, books) in zip(figure.subplots(1, 2, sharex=True, sharey=True), studies.items(), strict=True):
        rates = [float(row.config["learning_rate"]) for row in books.rows]
        axes.scatter(rates, _losses(books.rows), s=28, color=BLUE, zorder=2)
        for rate in set(rates):
            axes.axvline(rate, color=ORANGE, linewidth=0.8, zorder=1)
        axes.set(xscale="log", xlabel="learning rate")
        axes.set_title(f"{title}: {len(rates)} trainings, {len(set(rates))} rates", fontsize=10)
        _scale_losses(axes, (0.1, 0.2, 0.5, 1, 2))
    figure.axes[0].set_ylabel("eval loss at the end")
    return figure


def rungs() -> Figure:
    """Draw the curves of ASHA's trials to the unit at which each ended, over its rungs."""
    books = searched("asha", "nano_recorded", 4)
    figure = Figure(figsize=(7.2, 3.6), layout="constrained")
    axes = figure.subplots()
    kinds = {"trained in full": (GREEN, "o"), "stopped at a rung": (GREY, "x"), "ended by the budget": (ORANGE, "x")}
    for row in books.rows:
        units, losses = _curve(books, row)
        color, mark = kinds[_end_of(row)]
        axes.plot(units, losses, color=color, linewidth=2 if row.outcome == "completed" else 1)
        axes.plot(units[-1:], losses[-1:], mark, color=color)
    for rung in (1, 3, 9):
        axes.axvline(rung, color="#cccccc", linewidth=0.8, zorder=0)
        reached = sum(row.units >= rung for row in books.rows)
        axes.text(rung, 1.02, f"{reached} trials", ha="center", transform=axes.get_xaxis_transform())
    marks = [Line2D([], [], color=color, marker=mark, label=name) for name, (color, mark) in kinds.items()]
    axes.legend(handles=marks, loc="upper right")
    axes.set(xlabel="units trained", ylabel="eval loss", xticks=range(1, 10))
    _scale_losses(axes, (0.2, 0.5, 1, 2, 5, 10))
    return figure


def population() -> Figure:
    """Draw learning rate and loss of PBT's members over the units; a ring where a member copied another."""
    events = _events_of("pbt", "synthetic", 4)
    figure = Figure(figsize=(7.2, 3.4), layout="constrained")
    rates, losses = figure.subplots(1, 2)
    for event in events:
        if not isinstance(event, Proposed):
            continue
        color, values = (BLUE, ORANGE, GREEN, RED)[event.number], [(0, event.schedule[0][1])]
        copies = [later for later in events if isinstance(later, Exploited) and later.trial == event.trial]
        values += [(copy.units, copy.config) for copy in copies]
        steps = [(since, float(config["learning_rate"])) for since, config in values]
        rates.step([*(since for since, _ in steps), 9], [*(rate for _, rate in steps), steps[-1][1]], color=color,
                   where="post", label=f"member {event.number}")  # fmt: skip
        rates.plot(*zip(*steps[1:], strict=True), "o", color=color, fillstyle="none") if copies else None
        units = [unit for unit in events if isinstance(unit, Unit) and unit.trial == event.trial]
        losses.plot([unit.units for unit in units], [unit.metrics["eval_loss"] for unit in units], ".-", color=color)
    rates.set(xlabel="units trained", ylabel="learning rate", yscale="log", xticks=range(10))
    losses.set(xlabel="units trained", ylabel="eval loss", xticks=range(1, 10))
    _scale_losses(losses, (0.5, 1, 2, 5))
    rates.legend(fontsize=8)
    return figure


def brackets() -> Figure:
    """Draw the units of HyperBand's trials on two devices, in the colour of the bracket, over time."""
    books = searched("hyperband", "nano_recorded", 9)
    spans = [(unit.ended_seconds - sum(unit.seconds.values()) + unit.seconds["idle"], unit.ended_seconds)
             for unit in books.units]  # fmt: skip
    figure = Figure(figsize=(7.2, 2.4), layout="constrained")
    axes = figure.subplots()
    for unit, (began, ended), row in zip(books.units, spans, pack(spans, DEVICES), strict=True):
        color = next(color for trials, color in BRACKETS.values() if unit.trial in trials)
        axes.barh(row, ended - began, left=began, color=color, edgecolor="white", linewidth=0.5)
        axes.text((began + ended) / 2, row, unit.trial, ha="center", va="center", fontsize=7, color="white")
    marks = [Line2D([], [], color=color, linewidth=6, label=name) for name, (_, color) in BRACKETS.items()]
    figure.legend(handles=marks, loc="outside upper right", ncols=3, fontsize=8)
    axes.set(xlabel="seconds", yticks=range(DEVICES), yticklabels=["device 1", "device 2"], xlim=(0, books.seconds))
    axes.invert_yaxis()
    return figure


def asks() -> Figure:
    """Draw the learning rate of Optuna's proposals in their order: random draws, and those of the model."""
    rows = searched("optuna", "nano_recorded", 12).rows
    figure = Figure(figsize=(7.2, 3.2), layout="constrained")
    axes = figure.subplots()
    for by_model, marker, name in ((False, "o", "default and random draws"), (True, "D", "proposed by the model")):
        mine = [row for row in rows if bool(row.by_model) == by_model]
        rates = [float(row.config["learning_rate"]) for row in mine]
        shown = axes.scatter([row.number for row in mine], rates, c=_losses(mine), marker=marker, s=60, label=name,
                             cmap="viridis", norm=LogNorm(0.1, 3.0), edgecolor="black", linewidth=0.5)  # fmt: skip
    best = min(rows, key=lambda row: row.metrics["eval_loss"])
    axes.annotate(
        "best", (best.number, float(best.config["learning_rate"])), (0, 9), textcoords="offset points", ha="center"
    )
    figure.colorbar(shown, label="eval loss at the end", ticks=[0.1, 0.3, 1, 3], format="%g")
    figure.legend(loc="outside upper left", ncols=2, fontsize=8)
    axes.set(yscale="log", xlabel="proposal", ylabel="learning rate", xticks=range(len(rows)))
    return figure


def _events_of(method: str, benchmark: str, budget: int) -> list[Event]:
    study, kept = registry.get(method).study(spec.load(benchmark), 0, budget, None, {}), Unkept("")
    simulated(study, InProcess(DEVICES), open_folder=lambda run_id: kept)
    return kept.log.events()


def _scale_losses(axes: Axes, ticks: Sequence[float]) -> None:
    """Draw losses on a logarithmic scale with these numbers beside it."""
    axes.set_yscale("log")
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_yticks(ticks, labels=[f"{tick:g}" for tick in ticks])


def _losses(rows: Sequence[TrialRow]) -> list[float]:
    return [row.metrics["eval_loss"] for row in rows]


def _end_of(row: TrialRow) -> str:
    if row.outcome == "completed":
        return "trained in full"
    return "ended by the budget" if row.reason.startswith(BUDGET_SPENT) else "stopped at a rung"


def _curve(books: Books, row: TrialRow) -> tuple[list[int], list[float]]:
    """Return the units of a trial, and its loss at each."""
    units = [unit for unit in books.units if unit.trial == row.number]
    return [unit.units for unit in units], [unit.metrics["eval_loss"] for unit in units]


FIGURES: dict[str, Callable[[], Figure]] = {
    "workshop-priors": priors,
    "workshop-grid": grid,
    "workshop-rungs": rungs,
    "workshop-population": population,
    "workshop-brackets": brackets,
    "workshop-asks": asks,
}
"""Figures by the name of the file."""


def main(words: Sequence[str] | None = None) -> int:
    """Write each figure into a folder; return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", default="", help="figures whose name contains this")
    given = parser.parse_args(words)
    for name in [name for name in FIGURES if given.only in name]:
        FIGURES[name]().savefig(given.folder / f"{name}.png", dpi=130, facecolor="white")
    return 0


if __name__ == "__main__":
    sys.exit(main())
