"""The files of a bank in a folder: joined with what is new, and written with its card. Sessions describe themselves."""

from __future__ import annotations

import glob
import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.banks import bank as banks
from benchmarks.banks.bank import Bank, Header
from benchmarks.banks.training import BankSession, BankTraining
from benchmarks.clock import utc
from benchmarks.files import BenchmarkError, write_whole
from benchmarks.identity import digest
from benchmarks.spec import Benchmark
from hpo.cluster.devices import Placement
from hpo.recording.card import card
from hpo.terminal.files import only_writer

PACKAGES = ("torch", "transformers", "deepspeed", "peft", "tokenizers", "numpy", "scipy")
"""Packages on whose versions a training's figures depend."""
PART = ".part-"
PROJECT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Files:
    """Files of a recording.

    Attributes:
        folder: where they lie.
        name: of the benchmark.
        part: number of a part that is recorded by a process of its own, into a log of its own; None for the whole.
    """

    folder: Path
    name: str
    part: int | None = None

    @property
    def log(self) -> Path:
        """The log that this process writes."""
        return self.folder / f"{self.stem}.jsonl"

    @property
    def logs(self) -> list[Path]:
        """Logs of the whole and of all parts, those that there are."""
        whole = self.folder / f"{self.name}.jsonl"
        parts = sorted(self.folder.glob(f"{glob.escape(self.name)}{PART}*.jsonl"))
        return [*([whole] if whole.exists() else []), *parts]

    @property
    def stem(self) -> str:
        """Name of the log without its ending."""
        return self.name if self.part is None else f"{self.name}{PART}{self.part}"

    @property
    def bank(self) -> Path:
        """The bank."""
        return self.folder / f"{self.name}.parquet"

    @property
    def card(self) -> Path:
        """The bank's card."""
        return self.folder / f"{self.name}.md"


def write(bank: Bank, files: Files, benchmark: Benchmark | None = None) -> None:
    """Write a bank and its card.

    Args:
        bank: at least one training.
        files: where to.
        benchmark: the one that was recorded, for the card's check of a model; None for a card without it.

    Raises:
        BenchmarkError: the folder cannot be written.
    """
    banks.write(bank, files.bank)
    kept = banks.read(files.bank)  # whose seconds have 32 bits, which may move the fit of the model between curves
    write_whole(files.card, card(kept, benchmark))


def stored(files: Files, header: Header) -> Bank:
    """Read the bank of a folder; without one, return an empty one with this header.

    Raises:
        BenchmarkError: the file cannot be read, or is a bank of another benchmark, or of another version of it.
    """
    if not files.bank.exists():
        return Bank(header, ())
    bank = banks.read(files.bank)
    require_same(files.bank, bank.header.digest, header)
    for name in ("hyperparameters", "metrics", "max_units"):
        found, wanted = getattr(bank.header, name), getattr(header, name)
        if found != wanted:
            raise BenchmarkError(
                f"{files.bank} has the {name.replace('_', ' ')} {found}, but the new trainings have {wanted}; give "
                "another folder with --output"
            )
    return bank


def require_bank(benchmark: Benchmark, path: Path) -> Bank:
    """Read the bank of a benchmark.

    Raises:
        BenchmarkError: it cannot be read, is of another benchmark, or the benchmark is a recorded one itself.
    """
    if benchmark.recorded is not None:
        raise BenchmarkError(
            f"{benchmark.name} is read from a bank itself; name the benchmark that was recorded, such as nano"
        )
    bank = banks.read(path)
    if bank.header.digest != (own := digest(benchmark)):
        raise BenchmarkError(
            f"{path}: was recorded of a benchmark with the digest {bank.header.digest or 'of no benchmark'}, but "
            f"{benchmark.name} has {own}; take its bank, or record one"
        )
    return bank


def require_same(path: Path, found: str, header: Header) -> None:
    """Refuse trainings of another version of the benchmark.

    Args:
        path: their file.
        found: the digest there; empty if it has none.
        header: of the bank they would join.
    """
    if found not in ("", header.digest):
        raise BenchmarkError(
            f"{path} was recorded on another version of {header.name} (digest {found}, here {header.digest}): model, "
            "data or resource differ; give another folder with --output, or restore its files"
        )


def joined(
    before: Bank,
    sessions: Iterable[BankSession],
    trainings: Iterable[BankTraining],
    planned: tuple[int, int] = (0, 0),
) -> Bank:
    """Join a bank with trainings: of two records of one training the later counts, unless it failed or was stopped.

    Args:
        before: the bank.
        sessions: of the new trainings.
        trainings: new ones, in order.
        planned: configurations and seeds that the bank aims at; (0, 0) to keep the bank's.
    """
    merged = before.by_identity()
    for training in trainings:
        if training.identity not in merged or training.outcome not in ("failed", "stopped"):
            merged[training.identity] = training
    by_key = {session.key: session for session in (*before.header.sessions, *sessions)}
    used = {training.session for training in merged.values()}
    kept = tuple(session for key, session in by_key.items() if key in used)
    header = before.header.model_copy(
        update={"sessions": kept, "planned": planned if planned != (0, 0) else before.header.planned}
    )
    return Bank(header, tuple(merged.values()))


def only_recorder(files: Files) -> AbstractContextManager[None]:
    """Keep other processes from recording into the same files.

    Raises:
        BenchmarkError: one does, or the folder cannot be written.
    """
    busy = f"{files.log}: another process records into it; wait, or give --output"
    return only_writer(files.folder / f".{files.stem}.lock", f"output {files.folder}", busy)


def header_of(benchmark: Benchmark) -> Header:
    """Return the header of a benchmark's bank, without sessions."""
    return Header(
        name=benchmark.name,
        digest=digest(benchmark),
        description=benchmark.description,
        max_units=benchmark.resource.max_units,
        metric=benchmark.metric,
        hyperparameters=tuple(benchmark.default.model_dump()),
        metrics=tuple(metric.name for metric in benchmark.metrics),
        modes=tuple(metric.mode for metric in benchmark.metrics),
        space={name: domain.model_dump(mode="json") for name, domain in benchmark.space.items()},
    )


def session_of(placement: Placement) -> BankSession:
    """Describe this session of a recording."""
    benchmark = placement.benchmark
    return BankSession(
        key=f"{utc():%Y-%m-%dT%H:%M:%S.%fZ} {os.getpid()}",
        accelerator=placement.devices.accelerator,
        processor=_processor(),
        precision=benchmark.trial.precision,
        devices=int(placement.allotment.devices),
        packages={name: importlib.metadata.version(name) for name in PACKAGES},
        commit=_commit(),
    )


def _processor() -> str:
    """Name the CPU as Linux does, or else its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.machine()


def _commit() -> str:
    """Name the suite's commit; empty where it is no checkout."""
    try:
        found = subprocess.run(["git", "-C", PROJECT, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return found.stdout.strip() if found.returncode == 0 else ""
