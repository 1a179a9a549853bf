"""A certificate from end to end: real studies in the store, their replays on a bank, the table and the file."""

from __future__ import annotations

import io
import os
import shutil
import signal
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.banks import bank as banks
from benchmarks.banks import certificate as certificates
from benchmarks.banks.certificate import Certificate
from benchmarks.files import BenchmarkError
from benchmarks.spec import Benchmark
from hpo.app.cli import main
from hpo.engine.in_process import InProcess
from hpo.engine.in_process.actors import Call
from hpo.planning import contest
from hpo.recording.certificate import kept, table
from hpo.recording.certificate.certify import certify
from hpo.recording.certificate.evidence import CertificateRequest
from hpo.recording.files import require_bank
from tests.benchmarks.banks import synthetic_bank
from tests.hpo.engine.in_process import synthetic
from tests.stores import working_in

SEEDS = (0, 1, 2, 3, 4)


def write_bank(folder: Path, benchmark: Benchmark, **size: int) -> Path:
    path = folder / "own.parquet"
    banks.write(synthetic_bank.bank(benchmark, **size), path)
    return path


def request(folder: Path, benchmark: Benchmark, methods: str) -> CertificateRequest:
    """Ask for a certificate of the bank in a folder."""
    return CertificateRequest(
        benchmark=contest.GivenBenchmark(benchmark, "synthetic"),
        bank=folder / "own.parquet",
        methods=contest.parse_methods(methods, 4),
        seeds=SEEDS,
        replays=12,
        budget=4,
    )


def certified(folder: Path, benchmark: Benchmark, methods: str, printed: io.StringIO | None = None) -> Certificate:
    """Certify the bank in a folder, with real studies in this process."""
    console = Console(file=printed or io.StringIO(), width=200)
    with working_in(folder):
        certificate, failures = certify(request(folder, benchmark, methods), console, InProcess(devices=2))
    assert certificate is not None
    assert failures == 0
    console.print(table.table(certificate))
    return certificate


@pytest.mark.slow
def test_a_bank_that_tells_the_truth_is_certified_and_resumes(tmp_path: Path) -> None:
    benchmark, printed = synthetic(), io.StringIO()
    path = write_bank(tmp_path, benchmark, configs=150, seeds=2)
    found = certified(tmp_path, benchmark, "random,asha,pbt,random:budget=8", printed)
    assert [(method.label, method.faults) for method in found.methods if method.label != "pbt"] == [
        ("random", ()),
        ("asha", ()),
        ("random budget=8", ()),
    ]
    [pbt] = [method for method in found.methods if method.label == "pbt"]
    assert pbt.faults[0].startswith("not replayable: its trials change their hyperparameters")
    [session] = found.sessions
    assert session.studies == 15
    assert session.slower == pytest.approx(1.0, abs=0.02)
    assert all(method.decisions == method.equal_decisions > 100 for method in found.methods if method.holds)
    assert "random seed 4: best" in printed.getvalue()
    assert "pbt seed 0" not in printed.getvalue()  # no hours for a method that a bank cannot answer
    certificates.write(found, path)
    holding = "certificate of synthetic: 3 of 4 methods hold: random, asha, random budget=8 (5 seeds, budget 4, "
    assert certificates.line(path).startswith(holding)

    elsewhere, again = tmp_path / "elsewhere", io.StringIO()
    elsewhere.mkdir()
    for file in (path, kept.path_of(path)):
        shutil.copy(file, elsewhere)
    of_kept = certified(elsewhere, benchmark, "random,asha,pbt,random:budget=8", again)
    assert (of_kept.methods, of_kept.sessions) == (found.methods, found.sessions)
    assert "seed 4: best" not in again.getvalue()  # nothing ran


@pytest.mark.slow
def test_a_bank_of_another_landscape_is_not_certified(tmp_path: Path) -> None:
    """Certify with curves that end too high: seconds are right, incumbents are not."""
    benchmark = synthetic()
    path = write_bank(tmp_path, benchmark, configs=60, seeds=1)
    bank = banks.read(path)
    worse = [
        training.model_copy(
            update={
                "units": tuple(
                    unit.model_copy(update={"metrics": {**unit.metrics, "eval_loss": unit.metrics["eval_loss"] + 1.0}})
                    for unit in training.units
                )
            }
        )
        for training in bank.trainings
    ]
    banks.write(banks.Bank(bank.header, tuple(worse)), path)
    [random] = certified(tmp_path, benchmark, "random").methods
    assert not random.holds
    assert random.faults[0].startswith("mean incumbent")
    assert random.equal_decisions == random.decisions  # which rest on the studies' own curves


class InterruptedOnce:
    """Ctrl-C in the first unit of the first study, as a person gives it."""

    def __init__(self) -> None:
        self._is_over = False

    def __call__(self, call: Call) -> bool:
        if call.method == "train" and not self._is_over:
            self._is_over = True
            os.kill(os.getpid(), signal.SIGINT)
        return False


@pytest.mark.slow
def test_no_certificate_is_made_of_half_of_the_studies(tmp_path: Path) -> None:
    benchmark, console = synthetic(), Console(file=io.StringIO(), width=200)
    write_bank(tmp_path, benchmark, configs=40, seeds=1)
    with working_in(tmp_path):
        executor = InProcess(devices=2, dies=InterruptedOnce())
        assert certify(request(tmp_path, benchmark, "random"), console, executor) == (None, 1)
    resumed = io.StringIO()
    found = certified(tmp_path, benchmark, "random", resumed)
    assert found.methods[0].seeds == SEEDS
    assert found.methods[0].notes == ("seed 0 is not replayed unit by unit: its log has the event interrupted",)
    assert found.methods[0].decisions > 100  # of the other seeds
    assert "random seed 0: resumes where it was interrupted" in resumed.getvalue()


def test_a_bank_of_another_benchmark_is_refused(tmp_path: Path) -> None:
    path = write_bank(tmp_path, synthetic(), configs=2, seeds=1)
    with pytest.raises(BenchmarkError, match=r"own\.parquet: was recorded of a benchmark with the digest \w{16}, but"):
        require_bank(synthetic(max_units=3), path)
    recorded = synthetic_bank.recorded(path)
    with pytest.raises(BenchmarkError, match=r"own_recorded is read from a bank itself; name the benchmark"):
        require_bank(recorded, path)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--methods", "asga"], "no method named 'asga'"),
        (["--replays", "0"], "replays is 0, but must be >= 1"),
        (["--benchmark", "synthetic"], "no bank named 'synthetic'"),
        (["--bank", "nowhere.parquet"], "nowhere.parquet: cannot be read"),
    ],
)
def test_words_that_ask_for_no_certificate_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    with working_in(tmp_path):
        assert main(["certify", *words]) == 2
    assert message in capsys.readouterr().err
