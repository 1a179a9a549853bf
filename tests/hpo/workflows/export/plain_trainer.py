"""A user's script for an export: Hugging Face Trainer with the exported files as they are, on CPU.

Usage, in the export's folder: python plain_trainer.py MODEL TRAIN_FILE LIMIT MAX_LENGTH MAX_ANSWER_TOKENS; prints the
loss of every forward pass as a JSON list. A script of its own, because DeepSpeed and Trainer keep global state.
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
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments, set_seed

from benchmarks import spec
from benchmarks.tasks import question_answering as squad
from benchmarks.zero.trainer import collate


class RecordingTrainer(Trainer):
    """Keeps the loss of every forward pass as the training loop gets it, unrounded."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.losses: list[float] = []

    def training_step(self, *arguments: Any, **keywords: Any) -> torch.Tensor:
        loss = super().training_step(*arguments, **keywords)
        self.losses.append(float(loss))
        return loss


def main() -> None:
    model_name, train_file, limit, max_length, max_answer_tokens = sys.argv[1:]
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False  # it would be compiled on first use
    torch.set_num_threads(1)
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    arguments = TrainingArguments(**json.loads(Path("training_arguments.json").read_text()))
    arguments.remove_unused_columns = False  # of this script's own data set
    tokenizer = AutoTokenizer.from_pretrained(model_name)
    model = AutoModelForCausalLM.from_pretrained(model_name, dtype=torch.float32)
    if (lora := Path("lora.json")).is_file():
        set_seed(arguments.seed)
        model = get_peft_model(model, LoraConfig(**json.loads(lora.read_text())))
    records = squad.read_split(spec.Split(file=Path(train_file), limit=int(limit)))
    examples = squad.tokenize(records, tokenizer, int(max_length), int(max_answer_tokens), training=True)
    rows = [{"e": example} for example in examples]
    trainer = RecordingTrainer(
        model,
        arguments,
        train_dataset=rows,
        data_collator=lambda batch: collate([row["e"] for row in batch], tokenizer.pad_token_id),
    )
    trainer.train()
    print(json.dumps(trainer.losses))


if __name__ == "__main__":
    main()
