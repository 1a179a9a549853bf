"""The two samples of a recording, one after the other: the second rests on the first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.files import BenchmarkError
from benchmarks.spec import Benchmark
from hpo.recording import log as logs
from hpo.recording.configurations import ListedConfiguration
from hpo.recording.dense.proposals import chosen_before, dense
from hpo.recording.files import Files, header_of, stored
from hpo.recording.log import DenseLine, RecordingLog


def samples(
    benchmark: Benchmark, files: Files, first: Sequence[ListedConfiguration], number: int
) -> Iterator[Sequence[ListedConfiguration]]:
    """Yield the configurations of the first sample, then those of both; the next is asked for once one is recorded.

    Args:
        benchmark: the benchmark that is recorded.
        files: of the recording.
        first: the first sample.
        number: configurations of the second sample; 0 for none.

    Raises:
        BenchmarkError: the number is below 0, or see `proposals.dense`.
    """
    if number < 0:
        raise BenchmarkError(f"dense is {number}, but must be >= 0; a quarter of --configs is usual")
    yield first
    if number:
        yield [*first, *_second(benchmark, files, first, number)]


def _second(
    benchmark: Benchmark, files: Files, first: Sequence[ListedConfiguration], number: int
) -> list[ListedConfiguration]:
    """Choose the second sample, and keep it in the log: the bank's model would choose otherwise later."""
    kept = chosen_before(logs.read(files.log).dense, stored(files, header_of(benchmark)))
    found = dense(benchmark, files.bank, first, kept, number)
    new = [one.config for one in found if one.config not in kept]
    if new:
        RecordingLog(files.log).add(DenseLine(configs=tuple(new)))
    return found
