"""Knowledge of the configurations that fit into memory."""

from __future__ import annotations

import pytest

from benchmarks import spec
from benchmarks.space import Config
from hpo.core.memory.feasibility import Feasibility
from hpo.core.study import Study


def make(kind: str = "study") -> Feasibility:
    benchmark = spec.load("synthetic").model_copy(update={"rescue": False})
    return Feasibility(Study("random", benchmark, kind=kind))  # type: ignore[arg-type]


def size(number: int, **others: float) -> Config:
    return {"batch_size_per_device": number, "learning_rate": 1e-3, **others}


def test_everything_is_admitted_until_a_trial_is_lost() -> None:
    assert make().admits(size(4096))


def test_two_trials_of_which_nothing_is_known_run_at_once() -> None:
    known = make()
    for trial in "ab":
        assert known.admits(size(16))
        known.begin(trial, size(16))
    assert not known.admits(size(4))
    assert known.is_about_to_know  # so the proposal waits, and is not left out
    known.prove("a", size(16))
    assert known.admits(size(8))
    known.begin("c", size(32))
    assert not known.admits(size(64))  # b and c
    known.end("b")
    assert known.admits(size(32))


def test_after_a_loss_one_trial_at_a_time_is_risked() -> None:
    known = make()
    known.begin("a", size(8))
    known.lose("b", size(64))
    assert not known.admits(size(16))  # a is in its first unit: nothing has fitted yet
    assert known.is_about_to_know
    known.prove("a", size(8))
    assert known.admits(size(16))
    known.begin("c", size(16))
    assert known.is_risking
    assert not known.admits(size(16))
    assert known.admits(size(8))


@pytest.mark.parametrize(
    ("space", "rescue", "waits"),
    [
        (("batch_size_per_device",), False, True),
        (("batch_size_per_device",), True, False),  # a smaller micro-batch fits
        (("lora_rank", "learning_rate"), True, True),
        (("learning_rate", "weight_decay"), False, False),
    ],
)
def test_they_do_so_only_where_the_space_has_configurations_that_ask_for_more_than_others(
    space: tuple[str, ...], rescue: bool, waits: bool
) -> None:
    benchmark = spec.load("synthetic")
    domain = next(iter(benchmark.space.values()))
    changes = {"rescue": rescue, "space": dict.fromkeys(space, domain)}
    known = Feasibility(Study("random", benchmark.model_copy(update=changes)))
    for trial in "abc":
        known.begin(trial, size(16))
    assert known.admits(size(16)) != waits


def test_what_asks_for_as_much_or_more_is_not_trained() -> None:
    known = make()
    known.lose("a", size(16, lora_rank=8))
    assert known.is_infeasible(size(16, lora_rank=8, learning_rate=1e-5))
    assert known.is_infeasible(size(32, lora_rank=8))
    assert known.is_infeasible(size(16, lora_rank=0))  # all weights
    assert not known.is_infeasible(size(32, lora_rank=4))
    assert not known.is_infeasible(size(32, lora_rank=8, gradient_checkpointing=True))


def test_before_anything_fitted_a_study_keeps_a_distance() -> None:
    known = make()
    known.lose("a", size(64))
    assert known.admits(size(32))
    assert not known.admits(size(33))
    known.lose("b", size(32))
    assert known.admits(size(8))
    assert not known.admits(size(9))
    known.lose("c", size(8))
    assert known.admits(size(2))  # no greater distance than that


def test_once_something_fits_it_approaches_the_limit_from_below() -> None:
    known = make()
    known.lose("a", size(64))
    known.prove("b", size(4))
    assert known.admits(size(4))
    assert known.admits(size(8))
    assert not known.admits(size(9))
    known.prove("c", size(8))
    assert known.admits(size(16))
    known.begin("d", size(16))
    assert not known.admits(size(16))  # one risk at a time
    assert known.admits(size(8))


def test_after_two_lost_trials_it_keeps_a_distance_from_them_too() -> None:
    known = make()
    for trial, lost in (("a", 64), ("b", 32)):
        known.lose(trial, size(lost))
    known.prove("c", size(4))
    assert known.admits(size(8))
    known.prove("d", size(8))
    assert not known.admits(size(16))
    assert known.admits(size(16), is_bold=True)
    assert not known.admits(size(32), is_bold=True)


def test_a_trial_that_waits_is_dropped_if_it_would_be_lost() -> None:
    known = make()
    for trial, waiting in (("b", 32), ("c", 4)):
        known.begin(trial, size(waiting))
    known.lose("a", size(16))
    assert not known.reconsider("b", size(32))
    assert known.reconsider("c", size(4))
    assert (known.dropped, known.skipped) == ({"b"}, 1)


def test_a_confirmation_trains_everything() -> None:
    known = make("confirmation")
    known.lose("a", size(16))
    assert known.admits(size(16))


@pytest.mark.parametrize("rescue", [True, False])
def test_a_batch_size_matters_only_without_rescue(rescue: bool) -> None:
    benchmark = spec.load("synthetic").model_copy(update={"rescue": rescue})
    known = Feasibility(Study("random", benchmark))
    known.lose("a", size(16, lora_rank=8))
    assert known.is_infeasible(size(4, lora_rank=8)) == rescue


@pytest.mark.parametrize("is_proven_first", [True, False])
def test_what_fits_is_trained_although_it_ran_out_once(is_proven_first: bool) -> None:
    """Another process may have taken the memory for a while."""
    known = make()
    if is_proven_first:
        known.prove("a", size(16))
        known.lose("b", size(8))
    else:
        known.lose("b", size(8))
        known.prove("a", size(16))
    assert known.admits(size(8))
    assert known.admits(size(16))


def test_a_trial_that_goes_on_with_another_configuration_asks_for_another_amount() -> None:
    known = make()
    known.begin("a", size(8))
    known.prove("a", size(8))
    known.begin("b", size(8))
    assert not known.is_risking
    known.begin("b", size(16))
    assert known.is_risking
    known.lose("b", size(16))
    assert known.is_infeasible(size(16))
    assert not known.is_infeasible(size(8))
