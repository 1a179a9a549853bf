"""Python imports this first where its folder is on the path. It makes faults that no test can make for real.

* FAIL_AT_LEARNING_RATE: trainings with this learning rate run out of a GPU's memory.
* FAIL_ABOVE_MICRO_BATCH: so do forward passes of more samples than this, in rank 0; the others wait for it.
* CLOCK_SET_BY: a file with the seconds by which the clock has been set.
"""

import importlib.abc
import importlib.machinery
import os
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

TARGET = "benchmarks.training.loop"


class _Patched(importlib.machinery.SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        train_step = module.TrainingLoop.train_step

        def fail(loop: Any) -> Any:
            hp = loop.hyperparameters
            is_rate = hp.learning_rate == float(os.environ.get("FAIL_AT_LEARNING_RATE", "nan"))
            import torch

            is_large = hp.batch_size_per_device > float(os.environ.get("FAIL_ABOVE_MICRO_BATCH", "inf"))
            if is_rate or (is_large and torch.distributed.get_rank() == 0):
                raise torch.OutOfMemoryError("CUDA out of memory. (simulated)")
            return train_step(loop)

        module.TrainingLoop.train_step = fail


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if name != TARGET:
            return None
        found = importlib.machinery.PathFinder.find_spec(name, path)
        if found is not None and found.origin is not None:
            found.loader = _Patched(found.name, found.origin)
        return found


def _set_clock(by: Path) -> None:
    real, real_ns = time.time, time.time_ns
    time.time = lambda: real() + float(by.read_text())
    time.time_ns = lambda: real_ns() + int(1e9 * float(by.read_text()))


if "CLOCK_SET_BY" in os.environ:
    _set_clock(Path(os.environ["CLOCK_SET_BY"]))
if {"FAIL_AT_LEARNING_RATE", "FAIL_ABOVE_MICRO_BATCH"} & set(os.environ):
    sys.meta_path.insert(0, _Finder())
