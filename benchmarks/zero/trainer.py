"""A plain Hugging Face Trainer script. DeepSpeed comes in by one argument, `--deepspeed`, and goes without it.

    torchrun --nproc-per-node 1 -m benchmarks.zero.trainer --benchmark nano --output_dir out [--deepspeed stage2.json]

Takes every argument of `TrainingArguments` besides its own. Rank r writes its measurements, `rank-<r>.json`
and `memory-<r>.csv`, into the output folder. Times cover optimizer steps alone, without evaluation and start.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import spec
from benchmarks.clock import REAL
from benchmarks.devices.torch_device import require_gpu
from benchmarks.devices.visible import VISIBLE
from benchmarks.parent import end_with_parent
from benchmarks.spec import BenchmarkError
from benchmarks.tasks.task import IGNORED_LABEL, Example
from benchmarks.training import memory
from benchmarks.training.model.models import load_model, load_tokenizer
from benchmarks.training.process import import_deepspeed, prepare_process

if TYPE_CHECKING:
    import torch


@dataclass
class RankTask:
    """The benchmark and examples of a training.

    Attributes:
        benchmark: its model, data and lengths are used.
        examples: training examples.
        eval_examples: validation examples; as many as there are where there are fewer.
    """

    benchmark: str = field(default="nano")
    examples: int = field(default=500)
    eval_examples: int = field(default=100)


@dataclass(frozen=True)
class RankFigures:
    """Measurements of one rank.

    Attributes:
        train_losses: mean training loss of every epoch.
        eval_losses: after every epoch.
        train_samples_per_second: of all ranks together, as are the next two.
        train_tokens_per_second: padding not counted.
        eval_samples_per_second: in the last evaluation.
        train_seconds: in optimizer steps.
        train_examples: of an epoch.
        eval_examples: of an evaluation.
        parameters: of the whole model.
        torch_peak_mb: the CUDA allocator's peak; None without a GPU.
        host_peak_mb: resident memory since the data were ready, as the kernel counts its peak.
        memory: samples in short, `benchmarks.training.memory.Summary`: peaks since before the model was loaded,
            means and least of the training.
        fault: why the file of samples is not whole; empty if it is.
    """

    train_losses: list[float]
    eval_losses: list[float]
    train_samples_per_second: float
    train_tokens_per_second: float
    eval_samples_per_second: float
    steps_per_epoch: int
    train_seconds: float
    train_examples: int
    eval_examples: int
    parameters: int
    torch_peak_mb: float | None
    host_peak_mb: float
    memory: dict[str, Any]
    fault: str


def main() -> None:
    """Train, evaluate after every epoch, write the measurements."""
    end_with_parent()
    if os.environ.get("DS_ACCELERATOR") == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # DeepSpeed's launcher shows GPUs that were hidden
    prepare_process(threads=int(os.environ.get("OMP_NUM_THREADS", "1")), keep_freed_memory=False)
    if os.environ.get(VISIBLE):
        require_gpu(int(os.environ.get("LOCAL_RANK", "0")))  # Trainer would take the CPU
    from transformers import HfArgumentParser, TrainingArguments

    words = [*sys.argv[1:], *_for_the_device(with_deepspeed="--deepspeed" in sys.argv)]
    task, arguments = HfArgumentParser((RankTask, TrainingArguments)).parse_args_into_dataclasses(words)
    folder = Path(arguments.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    measured = train(task, arguments, folder)
    (folder / f"rank-{arguments.process_index}.json").write_text(json.dumps(asdict(measured), indent=1))


def _for_the_device(with_deepspeed: bool) -> list[str]:
    """Return arguments without which accelerate would take each rank for the only one if there is no GPU."""
    import torch
    from accelerate import PartialState

    if with_deepspeed:
        import_deepspeed()
    if torch.cuda.is_available():
        return []
    if not with_deepspeed:
        return ["--use_cpu", "True"]
    os.environ |= {"ACCELERATE_TORCH_DEVICE": "cpu", "ACCELERATE_USE_DEEPSPEED": "true"}
    PartialState(backend="gloo")
    return ["--accelerator_config", '{"use_configured_state": true}']


def train(task: RankTask, arguments: Any, folder: Path) -> RankFigures:
    """Train as `arguments` say; every rank calls it.

    Raises:
        BenchmarkError: the benchmark has fewer data than the task asks for.
    """
    import torch
    from transformers import Trainer

    settings, tokenizer, training, validation = _prepare(task)
    memory.reset_peak(torch.device("cpu"))  # reading the data is not measured
    with memory.Sampler(folder / f"memory-{arguments.process_index}.csv", arguments.device) as sampler:
        clock = _make_clock(sampler)
        trainer = Trainer(
            load_model(settings.model, settings.allow_new_weights, arguments.seed),
            arguments,
            train_dataset=_rows(training),
            eval_dataset=_rows(validation),
            data_collator=lambda rows: collate([row["example"] for row in rows], tokenizer.pad_token_id),
            callbacks=[clock],
        )
        parameters = sum(getattr(p, "ds_numel", p.numel()) for p in trainer.model.parameters())
        trainer.train()
    evaluations = [line for line in trainer.state.log_history if "eval_loss" in line]
    on_gpu = arguments.device.type == "cuda"
    tokens = sum(e.length for e in training)
    return RankFigures(
        train_losses=[line["loss"] for line in trainer.state.log_history if "loss" in line],
        eval_losses=[line["eval_loss"] for line in evaluations],
        train_samples_per_second=len(training) * arguments.num_train_epochs / clock.seconds,
        train_tokens_per_second=tokens * arguments.num_train_epochs / clock.seconds,
        eval_samples_per_second=evaluations[-1]["eval_samples_per_second"],
        steps_per_epoch=round(trainer.state.global_step / arguments.num_train_epochs),
        train_seconds=clock.seconds,
        train_examples=len(training),
        eval_examples=len(validation),
        parameters=parameters,
        torch_peak_mb=memory.peak_mb(arguments.device) if on_gpu else None,
        host_peak_mb=memory.host_peak_mb(),
        memory=asdict(sampler.summary(since=clock.began)),
        fault=sampler.fault,
    )


def _prepare(task: RankTask) -> tuple[spec.FineTune, Any, list[Example], list[Example]]:
    """Return settings, tokenizer, and the examples of both splits."""
    benchmark = spec.load(task.benchmark)
    settings = benchmark.training_settings()
    tokenizer = load_tokenizer(settings.model)

    def examples(split: spec.Split, limit: int) -> list[Example]:
        records = benchmark.task.read(split)[:limit]
        return benchmark.task.tokenize(
            records, tokenizer, settings.max_length, settings.max_answer_tokens, training=True
        )

    training = examples(settings.data.train, task.examples)
    if len(training) < task.examples:
        raise BenchmarkError(
            f"{task.examples} training examples are asked for, and {benchmark.name} has {len(training)}; lower examples"
        )
    return settings, tokenizer, training, examples(settings.data.validation, task.eval_examples)


def _rows(examples: list[Example]) -> list[dict[str, Example]]:
    return [{"example": example} for example in examples]


def collate(examples: list[Example], padding: int) -> dict[str, torch.Tensor]:
    """Pad on the right, with labels -100 on prompt and padding, all `(batch, seq_len)`."""
    import torch

    width = max(e.length for e in examples)
    ids, mask, labels = [], [], []
    for e in examples:
        gap = width - e.length
        ids.append([*e.prompt, *e.target, *[padding] * gap])
        mask.append([1] * e.length + [0] * gap)
        labels.append([IGNORED_LABEL] * len(e.prompt) + e.target + [IGNORED_LABEL] * gap)
    return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask), "labels": torch.tensor(labels)}


def _make_clock(sampler: memory.Sampler) -> Any:
    """Make a callback that notes when training began, and adds up the epochs, which end before they are evaluated."""
    import torch
    from transformers import TrainerCallback

    def now() -> float:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return REAL.now()

    class Clock(TrainerCallback):
        seconds = began = 0.0

        def on_train_begin(self, *_: Any, **__: Any) -> None:
            self.began = sampler.now

        def on_epoch_begin(self, *_: Any, **__: Any) -> None:
            self._epoch = now()

        def on_epoch_end(self, *_: Any, **__: Any) -> None:
            self.seconds += now() - self._epoch

    return Clock()


if __name__ == "__main__":
    main()
