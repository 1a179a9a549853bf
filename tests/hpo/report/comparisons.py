"""Comparisons made by hand, with every figure, and with names that try to be more than text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.utils import PlotlyJSONEncoder

from benchmarks.space import Choice, LogUniform
from benchmarks.spec import Benchmark
from hpo.analysis import compare
from hpo.analysis.compare import Result
from hpo.analysis.contestants import Contestant
from hpo.analysis.records import Records
from hpo.analysis.statistics.verdicts import Comparison
from hpo.analysis.studies import Confirmation, StudyRecord
from hpo.core.study import fresh_seeds, schedule_digest
from hpo.report.figures.plots import Figure, LeftOut, Plot

MAX_UNITS = 3
SEEDS = (0, 1, 2)
HOSTILE = (
    "<script>window.hacked=1;alert(1)</script>",
    '"><img src=x onerror="window.hacked=1;alert(2)">',
    "</script><script>window.hacked=1</script>",
    "<b>bold</b> & <a href='javascript:alert(3)'>link</a> %{x} {{ 7 * 7 }}",
)

UNITS = """\
trial,units,ended_seconds,startup_seconds,train_seconds,evaluate_seconds,checkpoint_seconds,idle_seconds,eval_loss
0,1,2.0,0.5,1.0,0.5,0.0,0.0,3.0
1,1,2.5,0.5,1.0,0.5,0.0,0.5,3.5
0,2,4.0,0.0,1.5,0.5,0.0,0.0,2.0
2,1,4.5,0.0,1.0,0.5,0.0,0.5,4.0
0,3,6.0,0.0,1.5,0.5,0.0,0.0,{first}
3,1,6.5,0.0,1.0,0.5,0.5,0.0,2.5
3,2,8.0,0.0,1.0,0.5,0.0,0.0,2.2
3,3,9.5,0.0,1.0,0.5,0.0,0.0,{best}
"""
"""Two devices; trial 0 holds the first all its time, 1, 2 and 3 follow each other on the second."""
DEVICES = "since_seconds,devices\n0.0,2\n10.0,0\n"
TRIALS = """\
trial,outcome,units,seed,schedule,learning_rate,batch_size_per_device,weight_decay,eval_loss,f1,device_seconds,reason
0,completed,3,{seed},aa,0.001,8,0.0,{first},0.4,6.0,reached the full resource
1,stopped,1,{seed},bb,0.0001,4,0.01,3.5,0.1,2.5,stopped
2,diverged,1,{seed},cc,0.05,4,0.01,,0.0,2.0,diverged
3,completed,3,{seed},dd,0.003,16,0.0,{best},0.6,5.0,reached the full resource
"""


def make_study(
    method: str, seed: int, best: float = 0.8, schedule: Sequence[Mapping[str, Any]] = (), **changes: Any
) -> StudyRecord:
    """A study of 10 s on two devices."""
    config = {"learning_rate": 0.003, "batch_size_per_device": 16, "weight_decay": 0.0}
    found: dict[str, Any] = {
        "units": 3,
        "config": config,
        "metrics": {"eval_loss": best, "f1": 0.6},
        "schedule": list(schedule),
    }
    parts = {"startup": 1.0, "train": 9.0, "evaluate": 4.0, "checkpoint": 0.5, "idle": 5.5, "failed": 0.0}
    metrics: dict[str, float] = {f"device_hours_{part}": seconds / 3600 for part, seconds in parts.items()}
    metrics |= {"device_hours": 20 / 3600, "gpu_hours": 0.0, "wall_seconds": 10.0, "units": 8.0, "utilization": 0.65}
    files = {
        "units.csv": UNITS.format(first=best + 0.4, best=best),
        "devices.csv": DEVICES,
        "trials.csv": TRIALS.format(seed=seed, first=best + 0.4, best=best),
        "best_config.json": json.dumps(found),
    }
    fields: dict[str, Any] = {
        "run_id": f"{method}-{seed}",
        "method": method,
        "variant": "",
        "seed": seed,
        "budget": 4,
        "tags": {"hpo.accelerator": "cpu"},
        "metrics": metrics | {"best_eval_loss": best},
        "started": 0,
        "files": files,
    }
    return StudyRecord(**(fields | changes))


def trainings(benchmark: Benchmark, study: StudyRecord, f1: float, repeats: int = 2) -> list[Confirmation]:
    """Confirmations of a study's incumbent: F1 a little below and above `f1` on test."""
    assert study.schedule is not None
    digest = schedule_digest(benchmark, study.schedule)
    return [
        Confirmation(
            digest,
            seed,
            diverged=False,
            metrics={"f1": f1 + 0.02, "eval_loss": 0.98 - f1}
            | {"test_f1": f1 + sign, "test_exact_match": f1 - 0.1, "test_eval_loss": 1 - f1 + sign},
            device_seconds=3.0,
        )
        for seed, sign in zip(fresh_seeds(study.seed, repeats), (-0.01, 0.01), strict=True)
    ]


CONFIG = {"learning_rate": 0.001, "batch_size_per_device": 8, "weight_decay": 0.0}
STEPS = ({"units": 0, "config": CONFIG}, {"units": 2, "config": {**CONFIG, "learning_rate": 0.004}})


def make_result(
    benchmark: Benchmark, seeds: Sequence[int] = SEEDS, is_confirmed: bool = True, reference: str = ""
) -> Result:
    """Three methods; only one of them is a population."""
    studies: list[StudyRecord] = []
    confirmed: list[Confirmation] = []
    for seed in seeds:
        # configurations that are equal share their confirmations, so each method has its own
        for method, f1, rate in (("asha", 0.6, 0.003), ("random", 0.5, 0.002), ("pbt", 0.55, 0.001)):
            steps = STEPS if method == "pbt" else ({"units": 0, "config": {**CONFIG, "learning_rate": rate}},)
            study = make_study(method, seed, best=1.3 - f1 + 0.01 * seed, schedule=steps)
            studies.append(study)
            confirmed += trainings(benchmark, study, f1 + 0.01 * seed) if is_confirmed else []
    return compare.compare(Records(benchmark, "0123abcd", studies, confirmed, 0.01, []), reference=reference)


IMPORTANCE = {"learning_rate": (0.7, 0.6, 0.8), "weight_decay": (0.1, None, None)}


def drawn(found: Figure | LeftOut) -> Figure:
    assert isinstance(found, Figure), found
    return found


def hostile(result: Result) -> Result:
    """The same comparison with names that try to be more than text, in methods, hyperparameters and notes."""
    names = dict(zip((one.name for one in result.standings), HOSTILE, strict=False))
    first, second, third = HOSTILE[:3]
    space = {
        second: Choice(type="choice", values=(first, second)),
        third: LogUniform(type="loguniform", low=1e-5, high=1.0),
    }
    benchmark = result.benchmark.model_copy(update={"description": first, "space": space})
    schedule = [{"units": units, "config": {second: HOSTILE[units], third: 0.1 + units}} for units in (0, 2)]
    columns = {"trial": [0, 1], "outcome": first, "units": 3, second: [first, second], third: [0.1, 0.2]}
    trials = pd.DataFrame({**columns, "eval_loss": [1.0, 2.0]})

    def renamed(contestant: Contestant) -> Contestant:
        studies = {
            seed: replace(
                study,
                method=names[contestant.name],
                files={
                    **study.files,
                    "trials.csv": trials.to_csv(index=False),
                    "best_config.json": json.dumps({**(study.best or {}), "schedule": schedule}),
                },
            )
            for seed, study in contestant.studies.items()
        }
        return replace(contestant, name=names[contestant.name], method=names[contestant.name], studies=studies)

    def renamed_pair(number: int, pair: Comparison) -> Comparison:
        return replace(pair, a=names[pair.a], b=names[pair.b], reason=HOSTILE[number % 4])

    return replace(
        result,
        benchmark=benchmark,
        accelerator=HOSTILE[2],
        standings=[replace(one, name=names[one.name]) for one in result.standings],
        verdicts=replace(
            result.verdicts,
            pairs=[renamed_pair(number, pair) for number, pair in enumerate(result.pairs)],
            others={name: [renamed_pair(1, pair) for pair in pairs] for name, pairs in result.verdicts.others.items()},
            beats_default=dict.fromkeys(HOSTILE, False),
        ),
        plan=replace(result.plan, differences=HOSTILE),
        shrinkage=[replace(one, name=names[one.name]) for one in result.shrinkage],
        contestants=[renamed(contestant) for contestant in result.contestants],
        notes=list(HOSTILE),
    )


def as_written(view: Plot) -> dict[str, Any]:
    """A plot as the page holds it."""
    written: dict[str, Any] = json.loads(json.dumps({"data": view.data, "layout": view.layout}, cls=PlotlyJSONEncoder))
    return written


def as_plotly_reads(view: Plot) -> dict[str, Any]:
    """A plot by plotly's Python objects, which refuse unknown keys and values, and part keys such as `line_width`."""
    read: dict[str, Any] = json.loads(go.Figure(**as_written(view), layout_template="none").to_json())
    del read["layout"]["template"]
    return read
