"""The certificate of a bank: a small JSON file beside it that says for which methods its replay tells the truth.

`python -m hpo certify` makes it from real studies and their replays. It belongs to one state of the bank, which a
checksum names. Pages with replayed figures show `line`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from benchmarks.banks.bank import write_beside
from benchmarks.faults import explained
from benchmarks.files import BenchmarkError
from benchmarks.space import Strict

SUFFIX = ".certificate.json"
BUDGET = " budget="
"""Words before the budget in the label of a method whose budget is its own."""


class FigureCheck(Strict):
    """A figure of a method's studies, real and replayed.

    Attributes:
        name: "incumbent" (the tuned metric of each study's best trial), "units" or "trials".
        real: mean over the real studies.
        replayed: mean over the replays with the same seeds.
        low: lower end of the interval of real minus replayed; None with too few seeds.
        high: upper end.
        p: that real and replayed studies share a distribution, corrected over all methods and figures.
    """

    name: str
    real: float
    replayed: float
    low: float | None
    high: float | None
    p: float


class MethodCertificate(Strict):
    """The certificate of one method.

    Attributes:
        label: the method with its arguments other than the defaults, and its budget if that is another.
        seeds: of its real studies.
        decisions: decisions of its real studies that were replayed on their own curves.
        equal_decisions: of these, the equal ones.
        figures: each figure that was compared.
        seconds_ratio: device-seconds of the replays divided by those of the real studies; None without any.
        faults: reasons why it does not hold, a sentence each.
        notes: real studies whose decisions could not be compared, a sentence each.
    """

    label: str
    seeds: tuple[int, ...] = ()
    decisions: int = 0
    equal_decisions: int = 0
    figures: tuple[FigureCheck, ...] = ()
    seconds_ratio: float | None = None
    faults: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The method with its arguments, without a budget."""
        return self.label.partition(BUDGET)[0]

    @property
    def holds(self) -> bool:
        """Tell whether verdicts may rest on replays of the method."""
        return not self.faults


class RealSession(Strict):
    """Real studies that ran on one machine, one after the other.

    Attributes:
        session: day and hour at which they were added, UTC.
        studies: number of them.
        slower: seconds that their units took, divided by those of the bank for the same configurations; device-seconds
            of replays are compared after they are multiplied by it.
    """

    session: str
    studies: int
    slower: float


class Certificate(Strict):
    """A certificate.

    Attributes:
        schema_version: of the file.
        benchmark: name of the benchmark that was recorded.
        digest: its version.
        bank: checksum of the bank's file.
        trainings: recorded trainings in it.
        budget: full trainings of each study.
        devices: devices of each study.
        accelerator: of the real studies.
        seeds: that were asked for.
        replays: seeds that were replayed.
        confidence: nominal coverage of each interval, corrected over all methods and figures.
        pairs: pairs of methods.
        resolved: pairs whose order both the real and the replayed studies resolve.
        methods: one entry each.
        sessions: of the real studies.
        date: day on which it was made, UTC.
    """

    schema_version: Literal[1] = 1
    benchmark: str
    digest: str
    bank: str
    trainings: int
    budget: int
    devices: float
    accelerator: str
    seeds: tuple[int, ...]
    replays: int
    confidence: float
    pairs: int
    resolved: int
    methods: tuple[MethodCertificate, ...]
    sessions: tuple[RealSession, ...] = ()
    date: str

    @property
    def holding(self) -> list[str]:
        """Labels of the methods that hold."""
        return [method.label for method in self.methods if method.holds]


def path_of(bank: Path) -> Path:
    """Return the file of a bank's certificate."""
    return bank.with_name(f"{bank.stem}{SUFFIX}")


def checksum(bank: Path) -> str:
    """Return the checksum of a bank's file.

    Raises:
        BenchmarkError: it cannot be read.
    """
    try:
        return hashlib.sha256(bank.read_bytes()).hexdigest()[:16]
    except OSError as error:
        raise BenchmarkError(f"{bank}: cannot be read ({error.strerror})") from None


def write(certificate: Certificate, bank: Path) -> Path:
    """Write a certificate beside its bank; returns its file.

    Raises:
        BenchmarkError: the folder cannot be written.
    """
    path = path_of(bank)
    write_beside(path, f"{certificate.model_dump_json(indent=1)}\n".encode())
    return path


def read(bank: Path) -> Certificate | None:
    """Read the certificate of a bank; None if it has none.

    Raises:
        BenchmarkError: its file cannot be read, or is no certificate.
    """
    path = path_of(bank)
    try:
        return Certificate.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BenchmarkError(f"{path}: cannot be read ({error.strerror})") from None
    except ValidationError as error:
        fault = explained(error, Certificate)
        raise BenchmarkError(f"{path}: is no certificate: {fault}; delete it, or certify the bank again") from None


def line(bank: Path, replayed: Iterable[str] = ()) -> str:
    """Describe the certificate of a bank in a line, for all who show replayed figures.

    Args:
        bank: the bank.
        replayed: methods that are shown; those that were not certified are named.

    Raises:
        BenchmarkError: see `read`.
    """
    certificate = read(bank)
    if certificate is None:
        return f"no certificate of {bank.stem}: no real studies stand beside its replays"
    known = {method.name for method in certificate.methods}
    others = ", ".join(name for name in dict.fromkeys(replayed) if name not in known)
    said = words(certificate, is_current=checksum(bank) == certificate.bank)
    return said + f"; no real studies of {others}" * bool(others)


def failing(bank: Path) -> dict[str, str]:
    """Return the methods for which the certificate of a bank does not hold, each with its first reason.

    None where there is no certificate, or it is of an earlier state of the bank; `line` says so.

    Raises:
        BenchmarkError: see `read`.
    """
    certificate = read(bank)
    if certificate is None or certificate.bank != checksum(bank):
        return {}
    return {method.name: method.faults[0] for method in reversed(certificate.methods) if not method.holds}


def words(certificate: Certificate, is_current: bool = True) -> str:
    """Describe a certificate in a line.

    Args:
        certificate: the certificate.
        is_current: whether the bank is still the one that was certified.
    """
    holding = ", ".join(certificate.holding)
    failing = ", ".join(method.label for method in certificate.methods if not method.holds)
    state = "" if is_current else f"; it is of an earlier state of the bank, with {certificate.trainings} trainings"
    return (
        f"certificate of {certificate.benchmark}: {len(certificate.holding)} of {len(certificate.methods)} methods hold"
        + f": {holding}" * bool(holding)
        + f" ({len(certificate.seeds)} seeds, budget {certificate.budget}, {certificate.devices:g} devices, "
        f"{certificate.accelerator})" + f"; not {failing}" * bool(failing) + state
    )
