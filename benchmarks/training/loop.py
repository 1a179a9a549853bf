"""A trial's training loop: optimizer steps, units, and the position that a checkpoint keeps.

Where nothing is changed on the way it equals Hugging Face Trainer with the same DeepSpeed configuration step for step:
same data order, decay groups, schedule, token-weighted loss over the global batch. (Trainer's last batch of an epoch is
smaller where the batch size does not divide the data; here the next epoch fills it up.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import steps
from benchmarks.hyperparameters import Hyperparameters
from benchmarks.spec import Benchmark
from benchmarks.tasks.task import Example
from benchmarks.training.batches import Inputs, SampleOrder, cross_entropy_sum
from benchmarks.training.engine import (
    is_scaled_out,
    load_checkpoint,
    save_checkpoint,
    write_hyperparameters,
    write_learning_rate,
)

if TYPE_CHECKING:  # torch costs seconds to import; only processes that train pay for it
    import torch

    from benchmarks.training.checkpoint.keeper import Memory

STEPS_PER_CHECK = 8
"""Steps after which the ranks compare whether losses are finite; each comparison waits for the device."""


@dataclass(frozen=True)
class TrainedUnit:
    """Training of one unit.

    Attributes:
        loss: mean train loss over all ranks; None where the unit's boundary takes no step.
        steps: optimizer steps, the skipped ones included.
        skipped: steps that DeepSpeed skipped, since their gradients were not finite.
        is_stuck: it was ended early, since losses are not finite, or fp16's loss scale can fall no further.
    """

    loss: float | None
    steps: int
    skipped: int
    is_stuck: bool = False

    @property
    def has_diverged(self) -> bool:
        """True if the weights are not worth an evaluation."""
        if self.loss is None:
            return False
        return self.is_stuck or self.skipped == self.steps or not math.isfinite(self.loss)

    def metrics(self) -> dict[str, float]:
        """Return the metrics of a unit; one without a step has no train loss."""
        loss = {} if self.loss is None else {"train_loss": self.loss}
        return {**loss, "skipped_steps": self.skipped}


@dataclass(frozen=True)
class TrainingData:
    """Data of a trial's training.

    Attributes:
        examples: of the training split.
        inputs: makes a batch of them.
        length_grouped: batches are of similar lengths.
    """

    examples: Sequence[Example]
    inputs: Inputs
    length_grouped: bool


class TrainingLoop:
    """Training of one trial on one rank.

    Args:
        benchmark: gives units and schedule.
        hp: hyperparameters of the trial.
        engine: DeepSpeed's, around the trial's model.
        data: what it is trained on.
        seed: drives the data order.
        left_out: names of the weights that a checkpoint need not have.
    """

    def __init__(
        self,
        benchmark: Benchmark,
        hp: Hyperparameters,
        engine: Any,
        data: TrainingData,
        seed: int,
        left_out: frozenset[str] = frozenset(),
    ) -> None:
        import torch

        self._benchmark, self._hp, self._engine, self._data = benchmark, hp, engine, data
        self._left_out = left_out
        self._rank, self._world_size = torch.distributed.get_rank(), torch.distributed.get_world_size()
        self._go_to(units=0, samples=0, seed=seed)

    @property
    def hyperparameters(self) -> Hyperparameters:
        """Hyperparameters of the trial."""
        return self._hp

    @property
    def engine(self) -> Any:
        """DeepSpeed engine of the trial."""
        return self._engine

    @property
    def units(self) -> int:
        """Units that are trained."""
        return self._units

    @property
    def samples(self) -> int:
        """Samples that are trained, of all ranks; those of skipped steps included."""
        return self._samples

    @property
    def _global_batch_size(self) -> int:
        return steps.global_batch_size(self._hp, self._world_size)

    # ---- training

    def train_unit(self) -> TrainedUnit:
        """Train up to the next unit boundary; end at once a training that goes nowhere."""
        boundary = (self._units + 1) * self._benchmark.resource.unit_samples
        losses: list[torch.Tensor] = []
        skipped, is_stuck = 0, False
        for _ in range(steps.steps_between(self._samples, boundary, self._global_batch_size)):
            losses.append(self.train_step())
            skipped += not self._engine.was_step_applied()
            is_stuck = is_scaled_out(self._engine) or _is_lost(losses)
            if is_stuck:
                break
        self._units += 1
        return TrainedUnit(_mean_loss(losses) if losses else None, len(losses), skipped, is_stuck)

    def train_step(self) -> torch.Tensor:
        """Train one optimizer step.

        Returns:
            the global batch's mean loss per answer token, this rank's share of it, `()`.
        """
        import torch

        micro_batches = self._next_global_batch()
        num_tokens = sum(len(e.target) for micro in micro_batches for e in micro)
        self._write_learning_rate()
        total = torch.zeros((), device=self._data.inputs.device)
        for micro in micro_batches:
            size = self._hp.batch_size_per_device
            own = micro[self._rank * size : (self._rank + 1) * size]
            # DeepSpeed averages gradients over ranks: times world_size gives the mean over the global batch.
            loss = self._loss_sum(own) / num_tokens
            self._engine.backward(loss * self._world_size, scale_wrt_gas=False)
            self._engine.step()
            total += loss.detach()
        self._samples += self._global_batch_size
        if not self._engine.was_step_applied():
            self._skipped_samples += self._global_batch_size
        return total

    def _loss_sum(self, examples: Sequence[Example]) -> torch.Tensor:
        """Sum the cross entropy of the answer tokens, `()`."""
        inputs, labels = self._data.inputs.training(examples)
        predicted = self._engine(**inputs).logits[:, -labels.shape[1] - 1 : -1]
        return cross_entropy_sum(predicted, labels)

    def _next_global_batch(self) -> list[list[Example]]:
        """Take the next optimizer step's examples: a list per forward pass, all ranks' shares in order of rank."""
        train, size = self._data.examples, self._hp.batch_size_per_device * self._world_size
        picked = [train[self._order[self._samples + i]] for i in range(self._global_batch_size)]
        return [picked[i : i + size] for i in range(0, len(picked), size)]

    # ---- position

    def save(self, folder: Path, memory: Memory | None = None) -> dict[str, int]:
        """Write weights, optimizer state, position and random states, see `Session.save`."""
        position = {"units": self._units, "samples": self._samples, "seed": self._seed}
        position["skipped_samples"] = self._skipped_samples
        return save_checkpoint(self._engine, folder, position, self._rank, memory, self._left_out)

    def load(self, folder: Path, memory: Memory | None = None) -> None:
        """Continue from a checkpoint of `save`, with the hyperparameters of this trial, see `Session.load`."""
        position = load_checkpoint(self._engine, folder, self._rank, memory, self._left_out)
        skipped = position.get("skipped_samples", 0)  # a checkpoint of an earlier version has no such number
        self._go_to(position["units"], position["samples"], position["seed"], skipped)
        write_hyperparameters(self._engine, self._hp)
        self._write_learning_rate()

    def _go_to(self, units: int, samples: int, seed: int, skipped_samples: int = 0) -> None:
        self._units, self._samples, self._seed, self._skipped_samples = units, samples, seed, skipped_samples
        lengths = [example.length for example in self._data.examples]
        self._order = SampleOrder(lengths, seed, self._data.length_grouped)

    def _write_learning_rate(self) -> None:
        step = (self._samples - self._skipped_samples) / self._global_batch_size  # skipped steps do not count
        factor = steps.learning_rate_factor(step, steps.total_steps(self._benchmark, self._hp), self._hp)
        write_learning_rate(self._engine, self._hp.learning_rate * factor)


def _is_lost(losses: list[torch.Tensor]) -> bool:
    """Tell, every few steps, whether their losses are no longer finite on any rank."""
    return len(losses) % STEPS_PER_CHECK == 0 and not math.isfinite(_mean_loss(losses[-STEPS_PER_CHECK:]))


def _mean_loss(losses: list[torch.Tensor]) -> float:
    """Average the global batch's loss over steps, to the same number on every rank."""
    import torch

    mean = torch.stack(losses).mean()
    torch.distributed.all_reduce(mean)
    return float(mean)
