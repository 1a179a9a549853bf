"""Fine-tuning: the block of a benchmark whose trials train a model."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from benchmarks import tasks
from benchmarks.clock import Clock
from benchmarks.space import Count, Seconds, Strict
from benchmarks.splits import SPLITS, Data, Split
from benchmarks.trials.trial import OpenRanks, Ranks, TrialProcess

if TYPE_CHECKING:  # it has this block
    from benchmarks.spec import Benchmark

MAX_TRIALS_PER_GPU = 16
"""Trials on a GPU at most: each has a CUDA context of half a GiB and more."""


class FineTune(Strict):
    """Fine-tuning of a causal language model with DeepSpeed.

    Attributes:
        model: hub name, or a local folder with config.json, weights as safetensors and a tokenizer.
        data: the three splits.
        task: the task that reads the data and scores answers, a name in `benchmarks/tasks`.
        max_length: tokens of the longest sequence; longer contexts are cut.
        max_answer_tokens: tokens generated at most for an answer.
        ranks_per_trial: processes (one device each) that train one trial together.
        trials_per_gpu: trials that share a GPU, each with as much of its memory; for models so small that one leaves it
            idle. More than 1 goes with one rank per trial, and with GPUs alone.
        precision: "auto" takes bf16 where the device has it, else fp16 on a GPU and fp32 on a CPU.
        eval_batch_size: sequences per forward pass in evaluation; "auto" takes the largest power of two that fits the
            GPU, found in a session's first evaluation, halved for a trial that leaves less room, and 64 on a CPU.
        pad_to_max: pad every batch to `max_length`, as fixed-shape pipelines do; slower, for comparison.
        length_grouped: let sequences of similar length follow each other in an epoch, which saves padding; every
            example still comes once per epoch, but no longer in Trainer's order.
        allow_new_weights: regular expressions; a weight that the model's files lack is refused, unless one of these
            matches its name: each trial then draws it by its own seed.
        timeout_seconds: time after which a rank that does not answer counts as hanging: it is ended, and its trial
            tried again. A unit with its evaluation must take less, and so must loading model and data.
        deepspeed: a DeepSpeed configuration, or the path of a JSON file with one; "auto" values are filled from
            the hyperparameters of the trial.
    """

    model: str
    data: Data
    task: str = tasks.DEFAULT
    max_length: Annotated[int, Field(ge=16, lt=2**31)] = 512
    max_answer_tokens: Count = 32
    ranks_per_trial: Count = 1
    trials_per_gpu: Annotated[int, Field(ge=1, le=MAX_TRIALS_PER_GPU)] = 1
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    eval_batch_size: Count | Literal["auto"] = 64
    pad_to_max: bool = False
    length_grouped: bool = False
    allow_new_weights: tuple[str, ...] = ()
    timeout_seconds: Seconds = 3600.0
    deepspeed: dict[str, Any] = Field(default_factory=dict)

    trains_model: ClassVar[bool] = True

    @property
    def splits(self) -> Mapping[str, Split]:
        """The three splits by name."""
        return {name: getattr(self.data, name) for name in SPLITS}

    def require_ready(self, benchmark: Benchmark) -> list[str]:
        """Check nothing here: `benchmarks.check` has the checks of models and data."""
        return []

    def process(self, benchmark: Benchmark, open_ranks: OpenRanks[Ranks], clock: Clock) -> Ranks | TrialProcess:
        """Return ranks, which train."""
        return open_ranks(benchmark)

    @field_validator("task")
    @classmethod
    def _is_a_task(cls, value: str) -> str:
        tasks.get(value)
        return value

    @model_validator(mode="after")
    def _shares_with_one_rank(self) -> FineTune:
        if self.trials_per_gpu > 1 and self.ranks_per_trial > 1:
            raise ValueError(
                f"trials_per_gpu is {self.trials_per_gpu}, but a trial has {self.ranks_per_trial} ranks "
                "(ranks_per_trial), and trials that share GPUs have one rank; set one of the two to 1"
            )
        return self

    @field_validator("allow_new_weights")
    @classmethod
    def _are_regular_expressions(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in value:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern!r} is no regular expression: {error}") from None
        return value

    @field_validator("deepspeed")
    @classmethod
    def _is_json(cls, value: dict[str, Any]) -> dict[str, Any]:
        try:
            json.dumps(value, allow_nan=False)
        except ValueError:
            raise ValueError("holds a number that is not finite, which JSON has none of") from None
        return value
