"""Replayed studies as records of a comparison, in place of stored studies.

A replay is read of a recorded benchmark if one is stored that is newer than every study which ran there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from benchmarks.spec import Benchmark, BenchmarkError
from hpo.analysis import records
from hpo.analysis.records import Records
from hpo.analysis.replayed import table
from hpo.analysis.replayed.study import ReplayedStudy, ReplayHeader
from hpo.analysis.replayed.table import Replay
from hpo.analysis.studies import Confirmation, StudyRecord
from hpo.core.study import filled_in, schedule_digest
from hpo.core.wording import counted
from hpo.store.queries import Run, stored_runs
from hpo.store.reading import read_content

FILE = "studies.parquet"
"""Artifact of a replay's run: its studies, see `hpo.analysis.replayed.table`."""
ACCELERATOR = "virtual"
"""The device of device-hours that the virtual clock counted from recorded seconds."""


@dataclass(frozen=True)
class ReplayedRecord(StudyRecord):
    """A replayed study as a record.

    Attributes:
        study: the study as its file has it; it keeps no table of trials.
    """

    study: ReplayedStudy

    @property
    def outcomes(self) -> dict[str, int]:
        """Number of trials by outcome."""
        return {outcome: number for outcome, number in self.study.outcomes.items() if number}

    @cached_property
    def best(self) -> dict[str, Any] | None:
        """The incumbent as `best_config.json` has it; None if no trial was sound."""
        study = self.study
        if not study.config:
            return None
        return {
            "benchmark": self.tags["hpo.benchmark"],
            "method": study.method,
            "seed": study.seed,
            "units": study.incumbent_units,
            "config": study.config,
            "metrics": study.best,
            "run_id": "",
        }

    @property
    def model_share(self) -> float | None:
        """Share of its trials that a model proposed; None for a method without one."""
        return self.study.model_share

    @property
    def improvements(self) -> pd.DataFrame:
        """Every improvement of the incumbent, see `hpo.analysis.over_cost.curves.anytime`."""
        found = self.study.improvements
        return pd.DataFrame(
            {
                "device_hours": [one.device_seconds / 3600 for one in found],
                "units": [one.units for one in found],
                "value": [one.value for one in found],
            }
        )


def read(benchmark: str, given: str = "") -> Records:
    """Read the stored studies of a benchmark, or those of its newest replay; see `hpo.analysis.records.read`.

    Raises:
        BenchmarkError: see `hpo.analysis.records.read`; or the file of the replay cannot be used.
    """
    runs = stored_runs(benchmark, "tags.hpo.kind != 'trial'")
    replays = [run for run in runs if _is_finished(run, "replay")]
    newest = max(replays, key=lambda run: int(run.info.start_time), default=None)
    studies = [run for run in runs if _is_finished(run, "study")]
    if newest is None or any(run.info.start_time > newest.info.start_time for run in studies):
        return records.read(benchmark, given)
    source = f"run {newest.info.run_id}, {FILE}"
    replay = table.from_bytes(read_content(newest, FILE), source)
    others = len(studies), len(replays) - 1
    return records_of(replay, newest.info.run_id, given, left_out=_left_out(*others))


def _is_finished(run: Run, kind: str) -> bool:
    return run.data.tags.get("hpo.kind") == kind and run.info.status == "FINISHED"


def _left_out(studies: int, replays: int) -> list[str]:
    """Name the stored studies and replays that are older than the one that is read."""
    told = [counted(studies, "study", "studies") + " that ran before this replay"] * bool(studies)
    return [*told, *([counted(replays, "earlier replay")] * bool(replays))]


def records_of(replay: Replay, run_id: str, given: str = "", left_out: list[str] | None = None) -> Records:
    """Return the records of a replay.

    Args:
        replay: the replayed studies.
        run_id: its run.
        given: see `Records`.
        left_out: see `Records`.

    Raises:
        BenchmarkError: it has no study.
    """
    header, benchmark = replay.header, replay.header.content
    certified = [study for study in replay.studies if study.label not in header.uncertified]
    ended = [study for study in certified if not study.reason]
    if replay.studies and not certified:
        raise BenchmarkError(
            f"the certificate of the bank holds for none of the replayed methods ({', '.join(header.uncertified)}); "
            "compare real studies, or record more and certify the bank again"
        )
    if not ended:
        raise BenchmarkError(f"the replay of {benchmark.name} has no study that reached its end; replay it again")
    return Records(
        benchmark=benchmark,
        digest=header.digest,
        studies=[_record(study, header, benchmark, run_id) for study in ended],
        confirmations=list({(one.schedule, one.seed): one for one in _confirmations(ended, benchmark)}.values()),
        confirmation_hours=sum(one.device_seconds for study in ended for one in study.fresh) / 3600,
        left_out=[*(left_out or []), *header.left_out, *_uncertified(replay)],
        given=given or benchmark.name,
        failed=[_record(study, header, benchmark, run_id) for study in certified if study.reason],
        replay=f"replayed, not run: studies on a virtual clock, with curves of {header.source}; {header.certificate}",
    )


def _uncertified(replay: Replay) -> list[str]:
    """Write a sentence for each replayed method for which the bank's certificate does not hold."""
    methods = dict.fromkeys(study.label for study in replay.studies if study.label in replay.header.uncertified)
    return [
        f"replays of {label}, for which the certificate does not hold: {replay.header.uncertified[label]}"
        for label in methods
    ]


def _record(study: ReplayedStudy, header: ReplayHeader, benchmark: Benchmark, run_id: str) -> ReplayedRecord:
    metrics = {
        "device_hours": study.device_seconds / 3600,
        "gpu_hours": 0.0,
        "wall_seconds": study.wall_seconds,
        "units": float(study.units),
        "num_trials": float(study.num_trials),
        **{f"device_hours_{part}": seconds / 3600 for part, seconds in study.parts.items()},
        **{f"best_{name}": value for name, value in study.best.items()},
    }
    return ReplayedRecord(
        run_id=f"{run_id}/{study.label} seed {study.seed} budget {study.budget}",
        method=study.method,
        variant=study.variant,
        seed=study.seed,
        budget=study.budget,
        tags=_tags(header, benchmark),
        metrics=metrics,
        started=0,
        files={},
        study=study,
    )


def _tags(header: ReplayHeader, benchmark: Benchmark) -> Mapping[str, str]:
    return {
        "hpo.kind": "study",
        "hpo.benchmark": benchmark.name,
        "hpo.benchmark_digest": header.digest,
        "hpo.protocol": header.protocol,
        "hpo.accelerator": ACCELERATOR,
        **header.versions,
    }


def _confirmations(studies: list[ReplayedStudy], benchmark: Benchmark) -> list[Confirmation]:
    """List the fresh trainings of all incumbents; two studies may share one."""
    digests: dict[str, str] = {}
    found = []
    for study in studies:
        if not study.fresh:
            continue
        key = json.dumps(study.config, sort_keys=True)
        if key not in digests:
            digests[key] = schedule_digest(benchmark, [(0, filled_in(benchmark, study.config))])
        found += [
            Confirmation(digests[key], one.seed, not one.metrics, one.metrics, one.device_seconds)
            for one in study.fresh
        ]
    return found
