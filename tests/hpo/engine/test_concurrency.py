"""Every method on one, two and eight devices: a study reaches its end, whatever is done first and whatever dies.

Actors run in this process, see `hpo.engine.in_process`. Studies on real actors, and stored, are in
test_methods_contract (all methods, two devices).
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import pytest
from rich.console import Console

from hpo.core.books import Books
from hpo.core.results import TrialRow
from hpo.core.study import Study
from hpo.engine.in_process import InProcess
from hpo.engine.in_process.actors import Call
from hpo.engine.in_process.unstored import Unkept, Unstored
from hpo.engine.runner import Finished, execute
from hpo.engine.signals import GRACEFUL_SIGNALS
from hpo.search import registry
from tests.hpo.engine.in_process import every, first, run, synthetic, units_of

BUDGET, SEED = 4, 1
DEVICES = (1, 2, 8)
PAUSING = ["hyperband", "bohb", "pbt", "pb2"]
SIGNAL = signal.SIGUSR1

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(60),  # a study that stalls may do so within Tune's own waiting
]


@dataclass(frozen=True)
class Ran:
    """A study that has run."""

    study: Study
    finished: Finished
    most_at_once: int

    @property
    def rows(self) -> list[TrialRow]:
        return self.finished.books.rows

    @property
    def trained_units(self) -> int:
        return sum(row.trained_units for row in self.rows)

    def assert_ended_well(self) -> None:
        """Make sure that it reached its end by itself, within its budget, and has ended every trial."""
        assert self.finished.reason == ""
        assert self.finished.reached_end
        assert self.trained_units <= self.study.budget_units
        assert {row.outcome for row in self.rows} <= {"completed", "stopped", "diverged", "failed"}


def ran_on(executor: InProcess, study: Study) -> Ran:
    """Run a study."""
    return Ran(study, run(study, executor), executor.most_in_use)


@pytest.fixture(scope="module")
def run_on() -> Callable[..., Ran]:
    """Run the study of a method on so many devices, once."""

    @cache
    def run_once(method: str, devices: int, order: int = 0, diverge_above: float | None = None) -> Ran:
        study = Study(method, synthetic(diverge_above=diverge_above), seed=SEED, budget=BUDGET)
        return ran_on(InProcess(devices, order), study)

    return run_once


@pytest.mark.parametrize("devices", DEVICES)
@pytest.mark.parametrize("method", registry.names())
class TestDevices:
    def test_the_study_ends_well(self, run_on: Callable[..., Ran], method: str, devices: int) -> None:
        run_on(method, devices).assert_ended_well()

    def test_nothing_fails(self, run_on: Callable[..., Ran], method: str, devices: int) -> None:
        assert [row.reason for row in run_on(method, devices).rows if row.outcome == "failed"] == []

    def test_no_unit_is_trained_twice(self, run_on: Callable[..., Ran], method: str, devices: int) -> None:
        rows = run_on(method, devices).rows
        assert [row.trained_units for row in rows] == [row.units for row in rows]


@pytest.mark.parametrize("order", range(3))
class TestOrder:
    """Eight devices and a third of the trials diverging, in several orders of events."""

    @pytest.mark.parametrize("method", [*PAUSING, "asha", "median"])
    def test_the_study_ends_well(self, run_on: Callable[..., Ran], method: str, order: int) -> None:
        ran = run_on(method, devices=8, order=order, diverge_above=3e-5)
        ran.assert_ended_well()
        assert "diverged" in {row.outcome for row in ran.rows} or method in ("pbt", "pb2")  # those replace them

    def test_hyperband_promotes_the_same_trials(self, run_on: Callable[..., Ran], order: int) -> None:
        """A rung is compared as a whole, so it does not matter who arrives first."""
        serial, parallel = run_on("hyperband", devices=1), run_on("hyperband", devices=8, order=order)
        assert _reached(parallel) == _reached(serial)


def _reached(ran: Ran) -> list[tuple[float, int]]:
    return sorted((float(row.config["learning_rate"]), row.units) for row in ran.rows)


class TestDeaths:
    """Actors die, at every kind of call. Tune tries a trial again once."""

    @pytest.mark.parametrize("call", ["__ray_ready__", "reset", "train", "save", "restore"])
    @pytest.mark.parametrize("method", [*PAUSING, "median"])
    def test_the_study_ends_well(self, method: str, call: str) -> None:
        study = Study(method, synthetic(), seed=SEED, budget=BUDGET)
        ran_on(InProcess(devices=3, order=0, dies=every(4, call)), study).assert_ended_well()

    def test_a_trial_that_lost_units_is_trained_to_the_end_where_the_budget_has_them(self) -> None:
        """Two full trainings of three, and six units of an attempt that died in its seventh: 24 of 27."""
        study = Study("default", synthetic(), seed=SEED, budget=3, arguments={"repeats": 2})
        ran = ran_on(InProcess(devices=2, dies=first(lambda call: call.trial == 1 and units_of(call) == 6)), study)
        ran.assert_ended_well()
        assert [(row.outcome, row.units, row.trained_units) for row in ran.rows] == [
            ("completed", 9, 9),
            ("completed", 9, 15),
        ]

    def test_a_trial_that_lost_units_is_ended_by_the_budget_where_it_has_none(self) -> None:
        study = Study("default", synthetic(), seed=SEED, budget=2, arguments={"repeats": 2})
        ran = ran_on(InProcess(devices=2, dies=first(lambda call: call.trial == 1 and units_of(call) == 6)), study)
        ran.assert_ended_well()
        assert [(row.outcome, row.units, row.trained_units) for row in ran.rows] == [
            ("completed", 9, 9),
            ("stopped", 3, 9),
        ]

    def test_a_trial_that_fails_for_good_says_why(self) -> None:
        study = Study("default", synthetic(), seed=SEED, budget=BUDGET)
        rows = run(study, InProcess(devices=1, dies=every(1, "train"))).books.rows
        failed = [row for row in rows if row.outcome == "failed"]
        assert len(failed) == 3  # after which no other is tried
        assert all(row.reason.startswith("RayActorError: ") for row in failed), [row.reason for row in rows]

    @pytest.mark.parametrize("order", range(3))
    def test_a_member_that_dies_at_its_rung_is_compared_once_it_is_back(self, order: int) -> None:
        """Its checkpoint was lost, so it trains up to the rung again, while the others wait for it."""
        study = Study("hyperband", synthetic(), seed=SEED, budget=BUDGET)
        lost: set[int] = set()

        def dies(call: Call) -> bool:
            is_first = call.method == "save" and call.trial in (6, 7) and call.trial not in lost
            lost.update([call.trial] * is_first)
            return is_first

        ran = ran_on(InProcess(devices=3, order=order, dies=dies), study)
        assert lost == {6, 7}
        ran.assert_ended_well()

    @pytest.mark.parametrize("method", ["hyperband", "bohb"])
    @pytest.mark.parametrize("order", range(3))
    def test_members_do_not_wait_for_one_that_was_promoted_and_never_came(self, method: str, order: int) -> None:
        """An actor that dies as it is given the next trial costs that trial both attempts."""
        study = Study(method, synthetic(), seed=SEED, budget=3)
        seen: set[str] = set()

        def is_promotion(call: Call) -> bool:
            """Tell whether the actor is given a trial that has run before."""
            if call.method == "train":
                seen.add(call.actor.instance.trial_id)
            return call.method == "reset" and call.arguments[0]["__trial_info__"].trial_id in seen

        ran = ran_on(InProcess(devices=3, order=order, dies=first(is_promotion)), study)
        ran.assert_ended_well()
        assert [row.outcome for row in ran.rows].count("failed") == 1

    @pytest.mark.parametrize("order", range(6))
    def test_a_bracket_that_lost_units_does_not_overspend(self, order: int) -> None:
        """Budget 5 at resource 3 is three brackets, 5 + 6 + 4 units, nothing left to replace what is lost."""
        study = Study("hyperband", synthetic(max_units=3), seed=SEED, budget=5)
        dies = first(lambda call: call.trial == 3 and units_of(call) == 2)
        ran = ran_on(InProcess(devices=8, order=order, dies=dies), study)
        assert ran.rows[3].trained_units >= 2
        ran.assert_ended_well()


@pytest.fixture
def _without_nohup() -> Iterator[None]:
    """Take SIGHUP as usual: where nohup has started these tests it is ignored, and a study ignores it too."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("_without_nohup")
@pytest.mark.parametrize("number", GRACEFUL_SIGNALS)
def test_every_signal_that_asks_a_study_to_end_ends_it(number: signal.Signals) -> None:
    """The first one; a second has its usual effect."""
    left = iter([number])

    def interrupt(call: Call) -> bool:
        if call.method == "train" and call.trial == 2 and next(left, None):
            os.kill(os.getpid(), number)
        return False

    before = signal.getsignal(number)
    finished = run(Study("random", synthetic(), seed=SEED, budget=6), InProcess(devices=2, dies=interrupt))
    assert (finished.reached_end, finished.reason) == (False, "interrupted")
    assert signal.getsignal(number) is before


@pytest.mark.usefixtures("_without_nohup")
@pytest.mark.parametrize("number", GRACEFUL_SIGNALS)
def test_a_signal_after_the_last_trial_does_not_keep_the_study_from_the_store(number: signal.Signals) -> None:
    """The process would die of it without a word, its study unstored; `resume` and `sync` would find it."""
    delivered = []

    class Signalled(Unstored):
        def finish(self, books: Books, log: Callable[[], str], on_gpu: bool, status: str) -> None:
            os.kill(os.getpid(), number)
            delivered.append(status)

    study, console, before = Study("random", synthetic(3), budget=1), Console(quiet=True), signal.getsignal(number)
    finished = execute(study, "", console, InProcess(1), open_tracker=Signalled, open_folder=Unkept)
    assert (finished.reached_end, delivered) == (True, ["FINISHED"])
    assert signal.getsignal(number) is before


@pytest.mark.parametrize("devices", [1, 8])
@pytest.mark.parametrize("method", ["random", *PAUSING])
class TestEnds:
    """A study may end at any moment; some trials run then and others are paused."""

    def test_an_interrupted_study_ends(self, method: str, devices: int) -> None:
        """By a signal during its twelfth unit."""
        units = 0

        def interrupt(call: Call) -> bool:
            nonlocal units
            units += call.method == "train"
            if call.method == "train" and units == 12:
                os.kill(os.getpid(), SIGNAL)
            return False

        study = Study(method, synthetic(), seed=SEED, budget=6)
        finished = run(study, InProcess(devices, dies=interrupt))
        assert not finished.reached_end
        assert finished.reason == "interrupted"
        assert units <= 12 + devices  # each actor may have been told to go on already
        assert "interrupted" in {row.outcome for row in finished.books.rows}
        assert "running" not in {row.outcome for row in finished.books.rows}

    def test_a_study_whose_device_hours_are_spent_ends(self, method: str, devices: int) -> None:
        """Within the third unit of nine of its first training."""
        benchmark = synthetic(seconds_per_unit=0.1)
        study = Study(method, benchmark, seed=SEED, budget=12, gpu_hours=0.25 * devices / 3600)
        ran = ran_on(InProcess(devices), study)
        ran.assert_ended_well()
        assert ran.trained_units < study.budget_units / 3
        assert any("budget was spent" in row.reason for row in ran.rows)
