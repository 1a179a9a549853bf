"""Checkpoints of a study: their place, their times and their deletion; at any time one per live trial.

A trial's ranks write its checkpoint once, into the study's folder, which all nodes share: `unfinished/<run id>/
checkpoints/`. It may be in the memory of their nodes first and reach the folder later, see
`benchmarks.training.checkpoint`. Tune gets a pointer to it. The folder that Tune itself would offer lies in a temporary
folder of the actor's node, where ranks on other nodes write in vain, and is copied afterwards, in time that no trial is
charged.

Ray either keeps all of a trial's checkpoints or counts them trial by trial, and then may delete one that another
trial has been told to continue from. Here one is deleted once no live trial would continue from it.
"""

from __future__ import annotations

import json
import math
import re
import shutil
import stat
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from ray.tune.experiment import Trial

from benchmarks.spec import BenchmarkError
from benchmarks.training.checkpoint.files import missing
from hpo.core.study import Schedule

FOLDER = "checkpoints"
"""Folder of a study's folder in which they lie."""
POINTER = "checkpoint"
"""File of Tune's checkpoint with the name of the folder that holds the trial's."""
SECONDS = "seconds"
"""File of Tune's checkpoint with the time that its trial waited for it."""
SCHEDULE = "schedule.json"
"""File of a checkpoint with the configurations that trained it, each with the units before it took effect."""
NAME = re.compile(r"\w[\w.-]*")
MOST_OF_THE_TIME = 0.05
"""Share of a training's time that may go into checkpoints that no scheduler asked for."""


def new_folder(home: Path, trial_id: str) -> Path:
    """Make a folder for a checkpoint of a trial, in the folder of its study."""
    place = home / FOLDER
    place.mkdir(exist_ok=True, mode=stat.S_IRWXU)
    return Path(tempfile.mkdtemp(prefix=f"{trial_id}-", dir=place))


def point_to(folder: Path, checkpoint: Path) -> None:
    """Write a pointer to the folder of a checkpoint into Tune's."""
    (checkpoint / POINTER).write_text(folder.name)


def folder_of(checkpoint: Path, home: Path) -> Path:
    """Find the folder that Tune's checkpoint points to.

    Raises:
        BenchmarkError: it points nowhere.
    """
    try:
        name = (checkpoint / POINTER).read_text()
    except FileNotFoundError:
        name = ""
    if not NAME.fullmatch(name):
        raise BenchmarkError(
            f"checkpoint {checkpoint}: points to {name!r}, which is no folder of {home / FOLDER}; another version "
            "wrote it. Resume the study with that version, or run it again"
        )
    return home / FOLDER / name


def write_schedule(folder: Path, schedule: Schedule) -> None:
    """Write the configurations that trained a checkpoint into its folder, so that it could be trained again."""
    (folder / SCHEDULE).write_text(json.dumps(schedule))


def schedule_of(folder: Path, own: Schedule, units: int) -> Schedule:
    """Return the schedule of a trial that continues from a checkpoint: that of the checkpoint, then its own.

    Args:
        folder: of the checkpoint.
        own: the trial's. One of several configurations is a whole training's, the checkpoint's part included.
        units: units that the checkpoint has been trained for.
    """
    if len(own) > 1:
        return own
    before = tuple((int(begin), config) for begin, config in json.loads((folder / SCHEDULE).read_text()))
    return before if before[-1][1] == own[0][1] else (*before, (units, own[0][1]))


def write_seconds(checkpoint: Path, seconds: float) -> None:
    """Write the time that a trial waited for a checkpoint into Tune's: no later result may tell it."""
    (checkpoint / SECONDS).write_text(repr(seconds))


def seconds_of(checkpoint: Path) -> float:
    """Read the time that a trial waited for a checkpoint; 0 if it is not known."""
    try:
        return float((checkpoint / SECONDS).read_text())
    except (OSError, ValueError):
        return 0.0


class Pace:
    """Times at which a running training gets a checkpoint, so that a failure or an interruption costs little of it.

    Args:
        every_seconds: at most so often.
    """

    def __init__(self, every_seconds: float) -> None:
        self._every_seconds = every_seconds
        self._since: dict[str, float] = {}
        self._asked: set[str] = set()
        self._longest = 0.0

    def begin(self, trial_id: str, now: float) -> None:
        """Note that a trial begins, continues, or has written a checkpoint."""
        self._since[trial_id] = now
        self._asked.discard(trial_id)

    def see(self, checkpoint_seconds: float) -> None:
        """Note the time that a trial has waited for a checkpoint."""
        self._longest = max(self._longest, checkpoint_seconds)

    def is_due(self, trial_id: str, now: float) -> bool:
        """Tell whether a trial has to write a checkpoint after a unit.

        Args:
            trial_id: the trial.
            now: seconds since the study began.
        """
        waited = now - self._since.get(trial_id, now)
        return waited >= max(self._every_seconds, self._longest / MOST_OF_THE_TIME)

    def ask(self, trial_id: str) -> None:
        """Note that a trial is asked for a checkpoint."""
        self._asked.add(trial_id)

    def fail(self, trial_id: str) -> None:
        """Note a failed attempt: if it failed while writing a checkpoint, write no further optional one."""
        if trial_id in self._asked:
            self._every_seconds = math.inf
        self.end(trial_id)

    def end(self, trial_id: str) -> None:
        """Forget a trial that ended."""
        self._since.pop(trial_id, None)
        self._asked.discard(trial_id)


class Checkpoints:
    """The checkpoints that a study has written and not deleted yet."""

    _written: frozenset[Path] = frozenset()

    def __init__(self) -> None:
        self._paths: set[Path] = set()

    def add(self, checkpoint: Any) -> None:
        """Add a checkpoint that was written."""
        self._paths.add(Path(checkpoint.path))

    def superseded(self, trials: Iterable[Trial]) -> set[Path]:
        """List the checkpoints from which none of these trials would continue."""
        if not self._paths:
            return set()
        return self._paths - {path for trial in trials if not trial.is_finished() for path in _needed_by(trial)}

    def unwritten(self, trials: Iterable[Trial], home: Path) -> set[Path]:
        """List the checkpoints from which a live trial would continue and that are in memory alone, in part or whole.

        Args:
            trials: all trials of the study.
            home: the folder of the study.
        """
        needed = {path for trial in trials if not trial.is_finished() for path in _needed_by(trial)}
        self._written = self._written | {path for path in needed - self._written if _is_written(path, home)}
        return needed - self._written

    def prune(self, trials: Iterable[Trial], home: Path) -> None:
        """Delete the checkpoints from which none of these trials would continue.

        Args:
            trials: all trials of the study.
            home: the folder of the study.
        """
        for path in self.superseded(trials):
            with suppress(OSError, BenchmarkError):  # it may be gone
                _delete(folder_of(path, home))
            shutil.rmtree(path, ignore_errors=True)
            self._paths.discard(path)
            self._written -= {path}

    def sweep(self, home: Path) -> None:
        """Delete folders that no checkpoint points to, and parts of files: an interruption found them half written."""
        pointed_to = set()
        for path in self._paths:
            with suppress(OSError, BenchmarkError):
                pointed_to.add(folder_of(path, home))
        for folder in (home / FOLDER).glob("*"):
            if folder not in pointed_to:
                _delete(folder)


def _needed_by(trial: Trial) -> set[Path]:
    """Return the latest checkpoint, and the one that is being read."""
    results = (trial.latest_checkpoint_result, trial.temporary_state.restoring_from)
    return {Path(result.checkpoint.path) for result in results if result is not None and result.checkpoint}


def _is_written(checkpoint: Path, home: Path) -> bool:
    """Tell whether all files of a checkpoint of Tune's are on the disk; one that is gone keeps nothing waiting."""
    try:
        return not missing(folder_of(checkpoint, home))
    except (OSError, BenchmarkError):
        return True


def _delete(path: Path) -> None:
    """Delete a folder, or a file. The name goes first, so that no file arrives from memory while the rest goes."""
    gone = path.with_name(f".{path.name}.gone")
    with suppress(OSError):
        path.rename(gone)
        gone.unlink() if gone.is_file() else shutil.rmtree(gone, ignore_errors=True)


def units_lost(trial: Trial) -> int:
    """Count the units that a failed attempt had trained since its checkpoint, or since the beginning."""
    checkpoint = trial.latest_checkpoint_result
    kept = checkpoint.metrics.get("units", 0) if checkpoint else 0
    return int(trial.last_result.get("units", 0)) - int(kept)
