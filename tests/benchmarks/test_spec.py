"""Reading a benchmark: files that load, and files that are refused, each with its message."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from benchmarks.files import yaml_text
from benchmarks.spec import HERE, BenchmarkError, load, names
from tests.benchmarks.own_benchmark import HYPERPARAMETERS, REMOVED, load_with, write, write_text

TOP_KEYS = "name, description, like, metric, mode, diverged_above, resource, default, space, grid, finetune, synthetic"


@pytest.mark.parametrize("name", names())
def test_shipped_benchmark_loads_under_its_name(name: str) -> None:
    assert load(name).name == name


def test_shipped_benchmarks_are_the_yaml_files() -> None:
    assert names() == sorted(path.stem for path in HERE.glob("*.yaml"))


def test_unknown_benchmark_lists_the_valid_names() -> None:
    message = f"no benchmark named 'nanoo'; choose one of {', '.join(names())}, or give"
    with pytest.raises(BenchmarkError, match=message):
        load("nanoo")


def test_missing_file_is_refused() -> None:
    with pytest.raises(BenchmarkError, match=r"^nowhere/own\.yaml: no such benchmark file$"):
        load("nowhere/own.yaml")


@pytest.mark.parametrize("content", [b"name: [\n", b"a: b: c\n", b"a: !!int x\n", b"1: a\n", b"a: \0\n"])
def test_text_that_is_not_yaml_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "own.yaml"
    path.write_bytes(content)
    with pytest.raises(BenchmarkError, match=r"own\.yaml: not valid YAML: "):
        load(str(path))


@pytest.mark.parametrize(("text", "found"), [("- 1\n", "list"), ("", "NoneType"), ("nano\n", "str")])
def test_top_level_must_be_a_mapping(tmp_path: Path, text: str, found: str) -> None:
    with pytest.raises(BenchmarkError, match=rf"own\.yaml: expected a mapping at the top, found {found}$"):
        load(str(write_text(tmp_path, "own.yaml", text)))


def test_key_given_twice_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, {})
    path.write_text(path.read_text() + "name: other\n")
    with pytest.raises(BenchmarkError, match="name"):
        load(str(path))


@pytest.mark.parametrize(
    ("parent", "valid"),
    [
        ("", TOP_KEYS),
        ("resource.", "unit_samples, max_units"),
        ("default.", HYPERPARAMETERS),
        (
            "finetune.",
            "model, data, task, max_length, max_answer_tokens, ranks_per_trial, trials_per_gpu, precision, ",
        ),
        ("finetune.data.", "train, validation, test"),
        ("finetune.data.train.", "file, dataset, config, split, limit, articles, held_out_share"),
        ("finetune.data.test.", "file, dataset, config, split, limit, articles, held_out_share"),
    ],
)
def test_unknown_key_is_refused_with_the_valid_ones(tmp_path: Path, parent: str, valid: str) -> None:
    with pytest.raises(BenchmarkError, match=rf"own\.yaml: {parent}typo: unknown key; valid here are {valid}"):
        load_with(tmp_path, {f"{parent}typo": 1})


def test_unknown_key_of_synthetic_is_refused_with_the_valid_ones(tmp_path: Path) -> None:
    message = r"synthetic\.typo: unknown key; valid here are noise, seconds_per_unit, diverge_above"
    with pytest.raises(BenchmarkError, match=message):
        load_with(tmp_path, {"finetune": REMOVED, "synthetic": {"typo": 1}})


@pytest.mark.parametrize(
    "key", ["description", "resource", "default", "space", "resource.max_units", "finetune.data.test"]
)
def test_missing_key_is_named(tmp_path: Path, key: str) -> None:
    with pytest.raises(BenchmarkError, match=rf"own\.yaml: {re.escape(key)}: Field required"):
        load_with(tmp_path, {key: REMOVED})


def test_every_fault_is_reported_at_once(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match=r"resource\.max_units: .*\(got 0\); default\.learning_rate: .*\(got -1\)"):
        load_with(tmp_path, {"resource.max_units": 0, "default.learning_rate": -1})


def test_unknown_hyperparameter_in_default_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match=rf"default\.lr: unknown key; valid here are {HYPERPARAMETERS}"):
        load_with(tmp_path, {"default.lr": 1.0e-4})


@pytest.mark.parametrize("value", [float("inf"), float("nan"), 0, -1])
def test_default_learning_rate_must_be_positive_and_finite(tmp_path: Path, value: float) -> None:
    with pytest.raises(BenchmarkError, match=r"default\.learning_rate: "):
        load_with(tmp_path, {"default.learning_rate": value})


def test_benchmark_with_both_kinds_of_trial_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match="give one of `finetune`, `synthetic` and `recorded`"):
        load_with(tmp_path, {"synthetic": {}})


def test_benchmark_with_no_kind_of_trial_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match="give one of `finetune`, `synthetic` and `recorded`"):
        load_with(tmp_path, {"finetune": REMOVED})


@pytest.mark.parametrize(("metric", "mode"), [("eval_loss", "max"), ("exact_match", "min"), ("f1", "min")])
def test_metric_that_does_not_go_with_the_mode_is_refused(tmp_path: Path, metric: str, mode: str) -> None:
    with pytest.raises(BenchmarkError, match=f"metric {metric} does not go with mode {mode}"):
        load_with(tmp_path, {"metric": metric, "mode": mode})


@pytest.mark.parametrize(("metric", "mode"), [("eval_loss", "min"), ("exact_match", "max"), ("f1", "max")])
def test_metric_goes_with_its_mode(tmp_path: Path, metric: str, mode: str) -> None:
    benchmark = load_with(tmp_path, {"metric": metric, "mode": mode})
    assert (benchmark.metric, benchmark.mode) == (metric, mode)


def test_hyperparameters_put_the_configuration_over_the_default(tmp_path: Path) -> None:
    benchmark = load_with(tmp_path, {"default": {"learning_rate": 1.0e-4, "weight_decay": 0.1}})
    merged = benchmark.hyperparameters({"learning_rate": 2.0e-4, "batch_size_per_device": 16})
    assert (merged.learning_rate, merged.batch_size_per_device, merged.weight_decay) == (2.0e-4, 16, 0.1)


def test_hyperparameters_named_nowhere_have_the_trainers_defaults(tmp_path: Path) -> None:
    assert load_with(tmp_path, {}).hyperparameters({}).model_dump() == {
        "learning_rate": 1e-4,
        "batch_size_per_device": 8,
        "gradient_accumulation_steps": 1,
        "weight_decay": 0.0,
        "warmup_ratio": 0.0,
        "lr_scheduler": "linear",
        "max_grad_norm": 1.0,
        "adam_beta1": 0.9,
        "adam_beta2": 0.999,
        "adam_epsilon": 1e-8,
        "lora_rank": 0,
        "lora_alpha": 16.0,
        "lora_dropout": 0.0,
        "gradient_checkpointing": False,
    }


def test_configuration_with_an_unknown_name_lists_the_known_ones(tmp_path: Path) -> None:
    message = rf"configuration \{{'lr': 1\}} is not usable: lr: unknown key; valid here are {HYPERPARAMETERS}"
    with pytest.raises(BenchmarkError, match=message):
        load_with(tmp_path, {}).hyperparameters({"lr": 1})


@pytest.mark.parametrize(("name", "value"), [("learning_rate", -1), ("batch_size_per_device", 1.5)])
def test_configuration_with_an_unusable_value_is_refused(tmp_path: Path, name: str, value: float) -> None:
    with pytest.raises(BenchmarkError, match=rf"is not usable: {name}: .*\(got {value}\)"):
        load_with(tmp_path, {}).hyperparameters({name: value})


def test_total_samples_are_units_times_samples_per_unit(tmp_path: Path) -> None:
    assert load_with(tmp_path, {}).resource.total_samples == 900


@pytest.mark.parametrize(("finetune", "ranks"), [({"finetune.ranks_per_trial": 2}, 2), ({}, 1)])
def test_trial_occupies_its_ranks(tmp_path: Path, finetune: dict[str, Any], ranks: int) -> None:
    assert load_with(tmp_path, finetune).ranks_per_trial == ranks


def test_synthetic_trial_occupies_one_rank() -> None:
    assert load("synthetic").ranks_per_trial == 1


class TestLike:
    """A benchmark's file that gives only its differences from another."""

    def test_what_it_leaves_out_is_the_other_s(self, tmp_path: Path) -> None:
        own = written(tmp_path / "own.yaml", {"name": "own", "like": "nano", "resource": {"max_units": 3}})
        nano, benchmark = load("nano"), load(str(own))
        resource = nano.resource.model_copy(update={"max_units": 3})
        assert benchmark == nano.model_copy(update={"name": "own", "resource": resource})

    def test_settings_of_the_trial_are_taken_one_by_one(self, tmp_path: Path) -> None:
        (tmp_path / "model").mkdir()
        own = written(tmp_path / "own.yaml", {"name": "own", "like": "nano", "finetune": {"model": "model"}})
        finetune = load(str(own)).training_settings()
        assert finetune == load("nano").training_settings().model_copy(update={"model": str(tmp_path / "model")})

    def test_another_kind_of_trial_replaces_the_other_s(self, tmp_path: Path) -> None:
        content = {"name": "own", "like": "nano", "synthetic": load("synthetic").synthetic.model_dump()}
        benchmark = load(str(written(tmp_path / "own.yaml", content)))
        assert benchmark.finetune is None
        assert benchmark.synthetic == load("synthetic").synthetic
        assert benchmark.space == load("nano").space

    def test_a_space_of_its_own_comes_without_the_other_s_grid(self, tmp_path: Path) -> None:
        space = {"weight_decay": {"type": "choice", "values": [0.0, 0.1]}}
        benchmark = load(str(written(tmp_path / "own.yaml", {"name": "own", "like": "nano", "space": space})))
        assert (list(benchmark.space), benchmark.grid) == (["weight_decay"], {})

    def test_a_file_may_be_like_a_file_that_is_like_another(self, tmp_path: Path) -> None:
        (tmp_path / "below").mkdir()
        written(tmp_path / "first.yaml", {"name": "first", "like": "nano", "description": "The first."})
        own = written(tmp_path / "below/own.yaml", {"name": "own", "like": "../first.yaml", "select": "best_unit"})
        benchmark = load(str(own))
        assert (benchmark.description, benchmark.select) == ("The first.", "best_unit")
        assert benchmark.finetune == load("nano").finetune

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (
                {"like": "nano"},
                r"own\.yaml: `name` is missing; a benchmark that is like another has ",
            ),
            ({"name": "own", "like": "nanoo"}, r"own\.yaml: like: no benchmark named 'nanoo'; choose one of "),
            ({"name": "own", "like": 5}, r"own\.yaml: like: no benchmark named '5'; choose one of "),
            ({"name": "own", "like": "none.yaml"}, r"own\.yaml: like: .*/none\.yaml: no such benchmark file"),
            ({"name": "own", "like": "own.yaml"}, r"own\.yaml: `like` leads back to .*own\.yaml"),
            ({"name": "own", "like": "other.yaml"}, r"own\.yaml: `like` leads back to .*own\.yaml"),
            ({"name": "own", "like": "nano", "resource": 5}, r"own\.yaml: resource: must be keys with values"),
            ({"name": "own", "lik": "nano"}, r"own\.yaml: .*lik: unknown key; .* did you mean `like`\?"),
        ],
    )
    def test_one_that_cannot_be_read_is_refused(self, tmp_path: Path, content: dict[str, Any], message: str) -> None:
        written(tmp_path / "other.yaml", {"name": "other", "like": "own.yaml"})
        with pytest.raises(BenchmarkError, match=message):
            load(str(written(tmp_path / "own.yaml", content)))


def written(path: Path, content: dict[str, Any]) -> Path:
    path.write_text(yaml_text(content))
    return path
