"""The watch over a long study: what it sees, what it makes of it, and a study that passes."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from benchmarks.measure.soak.__main__ import Watched, table, watch
from benchmarks.measure.soak.trend import fit
from benchmarks.measure.soak.watch import ROLES, Held, StudySample, StudyWatch, size_mb
from benchmarks.spec import BenchmarkError

TRIALS = 40
HOLDER = """
import os, sys
held = []
for line in sys.stdin:
    held.append((b"x" * 20_000_000, os.open("/dev/null", os.O_RDONLY)))
    print("done", flush=True)
"""


def test_a_slope_is_that_of_100_trials() -> None:
    trend = fit([10, 20, 30, 40], [5.0, 6.0, 7.0, 8.0])
    assert (trend.first, trend.last, trend.largest) == (5.0, 8.0, 8.0)
    assert (trend.slope, trend.interval) == (pytest.approx(10.0), pytest.approx((10.0, 10.0)))


def test_a_sample_out_of_line_does_not_move_it() -> None:
    trials = list(range(50))
    values = [0.1 * trial for trial in trials]
    values[30] = 500.0
    assert fit(trials, values).slope == pytest.approx(10.0)
    assert fit(trials, values).largest == 500.0


def test_what_does_not_change_has_no_slope() -> None:
    assert fit([1, 2, 3], [7.0] * 3).interval == (0.0, 0.0)


def study(fds: float = 0.0, memory_mb: float = 0.0, disk_mb: float = 0.0) -> Watched:
    """100 trials, and what each adds to the ranks and to the store."""
    samples = [
        StudySample(
            seconds=float(trial),
            trials=trial,
            held={role: Held(100 + memory_mb * trial, 50 + int(fds * trial), 9, 1) for role in ROLES},
            disk_mb={"unfinished study": 1.0, "Ray's session": 1.0, "MLflow store": 1.0 + disk_mb * trial},
        )
        for trial in range(101)
    ]
    return Watched(status=0, errors="", samples=samples, survivors=[], left=[])


def test_a_study_that_does_not_grow_passes() -> None:
    assert study().faults() == []


@pytest.mark.parametrize(
    ("watched", "fault"),
    [
        (study(memory_mb=0.06), "rank: memory grows by 6.00 MB"),
        (study(fds=1.0), "driver: descriptors grows by 100.00"),
        (study(disk_mb=0.03), "MLflow store grows by 3.00 MB"),
        (replace(study(), status=1, errors="error: no"), "the study ended with status 1: error: no"),
        (replace(study(), survivors=["7 raylet"]), "process 7 raylet outlived the study"),
        (replace(study(), left=["tmp/x"]), "tmp/x was left in the temporary folder"),
    ],
)
def test_what_grows_or_is_left_is_a_fault(watched: Watched, fault: str) -> None:
    assert any(found.startswith(fault) for found in watched.faults()), watched.faults()


def test_a_single_step_is_no_growth() -> None:
    """A heap that settles late makes such a step: the interval reaches below the bound."""
    late = [replace(s, held={**s.held, "rank": Held(115.0 if s.trials > 75 else 100.0)}) for s in study().samples]
    assert replace(study(), samples=late).faults() == []


def test_a_study_without_trials_says_what_it_said() -> None:
    with pytest.raises(BenchmarkError, match="status 2, saying: error: no such"):
        replace(study(), samples=study().samples[:1], status=2, errors="error: no such").faults()


def test_the_table_has_a_line_for_everything_watched() -> None:
    lines = table(study())
    assert [line.split(":")[0] for line in lines[2 : 2 + len(ROLES)]] == list(ROLES)
    assert lines[-1].split()[-1] == "2"


@pytest.mark.slow
def test_a_process_is_seen_to_take_memory_and_descriptors(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    watching = StudyWatch(psutil.Process(process.pid), tmp_path / "none.db", {"folder": [tmp_path]})
    seen = []
    for _ in range(3):
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "done\n"
        seen.append(watching.look().held["driver"])
    assert [held.fds - seen[0].fds for held in seen] == [0, 1, 2]
    assert seen[2].memory_mb - seen[0].memory_mb == pytest.approx(2 * 20e6 / 2**20, abs=4)
    assert [found.pid for found in watching.survivors(0.1)] == [process.pid]
    process.communicate()
    assert watching.survivors(5) == []


def test_a_folder_takes_its_files_and_a_block_for_each_folder(tmp_path: Path) -> None:
    empty = size_mb(tmp_path)
    (tmp_path / "file").write_bytes(b"x" * 2**20)
    assert size_mb(tmp_path) - empty == pytest.approx(1.0, abs=0.1)
    assert size_mb(tmp_path / "absent") == 0


@pytest.mark.thorough
@pytest.mark.timeout(400)
def test_a_short_study_leaves_nothing_and_opens_nothing_that_stays() -> None:
    """Memory takes more trials than these to settle; the thorough test has them."""
    watched = watch("hyperband", TRIALS)
    assert watched.trials >= TRIALS - 5
    assert [fault for fault in watched.faults() if "memory" not in fault] == []


@pytest.mark.thorough  # minutes each
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("method", "trials"), [("random", 200), ("hyperband", 800)])
def test_a_long_study_does_not_grow(method: str, trials: int) -> None:
    watched = watch(method, trials)
    assert watched.trials >= 0.97 * trials
    assert watched.faults() == [], "\n".join(table(watched))
