"""Certify a bank: run the real studies that the store lacks, replay each, and check them against each other."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from benchmarks.banks import bank as banks
from benchmarks.banks.certificate import Certificate, checksum
from benchmarks.files import BenchmarkError
from benchmarks.identity import digest
from benchmarks.spec import Benchmark
from hpo.engine.executor import Executor, OnRay
from hpo.recording.certificate.checks import check, confidence
from hpo.recording.certificate.evidence import CertificateRequest, Gathering, is_replayable
from hpo.workflows.suite import run_suite


def require_bank(benchmark: Benchmark, path: Path) -> banks.Bank:
    """Read the bank of a benchmark.

    Raises:
        BenchmarkError: it cannot be read, is of another benchmark, or the benchmark is a recorded one itself.
    """
    if benchmark.recorded is not None:
        raise BenchmarkError(
            f"{benchmark.name} is replayed from a bank itself; certify the benchmark that was recorded, such as nano"
        )
    bank = banks.read(path)
    if bank.header.digest != (own := digest(benchmark)):
        raise BenchmarkError(
            f"{path}: was recorded of a benchmark with the digest {bank.header.digest or 'of no benchmark'}, but "
            f"{benchmark.name} has {own}; take its bank, or record one"
        )
    return bank


def certify(asked: CertificateRequest, console: Console, executor: Executor | None = None) -> tuple[Certificate, int]:
    """Make a certificate.

    Args:
        asked: what it is to cover.
        console: gets the progress.
        executor: where missing real studies run; by default on a Ray of their own.

    Returns:
        The certificate, and the number of real studies that did not reach their end.

    Raises:
        BenchmarkError: bank, methods or store cannot be used, or the devices are not those that were asked for.
    """
    executor = executor or OnRay()
    bank, present = require_bank(asked.benchmark.content, asked.bank), executor.detect()
    ranks, shared = asked.benchmark.content.ranks_per_trial, asked.benchmark.content.trials_per_gpu
    here = present.trials_at_once(ranks, present.holds_on_one_node(ranks), shared)
    if asked.devices not in (None, here):
        raise BenchmarkError(
            f"devices is {asked.devices}, but {here} trials run at once here; leave it out, or show the command "
            "as many devices (CUDA_VISIBLE_DEVICES, or taskset for cores)"
        )
    gathering = Gathering(asked, here, console)  # fits the model before hours are spent
    able = [method for method in asked.methods if is_replayable(method)]
    failures = run_suite(able, asked.benchmark, asked.seeds, None, False, console, executor).failures if able else []
    evidence = gathering.gather()
    methods, pairs = check(evidence)
    certificate = Certificate(
        benchmark=bank.header.name,
        digest=bank.header.digest,
        bank=checksum(asked.bank),
        trainings=len(bank.trainings),
        budget=asked.budget,
        devices=here,
        accelerator=present.accelerator,
        seeds=tuple(asked.seeds),
        replays=len(asked.replayed_seeds),
        confidence=confidence(evidence),
        pairs=pairs.pairs,
        resolved=pairs.resolved,
        methods=tuple(methods),
        date=f"{datetime.now(UTC):%Y-%m-%d}",
    )
    return certificate, len(failures)
