"""Trials for the checks: nano itself, and BLOOM-560M with random weights on questions of SQuAD's lengths."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import spec
from benchmarks.clock import REAL
from benchmarks.measure.speed import data
from benchmarks.spec import Benchmark

SHAPE = (1024, 24, 16, 250_880)
"""Hidden size, layers, heads and vocabulary of BLOOM-560M."""
SMALL_SHAPE = (64, 2, 4, 1200)
"""Shape of the model that stands in for it without a GPU."""
NARROW_SHAPE = (64, 24, 16, 1200)
"""Shape of a model with as many weights as BLOOM-560M, all of them small."""


@dataclass(frozen=True)
class CheckedNode:
    """The machine that is checked.

    Attributes:
        folder: for models and checkpoints.
        on_gpu: False for a trial of the checks themselves, with small models.
    """

    folder: Path
    on_gpu: bool

    @property
    def precision(self) -> str:
        """Arithmetic of most checks."""
        return "bf16" if self.on_gpu else "fp32"


def stage_block(stage: int, **changes: Any) -> dict[str, Any]:
    """Return the DeepSpeed configuration of a stage with some keys replaced, sections merged."""
    block: dict[str, Any] = spec.load_json(spec.HERE / "zero" / f"stage{stage}.json")
    for key, value in changes.items():
        block[key] = {**block.get(key, {}), **value} if isinstance(value, dict) else value
    return block


def on_host(stage: int, on_gpu: bool) -> dict[str, Any]:
    """Return the DeepSpeed configuration of a stage whose optimizer steps on the host."""
    host = {"device": "cpu", "pin_memory": on_gpu}
    return stage_block(stage, zero_optimization={"offload_optimizer": host}, zero_force_ds_cpu_optimizer=False)


def nano(stage: int, precision: str, unit_samples: int = 64, max_units: int = 4, **finetune: Any) -> Benchmark:
    """Return nano with short trainings on a part of its data; keyword arguments replace fields of `finetune`."""
    benchmark = spec.load("nano")
    settings = benchmark.training_settings()
    limits = {"train": 256, "validation": 32, "test": 32}
    splits = {name: split.model_copy(update={"limit": limits[name]}) for name, split in settings.data}
    changed: dict[str, Any] = {"data": settings.data.model_copy(update=splits), "precision": precision}
    changed |= {"eval_batch_size": 32, "deepspeed": stage_block(stage), **finetune}
    resource = spec.Resource(unit_samples=unit_samples, max_units=max_units)
    return benchmark.model_copy(update={"finetune": settings.model_copy(update=changed), "resource": resource})


def open_session(benchmark: Benchmark) -> Any:
    """Open a session in this process, the only rank."""
    from benchmarks.training.process import join_process_group, prepare_process
    from benchmarks.training.session import Session

    prepare_process(threads=4)
    join_process_group()
    return Session(benchmark)


def open_bloom(node: CheckedNode, stage: int = 2, **finetune: Any) -> Any:
    """Open a session of BLOOM-560M on questions of SQuAD's lengths; keyword arguments replace fields of `finetune`."""
    from benchmarks.training.model.models import load_tokenizer

    folder = bloom_folder(node)
    questions = node.folder / "squad-like.jsonl"
    data.write(questions, load_tokenizer(str(folder)))
    settings = {"model": str(folder), "max_answer_tokens": 32, "eval_batch_size": 16, **finetune}
    benchmark = nano(stage, str(settings.pop("precision", node.precision)), unit_samples=1 << 16, **settings)
    return open_session(data.with_squad_lengths(benchmark, questions))


def bloom_folder(node: CheckedNode) -> Path:
    """Return the folder of a BLOOM with random weights and nano's tokenizer; made at the first call."""
    return _made(node, "bloom-560m" if node.on_gpu else "bloom-small", SHAPE if node.on_gpu else SMALL_SHAPE)


def narrow_folder(node: CheckedNode) -> Path:
    """Return the folder of a BLOOM that is as deep as BLOOM-560M, and narrow; made at the first call."""
    return _made(node, "bloom-narrow", NARROW_SHAPE)


def _made(node: CheckedNode, name: str, shape: tuple[int, int, int, int]) -> Path:
    folder = node.folder / name
    if (folder / "tokenizer.json").exists():  # written last
        return folder
    import torch
    from transformers import BloomConfig, BloomForCausalLM

    from benchmarks.training.model.models import load_tokenizer

    hidden, layers, heads, vocabulary = shape
    tokenizer = load_tokenizer(spec.load("nano").training_settings().model)
    torch.manual_seed(0)
    with torch.device("cuda" if node.on_gpu else "cpu"):
        config = BloomConfig(
            vocab_size=vocabulary,
            hidden_size=hidden,
            n_layer=layers,
            n_head=heads,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
        BloomForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def wait() -> None:
    """Wait for the GPU, if there is one."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def seconds_of(work: Callable[..., object], *arguments: Any) -> float:
    """Return the wall seconds of some work on the device."""
    wait()
    began = REAL.now()
    work(*arguments)
    wait()
    return REAL.now() - began


def samples_per_second(session: Any, steps: int) -> float:
    """Measure the training's speed, after as many steps as warm it up."""
    train(session, steps)
    samples = steps * session.trial.hyperparameters.batch_size_per_device
    return float(samples / seconds_of(train, session, steps))


def train(session: Any, steps: int) -> list[float]:
    """Train some steps; return their losses."""
    return [float(loss) for loss in [session.trial.train_step() for _ in range(steps)]]


def allocated_mb() -> float:
    """Return the memory of torch's tensors on the GPU, MiB; 0 without one."""
    import torch

    return torch.cuda.memory_allocated() / 2**20 if torch.cuda.is_available() else 0.0


def peak_mb() -> float:
    """Return the peak of the same, MiB."""
    import torch

    return torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else 0.0
