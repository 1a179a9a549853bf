"""The file of a certificate beside its bank, and the line that others show."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.banks import certificate as certificates
from benchmarks.banks.certificate import Certificate, FigureCheck, MethodCertificate
from benchmarks.files import BenchmarkError

FIGURE = FigureCheck(name="incumbent", real=0.5, replayed=0.51, low=-0.03, high=0.01, p=0.7)


@pytest.fixture
def bank(tmp_path: Path) -> Path:
    path = tmp_path / "own.parquet"
    path.write_bytes(b"a bank")
    return path


def certificate(bank: Path) -> Certificate:
    return Certificate(
        benchmark="own",
        digest="0123456789abcdef",
        bank=certificates.checksum(bank),
        trainings=12,
        budget=4,
        devices=2,
        accelerator="cpu",
        seeds=(0, 1, 2, 3, 4),
        replays=40,
        confidence=0.99,
        pairs=1,
        resolved=0,
        methods=(
            MethodCertificate(label="random", seeds=(0, 1, 2, 3, 4), figures=(FIGURE,), seconds_ratio=1.01),
            MethodCertificate(label="pbt", faults=("not replayable",)),
        ),
        date="2026-01-01",
    )


def test_a_certificate_reads_back_as_it_was_written(bank: Path) -> None:
    written = certificate(bank)
    assert certificates.write(written, bank) == bank.with_name("own.certificate.json")
    assert certificates.read(bank) == written


def test_the_line_says_how_many_methods_hold_and_which_do_not(bank: Path) -> None:
    certificates.write(certificate(bank), bank)
    expected = "certificate of own: 1 of 2 methods hold: random (5 seeds, budget 4, 2 devices, cpu); not pbt"
    assert certificates.line(bank) == expected
    replayed = ["random", "asha", "random", "asha reduction_factor=9.0"]
    assert certificates.line(bank, replayed) == f"{expected}; no real studies of asha, asha reduction_factor=9.0"


def test_failing_methods_are_those_of_the_present_bank(bank: Path) -> None:
    written = certificate(bank)
    doubled = MethodCertificate(label="asha budget=8", faults=("units are off", "seconds are off"))
    certificates.write(written.model_copy(update={"methods": (*written.methods, doubled)}), bank)
    assert certificates.failing(bank) == {"asha": "units are off", "pbt": "not replayable"}
    bank.write_bytes(b"a larger bank")
    assert certificates.failing(bank) == {}


def test_the_line_of_a_bank_that_has_grown_says_so(bank: Path) -> None:
    certificates.write(certificate(bank), bank)
    bank.write_bytes(b"a larger bank")
    assert certificates.line(bank).endswith("not pbt; it is of an earlier state of the bank, with 12 trainings")


def test_the_line_of_a_bank_without_a_certificate_says_so(bank: Path) -> None:
    assert certificates.read(bank) is None
    assert certificates.line(bank) == "no certificate of own: no real studies stand beside its replays"


@pytest.mark.parametrize("text", ["", "{}", '{"schema_version": 2}', "[1"])
def test_another_file_is_refused(bank: Path, text: str) -> None:
    certificates.path_of(bank).write_text(text)
    with pytest.raises(BenchmarkError, match=r"own\.certificate\.json: is no certificate: .*; delete it, or certify"):
        certificates.read(bank)
