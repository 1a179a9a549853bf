"""The ledger: device-seconds by part, with sums worked out by hand."""

from __future__ import annotations

import pytest

from hpo.core.ledger import PARTS, Ledger, Shares


def unit(
    startup: float = 0, train: float = 0, evaluate: float = 0, checkpoint: float = 0, idle: float = 0
) -> dict[str, float]:
    """Make a trial's report of one unit, in seconds."""
    return {"startup": startup, "train": train, "evaluate": evaluate, "checkpoint": checkpoint, "idle": idle}


@pytest.fixture
def two_devices() -> Shares:
    """Two trials on two devices, reserved for 10 s: 20 device-seconds."""
    ledger = Ledger(devices=2, devices_per_trial=1)
    ledger.start("a", now=1.0)
    ledger.start("b", now=1.5)
    ledger.report("a", unit(startup=2.0, train=3.0, evaluate=1.0), now=7.0)
    ledger.report("b", unit(startup=1.0, train=2.0, evaluate=0.5, checkpoint=0.25, idle=0.5), now=6.0)
    ledger.report("a", unit(train=1.5, evaluate=0.5), now=9.0)
    ledger.end("a")
    ledger.end("b")
    return ledger.shares(now=10.0)


def test_parts_are_what_the_trials_reported(two_devices: Shares) -> None:
    seconds = {part: two_devices.seconds[part] for part in ("startup", "train", "evaluate", "checkpoint", "failed")}
    assert seconds == {"startup": 3.0, "train": 6.5, "evaluate": 2.0, "checkpoint": 0.25, "failed": 0.0}


def test_reserved_is_devices_times_time(two_devices: Shares) -> None:
    assert two_devices.reserved_seconds == 20.0


def test_idle_is_the_remainder(two_devices: Shares) -> None:
    assert two_devices.seconds["idle"] == pytest.approx(20.0 - 3.0 - 6.5 - 2.0 - 0.25)


def test_parts_add_up_to_reserved(two_devices: Shares) -> None:
    assert sum(two_devices.seconds.values()) == pytest.approx(two_devices.reserved_seconds)


def test_utilization_is_the_share_that_trained_or_evaluated(two_devices: Shares) -> None:
    assert two_devices.utilization == pytest.approx((6.5 + 2.0) / 20.0)


def test_device_hours_are_reserved_hours(two_devices: Shares) -> None:
    assert two_devices.device_hours == pytest.approx(20.0 / 3600)


def test_shares_have_every_part(two_devices: Shares) -> None:
    assert tuple(two_devices.seconds) == PARTS


def test_every_second_counts_for_each_device_of_a_trial() -> None:
    ledger = Ledger(devices=4, devices_per_trial=2)
    ledger.start("a", now=0.0)
    booked = ledger.report("a", unit(startup=1.0, train=4.0), now=5.0)
    ledger.end("a")
    shares = ledger.shares(now=6.0)
    assert booked == 10.0
    assert shares.seconds == {**unit(startup=2.0, train=8.0, idle=14.0), "failed": 0.0}
    assert shares.reserved_seconds == 24.0


def test_a_failed_attempt_moves_everything_it_used_to_failed() -> None:
    ledger = Ledger(devices=1, devices_per_trial=1)
    ledger.start("a", now=0.0)
    ledger.report("a", unit(startup=1.0, train=2.0, evaluate=1.0), now=4.0)
    ledger.fail("a", now=6.0)  # two seconds into its next unit
    shares = ledger.shares(now=8.0)
    assert shares.seconds == {**unit(idle=2.0), "failed": 6.0}


def test_failing_returns_the_seconds_since_the_last_report_on_all_its_devices() -> None:
    ledger = Ledger(devices=2, devices_per_trial=2)
    ledger.start("a", now=0.0)
    ledger.report("a", unit(train=3.0), now=3.0)
    assert ledger.fail("a", now=5.0) == 4.0


def test_a_trial_that_fails_before_its_first_unit_has_used_the_time_since_it_started() -> None:
    ledger = Ledger(devices=1, devices_per_trial=1)
    ledger.start("a", now=2.0)
    ledger.fail("a", now=5.0)
    assert ledger.shares(now=5.0).seconds == {**unit(idle=2.0), "failed": 3.0}


def test_a_second_attempt_counts_by_its_own_end() -> None:
    ledger = Ledger(devices=1, devices_per_trial=1)
    ledger.start("a", now=0.0)
    ledger.report("a", unit(train=2.0), now=2.0)
    ledger.fail("a", now=3.0)
    ledger.start("a", now=4.0)
    ledger.report("a", unit(train=5.0), now=9.0)
    ledger.end("a")
    assert ledger.shares(now=10.0).seconds == {**unit(train=5.0, idle=2.0), "failed": 3.0}


def test_a_failed_attempt_is_not_useful() -> None:
    ledger = Ledger(devices=1, devices_per_trial=1)
    ledger.start("a", now=0.0)
    ledger.report("a", unit(train=10.0), now=10.0)
    ledger.fail("a", now=10.0)
    assert ledger.shares(now=10.0).utilization == 0.0


def test_an_open_trial_counts_as_it_stands() -> None:
    ledger = Ledger(devices=1, devices_per_trial=1)
    ledger.start("a", now=0.0)
    ledger.report("a", unit(train=3.0), now=3.0)
    assert ledger.shares(now=4.0).seconds == {**unit(train=3.0, idle=1.0), "failed": 0.0}


def test_looking_at_the_ledger_changes_nothing() -> None:
    ledger = Ledger(devices=1, devices_per_trial=1)
    ledger.start("a", now=0.0)
    ledger.report("a", unit(train=3.0), now=3.0)
    assert ledger.shares(now=4.0) == ledger.shares(now=4.0)


def test_a_study_of_no_length_has_no_utilization() -> None:
    assert Ledger(devices=2, devices_per_trial=1).shares(now=0.0).utilization == 0.0


def test_reserved_follows_the_number_of_devices() -> None:
    """Two devices for 10 s, three for 5 s, one for 5 s."""
    ledger = Ledger(devices=2, devices_per_trial=1)
    ledger.resize(3, 10.0)
    ledger.resize(3, 12.0)
    ledger.resize(1, 15.0)
    assert ledger.shares(20.0).reserved_seconds == 2 * 10 + 3 * 5 + 1 * 5
