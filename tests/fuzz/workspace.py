"""Where commands meet bad input: a folder of their own, the real command line, and an end just before work begins."""

from __future__ import annotations

import io
import os
import re
import signal
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn
from unittest.mock import patch as mock_patch

import pytest

from hpo.app import cli
from hpo.core.study import Study
from hpo.store.client import open_experiment
from tests.stores import fresh_store

LONGEST_ERROR = 2500
"""Characters of a paragraph that somebody reads."""
CPU_SECONDS = 20
"""Processor time after which a command counts as hanging; machines are shared, so no clock on the wall tells."""

ANSWERS: Counter[int] = Counter()
"""Commands that were answered, by exit status."""


class ReachedError(BaseException):
    """End of a command whose input has been checked, where its work would begin. No code catches it on the way."""

    def __init__(self, study: Study | None = None) -> None:
        super().__init__()
        self.study = study


@dataclass(frozen=True)
class Answer:
    """Answer of a command.

    Attributes:
        status: its exit status; 0 also where its work would have begun.
        out: stdout.
        err: stderr.
        study: the study that would have begun.
    """

    status: int
    out: str
    err: str
    study: Study | None = None


@contextmanager
def workspace(folder: Path) -> Iterator[None]:
    """Work in a folder, with a tracking store that nothing has made.

    Studies are checked to the end, their plans made and devices allotted. Where the next thing would be a run in the
    store, Ray, or a call of SLURM, they end with `ReachedError`: that is all that is replaced.
    """
    with (
        mock_patch.dict(os.environ),
        pytest.MonkeyPatch.context() as patch,
    ):  # `slurm head` settles Ray's token for good
        patch.chdir(folder)
        Path("no_store").mkdir()
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/no_store/mlflow.db")
        for name in ("MLFLOW_RUN_ID", "RAY_ADDRESS", "SLURM_RESTART_COUNT", "SLURM_ARRAY_TASK_ID", "SLURM_JOB_ID"):
            patch.delenv(name, raising=False)
        patch.setattr("hpo.engine.runner._opened", _reached_study)
        patch.setattr("hpo.engine.runner.OnRay.open", _reached)
        for name in (
            "hpo.store.client.open_experiment",
            "slurm.jobs.head_job.run_head_job",
            "slurm.jobs.worker.run_worker_job",
        ):
            patch.setattr(name, _reached)
        for name in ("slurm.scheduler.submit", "slurm.scheduler.test", "slurm.scheduler.unfinished"):
            patch.setattr(name, _reached)
        patch.setattr("slurm.scheduler.max_array_size", lambda: 1001)
        yield


@contextmanager
def store() -> Iterator[Path]:
    """Yield the database of a store that may be written, the same one throughout."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", fresh_store(Path("store").absolute()))
        patch.setattr("hpo.store.client.open_experiment", open_experiment)
        yield Path("store/mlflow.db")


def _reached(*_: Any, **__: Any) -> NoReturn:
    raise ReachedError


def _reached_study(study: Study, *_: Any, **__: Any) -> NoReturn:
    raise ReachedError(study)


def call(*words: str) -> Answer:
    """Run `python -m hpo` in this process, and hold its answer to its promise.

    It works, or it ends with status 2 and one readable paragraph.
    """
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)  # as strict as a terminal
    err, study = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True), None
    with redirect_stdout(out), redirect_stderr(err), _ours_are_errors(), _limited(CPU_SECONDS):
        try:
            status = cli.main(words)
        except ReachedError as reached:
            status, study = 0, reached.study
        except SystemExit as left:  # --help
            status = left.code or 0
    printed, complained = (stream.buffer.getvalue().decode() for stream in (out, err))
    answer = Answer(status, printed, complained, study)
    assert answer.status in (0, 2) or words[:2] == ("slurm", "capacity"), answer
    if answer.status == 2:
        require_paragraph(answer.err)
    ANSWERS[answer.status] += 1
    return answer


def require_paragraph(text: str) -> None:
    """Require one line with the error, short and printable whatever the input was."""
    assert re.fullmatch(r"error: [^\n]+\n", text), text[:1000]
    assert len(text) <= LONGEST_ERROR, f"{len(text)} characters: {text[:1000]}"
    assert text[:-1].isprintable(), ascii(text)
    assert "Traceback" not in text


@contextmanager
def _ours_are_errors() -> Iterator[None]:
    """Warnings that our modules cause are errors, those of libraries are theirs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in ("benchmarks", "hpo", "slurm"):
            warnings.filterwarnings("error", module=rf"{name}(\.|$)")
        yield


@contextmanager
def _limited(cpu_seconds: float) -> Iterator[None]:
    """End what computes for too long."""

    def give_up(*_: Any) -> NoReturn:
        raise AssertionError(f"no answer within {cpu_seconds:g} s of processor time")

    before = signal.signal(signal.SIGVTALRM, give_up)
    signal.setitimer(signal.ITIMER_VIRTUAL, cpu_seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
