"""Result tables of the workshop's chapters, filled from the participant's own studies.

Each chapter has its tables: of the trials of one study, of several studies side by side, or of a DeepSpeed study. A
store holds the studies of all chapters. A table shows those that its own chapter's commands make, by method, arguments,
budget and way to evaluate. The newest finished one of each counts, whatever its seed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pandas as pd

from benchmarks import tasks
from benchmarks.hyperparameters import Hyperparameters
from benchmarks.spec import BenchmarkError
from benchmarks.tasks.task import LOSS, PERPLEXITY, TRAIN_LOSS
from hpo.analysis import frames
from hpo.core.books import BUDGET_SPENT
from hpo.core.ledger import PARTS
from hpo.core.text_tables import csv_of, markdown_cell, markdown_table
from hpo.store.queries import stored_runs

if TYPE_CHECKING:
    from mlflow.entities import Run

Rows = list[dict[str, Any]]
ZERO = {
    "train_loss": "train loss",
    "eval_loss": "eval loss",
    "train_samples_per_second": "samples/s",
    "wall_seconds": "seconds",
    "gpu_peak_mb": "GPU MiB, peak",
    "host_peak_mb": "host MiB, peak",
    "planned_device_mb": "planned MiB",
}
"""Metrics of a row of a DeepSpeed study, with their headings."""


@dataclass(frozen=True)
class ResultTable:
    """A table of a chapter.

    Attributes:
        name: part of its file's name.
        title: its heading.
        rows: one dictionary per row, all with the same keys.
    """

    name: str
    title: str
    rows: Rows


@dataclass(frozen=True)
class Made:
    """A study that a chapter's commands make.

    Attributes:
        method: its method.
        budget: its budget, in full trainings.
        variant: its arguments that are not left at their defaults, as `hpo.core.study.Study` writes them.
        ways: how its trials may be evaluated; empty under Ray.
    """

    method: str
    budget: int
    variant: str = ""
    ways: tuple[str, ...] = ("",)

    @property
    def variants(self) -> tuple[str, ...]:
        """The variants under which it may be stored."""
        named = [f"evaluation={way}" if way else "" for way in self.ways]
        return tuple(" ".join(filter(None, [self.variant, way])) for way in named)


@dataclass(frozen=True)
class Chapter:
    """A chapter of the workshop.

    Attributes:
        title: its title.
        made: the studies that its commands make, in the order of its table; empty if it shows all there are.
        tables: makes its tables from a benchmark's name and the newest of each of these studies.
    """

    title: str
    made: tuple[Made, ...]
    tables: Callable[[str, pd.DataFrame], list[ResultTable]]


def tables(number: int, benchmark: str) -> list[ResultTable]:
    """Fill the tables of a chapter.

    Args:
        number: the chapter's.
        benchmark: name of the benchmark.

    Raises:
        BenchmarkError: there is no such chapter, no finished study that it shows, or the store cannot be used.
    """
    if number not in CHAPTERS:
        raise BenchmarkError(f"chapter is {number}, but must be one of 1 to {max(CHAPTERS)}")
    chapter = CHAPTERS[number]
    found = chapter.tables(benchmark, _newest(frames.studies(benchmark), chapter.made))
    filled = [table for table in found if table.rows]
    if not filled:
        wanted = " or ".join(dict.fromkeys(f"{made.method} with a budget of {made.budget}" for made in chapter.made))
        raise BenchmarkError(
            f"chapter {number} shows finished studies of {wanted or 'any method'}, and there is none of {benchmark}; "
            f"run the commands of docs/workshop/{number:02d}-*.md first"
        )
    return filled


def files(number: int, benchmark: str, filled: Sequence[ResultTable]) -> dict[str, str]:
    """Write the tables of a chapter as Markdown, and each as CSV, by name of the file."""
    title = f"# Chapter {number}: {CHAPTERS[number].title}\n\nYour studies of `{benchmark}`.\n"
    sections = [f"## {table.title}\n\n{markdown(table)}\n" for table in filled]
    texts = {f"chapter-{number}-{table.name}.csv": csv_of(table.rows) for table in filled}
    return {f"chapter-{number}.md": "\n".join([title, *sections]), **texts}


def markdown(table: ResultTable) -> str:
    """Write a table as Markdown."""
    headings = [name.replace("_", " ") for name in table.rows[0]]
    return markdown_table(headings, [[markdown_cell(_shown(value)) for value in row.values()] for row in table.rows])


def _shown(value: Any) -> Any:
    """Show a missing value as nothing, and a whole number as one."""
    if isinstance(value, float):
        return None if value != value else int(value) if value.is_integer() and abs(value) < 1e6 else value
    return value


def _newest(studies: pd.DataFrame, made: Sequence[Made]) -> pd.DataFrame:
    """Return the newest finished one of each of these studies, in their order; of each kind there is without any."""
    finished = studies[studies["status"] == "FINISHED"]
    newest = finished.drop_duplicates(["method", "variant", "budget"], keep="last")
    if not made:
        return newest
    places = [(one.method, variant, one.budget) for one in made for variant in one.variants]
    keys = list(newest[["method", "variant", "budget"]].itertuples(index=False, name=None))
    order = sorted((places.index(key), row) for row, key in enumerate(keys) if key in places)
    return newest.iloc[[row for _, row in order]]


# ---- trials of one study


def _trials(benchmark: str, studies: pd.DataFrame) -> list[ResultTable]:
    rows = [_trial(trial) for trial in _trials_of_latest(benchmark, studies)]
    return [ResultTable("trials", "Trials", rows)]


def _trials_with_stamps(benchmark: str, studies: pd.DataFrame) -> list[ResultTable]:
    rows = []
    for trial in _trials_of_latest(benchmark, studies):
        began = studies["started"].max().timestamp()
        stamps = {
            name: _clock(began + trial[f"{key}_seconds"]) for name, key in (("start", "began"), ("finish", "ended"))
        }
        rows.append({**_trial(trial), **stamps})
    return [ResultTable("trials", "Trials", rows)]


def _proposals(benchmark: str, studies: pd.DataFrame) -> list[ResultTable]:
    """Show the trials in order, each with the best loss so far."""
    rows, best = [], float("inf")
    for trial in _trials_of_latest(benchmark, studies):
        best = min(best, trial["eval_loss"])
        rows.append({**_trial(trial), "best_so_far": best})
    return [ResultTable("trials", "Trials in the order of proposals", rows)]


def _trials_of_latest(benchmark: str, studies: pd.DataFrame) -> Rows:
    if not len(studies):
        return []
    latest = studies.sort_values("started", kind="stable")
    found = frames.trials(benchmark, [latest["run_id"].iloc[-1]])
    return [{str(name): value for name, value in row.items()} for row in found.to_dict("records")]


def _score_names() -> list[str]:
    """Return the names of scores in the order of columns; a table has those that the benchmark has."""
    of_tasks = [metric.name for name in tasks.names() for metric in tasks.get(name).metrics]
    return list(dict.fromkeys((TRAIN_LOSS, LOSS.name, PERPLEXITY, *of_tasks)))


def _trial(trial: Mapping[str, Any]) -> dict[str, Any]:
    """Return the cells of a trial: hyperparameters, end, scores and cost."""
    config = {name: trial[name] for name in Hyperparameters.model_fields if name in trial}
    scores = {name: trial[name] for name in _score_names() if name in trial}
    return {
        "trial": trial["trial"],
        **config,
        "outcome": trial["outcome"],
        "units": trial["units"],
        **scores,
        "device_seconds": trial["device_seconds"],
    }


def _clock(seconds: float) -> str:
    """Write the local time of a moment since 1970."""
    return datetime.fromtimestamp(seconds).strftime("%H:%M:%S")


# ---- studies side by side


def _studies(benchmark: str, studies: pd.DataFrame) -> list[ResultTable]:
    return [ResultTable("studies", "Studies", [_study(row) for row in studies.to_dict("records")])]


def _study(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the cells of a study: its result, its cost, and the shares of its device time."""
    hours = row["device_hours"]
    scores = {name: row[f"best_{name}"] for name in _score_names() if f"best_{name}" in row}
    shares = {part: row.get(f"device_hours_{part}", float("nan")) / hours for part in PARTS} if hours else {}
    kept = {part: f"{share:.0%}" for part, share in shares.items() if part in ("startup", "idle")}
    return {
        "method": " ".join(filter(None, [row["method"], row["variant"]])),
        "seed": row["seed"],
        "budget": row["budget"],
        "trials": row["num_trials"],
        "units": row["units"],
        **scores,
        "device_hours": hours,
        "wall_seconds": row["wall_seconds"],
        "train_and_evaluate": f"{row['utilization']:.0%}",
        **kept,
    }


def _studies_and_rungs(benchmark: str, studies: pd.DataFrame) -> list[ResultTable]:
    asha = studies[studies["method"] == "asha"].sort_values("started", kind="stable")
    trials = frames.trials(benchmark, [asha["run_id"].iloc[-1]]) if len(asha) else pd.DataFrame()
    at_rungs = [not text.startswith(BUDGET_SPENT) for text in trials["reason"]] if len(trials) else []
    rungs = sorted(set(trials["units"][at_rungs])) if len(trials) else []
    rows = [
        {
            "rung": int(rung),
            "reached": int((trials["units"] >= rung).sum()),
            "stopped_there": len(_stopped_at(trials, rung)),
            "best_eval_loss_of_the_stopped": _stopped_at(trials, rung)["eval_loss"].min(),
            "ended_by_the_budget": _ended_by_budget(trials, rung, rungs),
        }
        for rung in rungs
    ]
    return [*_studies(benchmark, studies), ResultTable("rungs", "Rungs of ASHA", rows)]


def _stopped_at(trials: pd.DataFrame, rung: float) -> pd.DataFrame:
    """Return the trials that the method stopped at a rung."""
    is_method = ~trials["reason"].str.startswith(BUDGET_SPENT)
    return trials[(trials["units"] == rung) & (trials["outcome"] == "stopped") & is_method]


def _ended_by_budget(trials: pd.DataFrame, rung: float, rungs: Sequence[float]) -> int:
    """Count the trials that the study's budget ended at a rung, or between it and the next one."""
    end = next((other for other in rungs if other > rung), float("inf"))
    is_budget = trials["reason"].str.startswith(BUDGET_SPENT)
    return int((is_budget & (trials["units"] >= rung) & (trials["units"] < end)).sum())


def _studies_and_members(benchmark: str, studies: pd.DataFrame) -> list[ResultTable]:
    rows: Rows = []
    for run_id in studies["run_id"]:
        members = stored_runs(benchmark, f"tags.mlflow.parentRunId = '{run_id}'")
        rows += [_member(run) for run in sorted(members, key=lambda run: int(run.data.tags["hpo.trial"]))]
    return [*_studies(benchmark, studies), ResultTable("members", "Members of the population", rows)]


def _member(run: Run) -> dict[str, Any]:
    first, last = run.data.params, run.data.metrics
    return {
        "method": run.data.tags["hpo.method"],
        "member": int(run.data.tags["hpo.trial"]),
        "took_over_others": int(run.data.tags.get("hpo.exploits", 0)),
        "first_learning_rate": float(first["learning_rate"]),
        "last_learning_rate": last["hp.learning_rate"],
        **{name: last[name] for name in _score_names() if name in last},
    }


# ---- the DeepSpeed study


def _configurations(benchmark: str, studies: pd.DataFrame) -> list[ResultTable]:
    runs = sorted(stored_runs(benchmark, "tags.hpo.kind = 'deepspeed'"), key=lambda run: run.info.start_time)
    rows = []
    if runs:
        found = stored_runs(benchmark, f"tags.mlflow.parentRunId = '{runs[-1].info.run_id}'")
        for run in sorted(found, key=lambda run: run.info.start_time):
            measured = {title: run.data.metrics.get(name) for name, title in ZERO.items()}
            ranks = int(run.data.params["ranks_per_node"]) * int(run.data.params["nodes"])
            outcome = run.data.tags["hpo.outcome"]
            rows.append(
                {"configuration": run.data.params["configuration"], "ranks": ranks, "outcome": outcome, **measured}
            )
    return [ResultTable("configurations", "Configurations of DeepSpeed", rows)]


RAY, SEQUENTIAL, BATCH, ASYNCHRONOUS = "", "sequential", "batch", "asynchronous"
AS_WRITTEN = "start_with_default=False shift=False"
"""Arguments of a grid that is trained as its benchmark writes it."""
CHAPTERS: Mapping[int, Chapter] = {
    1: Chapter("Hyperparameters and metrics", (Made("manual", 3, AS_WRITTEN),), _trials),
    2: Chapter(
        "Manual search",
        (Made("manual", 12, f"{AS_WRITTEN} concurrency=1"), Made("manual", 12, AS_WRITTEN, (SEQUENTIAL,))),
        _trials_with_stamps,
    ),
    3: Chapter(
        "ASHA",
        (Made("random", 4), Made("asha", 4), Made("asha", 4, "reduction_factor=9.0")),
        _studies_and_rungs,
    ),
    4: Chapter("Population-based training", (Made("pbt", 4),), _studies_and_members),
    5: Chapter("BOHB and Bayesian search", (Made("hyperband", 9), Made("bohb", 9), Made("hyperopt", 9)), _studies),
    6: Chapter(
        "Job arrays and ways to evaluate", (Made("random", 4, ways=(SEQUENTIAL, BATCH, ASYNCHRONOUS)),), _studies
    ),
    7: Chapter("Optuna without Ray", (Made("optuna", 6, ways=(RAY, ASYNCHRONOUS)),), _proposals),
    8: Chapter("DeepSpeed", (), _configurations),
    9: Chapter("A choice across methods", (), _studies),
}
"""Chapters by number."""
