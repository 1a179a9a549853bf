"""One side of a comparison, in a process of its own: `python -m benchmarks.measure.speed.side SETTINGS`.

It prepares, and then does a block of work for every line it reads, and answers each with a line of JSON: the seconds
that the block took, and the mean training loss where it trained. A side that waits uses no processor: two of them take
turns within a second, and other work of the machine slows both alike. The first block warms up.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, TextIO

from pydantic import BaseModel, ConfigDict

from benchmarks import spec
from benchmarks.check.device import settle_here
from benchmarks.clock import REAL
from benchmarks.measure.speed import data
from benchmarks.space import Config
from benchmarks.spec import Benchmark
from benchmarks.training.engine import choose_precision
from benchmarks.training.model.models import load_model, load_tokenizer
from benchmarks.training.process import join_process_group, prepare_process
from benchmarks.training.session import Session

STEPS = 16
"""Optimizer steps of a block."""
QUESTIONS = 48
CONFIG: Config = {"lr_scheduler": "constant"}
SEED = 0


class Side(BaseModel):
    """The settings of a side.

    Attributes:
        benchmark: name or file; its default configuration trains.
        work: our loop's training, Trainer's, our evaluation, or our generation of `QUESTIONS` answers.
        squad_lengths: train on lengths as SQuAD has them, see `data`, in place of the benchmark's.
        batch: batch size, of training or of generation; 0 for the default.
        threads: CPU threads.
        spins: looks of a thread for the others before it sleeps; None for none, see `process.prepare_process`.
        keep_freed_memory: see `process.prepare_process`.
        pad_to_max: see `spec.FineTune`, as are the next two.
        length_grouped: neighbours of similar length.
        precision: the arithmetic; by default bf16 on a GPU that has it, and the benchmark's own elsewhere.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    benchmark: str = "nano"
    work: Literal["train", "trainer", "evaluate", "generate"] = "train"
    squad_lengths: bool = False
    batch: int = 0
    threads: int = 1
    spins: int | None = None
    keep_freed_memory: bool = True
    pad_to_max: bool = False
    length_grouped: bool = False
    precision: str = ""


Answer = dict[str, float]
Block = Callable[[], Answer]


def main() -> None:
    """Prepare, then answer every line."""
    answers = _own_output()
    side = Side.model_validate_json(sys.argv[1])
    if side.spins is not None:
        os.environ["GOMP_SPINCOUNT"] = str(side.spins)  # goes before OMP_WAIT_POLICY
    prepare_process(side.threads, keep_freed_memory=side.keep_freed_memory)
    join_process_group()
    with tempfile.TemporaryDirectory() as folder:
        benchmark = _benchmark(side, Path(folder))
        if side.work == "trainer":
            _train_with_trainer(benchmark, side, Path(folder), answers)
        else:
            block = _block(benchmark, side)
            for _ in _asked():
                _answer(answers, block())


def _own_output() -> TextIO:
    """Keep standard output for answers; output of libraries goes to standard error."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return answers


def _asked() -> Iterator[str]:
    return iter(sys.stdin.readline, "")


def _answer(answers: TextIO, found: Answer) -> None:
    print(json.dumps(found), file=answers, flush=True)


def _benchmark(side: Side, folder: Path) -> Benchmark:
    """Return the benchmark as this side trains it."""
    benchmark = spec.load(side.benchmark)
    if side.squad_lengths:
        path = folder / "squad-like.jsonl"
        data.write(path, load_tokenizer(benchmark.training_settings().model))
        benchmark = data.with_squad_lengths(benchmark, path)
    settings = benchmark.training_settings()
    precision = side.precision or choose_precision("auto" if _on_gpu() else settings.precision)
    changes = {"pad_to_max": side.pad_to_max, "length_grouped": side.length_grouped, "precision": precision}
    return benchmark.model_copy(update={"finetune": settings.model_copy(update=changes)})


def _config(side: Side) -> Config:
    return CONFIG | ({"batch_size_per_device": side.batch} if side.batch and side.work != "generate" else {})


def _on_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _now() -> float:
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return REAL.now()


# ---- ours


def _block(benchmark: Benchmark, side: Side) -> Block:
    """Make the function that does a block in our session."""
    session = Session(settle_here(benchmark))
    session.start(_config(side), SEED)
    work = {"train": _train, "evaluate": _evaluate, "generate": _generate}[side.work]

    def block() -> Answer:
        began = _now()
        found = work(session, side)
        return {"seconds": _now() - began, **found}

    return block


def _train(session: Session, side: Side) -> Answer:
    import torch

    return {"loss": float(torch.stack([session.trial.train_step() for _ in range(STEPS)]).mean())}


def _evaluate(session: Session, side: Side) -> Answer:
    session.evaluate()
    return {}


def _generate(session: Session, side: Side) -> Answer:
    examples, size = session.examples["validation"][:QUESTIONS], side.batch or QUESTIONS
    for i in range(0, len(examples), size):
        session.predict(examples[i : i + size])
    return {}


# ---- Hugging Face Trainer


def _train_with_trainer(benchmark: Benchmark, side: Side, folder: Path, answers: TextIO) -> None:
    """Train the same model, examples, order and DeepSpeed configuration in Trainer, which waits between blocks.

    Batches are made by the plain function that the DeepSpeed study has, which is faster than a tokenizer's padding.
    """
    from transformers import Trainer, TrainingArguments

    from benchmarks.zero.trainer import collate

    settings, hp = benchmark.training_settings(), benchmark.hyperparameters(_config(side))
    tokenizer = load_tokenizer(settings.model)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}  # read, but never used: there is one rank
    arguments = TrainingArguments(
        output_dir=str(folder / "trainer"),
        use_cpu=not _on_gpu(),
        deepspeed=settings.deepspeed,
        bf16=settings.precision == "bf16",
        fp16=settings.precision == "fp16",
        seed=SEED,
        max_steps=10**6,  # ended by the end of its input
        learning_rate=hp.learning_rate,
        lr_scheduler_type=hp.lr_scheduler,
        per_device_train_batch_size=hp.batch_size_per_device,
        gradient_accumulation_steps=hp.gradient_accumulation_steps,
        weight_decay=hp.weight_decay,
        max_grad_norm=hp.max_grad_norm,
        logging_steps=STEPS,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
    )
    task = benchmark.task
    records = task.read(settings.data.train)
    examples = task.tokenize(records, tokenizer, settings.max_length, settings.max_answer_tokens, training=True)
    trainer = Trainer(
        load_model(settings.model, settings.allow_new_weights, SEED),
        arguments,
        train_dataset=[{"example": example} for example in examples],
        data_collator=lambda rows: collate([row["example"] for row in rows], tokenizer.pad_token_id),
        callbacks=[_make_turnstile(answers)],
    )
    trainer.train()


def _make_turnstile(answers: TextIO) -> Any:
    """Make a callback that lets Trainer pass a block of steps for each line of input."""
    from transformers import TrainerCallback

    asked = _asked()

    class Turnstile(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self._wait(control)

        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **_: Any) -> None:
            if "loss" in logs:
                _answer(answers, {"seconds": _now() - self._began, "loss": logs["loss"]})
                self._wait(control)

        def _wait(self, control: Any) -> None:
            control.should_training_stop = next(asked, None) is None
            self._began = _now()

    return Turnstile()


if __name__ == "__main__":
    main()
