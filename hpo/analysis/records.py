"""Stored studies and confirmations of a benchmark, read from MLflow alone: what compare, report and export rest on.

Studies are comparable where they share a version of the benchmark (its digest), the search space, the protocol and the
accelerator. Of several such groups that of the newest study is read, imports aside, and what was left out is said.
Imports neither Ray nor torch.
"""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.entities import Run

from benchmarks.space import Config
from benchmarks.spec import Benchmark, BenchmarkError
from hpo.core.study import fresh_seeds, schedule_digest
from hpo.store import client as store
from hpo.store.queries import stored_runs

READERS = 8
"""Artifacts that are fetched at once: a store behind HTTP answers each in some milliseconds."""
DEFAULT = "default"
"""Name of the contestant that is the benchmark's default configuration."""
RANDOM = "random"
COMPARABLE = {
    "hpo.benchmark_digest": "another version of the benchmark",
    "hpo.space_digest": "another search space",
    "hpo.protocol": "another protocol",
    "hpo.accelerator": "another accelerator",
}
"""Tags that studies must share, and what it means if they do not."""


@dataclass(frozen=True)
class Training:
    """A full training of a study's incumbent, or of the default configuration, with a fresh seed.

    Attributes:
        schedule: checksum of its configurations, see `study.schedule_digest`.
        seed: the fresh seed.
        diverged: it has no scores, and counts as the worst there is.
        metrics: validation metrics at the full resource, and `test_eval_loss`, `test_exact_match`, `test_f1`.
        device_seconds: what it cost.
    """

    schedule: str
    seed: int
    diverged: bool
    metrics: Mapping[str, float]
    device_seconds: float


@dataclass(frozen=True)
class StudyRecord:
    """A finished study.

    Attributes:
        run_id: its run.
        method: name of the method.
        variant: its arguments that are not left at their defaults.
        seed: its seed: the block.
        budget: full trainings it might spend.
        tags: all tags of its run.
        metrics: the run's: device_hours, gpu_hours, wall_seconds, units, best_eval_loss, ...
        started: when it began, in ms since 1970.
        files: the text of its artifacts, by name.
    """

    run_id: str
    method: str
    variant: str
    seed: int
    budget: int
    tags: Mapping[str, str]
    metrics: Mapping[str, float]
    started: int
    files: Mapping[str, str] = field(repr=False)

    @property
    def label(self) -> str:
        """The method and what sets it apart from its defaults."""
        return " ".join(filter(None, [self.method, self.variant]))

    @property
    def fingerprint(self) -> str:
        """See `Study.fingerprint`."""
        return self.tags.get("hpo.fingerprint", "")

    @property
    def accelerator(self) -> str:
        """What its device-hours are hours of."""
        return self.tags.get("hpo.accelerator", "")

    @property
    def allowance(self) -> tuple[int, str]:
        """What it might spend: full trainings, and the cap in device-hours as text, empty for none."""
        return self.budget, self.tags.get("hpo.gpu_hours", "")

    @cached_property
    def trials(self) -> pd.DataFrame:
        """One row a trial, see `tracking.trials_csv`."""
        return _frame(self.files.get("trials.csv", ""))

    @cached_property
    def units(self) -> pd.DataFrame:
        """One row a resource unit, see `tracking.units_csv`; empty for studies that did not keep them."""
        return _frame(self.files.get("units.csv", ""))

    @cached_property
    def best(self) -> dict[str, Any] | None:
        """The content of `best_config.json`; None where no trial was sound."""
        text = self.files.get("best_config.json")
        return json.loads(text) if text else None

    @property
    def schedule(self) -> list[tuple[int, Config]] | None:
        """The configurations that trained its incumbent, each with the units at which it took effect."""
        if self.best is None:
            return None
        steps = self.best.get("schedule") or [{"units": 0, "config": self.best["config"]}]
        return [(int(step["units"]), step["config"]) for step in steps]

    @property
    def outcomes(self) -> dict[str, int]:
        """Number of trials by outcome."""
        return dict(Counter(self.trials["outcome"])) if len(self.trials) else {}


@dataclass(frozen=True)
class Records:
    """All that is stored of one benchmark and comparable.

    Attributes:
        benchmark: as the newest study ran it.
        digest: its version, see `benchmarks.identity`.
        studies: the finished ones, by method, variant, budget and seed.
        trainings: confirmations.
        confirmation_hours: device-hours that confirmations took, apart from the studies'.
        left_out: what was not read, a sentence each.
    """

    benchmark: Benchmark
    digest: str
    studies: list[StudyRecord]
    trainings: list[Training]
    confirmation_hours: float
    left_out: list[str]

    def confirmations(self, study: StudyRecord, repeats: int | None = None) -> list[Training]:
        """The fresh trainings of a study's incumbent with the seeds of its block; all that there are by default."""
        return self.trainings_of(study.schedule, study.seed, repeats) if study.schedule else []

    def trainings_of(
        self, schedule: Sequence[tuple[int, Config]], block: int, repeats: int | None = None
    ) -> list[Training]:
        """The fresh trainings of a configuration with the seeds of a block."""
        digest = schedule_digest(self.benchmark, schedule)
        found = self._by_identity
        seeds = fresh_seeds(block, repeats if repeats is not None else MOST_REPEATS)
        return [found[digest, seed] for seed in seeds if (digest, seed) in found]

    @cached_property
    def _by_identity(self) -> dict[tuple[str, int], Training]:
        return {(training.schedule, training.seed): training for training in self.trainings}


MOST_REPEATS = 100
"""Fresh seeds of a block that are looked for."""


def read(benchmark: str) -> Records:
    """What is stored of a benchmark.

    Args:
        benchmark: its name, which is the experiment's.

    Raises:
        BenchmarkError: no finished study, or the store cannot be used.
    """
    runs = stored_runs(benchmark, "tags.hpo.kind != 'trial'")
    studies = [run for run in runs if _is_finished_study(run)]
    if not studies:
        raise BenchmarkError(
            f"no finished study of {benchmark} in {store.shown_uri()}; run one first: "
            f"python -m hpo run random --benchmark {benchmark}"
        )
    newest = max(studies, key=lambda run: (run.data.tags.get("hpo.source") != "import", run.info.start_time))
    kept, left_out = _comparable_with(newest, studies)
    confirmations = [run for run in runs if run.data.tags.get("hpo.kind") == "confirmation"]
    confirmations, _ = _comparable_with(newest, confirmations, ("hpo.benchmark_digest", "hpo.protocol"))
    with store.readable_errors(), ThreadPoolExecutor(READERS) as readers:
        benchmark_text = _artifact(newest, "benchmark.json")
        files = list(readers.map(_files, kept))
        trials = list(readers.map(lambda run: _artifact(run, "trials.csv"), confirmations))
    if benchmark_text is None:
        raise BenchmarkError(f"run {newest.info.run_id} of {benchmark} has no benchmark.json: its artifacts are gone")
    return Records(
        Benchmark.model_validate_json(benchmark_text),
        newest.data.tags.get("hpo.benchmark_digest", ""),
        sorted(map(_study, kept, files), key=lambda s: (s.method, s.variant, s.budget, s.seed, s.started)),
        [training for text in trials if text for training in _trainings(_frame(text))],
        sum(run.data.metrics.get("device_hours", 0.0) for run in confirmations),
        left_out,
    )


def finished(benchmark: str) -> list[StudyRecord]:
    """All finished studies of a benchmark, comparable or not, without their files; none where nothing is stored.

    Raises:
        BenchmarkError: the store cannot be used.
    """
    runs = stored_runs(benchmark, "tags.hpo.kind = 'study'")
    return [_study(run, {}) for run in runs if _is_finished_study(run)]


def _is_finished_study(run: Run) -> bool:
    return run.data.tags.get("hpo.kind") == "study" and run.info.status == "FINISHED"


def _comparable_with(
    newest: Run, runs: Iterable[Run], shared: Iterable[str] = tuple(COMPARABLE)
) -> tuple[list[Run], list[str]]:
    """Runs that share what makes them comparable, and why the others do not."""
    kept, reasons = [], Counter[str]()
    for run in runs:
        differs = next((tag for tag in shared if run.data.tags.get(tag) != newest.data.tags.get(tag)), None)
        if differs is None:
            kept.append(run)
        else:
            reasons[COMPARABLE[differs]] += 1
    return kept, [f"{number} {'study' if number == 1 else 'studies'} of {why}" for why, number in reasons.items()]


def _study(run: Run, files: dict[str, str]) -> StudyRecord:
    tags = run.data.tags
    return StudyRecord(
        run.info.run_id,
        tags["hpo.method"],
        tags.get("hpo.variant", ""),
        int(tags["hpo.seed"]),
        int(tags["hpo.budget"]),
        tags,
        run.data.metrics,
        run.info.start_time,
        files,
    )


def _files(run: Run) -> dict[str, str]:
    names = ("trials.csv", "units.csv", "best_config.json")
    return {name: text for name in names if (text := _artifact(run, name)) is not None}


def _artifact(run: Run, name: str) -> str | None:
    """The text of a run's file; None if it has none such."""
    uri = run.info.artifact_uri
    local = Path(uri.removeprefix("file://"))
    if local.is_absolute():  # MLflow would ask its database for the way first
        return (local / name).read_text() if (local / name).is_file() else None
    try:
        return str(mlflow.artifacts.load_text(f"{uri}/{name}"))
    except (OSError, mlflow.MlflowException):
        return None


def _frame(text: str) -> pd.DataFrame:
    return pd.read_csv(io.StringIO(text), dtype={"schedule": str}) if text else pd.DataFrame()


def _trainings(trials: pd.DataFrame) -> list[Training]:
    """Those that came to an end: at the full resource with its scores on test, or diverged."""
    return [
        Training(
            row["schedule"],
            int(row["seed"]),
            row["outcome"] == "diverged",
            {key: float(value) for key, value in row.items() if key in SCORES and pd.notna(value)},
            float(row["device_seconds"]),
        )
        for row in trials.to_dict("records")
        if row["outcome"] in ("completed", "diverged")
    ]


SCORES = (
    "eval_loss",
    "exact_match",
    "f1",
    "test_eval_loss",
    "test_exact_match",
    "test_f1",
    "peak_memory_mb",
)
