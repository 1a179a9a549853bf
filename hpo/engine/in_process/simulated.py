"""A study as a function: it runs in this process, says nothing, and leaves nothing behind."""

from __future__ import annotations

import io
from collections.abc import Callable

from rich.console import Console

from hpo.core.study import Study
from hpo.engine.in_process.executor import InProcess
from hpo.engine.in_process.unstored import Unkept, Unstored
from hpo.engine.runner import Finished, execute
from hpo.engine.study_folder import Unfinished
from hpo.search.plan import Plan


def simulated(
    study: Study,
    executor: InProcess,
    plan: Plan | None = None,
    open_folder: Callable[[str], Unfinished] = Unkept,
) -> Finished:
    """Run a study whose trials need no other process.

    Args:
        study: the study.
        executor: its place.
        plan: of its method, for those who change it or ask its searcher afterwards.
        open_folder: makes its folder from the run's id, for those who ask for the log afterwards.

    Raises:
        BenchmarkError: the study cannot run.
    """
    console = Console(file=io.StringIO(), width=160)
    return execute(study, "", console, executor, plan=plan, open_tracker=Unstored, open_folder=open_folder)
