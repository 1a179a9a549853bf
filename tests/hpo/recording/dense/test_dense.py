"""Dense configurations: proposals of searchers on the bank's own model, kept in the log."""

from __future__ import annotations

import io
from itertools import count
from pathlib import Path
from statistics import median

import pytest
from rich.console import Console

from benchmarks.banks import bank as banks
from benchmarks.banks.bank import Bank
from benchmarks.clock import RealClock
from benchmarks.files import BenchmarkError
from hpo.app.cli import main
from hpo.cluster.devices import Devices
from hpo.recording import log as logs
from hpo.recording.configurations import configurations
from hpo.recording.dense import proposals
from hpo.recording.dense.second_sample import samples
from hpo.recording.files import Files
from hpo.recording.processes import places_of
from hpo.recording.recorder import Recording
from tests.benchmarks.banks import made
from tests.hpo.engine.in_process import synthetic
from tests.stores import working_in

BENCHMARK = synthetic(seconds_per_unit=0.0)


def record(folder: Path, configs: int, dense: int) -> Bank:
    """Record both samples with one seed."""
    folder.mkdir(exist_ok=True)
    files = Files(folder, BENCHMARK.name)
    first = configurations(BENCHMARK, configs, seed=0)
    for listed in samples(BENCHMARK, files, first, dense):
        recording = Recording(BENCHMARK, files, listed, 1, Console(file=io.StringIO()))
        recording.run(places_of(BENCHMARK, Devices(1, None, 1), 1), hours=None)
    return banks.read(files.bank)


def dense_of(bank: Bank) -> list[object]:
    return [training.config for training in bank.trainings if training.source == "dense"]


@pytest.fixture
def even_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each look at the clock come a millisecond after the one before, however busy this machine is.

    The seconds of trainings decide the order in which a replayed study's trials end, and with it what is proposed.
    """
    looks = count()
    monkeypatch.setattr(RealClock, "now", lambda self: next(looks) / 1000)


@pytest.mark.slow
@pytest.mark.usefixtures("even_clock")
def test_dense_configurations_are_better_than_random_ones_and_new(tmp_path: Path) -> None:
    bank = record(tmp_path, configs=60, dense=12)
    losses = {
        source: median(t.units[-1].metrics["eval_loss"] for t in bank.trainings if t.source == source and t.test)
        for source in ("random", "dense")
    }
    assert losses["dense"] < losses["random"]
    assert len(dense_of(bank)) == 12
    assert len({training.identity for training in bank.trainings}) == 72
    assert (bank.header.planned, len(bank.configurations())) == ((72, 1), 72)
    card = (tmp_path / "synthetic.md").read_text()
    assert "12 x dense" in card
    assert "over 12 that methods proposed" in card or "over 11 that methods proposed" in card


@pytest.mark.slow
def test_the_choice_outlives_the_model_it_came_from(tmp_path: Path) -> None:
    before = dense_of(record(tmp_path, configs=40, dense=4))
    after = record(tmp_path, configs=60, dense=8)  # another model by now
    assert dense_of(after)[:4] == before
    assert len(dense_of(after)) == 8
    (tmp_path / "synthetic.jsonl").unlink()
    assert dense_of(record(tmp_path, configs=60, dense=8)) == dense_of(after)


@pytest.mark.slow
def test_the_same_bank_makes_the_same_choice(tmp_path: Path) -> None:
    one, other = (dense_of(record(tmp_path / name, configs=40, dense=5)) for name in "ab")
    assert one == other


def test_a_choice_that_is_complete_asks_no_model(tmp_path: Path) -> None:
    kept = [one.config for one in configurations(BENCHMARK, 5, seed=1)]
    found = proposals.dense(BENCHMARK, tmp_path / "none.parquet", [], kept, 4)
    assert [one.config for one in found] == kept[:4]
    assert {one.source for one in found} == {"dense"}


def test_a_choice_is_known_by_log_and_bank_once_each() -> None:
    bank = made.bank()
    recorded = [training.model_copy(update={"source": "dense"}) for training in bank.trainings[:4]]
    logged = [{"learning_rate": 0.75}, recorded[0].config]
    found = proposals.chosen_before(logged, Bank(bank.header, (*recorded, *bank.trainings[4:])))
    assert found == [*logged, recorded[2].config]


def test_a_log_keeps_the_choice(tmp_path: Path) -> None:
    log = logs.RecordingLog(tmp_path / "own.jsonl")
    log.add(logs.DenseLine(configs=({"learning_rate": 0.5},)))
    log.add(logs.DenseLine(configs=({"learning_rate": 0.25}, {"learning_rate": 0.125})))
    assert [config["learning_rate"] for config in logs.read(tmp_path / "own.jsonl").dense] == [0.5, 0.25, 0.125]


def test_fewer_than_no_configurations_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match="dense is -1, but must be >= 0"):
        next(iter(samples(BENCHMARK, Files(tmp_path, "own"), [], -1)))


@pytest.mark.slow
@pytest.mark.usefixtures("even_clock")
def test_the_command_records_both_samples_and_writes_the_card_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["bank", "record", "--benchmark", "synthetic", "--configs", "30", "--seeds", "1", "--devices", "1"]
    with working_in(tmp_path):
        assert main([*words, "--dense", "3"]) == 0
        printed = capsys.readouterr().out
        assert "30 of 30 trainings are due" in printed
        assert "3 of 33 trainings are due" in printed
        card = tmp_path / "banks/synthetic.md"
        written = card.read_text()
        card.unlink()
        assert main(["bank", "card", "--bank", "banks/synthetic.parquet"]) == 0
        until = "## Seconds"  # which a file keeps in 32 bits
        assert card.read_text().partition(until)[0] == written.partition(until)[0]
        assert "## The model between recorded configurations" in written
