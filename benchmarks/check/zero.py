"""The block `zero_optimization` of a DeepSpeed configuration: its keys, their values, and keys that need each other."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from benchmarks.check.section import NonNegative, Positive, Section, Share

NEEDS_OWN_ADAM = "which takes DeepSpeed's own Adam, but the optimizer here is torch's AdamW; remove that key"
NOT_RESUMED = {
    "elastic_checkpoint": "but DeepSpeed cannot load the checkpoints that it then saves, so that no trial could resume",
    "load_from_fp32_weights": "but a trial in 16 bits would then resume from rounded weights, other ones than it had",
    "pipeline_loading_checkpoint": "but DeepSpeed then loads no checkpoint below stage 3, nor one of several nodes",
}
"""Keys whose default alone lets a trial resume as it stood, with the reason."""


class OffloadParameters(Section):
    """Parameters on the host or on a disk, at stage 3."""

    device: Literal["none", "cpu", "nvme"]
    nvme_path: str | None = None
    buffer_count: NonNegative = 5
    buffer_size: NonNegative = 100_000_000
    max_in_cpu: NonNegative = 1_000_000_000
    pin_memory: bool = True


class OffloadOptimizer(Section):
    """Optimizer states on the host or on a disk."""

    device: Literal["none", "cpu", "nvme"]
    nvme_path: str | None = None
    buffer_count: NonNegative = 4
    pin_memory: bool = True
    pipeline_read: bool = False
    pipeline_write: bool = False
    fast_init: bool = False
    ratio: Share = 1.0
    super_offload: bool = False
    cpuadam_cores_perc: Share = 0.8


class LeafModule(Section):
    """Modules whose parameters are gathered together."""

    classes: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    name_suffixes: tuple[str, ...] = ()


class Zero(Section):
    """The block `zero_optimization`."""

    stage: Literal[0, 1, 2, 3] = 0
    contiguous_gradients: bool = True
    reduce_scatter: bool = True
    reduce_bucket_size: Positive = 500_000_000
    use_multi_rank_bucket_allreduce: bool = True
    allgather_partitions: bool = True
    allgather_bucket_size: NonNegative = 500_000_000
    overlap_comm: bool | None = None
    compute_grad_norm: bool = True
    load_from_fp32_weights: bool = True
    elastic_checkpoint: bool = False
    offload_param: OffloadParameters | None = None
    offload_optimizer: OffloadOptimizer | None = None
    sub_group_size: NonNegative = 1_000_000_000
    stage3_prefetch_bucket_size: NonNegative = 50_000_000
    stage3_param_persistence_threshold: NonNegative = 100_000
    stage3_model_persistence_threshold: NonNegative = 2**63 - 1
    stage3_max_live_parameters: NonNegative = 1_000_000_000
    stage3_max_reuse_distance: NonNegative = 1_000_000_000
    stage3_gather_16bit_weights_on_model_save: bool = False
    stage3_module_granularity_threshold: int = 0
    stage3_use_all_reduce_for_fetch_params: bool = False
    stage3_allgather_sequential: bool = False
    ignore_unused_parameters: bool = True
    legacy_stage1: Literal[False] = False
    round_robin_gradients: bool = False
    parameter_alignment: bool = False
    zero_hpz_partition_size: NonNegative = 1
    zero_quantized_weights: bool = False
    zero_quantized_nontrainable_weights: bool = False
    zero_quantized_gradients: bool = False
    memory_efficient_linear: bool = True
    pipeline_loading_checkpoint: bool = False
    override_module_apply: bool = True
    log_trace_cache_warnings: bool = False
    enable_sanity_checks: bool = False
    leaf_module: LeafModule | None = None

    @model_validator(mode="after")
    def _check(self) -> Zero:
        for name, least in (("offload_optimizer", 1), ("offload_param", 3)):
            offload = getattr(self, name)
            if offload is None or offload.device == "none":
                continue
            if self.stage < least:
                raise ValueError(f"{name} needs stage {least} or higher, but the stage is {self.stage}")
            if offload.device == "nvme" and not offload.nvme_path:
                raise ValueError(f'{name}.device is "nvme", which needs {name}.nvme_path, a folder on that disk')
            if offload.device == "nvme" and self.stage < 3:
                raise ValueError(f'{name}.device is "nvme", which needs stage 3, but the stage is {self.stage}')
        self._check_optimizer_on_host()
        self._check_checkpoints()
        if not self.compute_grad_norm and self.stage not in (1, 2):
            raise ValueError(f"compute_grad_norm: false needs stage 1 or 2, but the stage is {self.stage}")
        return self

    def _check_optimizer_on_host(self) -> None:
        """Refuse kinds of offload that take an optimizer of DeepSpeed's own; the one here is torch's AdamW."""
        offload = self.offload_optimizer
        if offload is None or offload.device == "none":
            return
        if offload.ratio < 1:
            raise ValueError(f"offload_optimizer.ratio is {offload.ratio:g}, {NEEDS_OWN_ADAM}")
        if offload.super_offload:
            raise ValueError(f"offload_optimizer.super_offload is true, {NEEDS_OWN_ADAM}")
        if not self.compute_grad_norm:
            raise ValueError("compute_grad_norm: false does not go with offload_optimizer; remove one of the two")

    def _check_checkpoints(self) -> None:
        """Refuse kinds of checkpoints from which a trial does not resume, or resumes from other weights."""
        for name, reason in NOT_RESUMED.items():
            value = getattr(self, name)
            if value != type(self).model_fields[name].default:
                raise ValueError(f"{name} is {str(value).lower()}, {reason}; remove that key")

    @property
    def offloads(self) -> bool:
        """True if the optimizer steps on the host."""
        return self.offload_optimizer is not None and self.offload_optimizer.device != "none"
