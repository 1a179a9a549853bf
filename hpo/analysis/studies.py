"""A stored study and a stored confirmation, as they are read from MLflow. Pure."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pandas as pd

from benchmarks.space import Config
from benchmarks.spec import Benchmark
from hpo.core.traits import Traits
from hpo.search import registry
from hpo.store import stored_trials
from hpo.store.stored_trials import StoredTrial


@dataclass(frozen=True)
class Confirmation:
    """A full training of a study's incumbent, or of the default configuration, with a fresh seed.

    Attributes:
        schedule: checksum of its configurations, see `study.schedule_digest`.
        seed: the fresh seed.
        diverged: it has no scores, and counts as the worst there is.
        metrics: validation metrics at the full resource, and the same on test, such as `test_eval_loss`.
        device_seconds: its cost.
        records: packed figures of each record of the test split, by name; empty where they were not kept.
    """

    schedule: str
    seed: int
    diverged: bool
    metrics: Mapping[str, float]
    device_seconds: float
    records: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class StudyRecord:
    """A finished study.

    Attributes:
        run_id: its run.
        method: name of the method.
        variant: its arguments other than the defaults.
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
        """The method with its arguments other than the defaults."""
        return " ".join(filter(None, [self.method, self.variant]))

    @property
    def traits(self) -> Traits:
        """Traits of its method."""
        return registry.traits_of(self.method)

    @property
    def fingerprint(self) -> str:
        """Checksum of the study that was asked for, see `Study.fingerprint`."""
        return self.tags.get("hpo.fingerprint", "")

    @property
    def plan(self) -> str:
        """Checksum of the plan of the comparison that it was run for; empty without one."""
        return self.tags.get("hpo.plan", "")

    @property
    def accelerator(self) -> str:
        """The device of its device-hours: "cpu" or a GPU's name."""
        return self.tags.get("hpo.accelerator", "")

    @property
    def allowance(self) -> tuple[int, str]:
        """Its limits: full trainings, and the cap in device-hours as text, empty for none."""
        return self.budget, self.tags.get("hpo.gpu_hours", "")

    @cached_property
    def trials(self) -> pd.DataFrame:
        """One row per trial, see `hpo.store.files.trials_csv`."""
        return frame(self.files.get("trials.csv", ""))

    @cached_property
    def units(self) -> pd.DataFrame:
        """One row per resource unit, see `hpo.store.files.units_csv`; empty for studies that did not keep them."""
        return frame(self.files.get("units.csv", ""))

    @property
    def improvements(self) -> pd.DataFrame | None:
        """Improvements of the incumbent, for a study that keeps them in place of its units; else None."""
        return None

    @property
    def model_share(self) -> float | None:
        """Share that a model proposed of its trials of which it is known; None if it is known of none."""
        if "by_model" not in self.trials:
            return None
        known = self.trials["by_model"].dropna()
        return float(known.astype(bool).mean()) if len(known) else None

    @cached_property
    def devices(self) -> pd.DataFrame:
        """One row per number of reserved devices, see `hpo.store.files.devices_csv`; empty if it was not kept."""
        return frame(self.files.get("devices.csv", ""))

    @property
    def reservations(self) -> list[tuple[float, float]]:
        """Number of reserved devices, each with the time since when there were so many, in seconds since it began."""
        return list(self.devices.itertuples(index=False, name=None)) if len(self.devices) else []

    @cached_property
    def best(self) -> dict[str, Any] | None:
        """The content of `best_config.json`; None if no trial was sound."""
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


def trials_of(studies: Iterable[StudyRecord], benchmark: Benchmark) -> list[StoredTrial]:
    """List all trials of studies, by study and number.

    Args:
        studies: of one version of the benchmark, see `records.read`.
        benchmark: the benchmark that they tuned.
    """
    return [
        trial
        for study in studies
        for trial in stored_trials.of_table(study.trials, benchmark, study.label, study.seed, study.run_id)
    ]


def frame(text: str) -> pd.DataFrame:
    """Read a stored CSV file; empty without a text."""
    return pd.read_csv(io.StringIO(text), dtype={"schedule": str}) if text else pd.DataFrame()
