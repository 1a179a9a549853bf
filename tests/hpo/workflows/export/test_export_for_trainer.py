"""Exported files as Hugging Face Trainer takes them, and its equality with a trial."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from peft import LoraConfig
from transformers import TrainingArguments

from benchmarks.space import Config
from benchmarks.spec import Benchmark
from benchmarks.steps import total_steps
from hpo.core.results import PRECISION
from hpo.core.study import Study
from hpo.workflows import export
from tests.hpo.told import Told
from tests.hpo.workflows.export.exports import GOOD, card_of, named, read, scores, store_study
from tests.stores import working_in

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[3]
Maker = Callable[..., Benchmark]


@pytest.fixture(scope="module", autouse=True)
def _store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One store for all tests, since making its tables takes seconds; each test has an experiment of its own."""
    folder = tmp_path_factory.mktemp("export")
    with working_in(folder):
        yield


class TestTrainer:
    """The files as Hugging Face takes them."""

    @pytest.fixture
    def nano(self, small_nano: Maker, request: pytest.FixtureRequest) -> Benchmark:
        return named(small_nano(unit_samples=64, max_units=2, stage=2), request)

    def test_arguments_mean_what_the_trial_did(
        self, nano: Benchmark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        config = {"learning_rate": 1e-3, "batch_size_per_device": 16, "lr_scheduler": "constant", "warmup_ratio": 0.3}
        store_study(nano, "asha", seed=5, config=config)
        export.export(nano.name, "asha", tmp_path)
        content = read(tmp_path, "training_arguments.json")
        assert content.pop("deepspeed") == "deepspeed.json"  # it would set Trainer's global state in this process
        arguments = TrainingArguments(**content)
        assert (arguments.max_steps, arguments.warmup_steps, arguments.seed) == (8, 3, 5)
        assert arguments.lr_scheduler_type == "constant_with_warmup"
        assert (arguments.bf16, arguments.fp16, arguments.use_cpu) == (False, False, True)

    @pytest.mark.parametrize(
        ("accelerator", "precision"),
        [("cpu", "fp32"), ("NVIDIA H100 80GB", "bf16"), ("Tesla V100S-PCIE-32GB", "fp16"), ("Quadro GV100", "fp16"),
         ("NVIDIA GeForce MX450", "fp16"), ("NVIDIA A100", "fp16"), ("NVIDIA CMP 170HX", "bf16"), ("", "fp16")],
    )  # fmt: skip
    def test_the_precision_is_the_one_that_the_ranks_reported_whatever_the_gpu_is_called(
        self, accelerator: str, precision: str, nano: Benchmark, tmp_path: Path
    ) -> None:
        store_study(nano, "asha", accelerator=accelerator, precision=precision)
        exported = export.export(nano.name, "asha", tmp_path)
        content = read(tmp_path, "training_arguments.json")
        assert [name for name in ("bf16", "fp16") if content[name]] == [precision] * (precision != "fp32")
        assert content.get("use_cpu", False) == (accelerator == "cpu")
        assert f"The precision is {precision}, as it was on" in card_of(exported)
        assert exported.is_complete

    @pytest.mark.parametrize(
        ("wanted", "accelerator", "known"),
        [("auto", "Tesla V100S-PCIE-32GB", ""), ("auto", "NVIDIA H100", ""), ("auto", "cpu", "fp32"),
         ("bf16", "NVIDIA H100", "bf16"), ("fp16", "Tesla V100", "fp16")],
    )  # fmt: skip
    def test_a_study_that_was_stored_before_ranks_reported_a_precision_is_not_guessed_at(
        self, wanted: str, accelerator: str, known: str, nano: Benchmark, tmp_path: Path
    ) -> None:
        assert nano.finetune is not None
        finetune = nano.finetune.model_copy(update={"precision": wanted})
        nano = nano.model_copy(update={"finetune": finetune})
        store_study(nano, "asha", accelerator=accelerator)
        exported = export.export(nano.name, "asha", tmp_path)
        content = read(tmp_path, "training_arguments.json")
        assert {name: content[name] for name in ("bf16", "fp16") if name in content} == (
            {"bf16": known == "bf16", "fp16": known == "fp16"} if known else {}
        )
        assert ("**The precision is not known**" in card_of(exported)) == (not known)
        assert exported.is_complete == bool(known)

    def test_a_study_whose_trials_differ_in_precision_names_both(self, nano: Benchmark) -> None:
        told = Told(Study("asha", nano, budget=3))
        for number, precision in enumerate(("fp16", "bf16", "fp16")):
            told.begin(str(number), GOOD)
            told.report(str(number), {"units": 1, **scores(0.5), PRECISION: precision})
        assert told.books.precision == "bf16 and fp16"

    def test_batches_of_similar_lengths_are_asked_of_trainer_too(self, small_nano: Maker) -> None:
        grouped, plain = (
            export.training_arguments(small_nano(length_grouped=wanted), GOOD, 0, "cpu", "fp32")
            for wanted in (True, False)
        )
        assert TrainingArguments(**{**grouped, "deepspeed": None}).train_sampling_strategy == "group_by_length"
        assert "train_sampling_strategy" not in plain

    def test_deepspeed_gets_every_value_that_a_trial_fills_in(self, small_nano: Maker) -> None:
        """Trainer fills "auto" only where the key exists."""
        benchmark = small_nano()
        assert benchmark.finetune is not None
        bare = benchmark.finetune.model_copy(update={"deepspeed": {"zero_optimization": {"stage": 1}}})
        assert export.deepspeed_config(bare) == {
            "zero_optimization": {"stage": 1},
            "train_micro_batch_size_per_gpu": "auto",
            "gradient_accumulation_steps": "auto",
            "gradient_clipping": "auto",
            "bf16": {"enabled": "auto"},
            "fp16": {"enabled": "auto"},
        }
        assert bare.deepspeed == {"zero_optimization": {"stage": 1}}

    def test_lora_and_checkpointing_are_exported(self, nano: Benchmark, tmp_path: Path) -> None:
        config: Config = {"lora_rank": 8, "lora_alpha": 32.0, "lora_dropout": 0.1, "gradient_checkpointing": True}
        store_study(nano, "asha", seed=5, config={**GOOD, **config})
        export.export(nano.name, "asha", tmp_path)
        found = LoraConfig(**read(tmp_path, "lora.json"))
        assert (found.r, found.lora_alpha, found.lora_dropout, found.task_type) == (8, 32.0, 0.1, "CAUSAL_LM")
        card = (tmp_path / "MODEL_CARD.md").read_text()
        assert "`transformers.set_seed(arguments.seed)` and then `peft.get_peft_model(model, LoraConfig(**" in card
        content = read(tmp_path, "training_arguments.json")
        content.pop("deepspeed")
        assert TrainingArguments(**content).gradient_checkpointing
        store_study(nano, "random", seed=5, config=GOOD)
        export.export(nano.name, "random", tmp_path)
        assert not (tmp_path / "lora.json").exists()

    @pytest.mark.slow
    @pytest.mark.usefixtures("process_group")
    @pytest.mark.parametrize(
        "updates",
        [{}, pytest.param({"lora_rank": 4, "lora_alpha": 16.0}, marks=pytest.mark.thorough)],
        ids=["all-weights", "lora"],
    )
    def test_a_plain_trainer_script_repeats_the_training_step_for_step(
        self, updates: Config, nano: Benchmark, tmp_path: Path
    ) -> None:
        from benchmarks.training.session import Session

        config: Config = {"learning_rate": 1.5e-3, "batch_size_per_device": 4, "gradient_accumulation_steps": 2}
        config |= {"weight_decay": 0.1, "warmup_ratio": 0.2, "lr_scheduler": "cosine", "adam_beta2": 0.95}
        config |= {"max_grad_norm": 0.2, **updates}  # the norm is below those that occur
        store_study(nano, "asha", seed=3, config=config)
        export.export(nano.name, "asha", tmp_path)
        assert nano.finetune is not None
        train, lengths = nano.finetune.data.train, (nano.finetune.max_length, nano.finetune.max_answer_tokens)
        micro_losses = run_trainer(tmp_path, nano.finetune.model, train.file, train.limit, *lengths)
        session = Session(nano)
        session.start(read(tmp_path, "best_config.json")["config"], seed=3)
        ours = [float(session.trial.train_step()) for _ in range(total_steps(nano, nano.hyperparameters(config)))]
        session.close()
        theirs = [sum(micro_losses[i : i + 2]) for i in range(0, len(micro_losses), 2)]
        assert len(theirs) == 16
        assert ours == pytest.approx(theirs, abs=1e-4)


def run_trainer(folder: Path, *arguments: object) -> Any:
    """Run the Trainer script in an export's folder; its last line of output as JSON."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "TOKENIZERS_PARALLELISM": "false"}
    command = [sys.executable, str(HERE / "plain_trainer.py"), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.strip().splitlines()[-1])
