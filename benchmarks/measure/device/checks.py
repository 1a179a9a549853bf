"""The checks of one GPU. Each returns its verdict, or None if there is nothing to hold its figures against.

Each runs in a process of its own. Without a GPU the same code runs on small models, which tests the checks themselves.
"""

from __future__ import annotations

import gc
import math
import statistics
import tempfile
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.clock import computed_seconds
from benchmarks.devices.torch_build import has_kernels
from benchmarks.measure.device import trials
from benchmarks.measure.device.trials import CheckedNode

Found = tuple[bool | None, dict[str, Any]]
CONFIG = {"learning_rate": 1e-3, "batch_size_per_device": 8}
MAX_START_SECONDS = 0.3
"""Bound of a start of BLOOM-560M on a warm rank."""
MAX_LEFT_MB = 16.0
TOLERANCES = {"fp32": 2e-3, "bf16": 6e-2, "fp16": 3e-2}
"""Differences of a loss between ZeRO stages."""
STAGES = (0, 1, 2, 3)


def environment(node: CheckedNode) -> Found:
    """Tell torch's build and the GPU, and whether one has kernels for the other."""
    import torch

    found: dict[str, Any] = {"torch": torch.__version__, "cuda": str(torch.version.cuda)}
    if not torch.cuda.is_available():
        return None, {**found, "gpu": "none"}
    major, minor = torch.cuda.get_device_capability()
    kernels = torch.cuda.get_arch_list()
    found |= {"gpu": torch.cuda.get_device_name(), "capability": f"{major}.{minor}", "kernels": " ".join(kernels)}
    nccl: Any = torch.cuda.nccl
    found |= {"nccl": ".".join(map(str, nccl.version()))}
    return has_kernels(kernels, (major, minor)), found


def start(node: CheckedNode) -> Found:
    """Start BLOOM-560M four times on one rank: seconds of a start, and memory that an ended trial leaves."""
    found: dict[str, Any] = {}
    for stage in (2, 3):
        session, left, gone = trials.open_bloom(node, stage), [], True
        seconds: list[float] = []
        for turn in range(4):
            config = {"learning_rate": 1e-5, "batch_size_per_device": 2 + turn % 2}
            seconds.append(trials.seconds_of(session.start, config, turn))
            gone = _is_gone_after_use(session) and gone
            left.append(trials.allocated_mb())
        found[f"stage {stage}"] = {
            "warm start s": max(seconds[1:]),
            "left MiB": left[-1] - left[0],
            "gone": gone,
            "base on": _place_of(session),
        }
        del session
        gc.collect()
    sound = all(part["gone"] and part["left MiB"] <= MAX_LEFT_MB for part in found.values())
    return sound and (not node.on_gpu or found["stage 2"]["warm start s"] <= MAX_START_SECONDS), found


def overhead(node: CheckedNode) -> Found:
    """Start a model as deep as BLOOM-560M, and narrow, six times: CPU seconds of a warm start, which no GPU saves."""
    found = {}
    for stage in (2, 3):
        model = str(trials.narrow_folder(node))
        session, seconds = trials.open_session(trials.nano(stage, "bf16", model=model)), []
        for turn in range(6):
            began = computed_seconds()
            session.start(CONFIG, turn)
            seconds.append(computed_seconds() - began)
        found[f"stage {stage}, CPU s"] = statistics.median(seconds[1:])
        session.close()
    return None, found


def _is_gone_after_use(session: Any) -> bool:
    """Train, evaluate and end a trial; tell whether its engine is gone."""
    trials.train(session, 2)
    session.evaluate()
    engine = weakref.ref(session.trial.engine)
    session.close()
    gc.collect()
    return engine() is None


def _place_of(session: Any) -> str:
    weight = next(session.base_model.outline.parameters())
    return "pinned host memory" if weight.device.type == "cpu" and weight.is_pinned() else str(weight.device)


def stages(node: CheckedNode) -> Found:
    """Compare twelve losses of nano between ZeRO stages, in each precision."""
    found, sound = {}, True
    for precision in ("fp32", "bf16", *(["fp16"] if node.on_gpu else [])):
        losses = {stage: _losses(stage, precision) for stage in STAGES if (stage, precision) != (0, "fp16")}
        gap = max(abs(x - y) for other in losses.values() for x, y in zip(losses[1], other, strict=True))
        found[precision] = {"largest gap": gap, "last loss": losses[1][-1]}
        sound = sound and gap <= TOLERANCES[precision]
    return sound, found


def _losses(stage: int, precision: str, **finetune: Any) -> list[float]:
    session = trials.open_session(trials.nano(stage, precision, **finetune))
    session.start({**CONFIG, "learning_rate": 1e-4}, 3)
    losses = trials.train(session, 12)
    session.close()
    return losses


def checkpoints(node: CheckedNode) -> Found:
    """Compare a trial that pauses with one that does not, at each stage."""
    found = {}
    for stage in STAGES:
        session = trials.open_session(trials.nano(stage, node.precision, unit_samples=32))
        with tempfile.TemporaryDirectory(dir=node.folder) as folder:
            session.start(CONFIG, 1)
            session.run_unit()
            session.save(Path(folder))
            uninterrupted = session.run_unit()["eval_loss"]
            session.start(CONFIG, 5)
            session.load(Path(folder))
            found[f"stage {stage}"] = abs(session.run_unit()["eval_loss"] - uninterrupted)
        session.close()
    return max(found.values()) < 1e-3, {"difference": found}


def skipped(node: CheckedNode) -> Found:
    """Skip fp16 steps, which must leave the schedule where it is; let bf16's gradients be NaN, which must show."""
    found: dict[str, Any] = {}
    if node.on_gpu:
        block = trials.stage_block(2, fp16={"initial_scale_power": 32, "hysteresis": 1})
        session = trials.open_session(trials.nano(2, "fp16", deepspeed=block, unit_samples=128, max_units=2))
        session.start({**CONFIG, "lr_scheduler": "linear"}, 3)
        trials.train(session, 32)
        rate, steps = session.trial.engine.optimizer.param_groups[0]["lr"], session.trial.engine.skipped_steps
        expected = CONFIG["learning_rate"] * (1 - (31 - steps) / 32)
        found["fp16"] = {"skipped": steps, "last rate": rate, "rate as Trainer": expected}
        session.close()
    for stage in STAGES:
        session = trials.open_session(trials.nano(stage, "bf16"))
        session.start(CONFIG, 3)
        next(session.trial.engine.module.parameters()).register_hook(lambda gradient: gradient * math.nan)
        found[f"bf16 stage {stage}, eval loss"] = session.run_unit()["eval_loss"]
        session.close()
    fp16 = found.get("fp16", {"last rate": 0.0, "rate as Trainer": 0.0})
    sound = all(math.isnan(found[f"bf16 stage {stage}, eval loss"]) for stage in STAGES)
    return sound and abs(fp16["last rate"] - fp16["rate as Trainer"]) < 1e-9, found


def offload(node: CheckedNode) -> Found:
    """Compare losses with the optimizer on the host to those without."""
    found = {}
    for stage in (1, 2, 3):
        plain = _losses(stage, node.precision)
        other = _losses(stage, node.precision, deepspeed=trials.on_host(stage, node.on_gpu))
        found[f"stage {stage}"] = max(abs(x - y) for x, y in zip(plain, other, strict=True))
    return max(found.values()) <= TOLERANCES[node.precision], {"largest gap": found}


def trainer(node: CheckedNode) -> Found:
    """Compare nano with Hugging Face Trainer on one DeepSpeed configuration: mean losses of 16 steps, and speed."""
    from benchmarks.measure.speed.__main__ import Pairing, measure

    precision = {"precision": node.precision}
    measured = measure(Pairing("Trainer", {**precision, "work": "trainer"}, precision), "nano", rounds=2)
    gap = measured.loss_difference if measured.loss_difference is not None else math.inf
    return gap <= TOLERANCES[node.precision], {"largest gap": gap, "Trainer's seconds / ours": measured.ratio}


def speed(node: CheckedNode) -> Found:
    """Measure BLOOM-560M at ZeRO 2 by batch size: samples per second, peak memory, kernels, busy share of the GPU."""
    session, found = trials.open_bloom(node), {}
    for batch in (2, 8, 32):
        session.start({"learning_rate": 1e-5, "batch_size_per_device": batch}, 0)
        rate = trials.samples_per_second(session, 6 if node.on_gpu else 1)
        found[f"batch {batch}"] = {"samples/s": rate, "peak MiB": trials.peak_mb(), **_kernels(session, batch / rate)}
    return None, found


def _kernels(session: Any, seconds_per_step: float) -> dict[str, float]:
    """Count a step's kernels, and their share of its time; nothing without a GPU."""
    import torch

    if not torch.cuda.is_available():
        return {}
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        trials.train(session, 3)
    events = [e for e in profile.key_averages() if e.device_type.name == "CUDA"]
    busy = sum(e.self_device_time_total for e in events) / 3e6
    return {"kernels": sum(e.count for e in events) / 3, "busy share": busy / seconds_per_step}


def evaluation(node: CheckedNode) -> Found:
    """Measure an evaluation of BLOOM-560M by batch size, with the largest that fits, and at ZeRO 3."""
    found: dict[str, Any] = {}
    for name, stage, size in (("16", 2, 16), ("auto", 2, "auto"), ("ZeRO 3, 16", 3, 16)):
        session = trials.open_bloom(node, stage, eval_batch_size=size)
        session.start({"learning_rate": 1e-5, "batch_size_per_device": 2}, 0)
        session.evaluate()
        found[name] = {"seconds": trials.seconds_of(session.evaluate), "peak MiB": trials.peak_mb()}
        session.close()
        del session
        gc.collect()
    return None, found


def answers(node: CheckedNode) -> Found:
    """Compare answers in batches with single ones, on nano in fp32."""
    session = trials.open_session(trials.nano(0, "fp32"))
    session.start(CONFIG, 0)
    session.run_unit()
    examples = session.examples["validation"]
    same = sum(
        answer == session.predict([example])[0]
        for answer, example in zip(session.predict(examples), examples, strict=True)
    )
    return same == len(examples), {"same": f"{same} of {len(examples)}"}


def shares(node: CheckedNode) -> Found:
    """Compare a model that ZeRO 3 builds in shares from its files with one that is built whole."""
    from benchmarks.training import memory

    whole = _losses(3, node.precision)
    original = memory.gpu_bytes
    memory.gpu_bytes = lambda device: 1  # so that no model fits
    try:
        gap = max(abs(x - y) for x, y in zip(whole, _losses(3, node.precision), strict=True))
    finally:
        memory.gpu_bytes = original
    return gap <= TOLERANCES[node.precision], {"largest gap": gap}


def memory(node: CheckedNode) -> Found:
    """Run out of memory on purpose, and go on in the same session."""
    import torch

    session = trials.open_bloom(node)
    session.start({"learning_rate": 1e-5, "batch_size_per_device": 2}, 0)
    trials.train(session, 1)
    session.close()
    before = trials.allocated_mb()
    found: dict[str, Any] = {}
    if node.on_gpu:
        try:
            session.start({"learning_rate": 1e-5, "batch_size_per_device": 4096}, 0)
            trials.train(session, 1)
        except torch.OutOfMemoryError as error:
            found["out of memory"] = str(error)[:60]
        session.close()
    found["left MiB"] = trials.allocated_mb() - before
    session.start({"learning_rate": 1e-5, "batch_size_per_device": 2}, 0)
    return trials.train(session, 1)[0] > 0 and float(found["left MiB"]) <= MAX_LEFT_MB, found


def lora(node: CheckedNode) -> Found:
    """Train BLOOM-560M with LoRA: speed, peak memory, bytes of a checkpoint."""
    session = trials.open_bloom(node)
    session.start({"learning_rate": 1e-4, "batch_size_per_device": 8, "lora_rank": 8}, 0)
    rate = trials.samples_per_second(session, 6 if node.on_gpu else 1)
    with tempfile.TemporaryDirectory(dir=node.folder) as folder:
        session.save(Path(folder))
        size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
    return None, {"samples/s": rate, "peak MiB": trials.peak_mb(), "checkpoint MB": size / 1e6}


CHECKS: dict[str, tuple[Callable[[CheckedNode], Found], float]] = {
    "environment": (environment, 60),
    "start": (start, 100),
    "overhead": (overhead, 60),
    "speed": (speed, 90),
    "stages": (stages, 90),
    "trainer": (trainer, 90),
    "checkpoints": (checkpoints, 70),
    "skipped": (skipped, 70),
    "evaluation": (evaluation, 80),
    "memory": (memory, 60),
    "offload": (offload, 70),
    "shares": (shares, 60),
    "lora": (lora, 60),
    "answers": (answers, 60),
}
"""Checks in their order, each with its time box in seconds."""
