"""Optuna's TPE for processes that share only a file: each asks for a trial of its own, and tells its result.

The file is Optuna's journal, which several nodes may write to over a network file system
(https://optuna.readthedocs.io/en/stable/reference/generated/optuna.storages.journal.JournalFileBackend.html). Proposals
depend on the results of the others by then, so a study is reproducible only if one process runs at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.space import Choice, Config, Domain, Integer, LogUniform
from benchmarks.spec import Benchmark
from hpo.core.study import Study

if TYPE_CHECKING:  # they take seconds to import
    from optuna import Study as Journal
    from optuna.distributions import BaseDistribution

    from hpo.search.plan import TPEArguments

TRIAL = "trial"
"""Attribute of a proposal: the number, in its study, of the trial that it is for."""


DRAWS, DRAWN = "draws", "drawn"
"""Attribute of the journal, the draws of `hpo.search.randomness` for a whole budget; and of a trial that is one."""


@dataclass(frozen=True)
class Proposal:
    """A configuration to train.

    Attributes:
        config: the hyperparameters.
        number: the number by which to `tell` of it; None if no journal proposed it.
        by_model: see `hpo.core.events.Proposed`.
    """

    config: Config
    number: int | None = None
    by_model: bool | None = None


def begin(path: Path, study: Study, arguments: TPEArguments) -> None:
    """Make the journal, with the proposals before the model's and the trials known before the first.

    Raises:
        BenchmarkError: earlier studies cannot be read.
    """
    from optuna.trial import create_trial

    from hpo.search.randomness import Draws, opening
    from hpo.store.stored_trials import past_trials

    journal, first = _open(path, study.benchmark), opening(study, arguments)
    draws = Draws(study, first)
    journal.set_user_attr(DRAWS, [draws.next() for _ in range(study.budget)])
    for config in first:
        journal.enqueue_trial(config, user_attrs={DRAWN: True})
    space = distributions(study.benchmark)
    for past in past_trials(study.benchmark) if arguments.warm_start else []:
        journal.add_trial(create_trial(params=dict(past.config), distributions=space, value=past.objective))


def ask(path: Path, study: Study, initial_points: int, trial: int, rejected: int = 0) -> Proposal:
    """Propose: the next draw until enough trials have ended, afterwards by the model.

    The choice is made here, once, and not left to Optuna: it counts as well the trials that are told while it proposes,
    and nothing would tell which of the two it took.

    Args:
        path: the journal.
        study: the study that searches.
        initial_points: trials that end before the model proposes; those that do not fit into memory do not count.
        trial: its number in the study, which seeds its proposal.
        rejected: proposals for the trial that did not fit into memory; the next one differs.
    """
    from optuna.samplers import RandomSampler, TPESampler

    seed = int(np.random.SeedSequence([study.seed, trial, *([rejected] if rejected else [])]).generate_state(1)[0])
    journal = _open(path, study.benchmark)
    with _asking(path):
        by_model = _is_models_turn(journal, initial_points)
        journal.sampler = TPESampler(seed=seed, n_startup_trials=0) if by_model else RandomSampler(seed=seed)
        if not by_model:
            _enqueue_draw(journal)
        asked = journal.ask(distributions(study.benchmark))
    asked.set_user_attr(TRIAL, trial)
    return Proposal(dict(asked.params), asked.number, by_model)


@contextmanager
def _asking(path: Path) -> Iterator[None]:
    """Keep other processes from asking meanwhile: two at once would take the same draw.

    A lock whose holder died lasts for as long as Optuna's own locks of the journal do.
    """
    from optuna.storages.journal import JournalFileOpenLock

    lock = JournalFileOpenLock(f"{path}.asking")
    lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _is_models_turn(journal: Journal, initial_points: int) -> bool:
    """Tell whether enough trials have ended for a model, and no proposal of an earlier time waits."""
    from optuna.trial import TrialState

    states = [trial.state for trial in journal.get_trials(deepcopy=False)]
    return TrialState.WAITING not in states and states.count(TrialState.COMPLETE) >= initial_points


def _enqueue_draw(journal: Journal) -> None:
    """Make the next trial the next draw, unless one waits or none is left."""
    from optuna.trial import TrialState

    trials, draws = journal.get_trials(deepcopy=False), journal.user_attrs[DRAWS]
    drawn = sum(DRAWN in trial.user_attrs for trial in trials)
    is_waiting = any(trial.state == TrialState.WAITING for trial in trials)
    if not is_waiting and drawn < len(draws):
        journal.enqueue_trial(draws[drawn], user_attrs={DRAWN: True})


def number_of(path: Path, benchmark: Benchmark, trial: int) -> int | None:
    """Return the number by which to `tell` of a trial's latest proposal; None if it has none."""
    asked = _open(path, benchmark).get_trials(deepcopy=False)
    return next((one.number for one in reversed(asked) if one.user_attrs.get(TRIAL) == trial), None)


def tell(path: Path, benchmark: Benchmark, number: int, objective: float | None, is_infeasible: bool = False) -> None:
    """Tell of a trial's end; without an objective, that it failed, or that it does not fit into memory.

    Optuna ranks a trial that was pruned before any unit behind all others, and passes over those that failed.
    """
    from optuna.trial import TrialState

    without = TrialState.PRUNED if is_infeasible else TrialState.FAIL
    state = TrialState.COMPLETE if objective is not None else without
    _open(path, benchmark).tell(number, objective, state, skip_if_finished=True)


def distributions(benchmark: Benchmark) -> dict[str, BaseDistribution]:
    """Return the search space in Optuna's terms."""
    return {name: _distribution(domain) for name, domain in benchmark.space.items()}


def _distribution(domain: Domain) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(domain, Choice):
        return CategoricalDistribution(domain.values)
    if isinstance(domain, Integer):
        return IntDistribution(domain.low, domain.high)
    return FloatDistribution(domain.low, domain.high, log=isinstance(domain, LogUniform))


def _open(path: Path, benchmark: Benchmark) -> Journal:
    from optuna import create_study
    from optuna.logging import WARNING, set_verbosity
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    set_verbosity(WARNING)  # it would announce every study and trial on stderr
    return create_study(
        storage=JournalStorage(JournalFileBackend(str(path))),
        study_name="study",
        direction="minimize" if benchmark.mode == "min" else "maximize",
        load_if_exists=True,
    )
