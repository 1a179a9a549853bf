"""The verdicts on the start-up of commands, on seconds that are given."""

from __future__ import annotations

import pytest

from benchmarks.measure import startup
from benchmarks.measure.startup import BASE, COMPARE, FIRST, LAST, RAY

QUICK = {
    BASE: [2.9, 3.0, 3.1],
    RAY: [4.0, 4.5, 5.0],
    "methods": [0.3],
    "--help": [0.6],
    "run asha --help": [0.5],
    FIRST: [8.0],
    LAST: [1.5],
    f"{BASE}, again": [2.0],
    COMPARE: [3.0],
}


def test_commands_within_their_limits_pass() -> None:
    lines = startup.table(QUICK)
    assert sum("PASS" in line for line in lines) == 6
    assert not any("FAIL" in line for line in lines)
    assert lines[0].startswith(f"{BASE} ")
    assert lines[-1].split() == "compare 3.00 s 1.50 x the import (3.00 .. 3.00) | PASS, at most 3.0".split()


def test_the_first_trial_has_an_import_and_a_third_and_ray_s_start() -> None:
    assert startup.limits(QUICK)[FIRST] == pytest.approx(1.3 * 3.0 + 4.5)


@pytest.mark.parametrize(("name", "seconds"), [("--help", 0.61), (FIRST, 8.5), (LAST, 1.6), (COMPARE, 3.1)])
def test_one_above_its_limit_fails(name: str, seconds: float) -> None:
    [line] = [line for line in startup.table({**QUICK, name: [seconds]}) if "FAIL" in line]
    assert line.startswith(name)
