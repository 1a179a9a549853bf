"""What won, exported from a real store: the choice, the files, and Trainer's equality with them."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from peft import LoraConfig
from transformers import TrainingArguments

from benchmarks import spec
from benchmarks.space import Config
from benchmarks.spec import Benchmark, BenchmarkError
from benchmarks.steps import total_steps
from hpo.core.ledger import Ledger
from hpo.core.results import PRECISION, Results
from hpo.core.study import CONFIRMS, SCHEDULE, TRAINING_SEED, Schedule, Study, default_schedule, fresh_seeds
from hpo.report.model_card import CARD_FILE, escape
from hpo.store.tracker import Tracker
from hpo.workflows import export
from tests.stores import working_in

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[2]
GOOD: Config = {"learning_rate": 0.0012345678901234567, "batch_size_per_device": 8, "weight_decay": 0.01}
OTHER: Config = {"learning_rate": 2e-05, "batch_size_per_device": 16, "weight_decay": 0.0}
Maker = Callable[..., Benchmark]


@pytest.fixture(scope="module", autouse=True)
def _store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One store for all tests, since making its tables takes seconds; each test has an experiment of its own."""
    folder = tmp_path_factory.mktemp("export")
    with working_in(folder):
        yield


@pytest.fixture
def benchmark(request: pytest.FixtureRequest) -> Benchmark:
    """The synthetic benchmark under the name of the test."""
    return named(spec.load("synthetic"), request)


def named(benchmark: Benchmark, request: pytest.FixtureRequest) -> Benchmark:
    name = re.sub(r"[^A-Za-z0-9_.-]", "-", request.node.name)[-99:].lstrip("-_.")
    return benchmark.model_copy(update={"name": name})


def store(
    study: Study,
    *trials: tuple[dict[str, Any], dict[str, float]],
    accelerator: str = "cpu",
    precision: str = "",
) -> None:
    """Store a finished study as the driver does: trials by proposal and metrics, NaN losses for a diverged one."""
    results, tracker = Results(study), Tracker(study, accelerator, "python -m hpo run")
    for number, (proposal, metrics) in enumerate(trials):
        name = str(number)
        tracker.start_trial(results.add(name, proposal, now=0.0))
        diverged = not math.isfinite(metrics["eval_loss"])
        result = {"units": study.max_units, "objective": metrics["eval_loss"], "diverged": diverged, **metrics}
        result[PRECISION] = precision
        tracker.report_trial(results.report(name, result, device_seconds=36.0, now=1.0))
        tracker.end_trial(results.end(name, now=1.0, budget_spent=False))
    shares = Ledger(1, 1).shares(3600.0)
    tracker.finish(results, shares, study.max_units * len(trials), 3600.0, on_gpu=False, status="FINISHED")


def scores(eval_loss: float, f1: float = 0.5, **test: float) -> dict[str, float]:
    return {"eval_loss": eval_loss, "train_loss": eval_loss, "exact_match": f1 - 0.1, "f1": f1, **test}


def store_study(
    benchmark: Benchmark,
    method: str,
    seed: int = 0,
    config: Config = GOOD,
    eval_loss: float = 0.5,
    variant: str = "",
    schedule: Schedule = (),
    **settings: Any,
) -> None:
    proposal: dict[str, Any] = {SCHEDULE: schedule} if schedule else dict(config)
    store(Study(method, benchmark, seed, budget=3, variant=variant), (proposal, scores(eval_loss)), **settings)


def confirm(benchmark: Benchmark, block: int, f1: float, schedule: Schedule = ((0, GOOD),), repeats: int = 2) -> None:
    """Store confirmations of a configuration with a block's fresh seeds; NaN F1 for those that diverge."""
    trained = scores(0.5, 0.5, test_eval_loss=0.6, test_exact_match=f1 - 0.1, test_f1=f1)
    metrics = trained if math.isfinite(f1) else scores(math.nan)
    proposals = [
        {CONFIRMS: {TRAINING_SEED: seed, SCHEDULE: [[units, config] for units, config in schedule]}}
        for seed in fresh_seeds(block, repeats)
    ]
    store(Study("confirm", benchmark, budget=repeats, kind="confirmation"), *((p, metrics) for p in proposals))


def read(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_text())


def card_of(exported: export.Exported) -> str:
    return (exported.folder / CARD_FILE).read_text()


class TestChoice:
    def test_best_is_the_highest_confirmed_test_score_not_validation(
        self, benchmark: Benchmark, tmp_path: Path
    ) -> None:
        store_study(benchmark, "asha", config=OTHER, eval_loss=0.1)
        store_study(benchmark, "random", config=GOOD, eval_loss=0.9)
        confirm(benchmark, 0, 0.6, schedule=[(0, OTHER)])
        confirm(benchmark, 0, 0.7, schedule=[(0, GOOD)])
        exported = export.export(benchmark.name, "best", tmp_path)
        assert exported.choice.contestant.name == "random"
        assert exported.is_confirmed

    def test_within_the_method_validation_chooses_never_test(self, benchmark: Benchmark, tmp_path: Path) -> None:
        store_study(benchmark, "asha", 0, GOOD, eval_loss=0.1)
        store_study(benchmark, "asha", 1, OTHER, eval_loss=0.2)
        confirm(benchmark, 0, 0.2, schedule=[(0, GOOD)])
        confirm(benchmark, 1, 0.9, schedule=[(0, OTHER)])
        exported = export.export(benchmark.name, "best", tmp_path)
        assert exported.choice.study.seed == 0
        card = card_of(exported)
        assert "| confirmed test F1 of the method | 0.5500 |" in card
        assert "| confirmed test F1 of this configuration | 0.2000 |" in card

    def test_a_diverged_confirmation_counts_as_zero(self, benchmark: Benchmark, tmp_path: Path) -> None:
        store_study(benchmark, "asha", 0, GOOD)
        store_study(benchmark, "asha", 1, GOOD)
        store_study(benchmark, "random", 0, OTHER)
        confirm(benchmark, 0, 0.9, schedule=[(0, GOOD)])
        confirm(benchmark, 1, math.nan, schedule=[(0, GOOD)])
        confirm(benchmark, 0, 0.5, schedule=[(0, OTHER)])
        assert export.export(benchmark.name, "best", tmp_path).choice.contestant.name == "random"
        assert "2 diverged" in card_of(export.export(benchmark.name, "asha", tmp_path))

    def test_a_method_with_a_study_that_is_not_confirmed_cannot_win(self, benchmark: Benchmark, tmp_path: Path) -> None:
        store_study(benchmark, "asha", 0, GOOD)
        store_study(benchmark, "asha", 1, OTHER)
        store_study(benchmark, "random", 0, {**GOOD, "weight_decay": 0.0})
        confirm(benchmark, 0, 0.9, schedule=[(0, GOOD)])
        confirm(benchmark, 0, 0.1, schedule=[(0, {**GOOD, "weight_decay": 0.0})])
        assert export.export(benchmark.name, "best", tmp_path).choice.contestant.name == "random"

    def test_best_without_a_confirmation_says_what_to_run(self, benchmark: Benchmark, tmp_path: Path) -> None:
        store_study(benchmark, "asha")
        command = re.escape(f"python -m hpo confirm --benchmark {benchmark.name}")
        with pytest.raises(BenchmarkError, match=command):
            export.export(benchmark.name, "best", tmp_path / "new")
        assert not (tmp_path / "new").exists()

    def test_a_named_method_may_be_unconfirmed_and_the_card_says_so(self, benchmark: Benchmark, tmp_path: Path) -> None:
        store_study(benchmark, "asha", variant="searcher=optuna")
        exported = export.export(benchmark.name, "asha searcher=optuna", tmp_path)
        assert not exported.is_confirmed
        assert "**Not confirmed**" in card_of(exported)

    def test_an_unknown_method_names_those_there_are(self, benchmark: Benchmark, tmp_path: Path) -> None:
        store_study(benchmark, "asha")
        store_study(benchmark, "random")
        with pytest.raises(BenchmarkError, match=r"method is 'bohb', .*: 'asha', 'random'"):
            export.export(benchmark.name, "bohb", tmp_path)

    def test_a_method_without_a_sound_trial_is_refused(self, benchmark: Benchmark, tmp_path: Path) -> None:
        store(Study("asha", benchmark, budget=3), (dict(GOOD), scores(math.nan)))
        with pytest.raises(BenchmarkError, match=r"no trial of asha on .* was sound"):
            export.export(benchmark.name, "asha", tmp_path)

    def test_a_benchmark_without_studies_is_refused(self, benchmark: Benchmark, tmp_path: Path) -> None:
        with pytest.raises(BenchmarkError, match="no finished study"):
            export.export(benchmark.name, "best", tmp_path)


class TestFiles:
    def test_the_configuration_is_as_it_was_stored(self, benchmark: Benchmark, tmp_path: Path) -> None:
        store_study(benchmark, "asha", seed=4)
        export.export(benchmark.name, "asha", tmp_path / "deep" / "folder")
        best = read(tmp_path / "deep" / "folder", "best_config.json")
        assert list(best) == ["benchmark", "method", "seed", "units", "config", "metrics", "run_id"]
        assert (best["config"], best["seed"], best["method"]) == (GOOD, 4, "asha")

    def test_a_benchmark_without_a_model_gets_configuration_and_card_alone(
        self, benchmark: Benchmark, tmp_path: Path
    ) -> None:
        store_study(benchmark, "asha")
        exported = export.export(benchmark.name, "asha", tmp_path)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["MODEL_CARD.md", "best_config.json"]
        assert "trains no model" in card_of(exported)

    def test_a_schedule_is_written_and_gone_with_the_next_export(self, benchmark: Benchmark, tmp_path: Path) -> None:
        schedule = [(0, GOOD), (4, OTHER)]
        store_study(benchmark, "pbt", schedule=schedule)
        store_study(benchmark, "random")
        (tmp_path / "notes.txt").write_text("mine")
        exported = export.export(benchmark.name, "pbt", tmp_path)
        assert read(tmp_path, "schedule.json") == [{"units": units, "config": config} for units, config in schedule]
        assert read(tmp_path, "best_config.json")["config"] == OTHER
        assert "| from unit 0 | from unit 4 |" in card_of(exported)
        export.export(benchmark.name, "random", tmp_path)
        names = sorted(path.name for path in tmp_path.iterdir())
        assert names == ["MODEL_CARD.md", "best_config.json", "notes.txt"]

    def test_a_file_in_the_folder_s_place_is_refused(self, benchmark: Benchmark, tmp_path: Path) -> None:
        store_study(benchmark, "asha")
        (tmp_path / "file").write_text("mine")
        with pytest.raises(BenchmarkError, match="cannot be written"):
            export.export(benchmark.name, "asha", tmp_path / "file")


class TestCard:
    def test_it_says_by_how_much_at_what_cost_and_how_sure(self, benchmark: Benchmark, tmp_path: Path) -> None:
        store_study(benchmark, "asha", config=GOOD, accelerator="NVIDIA | A*100")
        store_study(benchmark, "random", config=OTHER, accelerator="NVIDIA | A*100")
        confirm(benchmark, 0, 0.8, schedule=[(0, GOOD)])
        confirm(benchmark, 0, 0.75, schedule=[(0, OTHER)])
        confirm(benchmark, 0, 0.7, schedule=default_schedule(benchmark))
        card = card_of(export.export(benchmark.name, "best", tmp_path))
        assert "| test F1 minus default's | +0.1000 (1 block) |" in card
        assert "| test F1 minus random's | +0.0500 (1 block) |" in card
        assert "2 trainings on 1 block (seeds 0), of which none diverged" in card
        assert "**not resolved**" in card
        assert "highest of 2 confirmed methods" in card
        assert r"| accelerator | NVIDIA \| A\*100 |" in card
        assert "| device-hours of this study | 1 |" in card
        assert "| `learning_rate` | searched | 0.00123457 |" in card

    def test_values_cannot_break_the_page(self) -> None:
        assert escape("a|b\n# `x` <b> *y* [z](u)") == r"a\|b \# \`x\` \<b\> \*y\* \[z\](u)"


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
        results = Results(Study("asha", nano, budget=3))
        for number, precision in enumerate(("fp16", "bf16", "fp16")):
            results.add(str(number), dict(GOOD), 0.0)
            told = {"units": 1, "objective": 0.5, "diverged": False, **scores(0.5), PRECISION: precision}
            results.report(str(number), told, 1.0, 1.0)
        assert results.precision == "bf16 and fp16"

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
    @pytest.mark.parametrize("updates", [{}, {"lora_rank": 4, "lora_alpha": 16.0}], ids=["all-weights", "lora"])
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
        ours = [float(session.train_step()) for _ in range(total_steps(nano, nano.hyperparameters(config)))]
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
