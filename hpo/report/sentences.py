"""Sentences of a comparison, for the terminal and for the page alike. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

from hpo.analysis.beside_random.early_looks import early_looks
from hpo.analysis.beside_random.worth import beside_random
from hpo.analysis.compare import Result
from hpo.analysis.conditions.planned import EVERY_PAIR
from hpo.analysis.statistics.paired_tests import ALPHA, blocks_needed
from hpo.analysis.statistics.random_search import Worth
from hpo.analysis.statistics.verdicts import Comparison
from hpo.core.wording import counted
from hpo.report.columns import digits_of

NOT_RESOLVED = "not resolved"


def verdict(result: Result) -> str:
    """Write the answer in a sentence or two; if it is "not resolved", also the number of blocks it takes."""
    pairs = result.pairs
    if not pairs:
        return "No verdict: a verdict takes two methods whose incumbents were trained again and scored on test."
    resolved = [pair for pair in pairs if pair.verdict != NOT_RESOLVED]
    if not resolved:
        return (
            f"Not resolved: no difference in {test_score(result)} was shown {_between(pairs)}. {_what_it_takes(result)}"
        )
    shown = "; ".join(sentence(pair) for pair in resolved)
    rest = [pair for pair in pairs if pair.verdict == NOT_RESOLVED]
    text = f"{counted(len(resolved), 'pair')} of {len(pairs)} resolved on {test_score(result)}: {shown}."
    return text if not rest else f"{text} Not resolved: the other {len(rest)}. {_what_it_takes(result)}"


def test_score(result: Result) -> str:
    """Name the score of verdicts."""
    return f"test {result.benchmark.verdict_metric.title}"


def _between(pairs: Sequence[Comparison]) -> str:
    return f"between {pairs[0].a} and {pairs[0].b}" if len(pairs) == 1 else f"in any of {len(pairs)} pairs"


def _what_it_takes(result: Result) -> str:
    """Tell how to resolve a pair: with more blocks, or with fewer comparisons."""
    pairs, looks = result.pairs, result.plan.counted_looks
    blocks = min(pair.num_blocks for pair in pairs if pair.verdict == NOT_RESOLVED)
    needed = blocks_needed(len(pairs) * looks)
    if blocks >= needed:
        return f"There are blocks enough for the tests ({blocks}), so the difference is too small, or varies too much."
    made = counted(len(pairs), "comparison") + f" and {looks} looks" * (looks > 1)
    text = (
        f"It takes at least {needed} blocks (seeds that all methods were run with) for {made} at the level {ALPHA:g}; "
        f"there {'is' if blocks == 1 else 'are'} {blocks}."
    )
    others = len({name for pair in pairs for name in (pair.a, pair.b)}) - 1
    if result.verdicts.reference == EVERY_PAIR and others < len(pairs):
        fewer = blocks_needed(others * looks)
        text += f" With one method as the reference there are {counted(others, 'comparison')}, which take {fewer}."
    return text


def replayed(result: Result) -> str:
    """Say that studies were replayed, not run, and how far that may be trusted; empty for others."""
    return f"{result.replay[0].upper()}{result.replay[1:]}." if result.replay else ""


def beside(result: Result) -> list[str]:
    """Return the sentences that follow the verdict: test split, other metrics, default, random search, early looks."""
    found = (of_test_split, by_other_metrics, against_default, in_random_trainings, of_early_looks)
    return [told for one in found if (told := one(result))]


def against_default(result: Result) -> str:
    """Tell which contestants are shown to be better than the untuned default; empty if it is not confirmed."""
    beats = result.verdicts.beats_default
    if not beats:
        return ""
    shown, others = ([name for name, is_shown in beats.items() if is_shown is wanted] for wanted in (True, False))
    return (
        f"Shown to be better than the untuned default (one-sided, each by itself): {', '.join(shown) or 'none'}. "
        f"Not shown: {', '.join(others) or 'none'}."
    )


def in_random_trainings(result: Result) -> str:
    """Tell how many random trainings each contestant's incumbents are worth; empty if random search is not known."""
    rows = beside_random(result.contestants, result.benchmark)
    told = [f"{one.name} at {one.budget} is worth {trainings_in_words(one.worth)}" for one in rows]
    if not told:
        return ""
    by = "by the median incumbent on validation, with 95 % bands of random search"
    return f"In full trainings of random search ({by}): {'; '.join(told)}."


def of_early_looks(result: Result) -> str:
    """Tell how well rungs rank random trainings as full trainings do; empty for too few of them."""
    looks = early_looks(result.contestants, result.benchmark)
    if not looks:
        return ""
    told = [f"{one.correlation:.2f} at unit {one.units}, where a cut keeps {one.recall:.0%}" for one in looks]
    return (
        f"Early looks, by {looks[0].trainings} random trainings: the ranking's correlation with that of the full "
        f"training (Spearman), and the best third's share that a cut to a third keeps: {'; '.join(told)}."
    )


def trainings_in_words(worth: Worth) -> str:
    """Write a number of random trainings with its band, e.g. "9.3 (7.2 to 12.4)"."""
    if math.isinf(worth.trainings):
        return f"more than {_rounded(worth.low)} (better than every random one)"
    high = f"to {_rounded(worth.high)}" if math.isfinite(worth.high) else "or more"
    return f"{_rounded(worth.trainings)} ({_rounded(worth.low)} {high})"


def _rounded(trainings: float) -> str:
    return f"{trainings:.2g}" if trainings < 10 else f"{trainings:.0f}"


def of_test_split(result: Result) -> str:
    """Tell how sure the test split itself is; empty where its records have no scores."""
    split = result.verdicts.split
    if split is None:
        return ""
    form = f"+z.{digits_of(result.benchmark.verdict_metric)}f"
    told = [f"{a} - {b} [{ends.low:{form}}, {ends.high:{form}}]" for (a, b), ends in split.intervals.items()]
    differences = f" Differences over other records and blocks, in 95 of 100 resamples: {'; '.join(told)}." * bool(told)
    return (
        f"The test split is a sample too: over its {counted(split.num_records, 'record')}, the {test_score(result)} "
        f"has a standard error of {split.standard_error:.2g}.{differences}"
    )


def by_other_metrics(result: Result) -> str:
    """Tell the verdicts by the other metrics; empty without any comparison."""
    if not result.pairs:
        return ""
    titles = {metric.on_test: metric.words_on_test for metric in result.benchmark.test_metrics}
    resolved = {
        titles[name]: [sentence(pair) for pair in pairs if pair.verdict != NOT_RESOLVED]
        for name, pairs in result.verdicts.others.items()
    }
    told = [f" By {title}: {'; '.join(shown) or 'nothing is resolved'}." for title, shown in resolved.items()]
    return f"Other metrics, corrected over all of them.{''.join(told)}"


def sentence(pair: Comparison) -> str:
    """Write a verdict in words."""
    if pair.verdict == "not resolved":
        return f"{pair.a} and {pair.b}: not resolved"
    if pair.verdict == "equivalent":
        return f"{pair.a} and {pair.b} typically differ by less than {pair.equivalence.margin:g}"
    return f"{pair.a} is {pair.verdict} than {pair.b}"
