"""A task of HyperQueue: trains trials of a study's folder in this process, one after the other.

    python -m slurm.hq.task WORK LOG FOLDER JOB ROUND TRIAL...

It works in the folder WORK and writes into LOG, which it deletes if all is well. HyperQueue could do both, but reads
`%{...}` in the paths that it is given.
Python starts once for all of them, and so do torch and the ranks' process group. A trial that raises ends the task,
since the process may be damaged: its trials without a result are trained in the second round, each in a process of its
own. There an error is the trial's result. Other than in an array, a trial's events are brought to the disk at its
beginning and end alone, and a trial that runs out of memory is not tried again in smaller micro-batches.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from benchmarks.clock import REAL, process_began_at
from benchmarks.out_of_memory import failure_reason
from benchmarks.parent import end_with_parent
from benchmarks.space import Config
from benchmarks.spec import first_line
from benchmarks.training.own_rank import open_rank
from benchmarks.trials.trial import TrialThatEnds
from hpo.cluster.devices import Devices, place
from hpo.core import event_log
from hpo.core import events as core
from hpo.core.results import Outcome
from hpo.core.study import is_diverged, objective, training_of
from hpo.engine import one_trial
from slurm import study_folder
from slurm.study_folder import SubmittedStudy

LAST_ROUND = 2
CORES = "HQ_RESOURCE_VALUES_cpus"
"""Variable by which HyperQueue tells a task the cores that it has for itself, such as 3."""
INSTANCE = "HQ_INSTANCE_ID"
"""Variable that tells how often HyperQueue has started this task before: it does so after the loss of a worker."""
FAILED = 1


class _Task:
    """The part of a study that this process trains.

    Args:
        folder: the study's.
        job: id of the job that trains the study.
        is_last: whether an error is the trial's result; if not, the trial is trained again.
    """

    def __init__(self, folder: Path, job: str, is_last: bool) -> None:
        self._folder, self._submitted, self._is_last = folder, SubmittedStudy.read(folder), is_last
        cores = re.sub(r"\D+", "-", os.environ.get(CORES, "0"))
        self._log = event_log.EventLog(study_folder.log_of(folder, job, cores))
        cpus = self._submitted.threads
        self._benchmark = place(self._submitted.study.benchmark, Devices(1, None, cpus), concurrency=1).benchmark
        self._process: TrialThatEnds | None = None

    def train(self, trials: Sequence[int]) -> int:
        """Train trials; return the exit status."""
        began = process_began_at()
        done = study_folder.finished(self._folder) if os.environ.get(INSTANCE, "0") != "0" else set()
        for trial in trials:
            if trial in done:
                continue
            config = self._submitted.proposals[trial]
            self._begin(trial, config, began)
            outcome, reason = self._outcome(trial, config, began)
            self._end(trial, outcome, reason)
            if outcome == "interrupted":
                print(f"trial {trial}: {reason}", file=sys.stderr)
                return FAILED
            began = REAL.epoch()
        return 0

    def _begin(self, trial: int, config: Config, began: float) -> None:
        at = began - self._submitted.began_at
        self._log.add(core.proposed(self._submitted.study, str(trial), trial, config, at))
        self._log.add(core.Began(at, str(trial), 1))
        self._log.sync()

    def _end(self, trial: int, outcome: Outcome, reason: str) -> None:
        at = REAL.epoch() - self._submitted.began_at
        if outcome == "failed":
            self._log.add(core.Failed(at, str(trial), reason))
        self._log.add(core.Ended(at, str(trial), outcome, reason))
        self._log.sync()

    def _outcome(self, trial: int, config: Config, began: float) -> tuple[Outcome, str]:
        """Let a trial run to its end; return its outcome, and the reason of a failure."""
        training = training_of(self._submitted.study, config)
        try:
            if self._process is None:
                threads = self._submitted.threads
                self._process = self._benchmark.trial_process(partial(open_rank, threads=threads, on_gpu=False))
            order = one_trial.Order(self._benchmark, training.config, training.seed, 1, began, str(trial))
            has_diverged = False
            for result in one_trial.units(order, self._process):
                has_diverged = is_diverged(self._benchmark, result)
                judged = {"objective": objective(self._benchmark, result), "diverged": has_diverged}
                at = float(result["at"]) - self._submitted.began_at
                self._log.add(core.unit(self._benchmark, str(trial), {**result, **judged}, at))
        except Exception as error:  # whatever it is, it is the trial's
            lack = failure_reason(self._benchmark, training.config, error)
            outcome: Outcome = "failed" if self._is_last else "interrupted"
            return outcome, lack or f"{type(error).__name__}: {first_line(error)}"
        return ("diverged" if has_diverged else "completed"), ""


def main(words: Sequence[str]) -> int:
    """Train the trials that the command names; return the exit status."""
    folder, job, number, *trials = words
    return _Task(Path(folder), job, int(number) == LAST_ROUND).train([int(trial) for trial in trials])


@contextmanager
def _output_into(log: Path) -> Iterator[None]:
    """Send this process's output into a file, which is deleted unless something raises."""
    with log.open("w") as file:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), stream.fileno())
    yield
    log.unlink()


def run(words: Sequence[str]) -> int:
    """Be a task."""
    end_with_parent()
    work, log, *rest = words
    os.chdir(work)
    with _output_into(Path(log)):
        status = main(rest)
        if status:
            raise SystemExit(status)
    return 0


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
