"""Export of the best configuration as files that other programs load, with a model card.

`training_arguments.json` and `deepspeed.json` load as they are, from the folder they lie in::

    TrainingArguments(**json.load(open("training_arguments.json")))

and a Trainer with them repeats the training step for step, as long as no hyperparameter changed on the way. After LoRA,
`lora.json` holds the arguments of `peft.LoraConfig`. Trainer cannot follow a schedule (of PBT or PB2);
`schedule.json` has it, and `hpo.workflows.train` follows it. `hpo.analysis.choice` has the rules of the choice. Reads
MLflow; imports neither Ray nor torch nor transformers.
"""

from __future__ import annotations

import copy
import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.out_of_memory import in_micro_batches
from benchmarks.space import Config
from benchmarks.spec import Benchmark, FineTune
from benchmarks.steps import total_steps, warmup_steps
from benchmarks.training.model import lora
from hpo.analysis import records
from hpo.analysis.choice import ExportChoice, choose, is_confirmed
from hpo.analysis.records import Records
from hpo.report.model_card import (
    ARGUMENTS_FILE,
    CARD_FILE,
    CONFIG_FILE,
    DEEPSPEED_FILE,
    FILES,
    LORA_FILE,
    SCHEDULE_FILE,
    model_card,
)
from hpo.terminal import files as output

LENGTH_GROUPED = {"train_sampling_strategy": "group_by_length"}
CHECKPOINTING = {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": False}}
TRAINER_OUTPUT = "trainer_output"
TRAINER_EVAL_BATCH_SIZE = 8
"""Trainer's default, for a benchmark that leaves the size to what fits a GPU."""
LR_SCHEDULERS = {"linear": "linear", "cosine": "cosine", "constant": "constant_with_warmup"}
"""Trainer's names; its "constant" has no warm-up."""


@dataclass(frozen=True)
class Exported:
    """An export that has been written.

    Attributes:
        folder: the folder of the files.
        files: their names, in order of writing.
        choice: the configuration that they describe, with its method and study.
        is_confirmed: whether the method's studies are all confirmed.
        is_complete: whether Trainer needs nothing beside the files: the precision of an old study may be unknown.
    """

    folder: Path
    files: tuple[str, ...]
    choice: ExportChoice
    is_confirmed: bool
    is_complete: bool


def export(benchmark: str, method: str, folder: Path, given: str = "", budget: int | None = None) -> Exported:
    """Write the best configuration of a benchmark into a folder.

    Args:
        benchmark: its name.
        method: see `hpo.analysis.choice.choose`.
        folder: made if need be; files of an earlier export are replaced, others stay.
        given: see `hpo.analysis.records.read`.
        budget: see `hpo.analysis.choice.choose`.

    Raises:
        BenchmarkError: nothing is stored, nothing is confirmed, no such method, or the folder cannot be written.
    """
    stored = records.read(benchmark, given)
    choice = choose(stored, method, budget)
    texts = render(stored, choice)
    if (folder / CONFIG_FILE).is_file():  # a schedule of an earlier export must not stand beside this one's files
        for name in set(FILES) - set(texts):
            with suppress(OSError):
                (folder / name).unlink()
    output.write(folder, texts)
    is_complete = ARGUMENTS_FILE not in texts or bool(choice.precision(stored.benchmark))
    return Exported(folder, tuple(texts), choice, is_confirmed(choice.contestant, stored.benchmark), is_complete)


# ---- the files


def render(stored: Records, choice: ExportChoice) -> dict[str, str]:
    """Write the files' texts, by name."""
    benchmark, best = stored.benchmark, choice.best
    contents: dict[str, Any] = {CONFIG_FILE: best}
    if benchmark.trial.trains_model:
        accelerator = choice.study.tags.get("hpo.accelerator", "")
        precision = choice.precision(benchmark)
        config = in_micro_batches(benchmark, best["config"], best.get("micro_batch"))
        contents[ARGUMENTS_FILE] = training_arguments(benchmark, config, best["seed"], accelerator, precision)
        contents[DEEPSPEED_FILE] = deepspeed_config(benchmark.training_settings())
        if (hp := benchmark.hyperparameters(best["config"])).lora_rank:
            contents[LORA_FILE] = lora.settings(hp)
    if "schedule" in best:
        contents[SCHEDULE_FILE] = best["schedule"]
    texts = {name: json.dumps(content, indent=2) + "\n" for name, content in contents.items()}
    return {**texts, CARD_FILE: model_card(stored, choice, tuple(texts))}


def training_arguments(
    benchmark: Benchmark, config: Config, seed: int, accelerator: str, precision: str
) -> dict[str, Any]:
    """Make keyword arguments for `transformers.TrainingArguments` that train as a trial of the benchmark does.

    Args:
        benchmark: one with a `finetune` block.
        config: hyperparameters over the benchmark's default.
        seed: drives data order and dropout.
        accelerator: the device that the trial ran on, "cpu" or a GPU's name.
        precision: of the trial, "fp32", "bf16" or "fp16"; empty if it is not known, which leaves the choice open.
    """
    settings = benchmark.training_settings()
    hp = benchmark.hyperparameters(config)
    steps = total_steps(benchmark, hp)
    eval_size = settings.eval_batch_size
    return {
        "output_dir": TRAINER_OUTPUT,
        "deepspeed": DEEPSPEED_FILE,
        "max_steps": steps,
        "per_device_train_batch_size": hp.batch_size_per_device,
        "gradient_accumulation_steps": hp.gradient_accumulation_steps,
        "learning_rate": hp.learning_rate,
        "lr_scheduler_type": LR_SCHEDULERS[hp.lr_scheduler],
        "warmup_steps": warmup_steps(steps, hp),
        "optim": "adamw_torch_fused",
        "weight_decay": hp.weight_decay,
        "adam_beta1": hp.adam_beta1,
        "adam_beta2": hp.adam_beta2,
        "adam_epsilon": hp.adam_epsilon,
        "max_grad_norm": hp.max_grad_norm,
        "average_tokens_across_devices": True,
        **(CHECKPOINTING if hp.gradient_checkpointing else {}),
        **(LENGTH_GROUPED if settings.length_grouped else {}),
        **({name: precision == name for name in ("bf16", "fp16")} if precision else {}),
        "seed": seed,
        "per_device_eval_batch_size": TRAINER_EVAL_BATCH_SIZE if eval_size == "auto" else eval_size,
        **({"use_cpu": True} if accelerator == "cpu" else {}),
    }


def deepspeed_config(finetune: FineTune) -> dict[str, Any]:
    """Return the benchmark's DeepSpeed configuration, with "auto" also for the keys that a trial fills in.

    Trainer fills "auto" from its arguments and the model, but only where the key exists.
    """
    block = copy.deepcopy(finetune.deepspeed)
    for key in ("train_micro_batch_size_per_gpu", "gradient_accumulation_steps", "gradient_clipping"):
        block.setdefault(key, "auto")
    for name in ("bf16", "fp16"):
        block.setdefault(name, {}).setdefault("enabled", "auto")
    return block
