"""A user's own script: a plain Hugging Face Trainer with a DeepSpeed configuration, on CPU.

Usage: python trainer_reference.py SETTINGS.json; prints the loss of every step as a JSON list. A script of its
own, because DeepSpeed and Trainer keep global state.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ.update(
    DS_ACCELERATOR="cpu", RANK="0", WORLD_SIZE="1", LOCAL_RANK="0", MASTER_ADDR="127.0.0.1", MASTER_PORT="0"
)
os.environ["OMP_NUM_THREADS"] = "1"

import deepspeed
import torch
from deepspeed.accelerator.cpu_accelerator import CPU_Accelerator
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments

from benchmarks import spec
from benchmarks.tasks import question_answering as squad
from benchmarks.zero.trainer import collate


class RecordingTrainer(Trainer):
    """Keeps every step's loss as the training loop gets it, unrounded."""

    losses: list[float]

    def training_step(self, *arguments: Any, **keywords: Any) -> torch.Tensor:
        loss = super().training_step(*arguments, **keywords)
        self.losses.append(float(loss))
        return loss


def main() -> None:
    settings = json.loads(Path(sys.argv[1]).read_text())
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    CPU_Accelerator.is_fp16_supported = lambda self: True  # as DeepSpeed says of some processors alone
    torch.set_num_threads(1)
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    arguments = TrainingArguments(
        output_dir=settings["output"],
        use_cpu=True,
        deepspeed=settings["deepspeed"],
        seed=settings["seed"],
        max_steps=settings["total_steps"],
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        **settings["arguments"],
    )
    tokenizer = AutoTokenizer.from_pretrained(settings["model"])
    model = AutoModelForCausalLM.from_pretrained(settings["model"], dtype=torch.float32)
    records = squad.read_split(spec.Split(file=settings["file"], limit=settings["limit"]))
    examples = squad.tokenize(records, tokenizer, settings["max_length"], settings["max_answer_tokens"], training=True)
    trainer = RecordingTrainer(
        model,
        arguments,
        train_dataset=[{"e": e} for e in examples],
        data_collator=lambda rows: collate([row["e"] for row in rows], tokenizer.pad_token_id),
    )
    trainer.args.remove_unused_columns = False
    trainer.losses = []
    trainer.train()
    print(json.dumps(trainer.losses))


if __name__ == "__main__":
    main()
