"""A model's inputs are built on the host, and reach a device by one copy that nothing waits for."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.tasks.task import Example
from benchmarks.training.batches import Inputs, move

EXAMPLES = [Example([5, 6, 7], [8, 9], (), False, False), Example([5], [8, 9, 4], (), False, False)]
OPTIONS = frozenset(("input_ids", "attention_mask", "position_ids", "use_cache", "logits_to_keep"))


class Copies(TorchDispatchMode):
    """Counter of copies between devices."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[bool] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._to_copy.default:
            self.found.append(kwargs["non_blocking"])
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("make", ["training", "prompts", "answer_labels"])
def test_inputs_reach_a_device_by_one_copy_without_waiting(make: str) -> None:
    inputs = Inputs(pad_token_id=3, device=torch.device("meta"), options=OPTIONS)
    with Copies() as copies:
        getattr(inputs, make)(EXAMPLES)
    assert copies.found == [True]


def test_moved_inputs_have_their_shapes_and_their_device() -> None:
    batch = {"a": torch.zeros(2, 5, dtype=torch.long), "b": torch.zeros(2, 3, dtype=torch.long)}
    moved = move(batch, torch.device("meta"))
    assert {name: (tuple(t.shape), t.device.type) for name, t in moved.items()} == {
        "a": ((2, 5), "meta"),
        "b": ((2, 3), "meta"),
    }


def test_a_training_step_keeps_no_cache_and_the_logits_of_the_answers_alone() -> None:
    batch, labels = Inputs(3, torch.device("cpu"), OPTIONS).training(EXAMPLES)
    assert (batch["use_cache"], batch["logits_to_keep"]) == (False, 4)
    assert batch["input_ids"].tolist() == [[5, 6, 7, 8, 9], [3, 5, 8, 9, 4]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1, 1], [0, 1, 1, 1, 1]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 3, 4], [0, 0, 1, 2, 3]]
    assert labels.tolist() == [[-100, 8, 9], [8, 9, 4]]


def test_a_model_without_a_cache_is_not_told_about_one() -> None:
    batch, _ = Inputs(3, torch.device("cpu"), frozenset(("input_ids", "attention_mask"))).training(EXAMPLES)
    assert set(batch) == {"input_ids", "attention_mask"}
