"""A training that is rescued from running out of memory equals one with enough of it, at every ZeRO stage."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from benchmarks.out_of_memory import IN_EVALUATION, rescued, with_micro_batch
from benchmarks.space import Config
from benchmarks.spec import Benchmark
from benchmarks.training.session import Session

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("process_group")]
Maker = Callable[..., Benchmark]


def smaller(benchmark: Benchmark, config: Config) -> Config:
    """Return the next configuration that a rescue tries."""
    hp = rescued(benchmark.hyperparameters(config))
    assert hp is not None
    return with_micro_batch(config, hp)


def limit_memory(session: Session, most: int) -> None:
    """Let forward passes of more than so many samples run out of memory."""

    def check(_: Any, __: Any, inputs: dict[str, Any]) -> None:
        if session.trial.engine.module.training and len(inputs["input_ids"]) > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB (simulated)")

    session.trial.engine.module.register_forward_pre_hook(check, with_kwargs=True)


def train(session: Session, config: Config, most: int | None = None) -> list[dict[str, float]]:
    session.start(config, seed=3)
    if most is not None:
        limit_memory(session, most)
    return [session.run_unit() for _ in range(2)]


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
@pytest.mark.parametrize(
    ("size", "most", "fits"),
    [(6, 2, 1), *(pytest.param(*sizes, marks=pytest.mark.thorough) for sizes in ((16, 5, 4), (15, 4, 1)))],
)  # thorough: 6, 3 and 1 are even and odd
def test_losses_equal_those_of_the_whole_batch(stage: int, size: int, most: int, fits: int, small_nano: Maker) -> None:
    benchmark = small_nano(stage=stage, unit_samples=size * 3, max_units=2)
    config: Config = {"learning_rate": 1e-3, "weight_decay": 0.1, "batch_size_per_device": size}
    session = Session(benchmark)
    whole = train(session, config)
    failures = 0
    while True:
        try:
            units = train(session, config, most)
            break
        except torch.OutOfMemoryError:
            failures, config = failures + 1, smaller(benchmark, config)
    session.close()
    assert (config["batch_size_per_device"], failures) == (fits, 2)
    assert int(config["gradient_accumulation_steps"]) * fits == size
    for name in ("train_loss", "eval_loss"):
        assert [unit[name] for unit in units] == pytest.approx([unit[name] for unit in whole], abs=1e-5)


def test_answers_of_many_and_few_tokens_weigh_alike(small_nano: Maker) -> None:
    """A mean over micro-batches would weigh short answers more; the loss is that of the tokens of all."""
    session = Session(small_nano(unit_samples=24, max_units=2))
    lengths = {len(example.target) for example in session.examples["train"][:64]}
    assert len(lengths) > 1
    whole, single = (
        train(session, {"batch_size_per_device": size, "gradient_accumulation_steps": 12 // size}) for size in (12, 1)
    )
    session.close()
    losses = [[unit["train_loss"] for unit in units] for units in (whole, single)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def test_an_evaluation_that_runs_out_says_what_to_change(small_nano: Maker) -> None:
    session = Session(small_nano(unit_samples=16))
    session.start({"batch_size_per_device": 16}, seed=0)

    def fail(*_: object) -> None:
        if not session.trial.engine.module.training:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB (simulated)")

    session.trial.engine.module.register_forward_pre_hook(fail)
    with pytest.raises(MemoryError, match=f"{IN_EVALUATION}, with eval_batch_size 48, lower it: .*2.00 GiB"):
        session.run_unit()
    session.close()
