"""Check a benchmark's DeepSpeed block: every key is one that DeepSpeed 0.19 knows and this loop uses.

DeepSpeed itself refuses some misspelt keys, in each rank of each trial, and takes others without a word: with
`zero_optimisation` it trains at stage 0. The models here mirror those of DeepSpeed (a test compares them), so that the
check needs neither DeepSpeed nor torch, which take seconds to import. See
https://www.deepspeed.ai/docs/config-json/ for the meaning of each key.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from benchmarks.check.config import hidden_size
from benchmarks.check.section import NonNegative, Positive, Section
from benchmarks.check.zero import NEEDS_OWN_ADAM, Zero
from benchmarks.faults import explained
from benchmarks.files import BenchmarkError
from benchmarks.space import Choice, Config
from benchmarks.spec import Benchmark, FineTune
from benchmarks.training.deepspeed import Precision, fill, zero_stage

SET_BY_DEEPSPEED = {"batch_size_per_device", "gradient_accumulation_steps", "max_grad_norm"}
"""Hyperparameters that a DeepSpeed block names too."""
HALVES = ("bf16", "fp16")
FIRST_WITH_SHARED_GRADIENTS = 2
"""Stage of ZeRO from which each rank keeps its share of the gradients."""
REMOVED = {
    "amp": 'NVIDIA Apex is no part of DeepSpeed any more; remove the key and set the benchmark\'s `precision: "fp16"`',
    "sparse_gradients": "DeepSpeed has no such switch any more; remove the key",
    "elasticity": "DeepSpeed has no elastic training any more; remove the key",
}
"""Keys of earlier versions of DeepSpeed that people still have in their files."""
DataType = Literal["fp32", "fp16", "bf16"]
LogLevel = Annotated[
    Literal["debug", "info", "warning", "error", "critical"],
    BeforeValidator(lambda value: value.lower() if isinstance(value, str) else value),  # as DeepSpeed does
]


class Bf16(Section):
    """The block `bf16`."""

    enabled: bool = False
    immediate_grad_update: bool = False
    check_grad_overflow: bool = True
    bf16_master_weights_and_grads: bool = False
    bf16_optimizer_states: bool = False


class Fp16(Section):
    """The block `fp16`."""

    enabled: bool = False
    auto_cast: bool = False
    loss_scale: Annotated[float, Field(ge=0)] = 0.0
    initial_scale_power: NonNegative = 16
    loss_scale_window: Positive = 1000
    hysteresis: Positive = 2
    consecutive_hysteresis: bool = False
    min_loss_scale: NonNegative = 1
    fp16_master_weights_and_grads: bool = False


class ActivationCheckpointing(Section):
    """The block `activation_checkpointing`."""

    partition_activations: bool = False
    number_checkpoints: Positive | None = None
    contiguous_memory_optimization: bool = False
    synchronize_checkpoint_boundary: bool = False
    profile: bool = False
    cpu_checkpointing: bool = False


class FlopsProfiler(Section):
    """The block `flops_profiler`."""

    enabled: bool = False
    recompute_fwd_factor: Annotated[float, Field(ge=0)] = 0.0
    profile_step: Positive = 1
    module_depth: int = -1
    top_modules: Positive = 1
    detailed: bool = True
    output_file: str | None = None


class CommsLogger(Section):
    """The block `comms_logger`."""

    enabled: bool = False
    prof_all: bool = True
    prof_ops: tuple[str, ...] = ()
    verbose: bool = False
    debug: bool = False


class Aio(Section):
    """The block `aio`: how offload to a disk reads and writes."""

    block_size: Positive = 1_048_576
    queue_depth: Positive = 8
    intra_op_parallelism: Positive = 1
    single_submit: bool = False
    overlap_events: bool = True
    use_gds: bool = False


class CheckpointSection(Section):
    """The block `checkpoint`."""

    tag_validation: Literal["Warn", "Ignore", "Fail", "WARN", "IGNORE", "FAIL", "warn", "ignore", "fail"] = "Warn"
    use_node_local_storage: bool = False


class DataTypes(Section):
    """The block `data_types`."""

    grad_accum_dtype: DataType | None = None


class ThroughputTimer(Section):
    """The block `timers.throughput`."""

    enabled: bool = True
    synchronized: bool = True


class Timers(Section):
    """The block `timers`."""

    throughput: ThroughputTimer = ThroughputTimer()


class Block(Section):
    """A DeepSpeed configuration whose "auto" values are filled."""

    train_batch_size: Positive | None = None
    train_micro_batch_size_per_gpu: Positive | None = None
    gradient_accumulation_steps: Positive | None = None
    gradient_clipping: Annotated[float, Field(ge=0)] = 0.0
    zero_optimization: Zero = Zero()
    bf16: Bf16 = Bf16()
    fp16: Fp16 = Fp16()
    zero_allow_untested_optimizer: bool = False
    zero_force_ds_cpu_optimizer: bool = True
    activation_checkpointing: ActivationCheckpointing = ActivationCheckpointing()
    communication_data_type: DataType | None = None
    prescale_gradients: bool = False
    gradient_predivide_factor: Annotated[float, Field(gt=0)] = 1.0
    gradient_allreduce_op: Literal["mean"] = "mean"
    disable_allgather: bool = False
    disable_python_gc: bool = False
    data_types: DataTypes = DataTypes()
    checkpoint: CheckpointSection = CheckpointSection()
    aio: Aio = Aio()
    steps_per_print: Positive = 2**31 - 1
    wall_clock_breakdown: bool = False
    memory_breakdown: bool = False
    dump_state: bool = False
    log_level: LogLevel | None = None
    flops_profiler: FlopsProfiler = FlopsProfiler()
    comms_logger: CommsLogger = CommsLogger()
    timers: Timers = Timers()

    @model_validator(mode="after")
    def _check(self) -> Block:
        if self.zero_optimization.offloads and self.zero_force_ds_cpu_optimizer:
            raise ValueError(
                "zero_optimization.offload_optimizer needs `zero_force_ds_cpu_optimizer: false` at the top of the "
                "block, since the optimizer here is torch's AdamW; add that key"
            )
        masters = (self.bf16.bf16_master_weights_and_grads, self.fp16.fp16_master_weights_and_grads)
        if any(masters) and self.zero_optimization.stage == 0:
            raise ValueError("master weights in 16 bits need zero_optimization.stage 1 or higher")
        if not self.zero_optimization.compute_grad_norm and (norm := self.gradient_clipping) > 0:
            raise ValueError(
                f"zero_optimization.compute_grad_norm is false, but trials clip gradients at {norm:g}; "
                "set max_grad_norm to 0, or remove that key"
            )
        self._check_reduction()
        self._check_masters()
        return self

    def _check_reduction(self) -> None:
        """Refuse divisions of gradients that DeepSpeed does not make where it reduces them in shares."""
        zero = self.zero_optimization
        if zero.stage < FIRST_WITH_SHARED_GRADIENTS or not zero.reduce_scatter:
            return
        divides = {
            "prescale_gradients is true": self.prescale_gradients,
            f"gradient_predivide_factor is {self.gradient_predivide_factor:g}": self.gradient_predivide_factor != 1,
        }
        for name in (name for name, does in divides.items() if does):
            raise ValueError(
                f"{name}, which does not go with reduce_scatter at stage {zero.stage}; remove that key, or set "
                "zero_optimization.reduce_scatter to false"
            )

    def _check_masters(self) -> None:
        """Refuse 16-bit masters where DeepSpeed wants an Adam of its own for them."""
        if self.fp16.fp16_master_weights_and_grads:
            raise ValueError(f"fp16.fp16_master_weights_and_grads is true, {NEEDS_OWN_ADAM}")
        masters, states = self.bf16.bf16_master_weights_and_grads, self.bf16.bf16_optimizer_states
        if masters and (self.zero_optimization.offloads or not states):
            raise ValueError(
                f"bf16.bf16_master_weights_and_grads is true, {NEEDS_OWN_ADAM}, or add `bf16_optimizer_states: true` "
                "and leave out the offload"
            )
        if states and not masters:
            raise ValueError("bf16.bf16_optimizer_states needs bf16.bf16_master_weights_and_grads: true beside it")


class _File(Section):
    """A file with the block under its key, so that faults name the whole place."""

    deepspeed: Block


def check_deepspeed(benchmark: Benchmark, finetune: FineTune, auto: Precision | None = None) -> None:
    """Check that every configuration that a search may propose goes with the DeepSpeed block.

    Args:
        benchmark: the benchmark.
        finetune: its training.
        auto: the precision that "auto" stands for; None leaves the precision to the device.

    Raises:
        BenchmarkError: a key that is none, a value out of range, or one that disagrees with the search space.
    """
    precision, block = finetune.precision, finetune.deepspeed
    is_open = precision == "auto" and auto is None
    if is_open:  # only the ranks know the device
        block = {key: value for key, value in block.items() if key not in HALVES}
    taken: Precision = (auto or "fp32") if precision == "auto" else precision
    for proposal in _proposals(benchmark):
        hyperparameters = benchmark.hyperparameters(proposal)
        filled = fill(block, hyperparameters, taken, finetune.ranks_per_trial, hidden_size(finetune.model))
        _require_known({**filled, **_halves(finetune.deepspeed)} if is_open else filled)
        if not is_open:
            _require_accumulation(filled, taken)


def _proposals(benchmark: Benchmark) -> list[Config]:
    """Return configurations with the extremes of each hyperparameter that DeepSpeed's block names too."""
    names = sorted(SET_BY_DEEPSPEED & set(benchmark.space))
    proposals: list[Config] = [] if names else [{}]
    for name in names:
        domain = benchmark.space[name]
        values = domain.values if isinstance(domain, Choice) else (domain.low, domain.high)
        proposals += [{name: value} for value in values]
    return proposals


def _halves(block: dict[str, Any]) -> dict[str, Any]:
    """Return the sections of 16-bit arithmetic, "auto" standing for false."""
    sections = {name: block[name] for name in HALVES if isinstance(block.get(name), dict)}
    return {
        name: {key: False if value == "auto" else value for key, value in section.items()}
        for name, section in sections.items()
    }


def _require_known(filled: dict[str, Any]) -> None:
    for name, reason in REMOVED.items():
        if name in filled:
            raise BenchmarkError(f"deepspeed.{name}: {reason}")
    try:
        _File.model_validate({"deepspeed": filled})
    except ValidationError as error:
        raise BenchmarkError(explained(error, _File)) from None


def _require_accumulation(filled: dict[str, Any], precision: Precision) -> None:
    """Refuse gradients of another type than the weights' at stage 0, where DeepSpeed adds up no others."""
    kind = filled.get("data_types", {}).get("grad_accum_dtype")
    if kind is not None and kind != precision and zero_stage(filled) == 0:
        raise BenchmarkError(
            f"deepspeed.data_types.grad_accum_dtype is {kind}, but trials train in {precision} at stage 0, which needs "
            "the same type; remove that key, or take zero_optimization.stage 1 or higher"
        )
