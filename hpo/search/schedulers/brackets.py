"""HyperBand's brackets in Ray Tune, corrected.

Ray's schedulers are used as they are, but for these points, each of which changes results:

* A bracket counts the trials it was ever given. Ray counts the live ones, so a bracket whose trials end early
  takes in new ones without end.
* A bracket waits until it has all its trials, and is looked at again whenever one leaves it. Ray looks once, so
  a failure in a later rung leaves the others paused for ever.
* The most aggressive bracket comes first, as in the paper, and rungs are exact: pairs of resource and reduction
  factor that do not divide are refused.
* Promoted trials go on before new ones begin, which shortens the wait at the end of a study.
* A bracket is begun only if the budget has room for all of it; the last one is made smaller to fit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import HyperBandScheduler, TrialScheduler
from ray.tune.schedulers.hyperband import _Bracket

from benchmarks.spec import BenchmarkError
from hpo.core.study import Study
from hpo.search.plan import OBJECTIVE, TIME_ATTRIBUTE


@dataclass(frozen=True)
class Brackets:
    """The arithmetic of HyperBand.

    Attributes:
        max_units: the full resource, R in the paper.
        reduction_factor: eta, at least 2.
    """

    max_units: int
    reduction_factor: int

    @property
    def halvings(self) -> int:
        """The most halvings that leave whole units at every rung: s_max."""
        s = 0
        while self.max_units % self.reduction_factor ** (s + 1) == 0:
            s += 1
        return s

    def rungs(self, s: int) -> list[int]:
        """Return the units at which the bracket with `s` halvings compares its trials, the full resource included."""
        return [self.max_units // self.reduction_factor**i for i in range(s, -1, -1)]

    def num_trials(self, s: int) -> int:
        """Return the trials with which the bracket with `s` halvings begins: ceil((s_max + 1) / (s + 1) * eta^s)."""
        return _ceiling((self.halvings + 1) * int(self.reduction_factor**s), s + 1)

    def survivors(self, s: int, num_trials: int) -> list[int]:
        """Return the number of trials that train to each rung of `rungs(s)`."""
        counts = [num_trials]
        for _ in range(s):
            counts.append(_ceiling(counts[-1], self.reduction_factor))
        return counts

    def trials_in_a_round(self, budget_units: int) -> int:
        """Count the trials of all brackets, which may wait at their rungs at the same time, as far as a budget goes."""
        return min(budget_units, sum(self.num_trials(s) for s in range(self.halvings + 1)))

    def units(self, s: int, num_trials: int) -> int:
        """Return the whole cost of a bracket; paused trials continue and do not begin again."""
        total, reached = 0, 0
        for rung, trials in zip(self.rungs(s), self.survivors(s, num_trials), strict=True):
            total += trials * (rung - reached)
            reached = rung
        return total

    def largest(self, s: int, free_units: int) -> int:
        """Return the number of trials, at most the full number, with which bracket `s` costs at most `free_units`."""
        fitting = [n for n in range(1, self.num_trials(s) + 1) if self.units(s, n) <= free_units]
        return max(fitting, default=0)


def make_brackets(study: Study, reduction_factor: int) -> Brackets:
    """Make the brackets of a study.

    Raises:
        BenchmarkError: the reduction factor leaves no bracket that stops a trial early.
    """
    brackets = Brackets(study.max_units, reduction_factor)
    if brackets.halvings == 0:
        fitting = [eta for eta in range(2, study.max_units + 1) if study.max_units % eta == 0]
        advice = (
            f"reduction factors that fit: {', '.join(map(str, fitting))}"
            if fitting
            else "max_units must be at least 2 to stop anything early"
        )
        raise BenchmarkError(
            f"reduction_factor is {reduction_factor}, but must divide max_units, which is {study.max_units} in "
            f"benchmark {study.benchmark.name}, so that every rung is a whole number of units; {advice}"
        )
    return brackets


class BracketScheduler(HyperBandScheduler):
    """Ray's HyperBand with the corrections above; also a base for `HyperBandForBOHB`. It is its own `Admission`.

    Args:
        brackets: the arithmetic.
        mode: "min" or "max".
    """

    replaces_diverged = False

    def __init__(self, brackets: Brackets, mode: str) -> None:
        super().__init__(
            time_attr=TIME_ATTRIBUTE,
            metric=OBJECTIVE,
            mode=mode,
            max_t=brackets.max_units,
            reduction_factor=brackets.reduction_factor,
        )
        self._brackets = brackets
        self._due = brackets.halvings
        self._size = 0
        self._filling: CountingBracket | None = None

    # ---- the reservation of a new trial

    def cost(self, free_units: int) -> int | None:
        """Return nothing while a bracket is being filled; else the whole cost of the next, made smaller if need be."""
        if self._is_filling:
            return 0
        size = self._brackets.largest(self._due, free_units)
        return self._brackets.units(self._due, size) if size else None

    def admit(self, free_units: int) -> None:
        """Settle the size of the next bracket with its first trial."""
        if not self._is_filling:
            self._size = self._brackets.largest(self._due, free_units)

    @property
    def _is_filling(self) -> bool:
        return self._filling is not None and not self._filling.filled()

    def account_of(self, trial: Trial) -> str:
        """Return the account, which all trials of a bracket share."""
        return str(self._trial_info[trial][0].name)

    def is_over(self, account: str) -> bool:
        """Tell whether the bracket of this account has been given all its trials."""
        return all(bracket.filled() for bracket in self._all_brackets() if bracket.name == account)

    def on_trial_retry(self, trial: Trial) -> None:
        """Let the bracket wait for the trial again."""
        self._trial_info[trial][0].forget_result(trial)

    def on_trial_drop(self, trial: Trial) -> None:
        """Let another trial take the place, if the bracket is still being filled."""
        if self._filling is not None and self._filling is self._trial_info[trial][0]:
            self._filling.reopen_place(trial)

    # ---- calls by Tune

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """Add a new trial to the bracket that is being filled, or begin the next."""
        if self._filling is None or self._filling.filled():
            self._filling = self._open_bracket()
        self._filling.add_trial(trial)
        self._trial_info[trial] = self._filling, len(self._hyperbands) - 1

    def choose_trial_to_run(self, tune_controller: Any, allow_recurse: bool = True) -> Trial | None:
        """Return a promoted trial of the oldest bracket that has one, else the next new trial."""
        for bracket in list(self._all_brackets()):
            if bracket.waits():
                self._process_bracket(tune_controller, bracket)
        for wanted in (_is_promoted, _is_new):
            for bracket in self._all_brackets():
                for trial in bracket.current_trials():
                    if wanted(bracket, trial):
                        return trial
        return None

    def _process_bracket(self, tune_controller: Any, bracket: CountingBracket) -> str:
        """Halve a bracket whose trials have all arrived."""
        if not bracket.filled():
            return str(TrialScheduler.PAUSE)
        action = super()._process_bracket(tune_controller, bracket)
        bracket.is_being_processed = False  # Ray never takes this back
        return str(action)

    def _open_bracket(self) -> CountingBracket:
        if self._due == self._brackets.halvings and self._hyperbands[-1]:
            self._hyperbands.append([])
        bracket = CountingBracket(
            name=f"bracket {sum(map(len, self._hyperbands))}",
            time_attr=TIME_ATTRIBUTE,
            max_trials=self._size,
            init_t_attr=self._brackets.rungs(self._due)[0],
            max_t_attr=self._brackets.max_units,
            eta=self._brackets.reduction_factor,
            s=self._due,
        )
        self._hyperbands[-1].append(bracket)
        self._due = (self._due - 1) % (self._brackets.halvings + 1)
        return bracket

    def _all_brackets(self) -> Iterator[CountingBracket]:
        for band in self._hyperbands:
            yield from band


class CountingBracket(_Bracket):
    """A bracket that is full once it has been given all its trials, however many of them still live.

    Args:
        name: its account in the budget.
        settings: arguments of Ray's bracket.
    """

    def __init__(self, name: str, **settings: Any) -> None:
        super().__init__(**settings)
        self.name = name

    @property
    def current_rung(self) -> int:
        """The units at which its trials are compared next."""
        return int(self._cumul_r)

    def filled(self) -> bool:
        """Tell whether it takes no more trials."""
        return len(self._all_trials) >= int(self._n0)

    def cleanup_trial(self, trial: Trial) -> None:
        """Forget a trial that has left, so that no trial waits for it."""
        super().cleanup_trial(trial)
        self.trials_to_unpause.discard(trial)

    def forget_result(self, trial: Trial) -> None:
        """Forget the result of a trial that is tried again and has yet to reach the rung."""
        self._live_trials[trial] = None

    def reopen_place(self, trial: Trial) -> None:
        """Count a trial that has not begun no more."""
        self._all_trials.remove(trial)

    def waits(self) -> bool:
        """Tell whether all its live trials are paused at the rung and none has been promoted yet."""
        live = self.current_trials()
        return bool(
            live
            and self.filled()
            and self.cur_iter_done()
            and not self.trials_to_unpause
            and all(trial.status == Trial.PAUSED for trial in live)
        )


def _ceiling(number: int, divisor: int) -> int:
    return -(-number // divisor)


def _is_promoted(bracket: CountingBracket, trial: Trial) -> bool:
    return trial.status == Trial.PAUSED and trial in bracket.trials_to_unpause


def _is_new(bracket: CountingBracket, trial: Trial) -> bool:
    return bool(trial.status == Trial.PENDING)
