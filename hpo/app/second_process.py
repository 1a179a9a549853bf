"""A second process of a command, which imports scikit-learn while the first one imports MLflow and reads the store.

Python imports on one core, and the two take as long as each other.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection

from benchmarks.parent import end_with_parent
from hpo.analysis import forest
from hpo.analysis.forest import Floats, ForestShares, Grow


@contextmanager
def growing_forests() -> Iterator[Grow]:
    """Start the process, and give the function that grows forests there, the same as `forest.grow`.

    On one core, and beside other threads, which a fork would leave in the middle of their work, it is `forest.grow`
    itself; so it is for the rest of the work if the process is lost.
    """
    if len(os.sched_getaffinity(0)) < 2 or threading.active_count() > 1:
        yield forest.grow
        return
    context = get_context("fork")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there,), daemon=True)
    process.start()
    there.close()

    def grow(positions: Floats, values: Floats, resamples: int, seed: int) -> ForestShares:
        order = positions, values, resamples, seed
        try:
            here.send(order)
            grown: ForestShares | Exception = here.recv()
        except (EOFError, OSError):
            return forest.grow(*order)
        if isinstance(grown, Exception):
            raise grown
        return grown

    try:
        yield grow
    finally:
        process.kill()
        process.join()
        here.close()


def _serve(orders: Connection) -> None:
    """Grow forests until the other process ends this one."""
    end_with_parent(signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to both, and the first one ends this one
    forest.prepare()
    while True:
        try:
            orders.send(forest.grow(*orders.recv()))
        except Exception as error:
            orders.send(error)
