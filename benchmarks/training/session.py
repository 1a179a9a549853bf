"""One rank's DeepSpeed session: train a unit, evaluate, save, load.

A trial's `TrainingLoop` drives the DeepSpeed engine itself, so that a trial can be paused after any unit, cloned, and
continued with other hyperparameters: `save`, `start` with the other ones, `load`.

A `Session` outlives its trials: tokenised data and base weights stay, and `start` makes a new engine around a
fresh copy of the weights. A search calls `run_unit`; a unit is `unit_samples` training samples, whatever
the batch size, rounded to whole batches.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import steps
from benchmarks.clock import Mark
from benchmarks.hyperparameters import Hyperparameters
from benchmarks.space import Config
from benchmarks.spec import Benchmark
from benchmarks.tasks.task import Example, TokenStatistics
from benchmarks.training import memory
from benchmarks.training.batches import Examples
from benchmarks.training.deepspeed import Precision, fill
from benchmarks.training.engine import end_engine, frozen_weights, make_engine, require_precision, whole_weights
from benchmarks.training.evaluation import make_evaluation
from benchmarks.training.loop import TrainingData, TrainingLoop
from benchmarks.training.model import lora
from benchmarks.training.model.models import load_tokenizer, write_model
from benchmarks.training.model.shares import open_base
from benchmarks.training.process import hide_from_collector

if TYPE_CHECKING:  # torch costs seconds to import; only processes that train pay for it
    from benchmarks.training.checkpoint.keeper import Memory


class Session:
    """One rank of a trial.

    Args:
        benchmark: a benchmark with a `finetune` block, whose `precision` is settled for all ranks, not "auto".

    Attributes:
        examples: the splits, each read and tokenised at first use and kept.
        base_model: weights that trials start from.

    Raises:
        BenchmarkError: model or data cannot be used.
    """

    def __init__(self, benchmark: Benchmark) -> None:
        import torch

        assert torch.distributed.is_initialized()
        self._benchmark, self._settings = benchmark, benchmark.training_settings()
        self._rank, self._world_size = torch.distributed.get_rank(), torch.distributed.get_world_size()
        on_gpu = torch.cuda.is_available()
        self._device = torch.device("cuda", torch.cuda.current_device()) if on_gpu else torch.device("cpu")
        memory.take_share(self._device, self._settings.trials_per_gpu)
        self._precision = require_precision(self._settings.precision)
        self._tokenizer = load_tokenizer(self._settings.model)
        self.examples = Examples(self._settings, self._tokenizer)
        opened = open_base(self._settings, self._precision, self._device, self._configure)
        self._hidden_size = opened.outline.config.get_text_config().hidden_size
        self._evaluation = make_evaluation(opened.outline, self._tokenizer, self._settings, self._device)
        self.base_model = opened.kept_for(self._precision, self._device)  # rounds the outline, so it comes last
        self._loop: TrainingLoop | None = None
        hide_from_collector()

    @property
    def trial(self) -> TrainingLoop:
        """The current trial's training, which has its DeepSpeed engine and hyperparameters."""
        assert self._loop is not None, "start comes first"
        return self._loop

    def token_statistics(self) -> list[TokenStatistics]:
        """Describe the tokens of the three splits."""
        return self.examples.token_statistics()

    def precision(self) -> Precision:
        """Tell the arithmetic that this session's trials are trained in."""
        return self._precision

    # ---- a trial

    def start(self, config: Config, seed: int) -> None:
        """Begin a trial from the base weights.

        Args:
            config: hyperparameters over the benchmark's default.
            seed: drives weights that are not pretrained, dropout and data order.

        Raises:
            BenchmarkError: a hyperparameter out of range, or a DeepSpeed value that disagrees with it.
        """
        from transformers import set_seed

        self.close()
        set_seed(seed)
        memory.reset_peak(self._device)
        hp = self._benchmark.hyperparameters(config)
        steps.require_a_step(self._benchmark, hp, "this configuration")
        engine = make_engine(self.base_model.for_trial(hp), hp, self._configure(hp), self._device)
        data = TrainingData(self.examples["train"], self._evaluation.inputs, self._settings.length_grouped)
        left_out = frozen_weights(engine, self.base_model) if hp.lora_rank else frozenset()
        self._loop = TrainingLoop(self._benchmark, hp, engine, data, seed, left_out)
        self.examples["validation"]  # read now, not in the first unit's time

    def run_unit(self) -> dict[str, float]:
        """Train one resource unit and evaluate on validation.

        Returns:
            `units` reached, `train_loss`, the keys of `evaluate`, `skipped_steps` of the unit, whose gradients were not
            finite, `samples_per_second`, `peak_memory_mb`, `train_seconds` and `evaluate_seconds`; without a GPU also
            the time that this process computed in these two, which other processes on the machine do not prolong,
            `train_cpu_seconds` and `evaluate_cpu_seconds`. A train loss that is not finite, or a unit whose steps were
            all skipped, leaves out the evaluation: `eval_loss` is NaN, and the task's metrics are the worst there are.
            A unit that a large batch of the one before has already reached trains nothing, and has no `train_loss`.
        """
        trial, on_cpu, began = self.trial, self._device.type == "cpu", Mark()
        samples_before = trial.samples
        unit = trial.train_unit()
        trained = Mark()
        scores = self._evaluation.no_scores() if unit.has_diverged else self.evaluate()
        times = began.times("train", trained, on_cpu) | trained.times("evaluate", Mark(), on_cpu)
        return {
            "units": trial.units,
            **unit.metrics(),
            **scores,
            "samples_per_second": (trial.samples - samples_before) / times["train_seconds"],
            "peak_memory_mb": memory.peak_mb(self._device),
            **times,
        }

    def evaluate(self, split: str = "validation") -> dict[str, float]:
        """Score a whole split, over all ranks.

        Args:
            split: "train", "validation" or "test".

        Returns:
            `eval_loss`, `perplexity` and the task's metrics, see `Evaluation.scores`.

        Raises:
            MemoryError: it ran out of memory, which no smaller batch in training would cure.
        """
        return self._evaluation.scores(self.trial.engine, self.examples[split])

    def evaluate_each(self, split: str) -> tuple[dict[str, float], dict[str, list[float]]]:
        """Score a split as `evaluate` does, and each of its records, see `benchmarks.tasks.record_scores`."""
        each: dict[str, list[float]] = {}
        return self._evaluation.scores(self.trial.engine, self.examples[split], each), each

    def predict(self, examples: Sequence[Example]) -> list[str]:
        """Generate greedy answers, one per example."""
        return self._evaluation.answers(self.trial.engine, examples)

    def save(self, folder: Path, memory: Memory | None = None) -> dict[str, int]:
        """Write weights, optimizer state, position and random states to `folder`; every rank calls it.

        Args:
            folder: of the checkpoint, on the disk.
            memory: of this node, which gets the files that it has room for, and brings them to the disk later.

        Returns:
            Bytes of each file that this rank has written, by its path within the folder.
        """
        return self.trial.save(folder, memory)

    def load(self, folder: Path, memory: Memory | None = None) -> None:
        """Continue from a checkpoint of `save`, with the hyperparameters of this trial, not the saved ones.

        Raises:
            RuntimeError: the saved weights are of another shape, as those of another `lora_rank` are.
        """
        self.trial.load(folder, memory)

    def save_model(self, folder: Path) -> None:
        """Write the trained model, as safetensors, and its tokenizer to `folder`; every rank calls it.

        The weights are the engine's, which `evaluate` scores, in the precision that the engine computes with.
        """
        import torch

        weights = whole_weights(self.trial.engine, self._rank)
        if self._rank == 0:
            model, hp = self.trial.engine.module, self.trial.hyperparameters
            if hp.lora_rank:
                model, weights = self.base_model.plain(), lora.merged(self.base_model.whole(hp), weights)
            write_model(model, weights, self._tokenizer, folder)
        torch.distributed.barrier()

    def close(self) -> None:
        """End the current trial; the session can start another."""
        if self._loop is not None:
            end_engine(self._loop.engine)
            self._loop = None
            gc.collect()  # engines sit in reference cycles; of itself the collector would come once in dozens of trials

    # ---- the engine

    def _configure(self, hp: Hyperparameters) -> dict[str, Any]:
        """Fill in the DeepSpeed configuration of a trial.

        Raises:
            BenchmarkError: a value of the benchmark's configuration disagrees with the hyperparameters.
        """
        return fill(self._settings.deepspeed, hp, self._precision, self._world_size, self._hidden_size)
