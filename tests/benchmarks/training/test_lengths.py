"""Orders that put similar lengths together, and what padding costs."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.spec import Benchmark
from benchmarks.training.batches import BLOCK, WINDOW, group_by_length, padding_share

LENGTHS = random.Random(0).choices(range(30, 500), k=2 * WINDOW + 99)
ORDER = random.Random(1).sample(range(len(LENGTHS)), len(LENGTHS))


def test_every_example_comes_once() -> None:
    assert sorted(group_by_length(ORDER, LENGTHS)) == list(range(len(LENGTHS)))


@pytest.mark.parametrize("number", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, WINDOW, WINDOW + 1])
def test_any_number_of_examples(number: int) -> None:
    order = random.Random(2).sample(range(number), number)
    assert sorted(group_by_length(order, LENGTHS)) == sorted(order)


def test_a_part_of_an_epoch_is_as_random_as_it_was() -> None:
    """The samples of a window are those of the order without groups."""
    assert set(group_by_length(ORDER, LENGTHS)[:WINDOW]) == set(ORDER[:WINDOW])


def test_blocks_come_in_no_order_of_length() -> None:
    grouped = group_by_length(ORDER, LENGTHS)[:WINDOW]
    shortest = [LENGTHS[grouped[i]] for i in range(0, WINDOW, BLOCK)]
    assert shortest not in (sorted(shortest), sorted(shortest, reverse=True))
    assert shortest != [LENGTHS[i] for i in group_by_length(ORDER[::-1], LENGTHS)[:WINDOW:BLOCK]]


@pytest.mark.parametrize("batch_size", [2, 8, 24, 64])
def test_little_padding_is_left(batch_size: int) -> None:
    at_random, grouped = (
        padding_share([LENGTHS[i] for i in order], batch_size) for order in (ORDER, group_by_length(ORDER, LENGTHS))
    )
    assert grouped < at_random / 3


def test_padding_is_what_a_batch_lacks_to_its_longest() -> None:
    assert padding_share([10, 30, 40, 40, 5], 2) == pytest.approx(1 - 125 / (60 + 80 + 5))
    assert padding_share([7, 7, 7], 2) == 0


def trained_on(benchmark: Benchmark, seed: int, folder: Path) -> list[tuple[int, ...]]:
    """Train an epoch, changing the batch size in its middle; return its sequences in order."""
    from benchmarks.training.session import Session

    session = Session(benchmark)
    seen: list[tuple[int, ...]] = []

    def note(_: Any, __: Any, inputs: dict[str, Any]) -> None:
        rows = zip(inputs["input_ids"].tolist(), inputs["attention_mask"].tolist(), strict=True)
        seen.extend(tuple(token for token, real in zip(*row, strict=True) if real) for row in rows)

    session.start({"batch_size_per_device": 32}, seed)
    session.trial.engine.module.register_forward_pre_hook(note, with_kwargs=True)
    for _ in range(5):
        session.trial.train_step()
    session.save(folder)
    session.start({"batch_size_per_device": 24}, seed)
    session.load(folder)
    session.trial.engine.module.register_forward_pre_hook(note, with_kwargs=True)
    while len(seen) < len(session.examples["train"]):
        session.trial.train_step()
    assert sorted(seen) == sorted(tuple(e.prompt + e.target) for e in session.examples["train"])
    session.close()
    return seen


@pytest.mark.slow
@pytest.mark.usefixtures("process_group")
def test_a_grouped_epoch_has_every_example_once_and_is_reproducible(
    small_nano: Callable[..., Benchmark], tmp_path: Path
) -> None:
    """520 examples: 5 batches of 32, and then 15 of 24."""
    benchmark = small_nano(length_grouped=True)
    assert benchmark.finetune is not None
    data = benchmark.finetune.data
    limited = data.model_copy(update={"train": data.train.model_copy(update={"limit": 160 + 15 * 24})})
    benchmark = benchmark.model_copy(update={"finetune": benchmark.finetune.model_copy(update={"data": limited})})
    once, again, other = (trained_on(benchmark, seed, tmp_path / str(turn)) for turn, seed in enumerate((3, 3, 4)))
    assert once == again != other
    lengths = [len(row) for row in once]
    assert padding_share(lengths, 8) < padding_share(random.Random(0).sample(lengths, len(lengths)), 8) / 3
