"""Real studies that are kept beside a bank."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from benchmarks.banks import bank as banks
from benchmarks.banks.curves import first_known
from benchmarks.files import BenchmarkError
from hpo.core import events as core
from hpo.core.study import Study
from hpo.recording.certificate import kept
from hpo.recording.certificate.evidence import slower_than
from hpo.recording.certificate.kept import KeptStudy
from hpo.recording.certificate.replays import recorded_by
from tests.benchmarks.banks import synthetic_bank
from tests.hpo.engine.in_process import synthetic
from tests.hpo.told import Told

WORDS = dict.fromkeys(("fingerprint", "digest", "name", "accelerator", "session"), "")
EVENTS = (core.Reserved(0.0, 2.0), core.Released(5.0))


def study(number: int, *events: core.Event) -> KeptStudy:
    return KeptStudy(f"{number:016x}", "d" * 16, f"random seed {number}", "cpu", "2026-12-01 12:00", events)


def test_they_are_read_as_they_were_written(tmp_path: Path) -> None:
    bank = tmp_path / "own.parquet"
    assert kept.read(bank) == {}
    studies = [study(2, *EVENTS), study(1, *EVENTS)]
    path = kept.write(studies, bank)
    assert path.name == "own.certificate.jsonl.gz"
    assert kept.read(bank) == {one.fingerprint: one for one in studies}
    first = path.read_bytes()
    kept.write(reversed(studies), bank)
    assert path.read_bytes() == first


@pytest.mark.parametrize(
    "content",
    [
        b"not gzip",
        gzip.compress(b"not JSON\n"),
        gzip.compress(b'{"fingerprint": "1"}\n'),
        gzip.compress(b"[1]\n"),
        gzip.compress(json.dumps({**WORDS, "events": [{}]}).encode()),
        gzip.compress(b"x" * 10_000)[:20],
    ],
    ids=["no gzip", "no JSON", "no events", "no study", "no event", "cut off"],
)
def test_a_damaged_file_is_refused(tmp_path: Path, content: bytes) -> None:
    bank = tmp_path / "own.parquet"
    kept.path_of(bank).write_bytes(content)
    with pytest.raises(BenchmarkError, match=r"own\.certificate\.jsonl\.gz: (is damaged|cannot be read) \("):
        kept.read(bank)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match=r"own\.certificate\.jsonl\.gz: cannot be written \(No such file"):
        kept.write([study(1)], tmp_path / "missing" / "own.parquet")


def test_a_machine_that_takes_longer_is_measured_by_the_units_of_its_studies(tmp_path: Path) -> None:
    benchmark, path = synthetic(), tmp_path / "own.parquet"
    bank = synthetic_bank.bank(benchmark, configs=3, seeds=1)
    banks.write(bank, path)
    told = Told(Study("random", benchmark, budget=3))
    for name, training in enumerate(bank.trainings[:2]):
        told.begin(str(name), training.config)
        for unit in training.units:
            seconds = {part: 1.5 * first_known(getattr(unit, part)) for part in ("train_seconds", "evaluate_seconds")}
            told.report(str(name), {"units": unit.unit, **unit.metrics, "train_loss": 1.0, **seconds})
    model = recorded_by(benchmark, path, "table")
    assert slower_than(model, benchmark, [study(1, *told.events)]) == pytest.approx(1.5)
    assert slower_than(model, benchmark, []) == 1.0
