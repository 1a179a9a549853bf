"""Trainings of random search that match one training of a good recipe: `python -m benchmarks.measure.recipe BANK ...`.

A recipe is a range of values for some hyperparameters. Its score is the median of the recorded trainings within the
ranges. A share p of random draws scores as well, so n draws hold such a training with a chance of 1 - (1 - p)^n. For
the banks of opda (Lourie, Cho and He 2023, https://github.com/nicholaslourie/opda) and the usual advice, 2 or 3
epochs at rates around 2e-5::

    python -m hpo bank import deberta-v3-base_tuning.results.jsonl --format opda --licence CC-BY-SA-4.0
    python -m benchmarks.measure.recipe banks/deberta-v3-base_tuning.parquet \
        --within learning_rate=1e-5..3e-5 --within num_train_epochs=2..3
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.banks import bank
from benchmarks.banks.training import BankTraining
from benchmarks.files import BenchmarkError

CHOSEN = ("default", "grid")
"""Sources of configurations that are no random draws."""


@dataclass(frozen=True)
class Match:
    """A recipe beside random draws.

    Attributes:
        followers: recorded trainings within the recipe's ranges.
        score: their median.
        draws: random draws.
        as_good: random draws with at least this score.
    """

    followers: int
    score: float
    draws: int
    as_good: int

    def trainings(self, chance: float) -> float:
        """Return the number of draws that hold one as good as the recipe with a chance; infinite if none is."""
        share = self.as_good / self.draws
        if share == 1:
            return 1
        return math.ceil(math.log(1 - chance) / math.log(1 - share)) if share else math.inf


def match(recorded: bank.Bank, ranges: Mapping[str, tuple[float, float]]) -> Match:
    """Compare a recipe with the random draws of a bank, by its metric at the end of a training, one seed each.

    Raises:
        BenchmarkError: the bank has no such hyperparameter, no training within the ranges, or no random draws.
    """
    if unknown := sorted(set(ranges) - set(recorded.header.hyperparameters)):
        known = ", ".join(recorded.header.hyperparameters)
        raise BenchmarkError(f"{', '.join(unknown)}: unknown hyperparameter; {recorded.header.name} has {known}")
    sign, metric = (1 if recorded.header.mode == "max" else -1), recorded.header.metric
    trainings = [seeds[0] for seeds in recorded.configurations() if seeds[0].outcome == "completed"]
    follow = [sign * one.units[-1].metrics[metric] for one in trainings if _is_within(one, ranges)]
    draws = [sign * one.units[-1].metrics[metric] for one in trainings if one.source not in CHOSEN]
    if not follow or not draws:
        lacking = "random draws" if follow else "training within these ranges; widen them"
        raise BenchmarkError(f"{recorded.header.name} has no {lacking}")
    score = median(follow)
    return Match(len(follow), sign * score, len(draws), sum(value >= score for value in draws))


def _is_within(training: BankTraining, ranges: Mapping[str, tuple[float, float]]) -> bool:
    return all(low <= float(training.config[name]) <= high for name, (low, high) in ranges.items())


def _range_of(text: str) -> tuple[str, tuple[float, float]]:
    """Read NAME=LOW..HIGH."""
    name, _, ends = text.partition("=")
    low, _, high = ends.partition("..")
    try:
        return name, (float(low), float(high))
    except ValueError:
        raise argparse.ArgumentTypeError(f"is {text!r}, but must be NAME=LOW..HIGH") from None


def _sentence(header: bank.Header, found: Match) -> str:
    return (
        f"{header.name}: median {header.metric} {found.score:.4f} within the recipe (trainings: {found.followers}); "
        f"as good: {found.as_good} of {found.draws} random draws; trainings of random search for an even chance: "
        f"{found.trainings(0.5)}, for a chance of 90 %: {found.trainings(0.9)}"
    )


def main(words: Sequence[str] | None = None) -> int:
    """Print a sentence per bank; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.measure.recipe", description=__doc__.split("\n")[0])
    parser.add_argument("banks", nargs="+", help="Parquet files, or names of shipped banks")
    parser.add_argument("--within", action="append", required=True, type=_range_of, metavar="NAME=LOW..HIGH")
    given = parser.parse_args(words)
    try:
        for name in given.banks:
            recorded = bank.read(bank.find(name))
            print(_sentence(recorded.header, match(recorded, dict(given.within))))
    except BenchmarkError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
