"""Settings of a DeepSpeed study: plain values, which the command line shows as options."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from benchmarks.spec import BenchmarkError
from benchmarks.training.deepspeed import Precision, precision_on

Launcher = Literal["torchrun", "deepspeed"]
Scaling = Literal["strong", "weak"]
MOST = 2**31
"""Upper bound of all counts."""


@dataclass(frozen=True)
class Configuration:
    """A way to train.

    Attributes:
        stage: of ZeRO, 0 to 3; None without DeepSpeed.
        offload: the optimizer's states are kept on the host, at stage 3 the parameters too.
    """

    stage: int | None = None
    offload: bool = False

    @property
    def name(self) -> str:
        """Short name, such as `zero2-offload`."""
        return "plain" if self.stage is None else f"zero{self.stage}{'-offload' * self.offload}"


ALL = (Configuration(), *(Configuration(n) for n in range(4)), *(Configuration(n, offload=True) for n in (1, 2, 3)))


@dataclass(frozen=True)
class Training:
    """The training that is repeated under every configuration; the defaults are those of the published baseline.

    Attributes:
        benchmark: name or path; its model, data and lengths are used.
        examples: with one rank, and with any number under strong scaling.
        accumulation: gradient accumulation steps, likewise.
    """

    benchmark: str = "nano"
    examples: int = field(default=500, metadata={"help": "training examples"})
    eval_examples: int = field(default=100, metadata={"help": "validation examples"})
    epochs: int = field(default=3, metadata={"help": "epochs"})
    batch_size: int = field(default=4, metadata={"help": "sequences of a rank in a forward pass"})
    accumulation: int = field(default=4, metadata={"help": "forward passes of an optimizer step"})
    learning_rate: float = field(default=5e-5, metadata={"help": "learning rate"})
    weight_decay: float = field(default=0.01, metadata={"help": "weight decay"})
    seed: int = field(default=0, metadata={"help": "drives everything random"})

    def __post_init__(self) -> None:
        """Refuse values that could only fail in the ranks."""
        for name in ("examples", "eval_examples", "epochs", "batch_size", "accumulation"):
            if not 1 <= getattr(self, name) < MOST:
                bound = "at least 1" if getattr(self, name) < 1 else "below 2**31"
                raise BenchmarkError(f"{name} is {getattr(self, name)}, but must be {bound}")
        if not 0 < self.learning_rate < math.inf:
            raise BenchmarkError(f"learning_rate is {self.learning_rate:g}, but must be above 0 and finite")
        if not 0 <= self.weight_decay < math.inf:
            raise BenchmarkError(f"weight_decay is {self.weight_decay:g}, but must be at least 0 and finite")
        if not 0 <= self.seed < 2**32:
            raise BenchmarkError(f"seed is {self.seed}, but must be >= 0 and < 2**32")


@dataclass(frozen=True)
class Scale:
    """Number of ranks that train together, and the growth of the data with it.

    Attributes:
        scaling: strong keeps examples and global batch, weak keeps both for each rank.
    """

    ranks_per_node: int = 1
    nodes: int = 1
    scaling: Scaling = "strong"

    @property
    def ranks(self) -> int:
        """Ranks of all nodes together."""
        return self.ranks_per_node * self.nodes

    @property
    def number(self) -> str:
        """Number of ranks, such as `2 x 4` for two nodes with four each."""
        return f"{self.ranks_per_node}" if self.nodes == 1 else f"{self.nodes} x {self.ranks_per_node}"

    @property
    def name(self) -> str:
        """Number of ranks with the scaling, such as `2 x 4, weak`."""
        return self.number if self.ranks == 1 else f"{self.number}, {self.scaling}"


@dataclass(frozen=True)
class Machine:
    """The machine and launcher that train, the same for all rows.

    Attributes:
        gpus: GPUs of this node that may be used; 0 trains on CPU cores.
        cpus: cores of this node, which ranks share.
        precision: of the arithmetic; "fp16" takes a GPU.
        launcher: program that starts the ranks.
        are_slices: whether the GPUs are slices of GPUs (MIG).
    """

    gpus: int
    cpus: int
    precision: Precision
    launcher: Launcher = "torchrun"
    are_slices: bool = False

    def __post_init__(self) -> None:
        """Refuse an arithmetic that the device does not have."""
        if not self.gpus:
            precision_on(self.precision, compute_capability=None)
