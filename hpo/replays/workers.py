"""Processes that replay studies, one after the other each: spawned once, warm from study to study, on one thread."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any

from benchmarks.files import BenchmarkError
from benchmarks.parent import end_with_parent
from benchmarks.spec import Benchmark
from hpo.analysis.replayed.study import ReplayedStudy
from hpo.cluster import garbage
from hpo.core.study import Study

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""Variables by which a process learns how many threads its arithmetic may use, read as its libraries load."""
AHEAD = 2
"""Studies per process that are handed out, of which one runs: few, so that an interruption waits for few."""


class Replaying:
    """Studies that are being replayed.

    Args:
        benchmark: the recorded benchmark.
        devices: devices of each study.
        repeats: fresh trainings of each incumbent.
        processes: studies at once.
    """

    def __init__(self, benchmark: Benchmark, devices: int, repeats: int, processes: int) -> None:
        self._setting = (benchmark.model_dump(mode="json", exclude_unset=True), devices, repeats)
        self._processes = processes
        self.is_revoked = False

    def revoke(self) -> None:
        """Begin no other study; those under way come to their end."""
        self.is_revoked = True

    def run(self, studies: Sequence[Study]) -> Iterator[ReplayedStudy]:
        """Yield each study as it ends.

        Raises:
            BenchmarkError: a process died, or a study raised.
        """
        with _one_thread(), self._pool() as pool:
            waiting, under_way = iter(studies), set[Future[ReplayedStudy]]()
            try:
                while True:
                    while not self.is_revoked and len(under_way) < AHEAD * self._processes:
                        study = next(waiting, None)
                        if study is None:
                            break
                        under_way.add(pool.submit(_replay, _words(study)))
                    if not under_way:
                        return
                    ended, under_way = wait(under_way, timeout=1.0, return_when=FIRST_COMPLETED)
                    if self.is_revoked:
                        under_way = {one for one in under_way if not one.cancel()}
                    for one in ended:
                        yield one.result()
            except BrokenProcessPool:
                raise BenchmarkError(
                    "a process of the replay died, as processes do that run out of memory; the same command resumes, "
                    "with fewer --processes if memory is short"
                ) from None
            finally:
                for one in under_way:
                    one.cancel()

    def _pool(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(self._processes, get_context("spawn"), _begin, self._setting)


def _words(study: Study) -> dict[str, Any]:
    """Return a study without its benchmark, which each process has."""
    names = ("method", "seed", "budget", "arguments", "variant")
    return {name: getattr(study, name) for name in names}


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let processes that begin meanwhile compute with one thread each."""
    before: Mapping[str, str | None] = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


# ---- in a process of the pool

_setting: tuple[Benchmark, int, int]


def _begin(benchmark: dict[str, Any], devices: int, repeats: int) -> None:
    """Prepare a process: read the bank and fit the model once. Ctrl-C is the parent's business."""
    global _setting
    for number in (signal.SIGINT, signal.SIGUSR1, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    end_with_parent()
    garbage.rest_while_importing()
    from benchmarks.trials.recorded import curves

    _setting = (Benchmark.model_validate(benchmark), devices, repeats)
    curves(_setting[0])
    garbage.collect_from_here()


def _replay(words: dict[str, Any]) -> ReplayedStudy:
    from hpo.replays.one_study import replay

    benchmark, devices, repeats = _setting
    return replay(Study(benchmark=benchmark, **words), devices, repeats)
