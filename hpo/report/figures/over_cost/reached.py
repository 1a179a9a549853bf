"""Targets: the share of studies that are as good as random search, over the trainings spent. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median

import pandas as pd

from benchmarks.spec import Benchmark
from hpo.analysis.compare import Result
from hpo.analysis.contestants import Contestant
from hpo.analysis.over_cost.curves import anytime, is_known, spell_in_trainings
from hpo.analysis.statistics.censored import Reaching
from hpo.report.figures.plots import Figure, LeftOut, Plot, Style, canvas, plain, words


def target_reached(result: Result, looks: Mapping[str, Style]) -> Figure | LeftOut:
    """Draw the share of each method's studies whose incumbent is as good as random search's median incumbent."""
    name, title, benchmark = "target_reached", "Studies that reached the target", result.benchmark
    target = _target(result)
    if target is None:
        return LeftOut(name, title, "the target is random search's median incumbent, and no study of it kept its units")
    found = {one.name: reaching for one in result.contestants if (reaching := _reaching(one, benchmark, target))}
    read = (
        f"The target is a validation {words(benchmark.metric)} of {target:.4g}, the median incumbent of random search "
        "at its whole budget. A line is the share of a method's studies that had reached it after so many full "
        "trainings, by Kaplan and Meier: studies that end before count as long as they ran. It ends where the last "
        "study ends. Expected running time: the trainings of all studies, divided by the number that reached it."
    )
    steps = pd.concat([one.shares().assign(method=method) for method, one in found.items()], ignore_index=True)
    data = steps.rename(columns={"cost": "trainings"})[["method", "trainings", "share"]]
    notes = tuple(f"{method}: {in_words(one)}." for method, one in found.items())
    return Figure(name, title, read, data, {"": _drawn(data, looks)}, notes)


def in_words(found: Reaching) -> str:
    """Write the studies that reached a target, and what that cost, in full trainings."""
    told = f"{found.reached} of {len(found.spells)} reached it"
    if found.reached == 0:
        return told
    half = "" if found.median is None else f", half of all by {found.median:.3g} trainings"
    return f"{told}{half}, expected running time {found.expected_running_time:.3g}"


def _target(result: Result) -> float | None:
    """Return random search's median incumbent at the budget of the comparison; one that found nothing has the worst."""
    references = [one for one in result.contestants if one.traits.is_reference and one.studies]
    if not references:
        return None
    smallest = min(references, key=lambda one: one.budget)
    curves = {seed: anytime(study, result.benchmark) for seed, study in smallest.studies.items()}
    values = [float(curve["value"].iloc[-1]) for curve in curves.values() if not curve.empty]
    lost = [seed for seed, study in smallest.studies.items() if study.best is None and curves[seed].empty]
    return median([*values, *[result.benchmark.ranking_metric.worst] * len(lost)]) if values else None


def _reaching(contestant: Contestant, benchmark: Benchmark, target: float) -> Reaching | None:
    if contestant.traits.is_single_config:
        return None
    known = filter(is_known, contestant.studies.values())
    return Reaching.of([spell_in_trainings(study, benchmark, target) for study in known])


def _drawn(data: pd.DataFrame, looks: Mapping[str, Style]) -> Plot:
    figure = canvas(400, legend=True)
    figure.update_xaxes(title={"text": "full trainings"}, rangemode="tozero", nticks=8)
    figure.update_yaxes(title={"text": "share of studies"}, range=[-0.02, 1.02], tickformat=".0%", automargin=True)
    for method, steps in data.groupby("method", sort=False):
        look = looks[str(method)]
        figure.add_scatter(
            x=steps["trainings"].tolist(),
            y=steps["share"].tolist(),
            mode="lines",
            name=plain(method),
            line={"shape": "hv", "color": look.color, "dash": look.dash, "width": 2.5},
            hovertemplate="%{x:.3g} trainings: %{y:.0%}<extra>%{fullData.name}</extra>",
        )
    return figure
