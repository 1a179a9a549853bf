"""A certificate on the screen: a table with a line per method, and the faults below it."""

from __future__ import annotations

from collections.abc import Iterator

from rich.box import SIMPLE_HEAD
from rich.table import Table

from benchmarks.banks.certificate import Certificate, FigureCheck, MethodCertificate
from hpo.core.wording import counted


def table(certificate: Certificate) -> Table:
    """Make a table of a certificate: real and replayed mean of each figure, with the interval of their difference."""
    of = certificate
    title = f"certificate of {of.benchmark}: {len(of.seeds)} seeds, {of.replays} replays, budget {of.budget}"
    caption = (
        f"Each figure: mean of the real studies, of the replays with the same seeds, and the interval of their "
        f"difference ({of.confidence:.2%}, for all figures together at least 95 %). Decisions are those of the real "
        f"studies, replayed on their own curves. {of.resolved} of {of.pairs} pairs of methods are resolved by both. "
        f"{_sessions(of)}"
    ).strip()
    found = Table(title=title, caption=caption, box=SIMPLE_HEAD, title_justify="left", caption_justify="left")
    for heading in ("method", "seeds", "decisions", "incumbent", "units", "trials", "device-seconds", "holds"):
        found.add_column(heading, justify="left" if heading == "method" else "right")
    for method in of.methods:
        found.add_row(*_row(method))
    return found


def _sessions(certificate: Certificate) -> str:
    """Say how many times as long units took in each session as in the bank."""
    found = [f"{one.slower:.2f} ({counted(one.studies, 'study', 'studies')})" for one in certificate.sessions]
    return f"Device-seconds: the bank's times {', '.join(found)}, as units took in the real studies." if found else ""


def _row(method: MethodCertificate) -> Iterator[str]:
    yield method.label
    yield str(len(method.seeds)) if method.seeds else "-"
    yield f"{method.equal_decisions}/{method.decisions}" if method.decisions else "-"
    by_name = {figure.name: _figure(figure) for figure in method.figures}
    yield from (by_name.get(name, "-") for name in ("incumbent", "units", "trials"))
    yield "-" if method.seconds_ratio is None else f"{method.seconds_ratio:.1%}"
    yield "yes" if method.holds else "no"


def _figure(figure: FigureCheck) -> str:
    means = f"{figure.real:.4g} {figure.replayed:.4g}"
    return means if figure.low is None else f"{means} [{figure.low:.2g}, {figure.high:.2g}]"


def notes(certificate: Certificate) -> list[str]:
    """List the reasons why methods do not hold, and studies without comparison of decisions, a line each."""
    return [f"{of.label}: {text}" for of in certificate.methods for text in (*of.faults, *of.notes)]
