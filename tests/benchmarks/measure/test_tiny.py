"""The command that measures short trials: its arithmetic, its table and figure, and once on a real SLURM."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from matplotlib.image import imread

from benchmarks.measure.tiny import figure
from benchmarks.measure.tiny.__main__ import lines, overhead_seconds
from benchmarks.measure.tiny.ways import WAYS, Bench, Span
from slurm.testbed import daemons

REPOSITORY = Path(__file__).parents[3]


def test_the_overhead_of_a_trial_is_the_time_of_its_place_beyond_its_training(tmp_path: Path) -> None:
    bench = Bench(tmp_path, trials=16, sequences=64)
    assert overhead_seconds(bench, Span(start_seconds=3.0, seconds=8.0)) == 0.0  # 16 trials of 1 s on two places
    assert overhead_seconds(bench, Span(start_seconds=3.0, seconds=12.0)) == 0.5


def test_a_trial_takes_the_time_of_its_sequences(tmp_path: Path) -> None:
    benchmark = Bench(tmp_path, trials=4, sequences=32).benchmark
    assert (benchmark.resource.unit_samples, benchmark.resource.max_units) == (32, 1)
    assert benchmark.synthetic is not None
    assert benchmark.synthetic.seconds_per_unit == 0.5
    assert list(benchmark.space) == ["learning_rate"]


@pytest.mark.slow  # matplotlib
def test_table_and_figure_show_each_way(tmp_path: Path) -> None:
    sizes, spans = [8, 64], [Span(3.0, 4.0), Span(5.0, 12.0)]
    benches = [Bench(tmp_path, 16, size) for size in sizes]
    table = lines(sizes, dict.fromkeys(WAYS, spans), benches)
    assert table[0].endswith("8 sequences (0.125 s) | 64 sequences (1 s) |")
    assert table[2:] == [f"| {way} | 5.0 | 0.38 s | 0.50 s |" for way in WAYS]
    assert {line.count("|") for line in table} == {5}
    figure.draw(sizes, {way: [32.0, 85.3] for way in WAYS}, tmp_path / "tiny.png")
    assert imread(tmp_path / "tiny.png").std() > 0.05


@pytest.mark.thorough  # the arithmetic is tested above, and each way in the tests of its commands
@pytest.mark.timeout(1200)
def test_every_way_runs_on_a_slurm_of_two_nodes(tmp_path: Path) -> None:
    if lacking := daemons.lacks():
        pytest.skip(f"no SLURM can be started here: {lacking}")
    words = ["-m", "benchmarks.measure.tiny", "--sizes", "8", "--trials", "4", "--output", str(tmp_path / "tiny.png")]
    done = subprocess.run([sys.executable, *words], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(f"| {way} | " in done.stdout for way in WAYS)
    assert (tmp_path / "tiny.png").exists()
