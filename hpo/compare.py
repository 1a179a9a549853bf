"""The studies of a benchmark side by side, read from MLflow alone.

A table of what was measured: trials by outcome, the incumbent on validation, cost. It names no winner: one
incumbent a seed, chosen and scored on the same validation split, is not evidence about methods.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from mlflow import get_tracking_uri
from mlflow.entities import Run
from rich.box import SIMPLE_HEAD
from rich.table import Table

from benchmarks.spec import BenchmarkError
from hpo.history import stored_runs


@dataclass(frozen=True)
class StoredStudy:
    """A finished study as MLflow has it.

    Attributes:
        method: name of the method, with the arguments that set it apart from its defaults.
        seed: its seed.
        budget: full trainings it might spend.
        accelerator: what its device-hours are hours of.
        fingerprint: see `Study.fingerprint`.
        metrics: the parent run's.
        outcomes: number of trials by outcome.
    """

    method: str
    seed: int
    budget: int
    accelerator: str
    fingerprint: str
    metrics: dict[str, float]
    outcomes: dict[str, int]


def finished_studies(benchmark: str) -> list[StoredStudy]:
    """All finished studies of a benchmark, by method, budget and seed; none where nothing is stored.

    Raises:
        BenchmarkError: the store cannot be used.
    """
    runs = stored_runs(benchmark)
    children = Counter(
        (run.data.tags.get("mlflow.parentRunId", ""), run.data.tags.get("hpo.outcome", "running"))
        for run in runs
        if run.data.tags.get("hpo.kind") == "trial"
    )
    studies = [
        _stored(run, {outcome: number for (parent, outcome), number in children.items() if parent == run.info.run_id})
        for run in runs
        if run.data.tags.get("hpo.kind") == "study" and run.info.status == "FINISHED"
    ]
    return sorted(studies, key=lambda s: (s.method, s.budget, s.seed))


def read_studies(benchmark: str) -> list[StoredStudy]:
    """As `finished_studies`, for those who need some.

    Raises:
        BenchmarkError: there is none, or the store cannot be used.
    """
    studies = finished_studies(benchmark)
    if not studies:
        raise BenchmarkError(
            f"no finished study of {benchmark} in {get_tracking_uri()}; run one first: "
            f"python -m hpo run random --benchmark {benchmark}"
        )
    return studies


def _stored(run: Run, outcomes: dict[str, int]) -> StoredStudy:
    tags = run.data.tags
    return StoredStudy(
        " ".join(filter(None, [tags["hpo.method"], tags.get("hpo.variant")])),
        int(tags["hpo.seed"]),
        int(tags["hpo.budget"]),
        tags["hpo.accelerator"],
        tags.get("hpo.fingerprint", ""),
        dict(run.data.metrics),
        outcomes,
    )


def table(studies: list[StoredStudy], benchmark: str) -> Table:
    """One line a study."""
    caption = (
        "Validation scores of each study's incumbent, chosen on the same data: they favour whoever tried more. "
        "Differences between methods are not resolved by this table."
    )
    out = Table(title=f"studies of {benchmark}", caption=caption, header_style="bold", box=SIMPLE_HEAD)
    for heading in (
        "method",
        "seed",
        "budget",
        "trials",
        "eval loss",
        "EM",
        "F1",
        "units",
        "device-hours",
        "useful",
        "on",
    ):
        out.add_column(heading, justify="left" if heading in ("method", "trials", "on") else "right")
    for study in studies:
        get = study.metrics.get
        out.add_row(
            study.method,
            str(study.seed),
            str(study.budget),
            ", ".join(f"{number} {name}" for name, number in sorted(study.outcomes.items())),
            *(_number(get(f"best_{key}"), digits) for key, digits in (("eval_loss", 4), ("exact_match", 3), ("f1", 3))),
            _number(get("units"), 0),
            _number(get("device_hours"), 4),
            f"{get('utilization', 0.0):.0%}",
            study.accelerator,
        )
    return out


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
