"""The method that is exported: chosen among studies that may be compared, and told with its rivals."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.spec import BenchmarkError
from hpo.analysis.choice import choose
from hpo.analysis.records import Records
from hpo.report.model_card import choice_in_words
from tests.hpo.analysis.stored import confirmed, records, study


def stored(*methods: tuple[str, int, dict[int, float]], hours: dict[str, float] | None = None) -> Records:
    """Store studies: (method, budget, F1 by block), with two equal fresh trainings each."""
    studies, trainings = [], []
    for method, budget, scores in methods:
        for block, score in scores.items():
            cost = (hours or {}).get(method, 2.0)
            studies.append(study(method, block, budget, metrics={"device_hours": cost}))
            trainings += confirmed(studies[-1], score, score)
    return records(studies, trainings)


SIX = {block: 0.6 + 0.01 * block for block in range(6)}


def test_a_method_with_one_block_does_not_beat_methods_with_six() -> None:
    lucky = ("bohb", 12, {0: 0.9})
    choice = choose(stored(("asha", 12, SIX), ("random", 12, {b: s - 0.1 for b, s in SIX.items()}), lucky), "best")
    assert choice.contestant.name == "asha"
    assert "No rival: bohb, which lacks 5 blocks of the others." in choice_in_words(choice)


def test_a_budget_of_120_does_not_compete_with_12() -> None:
    found = stored(("asha", 12, SIX), ("bohb", 120, {b: s + 0.1 for b, s in SIX.items()}))
    with pytest.raises(BenchmarkError, match=r"different budgets \(12 trainings, 120 trainings\).*--budget"):
        choose(found, "best")
    assert choose(found, "best", budget=12).contestant.name == "asha"
    assert choose(found, "best", budget=120).contestant.method == "bohb"


def test_nor_does_the_larger_random_search() -> None:
    larger = ("random", 24, {b: s + 0.1 for b, s in SIX.items()})
    choice = choose(stored(("asha", 12, SIX), ("random", 12, SIX), larger), "best")
    assert choice.contestant.name in ("asha", "random")
    assert "No rival: random budget=24, which had another budget." in choice_in_words(choice)


def test_the_default_competes_as_a_study_of_its_own() -> None:
    tried = ("default", 1, {b: s + 0.1 for b, s in SIX.items()})
    assert choose(stored(("asha", 12, SIX), tried), "best").contestant.name == "default"


def test_methods_that_are_not_shown_to_be_worse_are_named() -> None:
    near = {b: s + 0.02 * (-1) ** b for b, s in SIX.items()}
    choice = choose(stored(("asha", 12, SIX), ("random", 12, near), ("pbt", 12, dict.fromkeys(SIX, 0.1))), "best")
    assert choice.selection is not None
    others = {"asha", "random"} - {choice.contestant.name}
    assert (set(choice.selection.not_worse), choice.selection.worse) == (others, ("pbt",))
    assert f"not shown to be worse: {others.pop()} (" in " ".join(choice_in_words(choice))


def test_cost_breaks_ties() -> None:
    found = stored(("asha", 12, SIX), ("random", 12, {b: s + 0.001 for b, s in SIX.items()}), hours={"random": 3.0})
    choice = choose(found, "best")
    assert choice.contestant.name == "asha"
    assert any("cost decided" in sentence for sentence in choice_in_words(choice))


def test_studies_that_failed_are_told_with_the_choice_that_they_would_change() -> None:
    """Six sound blocks of asha are the best ones, and two further studies of it failed."""
    eight = {block: 0.6 + 0.01 * block for block in range(8)}
    better = {block: score + 0.1 for block, score in eight.items() if block < 6}
    found = stored(("asha", 12, better), ("random", 12, eight), ("bohb", 12, {b: s - 0.01 for b, s in eight.items()}))
    assert choose(found, "best").contestant.name == "asha"
    choice = choose(replace(found, failed=[study("asha", 6), study("asha", 7)]), "best")
    told = " ".join(choice_in_words(choice))
    assert choice.contestant.name == "asha"
    assert "Without a score: 2 studies of asha that failed." in told
    assert "With failed studies as the worst score there is, random is chosen." in told


def test_a_failed_study_may_leave_the_choice_as_it_is() -> None:
    found = stored(("asha", 12, {b: s + 0.1 for b, s in SIX.items()}), ("random", 12, SIX))
    told = " ".join(choice_in_words(choose(replace(found, failed=[study("random", 6)]), "best")))
    assert "Without a score: 1 study of random that failed." in told
    assert "With failed studies as the worst score there is, the choice is the same." in told


def test_a_method_that_is_named_has_no_rivals() -> None:
    choice = choose(stored(("asha", 12, SIX), ("bohb", 120, SIX)), "asha")
    assert (choice.selection, choice_in_words(choice), [c.name for c in choice.beside]) == (None, [], ["asha"])
