"""The contract of a kind of trials: the block of a benchmark that describes them, and the process that runs them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol, TypeVar

from benchmarks.clock import Clock
from benchmarks.space import Config, Strict
from benchmarks.splits import Split
from benchmarks.tasks.task import TokenStatistics

if TYPE_CHECKING:  # it has the blocks
    from benchmarks.spec import Benchmark


class TrialThatEnds(Protocol):
    """Processes that run a trial from its beginning to its end: a `TrialProcess`, or a `session.Session`."""

    def token_statistics(self) -> list[TokenStatistics]:
        """Describe the tokens of each split of the benchmark's data; empty if there are none."""

    def precision(self) -> str:
        """Tell the arithmetic that trials are trained in: fp32, bf16 or fp16; empty where nothing is trained."""

    def start(self, config: Config, seed: int) -> None:
        """Begin a trial."""

    def run_unit(self) -> dict[str, float]:
        """Train one unit and evaluate; the keys are those of `session.Session.run_unit`."""

    def evaluate(self, split: str) -> dict[str, float]:
        """Score a split as it is: `eval_loss`, `perplexity` and the task's metrics."""

    def evaluate_each(self, split: str) -> tuple[dict[str, float], dict[str, list[float]]]:
        """Score a split and each of its records, see `benchmarks.tasks.record_scores`; no records without data."""

    def close(self) -> None:
        """End; release the devices."""


class TrialProcess(TrialThatEnds, Protocol):
    """Processes whose trial can pause: `ranks.Ranks`, `own_rank.OwnRank` or `synthetic.SyntheticTrial`."""

    def save(self, folder: Path, to_disk: bool = True) -> None:
        """Write a checkpoint.

        Args:
            folder: an empty folder in which it is, now or soon.
            to_disk: whether it has to outlive its node; false for one that is loaded at once and deleted.
        """

    def load(self, folder: Path) -> None:
        """Continue from a checkpoint, with the hyperparameters of the trial that was started here."""


Ranks = TypeVar("Ranks", bound=TrialThatEnds)
OpenRanks = Callable[["Benchmark"], Ranks]
"""Function that starts the ranks of a benchmark's trials, or finds warm ones."""


class TrialSettings(Protocol):
    """Block of a benchmark that describes its trials."""

    @property
    def task(self) -> str:
        """Name of the task that is trained or imitated."""

    @property
    def ranks_per_trial(self) -> int:
        """Number of processes (one device each) that run one trial together."""

    @property
    def trials_per_gpu(self) -> int:
        """Number of trials that share a GPU."""

    @property
    def trains_model(self) -> bool:
        """True if ranks train a model, with data, a tokenizer and DeepSpeed."""

    @property
    def model(self) -> str:
        """Base model, a hub name or a folder; empty where nothing is trained."""

    @property
    def precision(self) -> str:
        """Arithmetic of a training, or "auto"; empty where nothing is trained."""

    @property
    def splits(self) -> Mapping[str, Split]:
        """Splits of the data by name; none where nothing is trained."""

    def require_ready(self, benchmark: Benchmark) -> list[str]:
        """Check the facts that are too dear for reading the file, before a study starts.

        Returns:
            Warnings; once per process.

        Raises:
            BenchmarkError: no trial could run.
        """

    def process(self, benchmark: Benchmark, open_ranks: OpenRanks[Ranks], clock: Clock) -> Ranks | TrialProcess:
        """Return the process for trials of the benchmark that has this block.

        Args:
            benchmark: the benchmark.
            open_ranks: starts ranks; called only if the trials need them.
            clock: of the study; trials without ranks wait by it.
        """


class Untrained(Strict):
    """Base of a block whose trials train no model: they compute or read their curves, without data or ranks."""

    ranks_per_trial: ClassVar[int] = 1
    trains_model: ClassVar[bool] = False
    trials_per_gpu: ClassVar[int] = 1
    model: ClassVar[str] = ""
    precision: ClassVar[str] = ""
    splits: ClassVar[Mapping[str, Split]] = {}
