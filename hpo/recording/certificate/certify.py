"""Certify a bank: run the real studies that are lacking, replay each, and check them against each other.

Real studies are kept beside the bank. They run once, and count for the bank as it grows.
"""

from __future__ import annotations

from rich.console import Console

from benchmarks.banks.certificate import Certificate, checksum
from benchmarks.clock import utc
from benchmarks.files import BenchmarkError
from hpo.core.budget import is_interruption
from hpo.engine.executor import Executor, OnRay
from hpo.recording.certificate.checks import check, confidence
from hpo.recording.certificate.evidence import CertificateRequest, Gathering, is_replayable
from hpo.recording.files import require_bank
from hpo.workflows.suite import run_suite


def certify(
    asked: CertificateRequest, console: Console, executor: Executor | None = None
) -> tuple[Certificate | None, int]:
    """Make a certificate.

    Args:
        asked: what it is to cover.
        console: gets the progress.
        executor: where missing real studies run; by default on a Ray of their own.

    Returns:
        The certificate, None if the real studies were interrupted, and the number of those that did not reach their
        end.

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
    gathering = Gathering(asked, here, present.accelerator, console)  # fits the model before hours are spent
    able = [method for method in asked.methods if is_replayable(method)]
    ran = run_suite(able, asked.benchmark, asked.seeds, None, False, console, executor, kept=gathering.kept)
    gathering.keep()
    failures = ran.failures
    if any(is_interruption(reason) for _, reason in failures):
        return None, len(failures)
    evidence, sessions = gathering.gather()
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
        sessions=tuple(sessions),
        date=f"{utc():%Y-%m-%d}",
    )
    return certificate, len(failures)
