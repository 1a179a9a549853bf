"""A closed-form stand-in for training, for tests of methods and of the path from command line to MLflow.

A trial has a state, as a model has weights: its progress p and its excess loss e, both 0 at first. A unit of T, with
learning rate r, effective batch size per device b and weight decay w (all logarithms base 10), changes it::

    offset     x = log(r) - log(r*), with log(r*) = -3.3 + 0.3 log2(b / 8), at most 3
    speed      k = 5 * 10^(0.35 x)                       larger rates learn faster
    floor      f = 0.065 * 10^x + 0.05 [w = 0]           and end higher, as the noise of their steps does not settle
    progress   p <- p + k / T
    excess     e <- f + (e - f) exp(-9 / T)
    eval_loss    = 0.5 + 5.5 exp(-p) + e + noise * N(0, 1)
    seconds      = seconds_per_unit * (0.5 + 0.5 * 8 / b)

So the loss depends on the path: no constant rate is as good as large ones first and small ones later. r* is the best
constant one. Early rankings err, since large rates lead at first: the first of 9 units ranks random configurations of
`synthetic.yaml` with a Spearman correlation of 0.6 with the full training.

The noise is a function of (seed, configuration, t): a trial gives the same curve wherever and whenever it runs. The
task's metrics are decreasing functions of the loss. Above `diverge_above` the loss rises in the first unit, and is NaN
from the second on; so is it after a change to such a rate. Above `memory_limit`, units raise MemoryError; see
`Synthetic`.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field, PositiveFloat

from benchmarks import tasks
from benchmarks.clock import REAL, Clock
from benchmarks.hyperparameters import Hyperparameters
from benchmarks.space import Config
from benchmarks.tasks.task import LOSS, PERPLEXITY, TRAIN_LOSS, Metric, TokenStatistics
from benchmarks.trials.trial import OpenRanks, Ranks, TrialProcess, Untrained

if TYPE_CHECKING:  # it has the block
    from benchmarks.spec import Benchmark

BEST_LOG_RATE = -3.3
START_LOSS, LOWEST_LOSS, RISEN_LOSS = 6.0, 0.5, 9.0
SETTLING = 9.0
"""Speed at which the excess loss reaches its floor, per full training."""
MOST_OFFSET = 3.0
"""Largest offset of a rate that counts, so that every loss has an exponential."""
FORMULA = 2
"""Version of the formula, which the benchmark's digest holds: losses of different versions do not compare."""


@dataclass(frozen=True)
class CurveState:
    """State of a trial in place of weights; NaN once it has diverged.

    Attributes:
        progress: exponent of the decline from the first loss, at least 0.
        excess: loss that remains because of the noise of steps.
    """

    progress: float = 0.0
    excess: float = 0.0

    @property
    def loss(self) -> float:
        """The loss without noise of its measurement."""
        return LOWEST_LOSS + (START_LOSS - LOWEST_LOSS) * math.exp(-self.progress) + self.excess

    def trained(self, config: Hyperparameters, share: float) -> CurveState:
        """Return the state after a share of a full training with one configuration."""
        best_log_rate = BEST_LOG_RATE + 0.3 * math.log2(config.batch_size_per_device / 8)
        offset = min(MOST_OFFSET, math.log10(config.learning_rate) - best_log_rate)
        speed = 5.0 * 10.0 ** (0.35 * offset)
        floor = 0.065 * 10.0**offset + (0.05 if config.weight_decay == 0 else 0.0)
        settled = floor + (self.excess - floor) * math.exp(-SETTLING * share)
        return CurveState(self.progress + speed * share, settled)


DIVERGED = CurveState(math.nan, math.nan)


class Synthetic(Untrained):
    """Learning curves by a formula (`benchmarks/trials/synthetic.py`), in place of training.

    Attributes:
        noise: standard deviation of the noise added to each loss.
        seconds_per_unit: time of a unit at batch size 8, at most a day; it is slept, so that schedulers meet real
            time.
        diverge_above: learning rates above this raise the loss in the first unit and give NaN from the second on; none
            do if it is unset.
        memory_limit: a training that takes more than this runs out of memory in its first unit: a forward pass takes 1
            per sample, half of it with gradient checkpointing, and LoRA 1 per rank; none does if it is unset.
    """

    noise: Annotated[float, Field(ge=0)] = 0.01
    seconds_per_unit: Annotated[float, Field(ge=0, le=86_400)] = 0.01
    diverge_above: PositiveFloat | None = None
    memory_limit: PositiveFloat | None = None

    task: ClassVar[str] = tasks.DEFAULT

    def require_ready(self, benchmark: Benchmark) -> list[str]:
        """Check nothing: a formula needs nothing."""
        return []

    def process(self, benchmark: Benchmark, open_ranks: OpenRanks[Ranks], clock: Clock) -> TrialProcess:
        """Return a process that computes, without ranks."""
        return SyntheticTrial(benchmark, clock)


class SyntheticTrial:
    """A trial that computes its learning curve; the same interface as `ranks.Ranks`."""

    def __init__(self, benchmark: Benchmark, clock: Clock = REAL) -> None:
        assert benchmark.synthetic is not None
        self._benchmark, self._settings, self._clock = benchmark, benchmark.synthetic, clock

    def token_statistics(self) -> list[TokenStatistics]:
        """Return nothing: there are no data."""
        return []

    def precision(self) -> str:
        """Tell that nothing is trained: an empty text."""
        return ""

    def start(self, config: Config, seed: int) -> None:
        """Begin a trial at unit 0."""
        self._seed, self._units, self._config = seed, 0, self._benchmark.hyperparameters(config)
        self._state = CurveState()
        self._memory, self._config = _memory(self._config), _unaccumulated(self._config)
        self._config_text = self._config.model_dump_json()

    def run_unit(self) -> dict[str, float]:
        """Compute one unit; the keys are those of `session.Session.run_unit`.

        Raises:
            MemoryError: the configuration takes more than the simulated memory.
        """
        seconds = self._settings.seconds_per_unit * (0.5 + 4.0 / self._config.batch_size_per_device)
        self._clock.sleep(seconds)
        limit = self._settings.memory_limit
        if limit is not None and self._memory > limit:
            raise MemoryError(f"tried to allocate {self._memory:g} of {limit:g} (simulated)")
        self._units += 1
        if self._is_too_fast() and self._units > 1:
            self._state = DIVERGED
        else:
            self._state = self._state.trained(self._config, 1.0 / self._benchmark.resource.max_units)
        loss = self._loss()
        return {
            "units": self._units,
            **self._scores(loss),
            TRAIN_LOSS: loss,
            "samples_per_second": self._benchmark.resource.unit_samples / seconds if seconds else 0.0,
            "peak_memory_mb": 0.0,
            "train_seconds": seconds,
            "evaluate_seconds": 0.0,
        }

    def evaluate(self, split: str) -> dict[str, float]:
        """Compute the curve at the unit reached, with noise of the split's own."""
        return self._scores(self._loss(split))

    def evaluate_each(self, split: str) -> tuple[dict[str, float], dict[str, list[float]]]:
        """Compute the curve as `evaluate` does; there are no records."""
        return self.evaluate(split), {}

    def save(self, folder: Path, to_disk: bool = True) -> None:
        """Write unit and state to `folder`, at once in any case."""
        content = {"units": self._units, "seed": self._seed, "state": asdict(self._state)}
        (folder / "synthetic.json").write_text(json.dumps(content))

    def load(self, folder: Path) -> None:
        """Continue where `save` left off."""
        saved: dict[str, Any] = json.loads((folder / "synthetic.json").read_text())
        self._units, self._seed, self._state = saved["units"], saved["seed"], CurveState(**saved["state"])

    def close(self) -> None:
        """End the trial; it holds nothing."""

    def _scores(self, loss: float) -> dict[str, float]:
        """Return loss, perplexity, and the task's metrics, each a little better than the one before."""
        own = {
            metric.name: _score(loss, 1.0 + 0.1 * i, metric) for i, metric in enumerate(self._benchmark.task.metrics)
        }
        return {LOSS.name: loss, PERPLEXITY: math.exp(loss) if math.isfinite(loss) else math.nan, **own}

    def _loss(self, split: str = "") -> float:
        key = f"{self._seed} {self._config_text} {self._units} {split}".strip().encode()
        noise = random.Random(hashlib.sha256(key).digest()).gauss(0.0, self._settings.noise)
        rises = self._is_too_fast() and self._units == 1
        return (RISEN_LOSS if rises else self._state.loss) + noise

    def _is_too_fast(self) -> bool:
        limit = self._settings.diverge_above
        return limit is not None and self._config.learning_rate > limit


def _memory(config: Hyperparameters) -> float:
    """Compute the memory of a training, in samples of a forward pass."""
    return config.batch_size_per_device * (0.5 if config.gradient_checkpointing else 1.0) + config.lora_rank


def _unaccumulated(config: Hyperparameters) -> Hyperparameters:
    """Return the hyperparameters of the same effective batch without accumulation: curves depend on that alone."""
    size = config.batch_size_per_device * config.gradient_accumulation_steps
    return config.model_copy(update={"batch_size_per_device": size, "gradient_accumulation_steps": 1})


def expected_loss(config: Hyperparameters, progress: float) -> float:
    """Compute the loss of a constant configuration without noise, by the formula above.

    Args:
        config: the trial's hyperparameters.
        progress: share of the full training done, in [0, 1].
    """
    return CurveState().trained(config, progress).loss


def _score(loss: float, scale: float, metric: Metric) -> float:
    """Map a loss of 0 to the metric's best value, and one without bounds to the worst."""
    if not math.isfinite(loss):
        return metric.worst
    share = min(1.0, scale * math.exp(-loss))
    return share * metric.best_value + (1.0 - share) * metric.worst
