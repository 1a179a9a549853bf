"""A replay as it is asked for, from words to the list of its studies; refusals come here, before anything runs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.banks import bank as banks
from benchmarks.banks import certificate as certificates
from benchmarks.banks.bank import Bank
from benchmarks.files import BenchmarkError, whole_number
from benchmarks.identity import digest
from benchmarks.spec import Benchmark
from benchmarks.trials.recorded import curves, read_bank, seconds_source
from hpo.analysis.replayed.study import NO_CERTIFICATE, ReplayHeader
from hpo.core.study import PROTOCOL, Study
from hpo.core.wording import counted
from hpo.planning.contest import SuiteMethod, parse_methods
from hpo.replays.table_plan import asks_for_recorded, is_table, plan_of
from hpo.search import registry
from hpo.store.runs import versions

MAX_STUDIES = 1_000_000
RANGE = re.compile(r"([0-9]+)\.\.([0-9]+)")


@dataclass(frozen=True)
class ReplayRequest:
    """A replay that can run.

    Attributes:
        studies: one per method, seed and budget; all methods of a seed before the next seed.
        header: description of the replay.
    """

    studies: Sequence[Study]
    header: ReplayHeader


def request(benchmark: Benchmark, methods: str, seeds: str, budgets: str, devices: int, repeats: int) -> ReplayRequest:
    """Check a replay that is asked for.

    Args:
        benchmark: with a `recorded` block.
        methods: see `hpo.planning.contest.parse_methods`.
        seeds: see `parse_numbers`.
        budgets: likewise.
        devices: devices of each study.
        repeats: fresh trainings of each incumbent.

    Raises:
        BenchmarkError: anything that does not hold.
    """
    numbers, trainings = parse_numbers("seeds", seeds), parse_numbers("budgets", budgets)
    _require_bounds(devices, repeats)
    wanted = [one for budget in trainings for one in parse_methods(methods, budget)]
    _require_curves(benchmark)
    answered = [(one, _why_unanswered(one, benchmark, numbers[0])) for one in wanted]
    kept, left_out = [one for one, why in answered if not why], _left_out(answered)
    if not kept:
        raise BenchmarkError("; ".join(left_out))
    if len(kept) * len(numbers) > MAX_STUDIES:
        raise BenchmarkError(
            f"{len(kept) * len(numbers)} studies are asked for, but a replay has at most {MAX_STUDIES}"
        )
    bank = read_bank(benchmark)
    curves(benchmark)  # refused if the bank is too small for a model
    for one in kept:
        plan_of(one.study(benchmark, numbers[0], None))
    studies, block = _studies(benchmark, kept, numbers), benchmark.recorded
    certified = None if block is None or block.has_other_seconds else block.bank  # async methods depend on seconds
    header = ReplayHeader(
        benchmark=benchmark.model_dump(mode="json", exclude_unset=True),
        digest=digest(benchmark),
        devices=devices,
        repeats=repeats,
        protocol=PROTOCOL,
        versions=versions(),
        source=describe_bank(bank) + _seconds_in_words(benchmark),
        left_out=left_out,
        certificate=certificates.line(certified, [study.label for study in studies]) if certified else NO_CERTIFICATE,
        uncertified=certificates.failing(certified) if certified else {},
    )
    return ReplayRequest(studies, header)


def _studies(benchmark: Benchmark, methods: Sequence[SuiteMethod], seeds: Sequence[int]) -> list[Study]:
    """Return each study once: random search with twice a budget may be random search with another budget.

    A method that trains one configuration has no budget of its own.
    """
    studies: dict[tuple[str, str, int, int], Study] = {}
    for study in (one.study(benchmark, seed, None) for seed in seeds for one in methods):
        budget = 0 if registry.traits_of(study.method).is_single_config else study.budget
        studies.setdefault((study.method, study.variant, study.seed, budget), study)
    return list(studies.values())


def _require_bounds(devices: int, repeats: int) -> None:
    if devices < 1:
        raise BenchmarkError(f"devices is {devices}, but must be >= 1")
    if repeats < 0:
        raise BenchmarkError(f"repeats is {repeats}, but must be >= 0")


def _require_curves(benchmark: Benchmark) -> None:
    """Make sure that there are curves.

    Raises:
        BenchmarkError: the benchmark trains or computes.
    """
    if benchmark.recorded is None:
        raise BenchmarkError(
            f"benchmark {benchmark.name} has no recorded curves to replay; give one with a `recorded` block, such as "
            "nano_recorded"
        )


VARIES = (
    "cannot be replayed: hyperparameters change within a trial, for which no curve was recorded; run them on the "
    "benchmark that was recorded"
)
PROPOSES = (
    "cannot be replayed on recorded configurations alone (`between: table`): other ones are asked for; take `between: "
    "surrogate`"
)


def _why_unanswered(method: SuiteMethod, benchmark: Benchmark, seed: int) -> str:
    """Return the reason why a bank cannot answer a method; empty if it can."""
    if registry.traits_of(method.method).varies_within_trials:
        return VARIES
    study = method.study(benchmark, seed, None)
    return PROPOSES if is_table(benchmark) and not asks_for_recorded(study) else ""


def _left_out(answered: Sequence[tuple[SuiteMethod, str]]) -> tuple[str, ...]:
    """Write a sentence for each reason on the methods that it leaves out."""
    return tuple(
        f"{' and '.join(sorted({one.method for one, own in answered if own == why}))} {why}"
        for why in dict.fromkeys(why for _, why in answered if why)
    )


def describe_bank(bank: Bank) -> str:
    """Describe a bank in a few words: name, trainings, and how far it is recorded."""
    configs, seeds = bank.header.planned
    planned = f" of {configs * seeds} planned" if len(bank.trainings) < configs * seeds else ""
    configurations = counted(len(bank.configurations()), "configuration")
    return f"the bank {bank.header.name} ({len(bank.trainings)}{planned} trainings of {configurations})"


def with_seconds(benchmark: Benchmark, accelerator: str, seconds_of: str) -> Benchmark:
    """Return a recorded benchmark with the seconds of another accelerator.

    Args:
        benchmark: with a `recorded` block.
        accelerator: see `benchmarks.trials.recorded.Recorded`; empty for the benchmark's own.
        seconds_of: name or file of a bank, likewise.

    Raises:
        BenchmarkError: the benchmark has no `recorded` block, or there is no such bank.
    """
    if not accelerator and not seconds_of:
        return benchmark
    _require_curves(benchmark)
    assert benchmark.recorded is not None
    changes = {"accelerator": accelerator or benchmark.recorded.accelerator}
    others = {"seconds_of": banks.find(seconds_of).resolve()} if seconds_of else {}
    return benchmark.model_copy(update={"recorded": benchmark.recorded.model_copy(update={**changes, **others})})


def _seconds_in_words(benchmark: Benchmark) -> str:
    """Say whose seconds are taken, if they are not those recorded with the curves; else return nothing."""
    block, source = benchmark.recorded, seconds_source(benchmark)
    slower = f", times {block.slower:g}" if block is not None and block.slower != 1 else ""
    if source is None:
        return f" with its seconds{slower}" * bool(slower)
    bank, accelerator = source
    return f" with the seconds of {accelerator} in the bank {bank.header.name}{slower}"


def parse_numbers(name: str, text: str) -> list[int]:
    """Read whole numbers from a list such as "0,1,2", from a range such as "0..199", or from both.

    Raises:
        BenchmarkError: the text is no such list.
    """
    spans = [_span(word.strip()) for word in text.split(",") if word.strip()]
    if not spans or not all(spans):
        raise BenchmarkError(
            f"{name} is {text!r}, but must be whole numbers with commas between them, or a range such as 0..199"
        )
    return list(dict.fromkeys(number for span in spans for number in span))


def _span(word: str) -> range:
    """Return the numbers that a word stands for; none if it stands for none, or for more than any replay has."""
    found = RANGE.fullmatch(word)
    first, last = (int(found[1]), int(found[2])) if found else [whole_number(word)] * 2
    if first is None or last is None or last - first >= MAX_STUDIES:
        return range(0)
    return range(first, last + 1)
