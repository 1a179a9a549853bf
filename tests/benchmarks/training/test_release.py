"""A trial that has ended leaves nothing behind: no module, no engine, no tensor, at every ZeRO stage."""

from __future__ import annotations

import gc
import time
import weakref
from collections.abc import Callable

import psutil
import pytest
import torch

from benchmarks.spec import Benchmark
from benchmarks.training.session import Session

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("process_group")]
Maker = Callable[..., Benchmark]
SECONDS = 5.0
CONFIG = {"learning_rate": 1e-3, "batch_size_per_device": 16}


def tensor_bytes() -> int:
    """Bytes of all tensors that the garbage collector sees, a storage counted once."""
    gc.collect()
    storages = {}
    for found in gc.get_objects():
        if issubclass(type(found), torch.Tensor):
            storage = found.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_a_trial_leaves_neither_its_modules_nor_its_tensors(stage: int, precision: str, small_nano: Maker) -> None:
    session, left = Session(small_nano(unit_samples=16, validation=8, stage=stage, precision=precision)), []
    for trial in range(3):
        session.start(CONFIG, seed=trial)
        session.run_unit()  # trains and evaluates
        parts = [*session.trial.engine.module.modules(), *session.trial.engine.module.parameters()]
        alive = [weakref.ref(part) for part in (session.trial.engine, session.trial.engine.optimizer, *parts)]
        del parts
        session.close()
        assert sum(part() is not None for part in alive) == 0
        left.append(tensor_bytes())
    until = time.monotonic() + SECONDS
    while left[2] > left[0] and time.monotonic() < until:  # a thread of gloo's lets go of the last sum a moment later
        left[2] = tensor_bytes()
    assert left[2] <= left[0]  # what earlier tests left may go meanwhile


@pytest.mark.parametrize("stage", [0, 3])
def test_a_trial_that_fails_in_a_forward_pass_leaves_nothing(stage: int, small_nano: Maker) -> None:
    session = Session(small_nano(unit_samples=16, stage=stage))
    session.start(CONFIG, seed=0)

    def fail(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    session.trial.engine.module.transformer.h[1].register_forward_pre_hook(fail)
    with pytest.raises(torch.OutOfMemoryError):
        session.run_unit()
    alive = [weakref.ref(part) for part in session.trial.engine.module.modules()]
    session.close()
    gc.collect()  # the exception of `raises` is gone with its block
    assert sum(part() is not None for part in alive) == 0


@pytest.mark.thorough
@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_memory_is_steady_over_fifty_trials(stage: int, small_nano: Maker) -> None:
    session = Session(small_nano(unit_samples=16, stage=stage))
    process, resident = psutil.Process(), {}
    for trial in range(1, 51):
        session.start(CONFIG, seed=trial)
        session.run_unit()
        resident[trial] = process.memory_info().rss
    session.close()
    assert resident[50] <= 1.1 * resident[5]
