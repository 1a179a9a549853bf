"""Unfinished studies, kept so that they can be resumed: `python -m hpo resume RUN_ID`.

Each study has a folder, `unfinished/<run id>/` where it was started, which is deleted when it reaches its end:

* `study.json`: the request;
* `events.jsonl`: its events, see `hpo.core.events`;
* `state`: searcher, scheduler and budget as they stood after the latest event but for a few, as one pickle;
* `seconds`: the duration so far, written every second;
* `tune/`: Tune's folder, with the checkpoints of trials that wait.

A pickle runs code when it is read. It is read only if this user owns it and no other user may write it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from pydantic import ValidationError

from benchmarks.clock import REAL
from benchmarks.files import is_file, load_json, replacing, write_whole
from benchmarks.spec import BenchmarkError
from hpo.core import event_log
from hpo.core.event_log import EventLog
from hpo.core.ownership import require_own
from hpo.core.study import Study

FOLDER = Path("unfinished")
RUN_ID = re.compile(r"\w+")
"""Pattern of a run id, which is no path to another folder."""
MOST_OF_THE_TIME = 0.05
"""Share of the driver's time that may go into keeping states; with many trials a state takes a while to write."""
SECONDS_PER_TOUCH = 1.0


@dataclass(frozen=True)
class Asked:
    """The request of an unfinished study.

    Attributes:
        study: the study that runs.
        command: the command that reproduces it.
        accelerator: its devices, see `Devices.accelerator`.
        benchmark_digest: see `benchmarks.identity`.
        job: SLURM's id of the job that began it; empty without one.
    """

    study: Study
    command: str
    accelerator: str
    benchmark_digest: str
    job: str = field(default_factory=lambda: os.environ.get("SLURM_JOB_ID", ""))

    @property
    def fingerprint(self) -> str:
        """See `Study.fingerprint`."""
        return self.study.fingerprint(self.benchmark_digest)


class Unfinished:
    """The folder of one study.

    Args:
        run_id: its run in MLflow.
    """

    can_be_resumed = True

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self.folder = (FOLDER / run_id).absolute()
        self.fault = ""
        self._state, self._asked = self.folder / "state", self.folder / "study.json"
        self._seconds, self._events = self.folder / "seconds", self.folder / event_log.FILE
        self._lock = FileLock(self.folder / "lock", timeout=0)
        self._written, self._took, self._touched = -float("inf"), 0.0, 0.0

    @property
    def tune_folder(self) -> Path:
        """The folder in which Tune keeps checkpoints."""
        return self.folder / "tune"

    @cached_property
    def log(self) -> EventLog:
        """The study's events."""
        return EventLog(self._events)

    @property
    def _is_here(self) -> bool:
        return bool(RUN_ID.fullmatch(self.run_id)) and is_file(self._asked)

    @property
    def is_running(self) -> bool:
        """Tell whether another process runs it, or it is another user's."""
        if not self._is_here:
            return False
        try:
            with self._lock:
                return False
        except (Timeout, OSError):
            return True

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other drivers away from the folder.

        Raises:
            BenchmarkError: one runs this study, or the folder cannot be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=stat.S_IRWXU)
            self._lock.acquire()
        except Timeout:
            raise BenchmarkError(
                f"study {self.run_id} is running: another process holds {self.folder}; wait for its end, or end it"
            ) from None
        except OSError as error:
            raise self._unwritable(error) from None
        try:
            yield
        finally:
            self._lock.release()

    def _unwritable(self, error: OSError) -> BenchmarkError:
        return BenchmarkError(
            f"{self.folder}: cannot be written ({error.strerror}), and the state of an interrupted study is "
            "kept there; run in a folder of your own, on a disk that has room"
        )

    def begin(self, asked: Asked) -> None:
        """Write the request of the study.

        Raises:
            BenchmarkError: the disk is full.
        """
        content = {entry.name: getattr(asked, entry.name) for entry in fields(Asked)}
        try:
            self._asked.write_text(json.dumps({**content, "study": asked.study.to_json()}, indent=1))
        except OSError as error:
            raise self._unwritable(error) from None

    def asked(self) -> Asked:
        """Read the request of the study.

        Raises:
            BenchmarkError: there is no such study here, or it is not readable.
        """
        if not self._is_here:
            others = ", ".join(unfinished.run_id for unfinished in found()) or "none"
            raise BenchmarkError(
                f"no unfinished study {self.run_id!r} in {FOLDER.absolute()}; there are: {others}. A study is resumed "
                "in the folder in which it was started; one that has reached its end is gone from there"
            )
        content = load_json(self._asked)
        try:
            return Asked(**{**content, "study": Study.from_json(content["study"])})
        except (KeyError, TypeError, AttributeError, ValidationError):
            raise BenchmarkError(
                f"{self._asked}: not as this version writes it; run the study again, or resume it with the version "
                "that began it"
            ) from None

    # ---- the state

    @property
    def is_due(self) -> bool:
        """Tell whether a state may be written again without taking too much of the driver's time."""
        return REAL.now() - self._written >= self._took / MOST_OF_THE_TIME

    @property
    def has_state(self) -> bool:
        """Tell whether an event has happened that would be lost."""
        return self._state.exists()

    def write(self, state: Any) -> None:
        """Replace the stored state, after the events that it goes with; a full disk costs the state, not the study."""
        from ray import cloudpickle

        began = REAL.now()
        try:
            self.log.sync()
            with replacing(self._state, mode=0o600) as file:
                cloudpickle.dump(state, file)
            self.fault = ""
        except OSError as error:
            self.fault = f"{self.folder}: {error.strerror}"
        self._written = self._touched = REAL.now()
        self._took = self._written - began

    def touch(self, seconds: float) -> None:
        """Note that the study still runs: devices were reserved until now.

        Args:
            seconds: since it began. No clock tells them later: it may have been set.
        """
        if REAL.now() >= self._touched + SECONDS_PER_TOUCH:
            with suppress(OSError):
                write_whole(self._seconds, repr(seconds))
            self._touched = REAL.now()

    @property
    def seconds(self) -> float:
        """Return the known duration of the study in seconds."""
        try:
            return float(self._seconds.read_text())
        except (OSError, ValueError):
            return 0.0

    def read(self) -> Any:
        """Read the latest state, see `hpo.engine.snapshot.read`; None if there was no event yet.

        Raises:
            BenchmarkError: another user may have written it, or it cannot be read.
        """
        from ray import cloudpickle, tune

        from hpo.engine.trial import TrialActor

        if not self._state.exists():
            return None
        require_own([path for path in (self.folder, self._state, self._events) if path.exists()])
        tune.register_trainable(TrialActor.__name__, TrialActor)  # Tune's trials refer to it by name
        try:
            with self._state.open("rb") as file:
                return cloudpickle.load(file)
        except Exception as error:  # any error, raised by classes of another version
            raise BenchmarkError(
                f"{self._state}: cannot be read ({type(error).__name__}: {error}); resume with the versions that "
                "began the study, or run it again"
            ) from None

    def remove(self) -> None:
        """Delete the folder of a study that has reached its end."""
        shutil.rmtree(self.folder, ignore_errors=True)
        with suppress(OSError):  # others are left
            FOLDER.rmdir()


def found() -> list[Unfinished]:
    """List the unfinished studies of this folder, the newest first."""
    folders = [path.parent for path in FOLDER.glob("*/study.json")]
    return [Unfinished(path.name) for path in sorted(folders, key=lambda path: path.stat().st_mtime, reverse=True)]


def of_job(job: str) -> list[Unfinished]:
    """List the waiting studies that a SLURM job began."""
    return [one for one, asked in _waiting(found()) if asked.job == job]


def like(fingerprint: str, among: Iterable[Unfinished]) -> str | None:
    """Return the run of a waiting study with the same request, see `Study.fingerprint`; None if there is none."""
    return next((one.run_id for one, asked in _waiting(among) if asked.fingerprint == fingerprint), None)


def _waiting(studies: Iterable[Unfinished]) -> Iterator[tuple[Unfinished, Asked]]:
    """Yield waiting studies with their requests, without those that another version has written."""
    for one in studies:
        with suppress(BenchmarkError):
            asked = one.asked()
            if not one.is_running:
                yield one, asked
