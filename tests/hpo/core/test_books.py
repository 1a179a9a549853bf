"""The books of a study: for any log, parts add up, units count once, and the same log gives the same books."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks import spec
from benchmarks.files import BenchmarkError
from hpo.core import event_log
from hpo.core import events as core
from hpo.core.books import Books, interruption_of, outcome_of
from hpo.core.ledger import PARTS
from hpo.core.results import MICRO_BATCH, PRECISION, TOKENS, counts
from hpo.core.study import Study
from tests.hpo.core.told_studies import TOKENS as STATISTICS
from tests.hpo.core.told_studies import logs, reserved_seconds

BENCHMARK = spec.load("synthetic")
STUDY = Study("asha", BENCHMARK, budget=3)
CONFIG = {"learning_rate": 1e-3}
FEW = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def books_of(*events: core.Event) -> Books:
    books = Books(BENCHMARK)
    for event in events:
        books.apply(event)
    return books


def content(books: Books) -> str:
    """Return everything that books tell, as text: there NaN equals NaN."""
    told = (books.rows, books.units, books.shares(), books.tokens, books.precision, books.skipped, books.seconds)
    return repr((told, books.open_trials, books.incumbent(), books.common_failure(1), books.trained_units))


def begun(trial: str = "a", number: int = 0, at: float = 0.0, devices: float = 1.0) -> list[core.Event]:
    return [core.proposed(STUDY, trial, number, CONFIG, at), core.Began(at, trial, devices)]


def a_unit(at: float, trial: str = "a", units: int = 1, **parts: float) -> core.Unit:
    return core.Unit(at, trial, units, 1.0 / units, False, {"eval_loss": 1.0 / units}, parts)


@pytest.mark.slow
class TestAnyLog:
    @given(logs())
    @FEW
    def test_parts_add_up_to_the_reserved_time(self, events: list[core.Event]) -> None:
        shares = books_of(*events).shares()
        assert shares.reserved_seconds == pytest.approx(reserved_seconds(events))
        assert sum(shares.seconds.values()) == pytest.approx(shares.reserved_seconds, abs=1e-6)
        assert min(shares.seconds.values()) >= 0
        assert tuple(shares.seconds) == PARTS

    @given(logs())
    @FEW
    def test_each_unit_counts_once(self, events: list[core.Event]) -> None:
        books, units = books_of(*events), [event for event in events if isinstance(event, core.Unit)]
        assert books.trained_units == len(books.units) == len(units)
        numbers = {event.trial: event.number for event in events if isinstance(event, core.Proposed)}
        for row in books.rows:
            own = [event for event in units if numbers[event.trial] == row.number]
            assert row.trained_units == len(own)
            assert row.units == (own[-1].units if own else 0)

    @given(logs(reports_idle=False))
    @FEW
    def test_rows_and_ledger_have_the_same_device_time(self, events: list[core.Event]) -> None:
        books = books_of(*events)
        used = sum(row.device_seconds for row in books.rows)
        shares = books.shares()
        assert used == pytest.approx(sum(shares.seconds.values()) - shares.seconds["idle"], abs=1e-6)

    @given(logs())
    @FEW
    def test_the_log_applied_again_gives_the_same_books(self, events: list[core.Event]) -> None:
        again = [event_log.event_of(line) for line in event_log.text_of(events).splitlines()]
        assert content(books_of(*again)) == content(books_of(*events))

    @given(logs(), st.integers(0, 40))
    @FEW
    def test_rows_that_were_read_never_change(self, events: list[core.Event], moment: int) -> None:
        books = books_of(*events[:moment])
        rows = books.rows
        before = repr(rows)
        for event in events[moment:]:
            books.apply(event)
        assert repr(rows) == before

    @given(logs())
    @FEW
    def test_looking_at_the_books_changes_nothing(self, events: list[core.Event]) -> None:
        books = books_of(*events)
        assert content(books) == content(books)


class TestDeviceTime:
    """Sums worked out by hand."""

    def test_parts_of_two_trials_on_two_devices(self) -> None:
        books = books_of(
            core.Reserved(0.0, 2),
            *begun("a", at=1.0),
            *begun("b", 1, at=1.5),
            a_unit(6.0, "b", startup=1.0, train=2.0, evaluate=0.5, checkpoint=0.25, idle=0.5),
            a_unit(7.0, "a", startup=2.0, train=3.0, evaluate=1.0),
            a_unit(9.0, "a", 2, train=1.5, evaluate=0.5),
            core.Ended(9.0, "a", "stopped", ""),
            core.Ended(9.0, "b", "stopped", ""),
            core.Released(10.0),
        )
        shares = books.shares()
        expected = {"startup": 3.0, "train": 6.5, "evaluate": 2.0, "checkpoint": 0.25, "idle": 8.25, "failed": 0.0}
        assert shares.seconds == pytest.approx(expected)
        assert (shares.reserved_seconds, shares.device_hours) == (20.0, 20.0 / 3600)
        assert shares.utilization == pytest.approx((6.5 + 2.0) / 20.0)
        assert [row.device_seconds for row in books.rows] == [8.0, 4.25]

    @pytest.mark.parametrize("devices", [0.5, 1.0, 2.0])
    def test_each_second_counts_for_each_device_of_a_trial(self, devices: float) -> None:
        books = books_of(core.Reserved(0.0, 4), *begun(devices=devices), a_unit(5.0, startup=1.0, train=4.0))
        shares = books.shares(now=6.0)
        assert (shares.seconds["startup"], shares.seconds["train"]) == (devices, 4 * devices)
        assert shares.reserved_seconds == 24.0
        assert books["a"].device_seconds == 5 * devices

    def test_a_failed_attempt_is_lost_in_row_and_ledger(self) -> None:
        start = [core.Reserved(0.0, 2), *begun(devices=2.0), a_unit(4.0, startup=1.0, train=2.0, evaluate=1.0)]
        books = books_of(
            *start, core.Failed(6.0, "a", "RuntimeError: x", "Traceback"), core.Retried(6.0, "a", "RuntimeError: x")
        )
        assert books.shares(8.0).seconds == {**dict.fromkeys(PARTS, 0.0), "failed": 12.0, "idle": 4.0}
        assert books["a"].device_seconds == 12.0
        assert (books["a"].failures, books["a"].raised) == (("RuntimeError: x",), ("Traceback",))
        assert books["a"].outcome == "running"

    def test_a_failure_before_the_first_unit_loses_the_time_since_the_trial_began(self) -> None:
        books = books_of(core.Reserved(0.0, 1), *begun(at=2.0), core.Failed(5.0, "a", "x"))
        assert (books.shares().seconds["failed"], books["a"].device_seconds) == (3.0, 3.0)

    def test_a_failure_loses_nothing_before_the_checkpoint(self) -> None:
        kept = [core.Reserved(0.0, 1), *begun(), a_unit(3.0, train=3.0), core.Checkpoint(4.0, "a", continues=True)]
        books = books_of(*kept, a_unit(6.0, units=2, train=2.0), core.Failed(7.0, "a", "x"))
        seconds = books.shares().seconds
        assert (seconds["train"], seconds["failed"], seconds["idle"]) == (3.0, 3.0, 1.0)
        assert books["a"].device_seconds == 6.0

    def test_a_second_attempt_counts_by_its_own_end(self) -> None:
        first = [
            core.Reserved(0.0, 1),
            *begun(),
            a_unit(2.0, train=2.0),
            core.Failed(3.0, "a", "x"),
            core.Retried(3.0, "a", "x"),
        ]
        books = books_of(*first, core.Began(4.0, "a", 1.0), a_unit(9.0, train=5.0), core.Ended(9.0, "a", "stopped", ""))
        assert books.shares(10.0).seconds == {**dict.fromkeys(PARTS, 0.0), "train": 5.0, "idle": 2.0, "failed": 3.0}

    def test_an_open_trial_counts_as_it_stands(self) -> None:
        books = books_of(core.Reserved(0.0, 1), *begun(), a_unit(3.0, train=3.0))
        assert books.shares(4.0).seconds == {**dict.fromkeys(PARTS, 0.0), "train": 3.0, "idle": 1.0}

    def test_a_paused_trial_loses_nothing(self) -> None:
        start = [core.Reserved(0.0, 1), *begun(), a_unit(3.0, train=3.0), core.Checkpoint(4.0, "a", continues=False)]
        books = books_of(*start, core.Interrupted(9.0))
        assert (books.shares().seconds["failed"], books["a"].device_seconds) == (0.0, 3.0)

    def test_an_interruption_loses_the_work_of_all_running_trials(self) -> None:
        start = [core.Reserved(0.0, 2), *begun("a"), *begun("b", 1), a_unit(3.0, "a", train=3.0)]
        books = books_of(*start, core.Interrupted(5.0))
        assert books.shares().seconds["failed"] == 10.0
        assert [row.device_seconds for row in books.rows] == [5.0, 5.0]
        assert books.open_trials == ["a", "b"]

    def test_a_study_that_ran_elsewhere_says_what_a_failure_lost(self) -> None:
        books = books_of(core.Reserved(0.0, 1), *begun(devices=4.0), core.Failed(5.0, "a", "x", lost_seconds=0.5))
        assert (books.shares().seconds["failed"], books["a"].device_seconds) == (2.0, 2.0)

    def test_reserved_follows_the_number_of_devices(self) -> None:
        """Two devices for 10 s, three for 5 s, one for 5 s."""
        books = books_of(core.Reserved(0.0, 2), core.Resized(10.0, 3), core.Resized(12.0, 3), core.Resized(15.0, 1))
        assert books.shares(20.0).reserved_seconds == 2 * 10 + 3 * 5 + 1 * 5

    def test_the_number_of_devices_is_kept_with_its_times(self) -> None:
        books = books_of(
            core.Reserved(0.0, 2, "1"), core.Reserved(5.0, 1, "2"), core.Resized(7.0, 3, "2"), core.Released(9.0, "1")
        )
        assert books.reservations == [(0.0, 2), (5.0, 3), (7.0, 5), (9.0, 3)]

    def test_several_holders_add_up(self) -> None:
        """Job 1 holds two devices from 0 to 10 s, job 2 one from 5 to 20 s."""
        books = books_of(
            core.Reserved(0.0, 2, "job 1"),
            core.Reserved(5.0, 1, "job 2"),
            core.Released(10.0, "job 1"),
            core.Released(20.0, "job 2"),
        )
        assert books.shares().reserved_seconds == 35.0
        assert books.shares(99.0).reserved_seconds == 35.0

    def test_a_study_of_no_length_has_no_utilization(self) -> None:
        assert books_of(core.Reserved(0.0, 2)).shares().utilization == 0.0


class TestRows:
    def test_a_proposal_is_completed_by_the_benchmark(self) -> None:
        row = books_of(*begun(at=2.0))["a"]
        assert row.config == {"learning_rate": 1e-3, "batch_size_per_device": 8, "weight_decay": 0.0}
        assert (row.number, row.seed, row.began_seconds, row.outcome, row.varies) == (0, 0, 2.0, "running", False)

    def test_a_proposal_with_a_schedule_varies(self) -> None:
        schedule = [(0, CONFIG), (3, {"learning_rate": 1e-4})]
        event = core.proposed(STUDY, "a", 0, {"schedule": schedule, "seed": 7}, 0.0)
        assert (event.varies, event.seed, [units for units, _ in event.schedule]) == (True, 7, [0, 3])

    def test_a_takeover_continues_the_donor_s_schedule(self) -> None:
        events = [*begun("a"), *begun("b", 1), core.Exploited(1.0, "a", "b", 3, {"learning_rate": 0.5})]
        row = books_of(core.Reserved(0.0, 2), *events)["a"]
        assert [units for units, _ in row.schedule] == [0, 3]
        assert (row.schedule[1][1], row.exploits) == ({"learning_rate": 0.5}, 1)

    def test_a_unit_that_diverges_says_so_and_a_sound_one_takes_it_back(self) -> None:
        lost = core.Unit(1.0, "a", 2, 20.0, True, {"train_loss": math.nan, "eval_loss": math.inf}, {})
        books = books_of(*begun(), lost)
        assert (books["a"].outcome, books["a"].reason) == (
            "diverged",
            "diverged at unit 2: train loss nan, eval loss inf",
        )
        books.apply(a_unit(2.0, units=3))
        assert (books["a"].outcome, books["a"].reason) == ("running", "")

    def test_the_first_statistics_of_the_data_are_kept(self) -> None:
        told = [STATISTICS]
        result = {"units": 1, "objective": 1.0, "diverged": False, "eval_loss": 1.0, "epoch": 3.0, "train_seconds": 2.0}
        events = [
            core.unit(STUDY.benchmark, "a", {**result, TOKENS: of}, 1.0) for of in ([], told, [STATISTICS, STATISTICS])
        ]
        assert books_of(*begun(), events[0]).tokens == ()
        books = books_of(*begun(), *events)
        assert list(books.tokens) == told
        assert (books["a"].metrics, books.units[0].seconds) == ({"eval_loss": 1.0}, {"train": 2.0})

    def test_a_rescued_trial_has_its_micro_batch_and_its_lost_time(self) -> None:
        result = {"units": 1, "objective": 1.0, "diverged": False, "train_seconds": 2.0, "failed_seconds": 1.0}
        books = books_of(
            core.Reserved(0.0, 1),
            *begun(),
            core.unit(STUDY.benchmark, "a", {**result, MICRO_BATCH: 4}, 4.0),
            core.Skipped(4.0, 7),
        )
        assert (books["a"].micro_batch, books["a"].device_seconds, books.skipped) == (4, 3.0, 7)
        assert books.shares().seconds == {**dict.fromkeys(PARTS, 0.0), "train": 2.0, "failed": 1.0, "idle": 1.0}
        books.apply(core.unit(STUDY.benchmark, "a", {**result, "units": 2}, 8.0))
        assert books["a"].micro_batch is None

    def test_two_arithmetics_are_told_apart(self) -> None:
        result = {"units": 1, "objective": 1.0, "diverged": False}
        events = [
            core.unit(STUDY.benchmark, "a", {**result, PRECISION: name}, 1.0) for name in ("fp32", "", "bf16", "fp32")
        ]
        assert books_of(*begun(), *events).precision == "bf16 and fp32"

    def test_each_end_has_its_time_and_reason(self) -> None:
        books = books_of(*begun(), core.Ended(7.0, "a", "failed", "RuntimeError: x"))
        row = books["a"]
        assert (row.outcome, row.reason, row.ended_seconds) == ("failed", "RuntimeError: x", 7.0)
        assert counts(books.rows) == {"failed": 1}

    @pytest.mark.parametrize(
        ("units", "budget_spent", "expected"),
        [
            (9, False, ("completed", "reached the full resource of 9 units")),
            (9, True, ("completed", "reached the full resource of 9 units")),
            (3, True, ("stopped", "the study's budget was spent at unit 3")),
            (3, False, ("stopped", "asha stopped it at unit 3")),
        ],
    )
    def test_the_outcome_of_a_sound_end(self, units: int, budget_spent: bool, expected: tuple[str, str]) -> None:
        row = books_of(*begun(), a_unit(1.0, units=units))["a"]
        assert outcome_of(STUDY, row, budget_spent) == expected

    def test_errors_that_name_a_file_in_another_encoding_can_be_written(self) -> None:
        text = "no file '/data/\udce9t\udce9'"
        events = [core.Failed(1.0, "a", text, text), core.Retried(1.0, "a", text), core.Ended(1.0, "a", "failed", text)]
        row = books_of(core.Reserved(0.0, 1), *begun(), *events)["a"]
        written = "no file '/data/\\udce9t\\udce9'"
        assert (row.raised, row.failures, row.reason) == ((written,), (written,), written)

    def test_a_diverged_trial_stays_diverged(self) -> None:
        row = books_of(*begun(), core.Unit(1.0, "a", 9, 20.0, True, {}, {}))["a"]
        assert outcome_of(STUDY, row, budget_spent=True) == ("diverged", row.reason)
        assert interruption_of(row, "x") == ("diverged", row.reason)

    def test_an_interruption_names_the_unit_and_the_cause(self) -> None:
        row = books_of(*begun(), a_unit(1.0, units=4))["a"]
        assert interruption_of(row) == ("interrupted", "the study ended at unit 4")
        assert interruption_of(row, "a signal") == ("interrupted", "the study ended at unit 4: a signal")


class TestRefusals:
    """Events that no study has at this point."""

    @pytest.mark.parametrize(
        ("event", "why"),
        [
            (core.Resized(0.5, 1), "its time is before that of the event before it, 1.0"),
            (core.Resized(math.nan, 1), "its time is before"),
            (core.proposed(STUDY, "a", 1, CONFIG, 2.0), "trial a is there already"),
            (a_unit(2.0, "b"), "trial b is not there"),
            (core.Exploited(2.0, "a", "b", 1, {}), "trial b is not there"),
            (core.Ended(2.0, "b", "stopped", ""), "trial b is not there"),
            (a_unit(2.0, "paused"), "trial paused holds no devices"),
            (core.Began(2.0, "ended", 1.0), "trial ended has ended"),
            (core.Ended(2.0, "ended", "stopped", ""), "trial ended has ended"),
            (core.Interrupted(math.inf), "one of its times is not finite"),
            (core.Resized(2.0, math.nan), "its devices are nan"),
            (core.Began(2.0, "a", -1.0), r"its devices are -1\.0"),
            (core.Proposed(2.0, "new", 3, 0, ()), "its schedule has no configuration from unit 0 on"),
            (core.Proposed(2.0, "new", 3, 0, ((3, CONFIG),)), "its schedule has no configuration from unit 0 on"),
            (a_unit(2.0, cooling=1.0), "cooling is no part of a trial's time, but one of startup, "),
            (a_unit(2.0, train=math.nan), "one of its times is not finite"),
            (core.Checkpoint(2.0, "a", True, math.inf), "one of its times is not finite"),
            (core.Failed(2.0, "a", "x", lost_seconds=math.nan), "one of its times is not finite"),
            (a_unit(2.0, train=1.0, evaluate=-2.0), r"its -1\.0 s are less than none"),
            (core.Checkpoint(2.0, "a", True, -1.0), r"its -1\.0 s are less than none"),
            (core.Failed(2.0, "a", "x", lost_seconds=-1.0), r"its -1\.0 s are less than none"),
        ],
    )
    def test_they_change_nothing(self, event: core.Event, why: str) -> None:
        others = [*begun("paused", 1), core.Checkpoint(0.5, "paused", False), *begun("ended", 2, at=0.5)]
        books = books_of(core.Reserved(0.0, 2), *begun(), *others, core.Ended(1.0, "ended", "stopped", ""))
        before = content(books)
        with pytest.raises(BenchmarkError, match=why):
            books.apply(event)
        assert content(books) == before

    @pytest.mark.parametrize(
        "event",
        [
            a_unit(1.0, train=1.0),
            core.Unit(1.0, "a", 1, math.nan, True, {"eval_loss": math.nan}, {}),
            core.Exploited(1.0, "a", "a", 3, CONFIG),
            core.Failed(1.0, "a", "x", "Traceback"),
            core.Retried(1.0, "a", "x"),
        ],
    )
    def test_a_line_that_came_twice_counts_once(self, event: core.Event) -> None:
        """Also read from a file, where NaN is not the NaN before."""
        books = books_of(core.Reserved(0.0, 1), *begun(), event)
        before = content(books)
        with pytest.raises(BenchmarkError, match="it is there already: a line of the log came twice"):
            books.apply(event_log.event_of(event_log.line_of(event)))
        assert content(books) == before


class TestCommonFailure:
    def failing(self, *reasons: str, units: int = 0, running: int | None = None) -> Books:
        events: list[Any] = [core.Reserved(0.0, 9)]
        for number, reason in enumerate(reasons):
            events += begun(str(number), number)
            events += [a_unit(0.0, str(number), units)] if units else []
            events += [core.Ended(0.0, str(number), "failed", reason)]
        if running is not None:
            events += [*begun("live", len(reasons)), *([a_unit(0.0, "live", running)] if running else [])]
        return books_of(*events)

    def test_all_fail_for_one_reason(self) -> None:
        assert self.failing("x: 17 MB", "x: 18 MB").common_failure(2) == "x: 17 MB"

    @pytest.mark.parametrize(
        ("first", "second"),
        [
            ("rate 1e-05 is too high", "rate 0.0003 is too high"),
            ("no space in /tmp/tmpabc/x", "no space in /tmp/tmpxyz/x"),
            ("object ffe01a lost (rank=0)", "object 00bd2c lost (rank=1)"),
            ("node-a7: cuda:0 is busy", "node-b12: cuda:1 is busy"),
        ],
    )
    def test_numbers_ids_and_paths_do_not_make_reasons_differ(self, first: str, second: str) -> None:
        assert self.failing(first, second).common_failure(2) == first

    def test_trials_that_ran_out_of_memory_tell_nothing_of_others(self) -> None:
        assert self.failing(*["out of memory: 3 GiB"] * 3).common_failure(1) == ""
        assert self.failing("out of memory: 3 GiB", "x", "x").common_failure(2) == "x"

    def test_there_is_no_verdict_on_few(self) -> None:
        assert self.failing("x", "x").common_failure(3) == ""

    def test_reasons_differ(self) -> None:
        assert self.failing("x", "y").common_failure(2) == ""

    @pytest.mark.parametrize(("running", "verdict"), [(0, "x"), (1, "x"), (2, "")])
    def test_a_trial_that_runs_counts_once_it_gets_further(self, running: int, verdict: str) -> None:
        assert self.failing("x", "x", units=1, running=running).common_failure(2) == verdict
