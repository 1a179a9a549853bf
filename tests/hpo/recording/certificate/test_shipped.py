"""The certificate that is shipped with the bank of nano, its real studies, and the page that shows it."""

from __future__ import annotations

from pathlib import Path

from benchmarks import spec
from benchmarks.banks import bank as banks
from benchmarks.banks import certificate as certificates
from benchmarks.identity import digest
from hpo.recording.certificate import kept

BANK = banks.find("nano")
PAGE = Path(__file__).parents[4] / "docs/banks.md"


def test_it_is_of_the_bank_as_it_is() -> None:
    """After further recording, `python -m hpo certify` with its methods makes it anew in minutes."""
    certificate = certificates.read(BANK)
    assert certificate is not None
    assert certificate.bank == certificates.checksum(BANK)


def test_its_real_studies_lie_beside_it() -> None:
    certificate, studies = certificates.read(BANK), kept.read(BANK)
    assert certificate is not None
    assert {study.digest for study in studies.values()} == {certificate.digest} == {digest(spec.load("nano"))}
    real = sum(len(method.seeds) for method in certificate.methods)
    assert len(studies) >= real == sum(session.studies for session in certificate.sessions)


def test_the_page_shows_its_figures() -> None:
    certificate, page = certificates.read(BANK), PAGE.read_text()
    assert certificate is not None
    for method in certificate.methods:
        incumbent, _, trials = method.figures
        assert incumbent.low is not None
        assert incumbent.high is not None
        assert method.seconds_ratio is not None
        row = [
            f"`{method.label}`",
            f"{method.equal_decisions} of {method.decisions}",
            f"{incumbent.real:.3f}",
            f"{incumbent.replayed:.3f}",
            f"{incumbent.low:.3f} to {incumbent.high:.3f}",
            f"{trials.real:g}",
            f"{trials.replayed:g}",
            f"{method.seconds_ratio:.1%}".replace("%", " %"),
        ]
        assert f"| {' | '.join(row)} |" in page
