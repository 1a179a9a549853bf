"""Delivery of results that the tracking store did not take while a study ran: `python -m hpo sync`.

A study is kept in `unfinished/` if its store was away at its end, or if its driver was killed meanwhile. The parts
that the store lacks are written, in order and once. Nothing is trained, and Ray is not started.
"""

from __future__ import annotations

from hpo.cluster.devices import CPU
from hpo.core.results import why_nothing_found
from hpo.engine import snapshot
from hpo.engine.study_folder import Unfinished
from hpo.store.tracker import Tracker


def deliver(one: Unfinished) -> str:
    """Write the parts of a study that the store lacks; returns the result in a few words.

    A study that has not reached its end is marked as interrupted, and can still go on with `resume`.

    Args:
        one: the study, which no driver runs.

    Raises:
        BenchmarkError: it runs, it cannot be read, or the store cannot be used.
    """
    asked = one.asked()
    with one.held():
        state = snapshot.read(one)
        if state is None:
            return "has no results yet"
        tracker = Tracker(asked.study, asked.accelerator, asked.command, run_id=one.run_id)
        is_new = tracker.lacks_end(state.has_ended)
        if is_new:
            state.stop(one.seconds)
            state.close()
            tracker.began_at = state.began_at
            tracker.resume(state.log.events())
            tracker.finish(state.books, state.log.text, asked.accelerator != CPU, _status(state))
        if state.has_ended or asked.study.kind != "study":  # `confirm` trains the missing ones
            one.remove()
    trials = f"{len(state.books.rows)} trials, {state.budget.spent} units"
    return f"{trials} delivered" if is_new else f"{trials}, all there already"


def _status(state: snapshot.State) -> str:
    """Return MLflow's status of a study: only one that has reached its end and found something is finished."""
    if not state.has_ended:
        return "KILLED"
    return "FAILED" if why_nothing_found(state.books.rows) else "FINISHED"
