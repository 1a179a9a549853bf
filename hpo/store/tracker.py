"""The writer of a study in MLflow, in the driver: a parent run for the study, a child run for each trial.

Layout (compare, export and people rely on it): experiment = benchmark; parent tags `hpo.kind=study`,
`hpo.method`, ...; children tagged `hpo.kind=trial` with `mlflow.parentRunId`; metrics at step = resource unit.

The tracker is told each event of a study, with the books that the event has just entered. Its writes go through a
`Spool`: in order, and again where the store failed. So each has the effect of once, however often it runs: points
carry the time at which they were measured, and a run that may be there is looked for. A log that is told again to a
tracker of the same run writes nothing twice.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property, partial
from typing import Any

from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, RunTag

from benchmarks.clock import REAL
from benchmarks.identity import digest
from benchmarks.spec import BenchmarkError
from hpo.core import event_log
from hpo.core.books import Books, entered
from hpo.core.events import Ended, Event, Proposed, Unit
from hpo.core.results import TrialRow
from hpo.core.study import PLAN, PROTOCOL, Study, text_checksum
from hpo.store import client as store
from hpo.store import files, ui_views
from hpo.store.queries import runs_of
from hpo.store.runs import git_commit, job_tag, link, log_files, open_run, origin_tags, versions
from hpo.store.write_queue import Spool

STATUS = {
    "completed": "FINISHED",
    "stopped": "FINISHED",
    "diverged": "FINISHED",
    "failed": "FAILED",
    "interrupted": "KILLED",
}
PATIENCE_SECONDS = 60.0
"""Seconds that a study's end waits for a store that takes no write."""


class Tracker:
    """Writer of one study.

    Args:
        study: the study that runs.
        accelerator: name of the devices, see `Devices.accelerator`.
        command: the command that reproduces the study.
        origin: tags of its origin; by default the versions of the packages here.
        run_id: the run of a study that is taken up; by default a new one.

    Attributes:
        began_at: when the study began, in seconds since the epoch: second 0 of its rows. A clock that is set
            meanwhile does not matter.

    Raises:
        BenchmarkError: the tracking store cannot be used, or does not have the run.
    """

    def __init__(
        self,
        study: Study,
        accelerator: str,
        command: str,
        origin: Mapping[str, str] | None = None,
        run_id: str | None = None,
    ) -> None:
        self._study = study
        self._origin = versions() if origin is None else origin
        self._children: dict[int, str] = {}
        self._written: dict[int, int] = {}  # number of a trial's units that the store has
        self._told: dict[int, int] = {}  # and of those told: a trial that is tried again goes back to earlier units
        self._whole: set[int] = set()
        self._tried: set[int] = set()
        self._waiting: list[Callable[[], None]] = []
        self._units: dict[str, list[TrialRow]] = {}  # of a trial, for one write: several cost less time than one each
        self._spool = Spool()
        self.began_at = REAL.epoch()
        self._launch_run = os.environ.pop("MLFLOW_RUN_ID", None)  # of `mlflow run`; Ray's workers must not inherit it
        views = ui_views.tags(study.benchmark)
        if run_id is not None:
            self.run_id = run_id
            self._client, self._experiment_id = store.open_experiment_of(run_id, views)
            return
        self._client, self._experiment_id = store.open_experiment(study.benchmark.name, views)
        with store.readable_errors():
            self.run_id = open_run(self._client, self._experiment_id, study.name, self._launch_run)
            try:
                self._describe(accelerator, command)
            except Exception:
                self.abandon()
                raise

    # ---- the study

    @cached_property
    def benchmark_digest(self) -> str:
        """See `benchmarks.identity`; it takes reading all weights of a local model."""
        return digest(self._study.benchmark)

    def lacks_end(self, has_ended: bool) -> bool:
        """Tell whether the store lacks a part of the study, which no driver runs.

        Args:
            has_ended: whether the study has reached its end.

        Raises:
            BenchmarkError: the store cannot be used.
        """
        with store.readable_errors():
            status = self._client.get_run(self.run_id).info.status
        is_broken_off = status in ("RUNNING", "FAILED")  # killed, or abandoned with writes waiting
        return is_broken_off or (has_ended and status != "FINISHED")  # or the store is a copy from before its end

    def reopen(self) -> None:
        """Resume the run of a study that was interrupted.

        Raises:
            BenchmarkError: the store cannot be used.
        """
        with store.readable_errors():
            resumes = int(self._client.get_run(self.run_id).data.tags.get("hpo.resumes", 0)) + 1
            self._client.update_run(self.run_id, status="RUNNING")
            tags = {"hpo.resumes": str(resumes), **job_tag()}
            self._client.log_batch(self.run_id, tags=[RunTag(key, value) for key, value in tags.items()])
            if self._launch_run is not None:
                link(self._client, self._launch_run, self.run_id)

    def _describe(self, accelerator: str, command: str) -> None:
        """Write the facts known before the first trial; a store that refuses them is noticed now."""
        self._client.log_batch(self.run_id, params=self._params(), tags=self._tags(accelerator, command))
        self._log_datasets()
        texts = {"benchmark.json": self._study.benchmark.model_dump_json(indent=2) + "\n"}
        log_files(self._client, self.run_id, texts | ({PLAN: self._study.plan} if self._study.plan else {}))

    def abandon(self) -> None:
        """Mark the study as failed, if the store answers: it could not begin."""
        with suppress(BenchmarkError), store.readable_errors():
            self._client.set_terminated(self.run_id, "FAILED")

    def _params(self) -> list[Param]:
        """Return the request of the study; parameters that `mlflow run` has logged already stay as they are."""
        study = self._study
        given = {"benchmark": study.benchmark.name, "budget": study.budget, "seed": study.seed, **study.arguments}
        there = self._client.get_run(self.run_id).data.params
        return [Param(key, str(value)) for key, value in given.items() if key not in there]

    def _tags(self, accelerator: str, command: str) -> list[RunTag]:
        study = self._study
        tags = {
            "hpo.kind": study.kind,
            "hpo.method": study.method,
            "hpo.variant": study.variant,
            "hpo.benchmark": study.benchmark.name,
            "hpo.seed": study.seed,
            "hpo.budget": study.budget,
            "hpo.gpu_hours": "" if study.gpu_hours is None else study.gpu_hours,
            "hpo.accelerator": accelerator,
            "hpo.protocol": PROTOCOL,
            "hpo.command": command,
            "hpo.benchmark_digest": self.benchmark_digest,
            "hpo.space_digest": study.space_digest,
            "hpo.fingerprint": study.fingerprint(self.benchmark_digest),
            **({"hpo.plan": text_checksum(study.plan)} if study.plan else {}),
            **self._origin,
            **job_tag(),
        }
        commit = git_commit()
        if commit:
            tags["mlflow.source.git.commit"] = commit
        return [RunTag(key, str(value)) for key, value in tags.items()]

    def _log_datasets(self) -> None:
        inputs = []
        for name, split in self._study.benchmark.trial.splits.items():
            settings = split.model_dump_json()
            content = split.file.read_bytes() if split.file else settings.encode()
            digest, source = hashlib.sha256(content).hexdigest()[:16], "local" if split.file else "hub"
            dataset = Dataset(f"{self._study.benchmark.name}/{name}", digest, source, settings)
            inputs.append(DatasetInput(dataset, [InputTag("mlflow.data.context", name)]))
        if inputs:
            self._client.log_inputs(self.run_id, inputs)

    def finish(self, books: Books, log: Callable[[], str], on_gpu: bool, status: str) -> None:
        """Close the study's run with its totals and files.

        Args:
            books: the study's, after its last event.
            log: returns the text of its events, see `hpo.core.event_log`.
            on_gpu: whether device-hours are GPU hours.
            status: MLflow's: FINISHED, FAILED or KILLED.

        Raises:
            BenchmarkError: the store took nothing for so long that it was given up.
        """
        self.deliver()
        ended_at = self._milliseconds(books.seconds)
        text = log()
        self._spool.add(lambda: self._write_totals(books, text, on_gpu, ended_at))
        self._spool.add(lambda: self._client.set_terminated(self.run_id, status, ended_at))
        launch_run = self._launch_run
        if status != "FINISHED" and launch_run and launch_run != self.run_id:  # `mlflow run` may have been killed
            self._spool.add(lambda: self._client.set_terminated(launch_run, status))
        self._spool.close(PATIENCE_SECONDS)

    def _write_totals(self, books: Books, log: str, on_gpu: bool, ended_at: int) -> None:
        incumbent, shares = books.incumbent() if self._study.kind == "study" else None, books.shares()
        totals = {
            "device_hours": shares.device_hours,
            "gpu_hours": shares.device_hours if on_gpu else 0.0,
            "wall_seconds": books.seconds,
            "num_trials": len(books.rows),
            "units": books.trained_units,
            "utilization": shares.utilization,
            "skipped_proposals": books.skipped,
            **{f"device_hours_{part}": seconds / 3600 for part, seconds in shares.seconds.items()},
            **files.token_metrics(books.tokens),
        }
        if incumbent is not None:
            scores = [one.name for one in self._study.benchmark.metrics if one.name in incumbent.metrics]
            totals |= {f"best_{key}": incumbent.metrics[key] for key in scores}
        points = [Metric(key, value, ended_at, 0) for key, value in files.loggable(totals).items()]
        tags = [RunTag("hpo.precision", books.precision)] if books.precision else []
        self._client.log_batch(self.run_id, metrics=points, tags=tags)
        texts = {
            "trials.csv": files.trials_csv(self._study.benchmark, books.rows),
            "units.csv": files.units_csv(self._study.benchmark, books.units),
            "ledger.csv": files.ledger_csv(shares),
            "devices.csv": files.devices_csv(books.reservations),
            event_log.FILE: log,
            **files.records_csv(books.rows),
            **files.token_files(books.tokens),
        }
        if incumbent is not None:
            texts["best_config.json"] = json.dumps(self.best_config(incumbent), indent=2) + "\n"
        log_files(self._client, self.run_id, texts)

    def best_config(self, row: TrialRow) -> dict[str, Any]:
        """Return the incumbent as `best_config.json` has it."""
        return {
            "benchmark": self._study.benchmark.name,
            "method": self._study.method,
            "seed": self._study.seed,
            "units": row.units,
            "config": row.last_config,
            "metrics": row.metrics,
            "run_id": self._children.get(row.number, ""),
            **files.beyond_config(row),
        }

    # ---- its trials

    def tell(self, event: Event, books: Books) -> None:
        """Queue the writes of an event that these books have just entered, until the state of the study is kept."""
        if isinstance(event, Unit):
            number = books[event.trial].number
            self._told[number] = self._told.get(number, 0) + 1
            if number in self._whole or self._told[number] <= self._written.get(number, 0):
                return
            rows = self._units.setdefault(event.trial, [])
            if not rows:
                self._waiting.append(partial(self._report_units, rows))
            rows.append(books[event.trial])
        elif isinstance(event, Proposed | Ended):
            self._units.pop(event.trial, None)
            write = self._start_trial if isinstance(event, Proposed) else self._end_trial
            self._waiting.append(partial(write, books[event.trial]))

    def deliver(self) -> None:
        """Hand the queued writes to the store."""
        for write in self._waiting:
            self._spool.add(write)
        self._waiting, self._units = [], {}

    @property
    def fault(self) -> str:
        """Return the reason for which delivered writes are not in the store; empty as long as it takes them."""
        fault, waiting = self._spool.fault, self._spool.waiting
        return fault and f"{fault}; {waiting} writes wait, and none is lost"

    def resume(self, events: Sequence[Event]) -> None:
        """Write the part of a log that the interrupted driver has not written.

        Events after the request to end are in the store, but not in the log: trials of that time are deleted, and
        trials that had ended in it continue.

        Args:
            events: the log up to now.

        Raises:
            BenchmarkError: the store cannot be used.
        """
        numbers = {event.trial: event.number for event in events if isinstance(event, Proposed)}
        ended = {numbers[event.trial] for event in events if isinstance(event, Ended)}
        with store.readable_errors():
            for run in runs_of(self._experiment_id, f"tags.mlflow.parentRunId = '{self.run_id}'"):
                self._look_at(run, set(numbers.values()), ended)
        books = Books(self._study.benchmark)
        for event in entered(events, books):
            self.tell(event, books)

    def tell_whole(self, events: Sequence[Event], on_gpu: bool, status: str) -> Books:
        """Write the log of a study that has ended, as far as the run lacks it; return the books.

        Args:
            events: the whole log.
            on_gpu: see `finish`.
            status: see `finish`.

        Raises:
            BenchmarkError: the store cannot be used. The run is then FAILED, and the log may be written again.
        """
        books = Books(self._study.benchmark)
        try:
            self.resume(events)
            for event in events:
                books.apply(event)
            self.finish(books, partial(event_log.text_of, events), on_gpu, status)
        except BaseException:
            self.abandon()
            raise
        return books

    def _look_at(self, run: Run, known: set[int], ended: set[int]) -> None:
        """Note what a trial's run lacks, or delete the run of a trial that the log does not know."""
        number = int(run.data.tags["hpo.trial"])
        if number not in known:
            self._client.delete_run(run.info.run_id)
            return
        self._children[number] = run.info.run_id
        if number in ended and run.info.status in ("FINISHED", "FAILED"):
            self._whole.add(number)
        else:
            self._written[number] = len(self._client.get_metric_history(run.info.run_id, "device_seconds"))

    def _start_trial(self, row: TrialRow) -> None:
        if row.number in self._whole:
            return
        if row.number in self._written:  # its run was there before this driver
            self._client.update_run(self._children[row.number], status="RUNNING")
            return
        if row.number not in self._children:
            self._children[row.number] = self._made_before(row) or self._make_child(row)
        params = [Param(key, str(value)) for key, value in row.config.items()]
        self._client.log_batch(self._children[row.number], params=params)

    def _made_before(self, row: TrialRow) -> str | None:
        """Find a child run that an earlier attempt has made whose answer was lost on the way."""
        if row.number not in self._tried:
            self._tried.add(row.number)
            return None
        mine = f"tags.mlflow.parentRunId = '{self.run_id}' and tags.hpo.trial = '{row.number}'"
        return next((run.info.run_id for run in self._client.search_runs([self._experiment_id], mine)), None)

    def _make_child(self, row: TrialRow) -> str:
        study = self._study
        own = {"kind": "trial", "trial": row.number, "seed": row.seed, "method": study.method}
        own |= {"variant": study.variant, "benchmark": study.benchmark.name, "budget": study.budget}
        tags = {"mlflow.parentRunId": self.run_id, **origin_tags()}
        tags |= {f"hpo.{name}": str(value) for name, value in own.items()}
        name, began_at = f"trial {row.number} of {self._study.name}", self._milliseconds(row.began_seconds)
        return str(self._client.create_run(self._experiment_id, began_at, tags, name).info.run_id)

    def _report_units(self, rows: Sequence[TrialRow]) -> None:
        points = [
            Metric(key, value, self._milliseconds(row.reported_seconds), row.units)
            for row in rows
            for key, value in files.metrics_of_unit(row).items()
        ]
        self._client.log_batch(self._children[rows[0].number], metrics=points)

    def _end_trial(self, row: TrialRow) -> None:
        if row.number in self._whole:
            return
        run_id = self._children[row.number]
        tags = {"hpo.outcome": row.outcome, "hpo.reason": row.reason, **files.rescue_tag(row)}
        if row.failures:
            tags["hpo.failures"] = "\n".join(row.failures)
        if row.raised:
            log_files(self._client, run_id, {"error.txt": "\n\n".join(row.raised) + "\n"})
        if row.varies:
            tags["hpo.exploits"] = str(row.exploits)
            log_files(self._client, run_id, {"schedule.json": json.dumps(files.schedule_of(row), indent=2) + "\n"})
        ended_at = None if row.ended_seconds is None else self._milliseconds(row.ended_seconds)
        # Numbers come after the scores: MLflow's comparisons plot the metrics that came first.
        numbers = {} if row.varies else files.numbers(row.config)
        metrics = [Metric(key, value, ended_at or 0, row.units) for key, value in numbers.items()]
        self._client.log_batch(run_id, metrics, tags=[RunTag(key, value) for key, value in tags.items()])
        self._client.set_terminated(run_id, STATUS[row.outcome], ended_at)

    def _milliseconds(self, seconds: float) -> int:
        """Return a time of the study as the store has it."""
        return int((self.began_at + seconds) * 1000)
