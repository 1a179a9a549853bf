"""Real studies of a certificate, kept beside its bank: a bank that grows is certified again without running them again.

A gzip file of JSON lines: a study each, with all events of its log. `zcat nano.certificate.jsonl.gz | head -1` shows
one.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from benchmarks.banks.bank import write_beside
from benchmarks.files import BenchmarkError
from hpo.core import event_log
from hpo.core.events import Event

SUFFIX = ".certificate.jsonl.gz"


@dataclass(frozen=True)
class KeptStudy:
    """A real study.

    Attributes:
        fingerprint: of the request, see `Study.fingerprint`.
        digest: of the benchmark.
        name: the study in words.
        accelerator: that it ran on.
        session: day and hour at which it was added, UTC; studies of one session ran on one machine.
        events: all of it.
    """

    fingerprint: str
    digest: str
    name: str
    accelerator: str
    session: str
    events: tuple[Event, ...]


def path_of(bank: Path) -> Path:
    """Return the file of the studies behind a bank's certificate."""
    return bank.with_name(f"{bank.stem}{SUFFIX}")


def read(bank: Path) -> dict[str, KeptStudy]:
    """Read the studies beside a bank, by fingerprint; none without a file.

    Raises:
        BenchmarkError: the file cannot be read, or holds something else.
    """
    path = path_of(bank)
    try:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            return {study.fingerprint: study for study in map(_study_of, lines)}
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise BenchmarkError(f"{path}: cannot be read ({error.strerror or error})") from None
    except (EOFError, KeyError, TypeError, ValueError, BenchmarkError) as error:
        raise BenchmarkError(
            f"{path}: is damaged ({error}); take it from its source again, or delete it to run its studies anew"
        ) from None


def write(studies: Iterable[KeptStudy], bank: Path) -> Path:
    """Write studies beside a bank; the same studies give the same bytes.

    Raises:
        BenchmarkError: the folder cannot be written.
    """
    path = path_of(bank)
    text = "".join(f"{line}\n" for line in _lines(studies))
    write_beside(path, gzip.compress(text.encode(), mtime=0))
    return path


def _lines(studies: Iterable[KeptStudy]) -> Iterator[str]:
    for one in sorted(studies, key=lambda study: (study.name, study.fingerprint)):
        words = {field.name: getattr(one, field.name) for field in fields(one) if field.name != "events"}
        yield json.dumps({**words, "events": [json.loads(event_log.line_of(event)) for event in one.events]})


def _study_of(line: str) -> KeptStudy:
    found: dict[str, Any] = json.loads(line)
    found["events"] = tuple(event_log.event_of(json.dumps(event)) for event in found["events"])
    return KeptStudy(**found)
