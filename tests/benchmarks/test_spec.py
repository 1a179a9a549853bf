"""Reading a benchmark: files that load, and files that are refused, each with its message."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import TypeAdapter

from benchmarks.space import Domain, describe
from benchmarks.spec import HERE, Benchmark, BenchmarkError, load, names
from tests.grids import points_of

REMOVED = object()
DOMAIN: TypeAdapter[Domain] = TypeAdapter(Domain)
LEARNING_RATE = {"type": "loguniform", "low": 1.0e-5, "high": 1.0e-2}
BATCH_SIZE = {"type": "choice", "values": [8, 16]}
BASE: dict[str, Any] = {
    "name": "own",
    "description": "A benchmark of the tests.",
    "resource": {"unit_samples": 100, "max_units": 9},
    "default": {"learning_rate": 1.0e-4},
    "space": {"learning_rate": LEARNING_RATE, "batch_size_per_device": BATCH_SIZE},
    "grid": {"learning_rate": [1.0e-4, 1.0e-3], "batch_size_per_device": [8, 16]},
    "finetune": {
        "model": "owner/model",
        "data": {split: {"file": f"{split}.json"} for split in ("train", "validation", "test")},
    },
}
TOP_KEYS = "name, description, metric, mode, diverged_above, resource, default, space, grid, finetune, synthetic"
HYPERPARAMETERS = (
    "learning_rate, batch_size_per_device, gradient_accumulation_steps, weight_decay, warmup_ratio, "
    "lr_scheduler, max_grad_norm, adam_beta1, adam_beta2, adam_epsilon"
)


def write(folder: Path, changes: Mapping[str, Any]) -> Path:
    """A benchmark file: `BASE` with the values at dotted keys replaced or removed."""
    content = copy.deepcopy(BASE)
    for dotted, value in changes.items():
        *parents, key = dotted.split(".")
        section = content
        for parent in parents:
            section = section[parent]
        section[key] = value
        if value is REMOVED:
            del section[key]
    path = folder / "own.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def load_with(folder: Path, changes: Mapping[str, Any]) -> Benchmark:
    return load(str(write(folder, changes)))


def write_text(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


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
        ("finetune.", "model, data, max_length, max_answer_tokens, ranks_per_trial, precision, eval_batch_size, "),
        ("finetune.data.", "train, validation, test"),
        ("finetune.data.train.", "file, dataset, config, split, limit, articles, held_out_share"),
        ("finetune.data.test.", "file, dataset, config, split, limit, articles, held_out_share"),
    ],
)
def test_unknown_key_is_refused_with_the_valid_ones(tmp_path: Path, parent: str, valid: str) -> None:
    with pytest.raises(BenchmarkError, match=rf"own\.yaml: {parent}typo: unknown key; valid here are {valid}"):
        load_with(tmp_path, {f"{parent}typo": 1})


@pytest.mark.parametrize("domain", [LEARNING_RATE, BATCH_SIZE], ids=["loguniform", "choice"])
def test_unknown_key_of_a_domain_is_refused_with_the_valid_ones(tmp_path: Path, domain: dict[str, Any]) -> None:
    message = rf"space\.learning_rate\.{domain['type']}\.typo: unknown key; valid here are type, low, high, values"
    with pytest.raises(BenchmarkError, match=message):
        load_with(tmp_path, {"space.learning_rate": {**domain, "typo": 1}})


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


@pytest.mark.parametrize("kind", ["uniform", "loguniform", "int"])
def test_swapped_bounds_are_refused(tmp_path: Path, kind: str) -> None:
    message = rf"space\.batch_size_per_device\.{kind}: low is 16 and high is 8, but low must be < high"
    with pytest.raises(BenchmarkError, match=message):
        load_with(tmp_path, {"space.batch_size_per_device": {"type": kind, "low": 16, "high": 8}})


@pytest.mark.parametrize("kind", ["uniform", "loguniform", "int"])
def test_equal_bounds_are_refused(tmp_path: Path, kind: str) -> None:
    message = rf"space\.batch_size_per_device\.{kind}: low is 8 and high is 8, but low must be < high"
    with pytest.raises(BenchmarkError, match=message):
        load_with(tmp_path, {"space.batch_size_per_device": {"type": kind, "low": 8, "high": 8}})


@pytest.mark.parametrize(("low", "high"), [(5e-324, 0.1), (1e-300, 1e10)])
def test_bounds_must_have_a_ratio(tmp_path: Path, low: float, high: float) -> None:
    with pytest.raises(BenchmarkError, match="but their difference and ratio must be finite"):
        load_with(tmp_path, {"space.learning_rate": {"type": "loguniform", "low": low, "high": high}})


@pytest.mark.parametrize("kind", ["uniform", "loguniform"])
@pytest.mark.parametrize(
    ("low", "high", "value"),
    [(float("nan"), 1.0, "nan"), (1.0, float("inf"), "inf"), (float("-inf"), 1.0, "-inf")],
)
def test_bounds_must_be_finite(tmp_path: Path, kind: str, low: float, high: float, value: str) -> None:
    message = rf"space\.learning_rate\.{kind}\.(low|high): Input should be a finite number \(got {value}\)"
    with pytest.raises(BenchmarkError, match=message):
        load_with(tmp_path, {"space.learning_rate": {"type": kind, "low": low, "high": high}})


def test_choice_without_values_is_refused(tmp_path: Path) -> None:
    message = r"space\.batch_size_per_device\.choice: values is empty, but a choice needs at least one value"
    with pytest.raises(BenchmarkError, match=message):
        load_with(tmp_path, {"space.batch_size_per_device.values": []})


@pytest.mark.parametrize("values", [[8, 16, 8], [8, 8.0]])
def test_choice_that_repeats_a_value_is_refused(tmp_path: Path, values: list[float]) -> None:
    message = r"space\.batch_size_per_device\.choice: values repeats an entry: " + re.escape(str(values))
    with pytest.raises(BenchmarkError, match=message):
        load_with(tmp_path, {"space.batch_size_per_device.values": values})


@pytest.mark.parametrize("low", [0, -1])
def test_loguniform_from_zero_or_below_is_refused(tmp_path: Path, low: float) -> None:
    message = rf"space\.learning_rate\.loguniform: low is {low}, but a loguniform domain needs low > 0; use `uniform`"
    with pytest.raises(BenchmarkError, match=message):
        load_with(tmp_path, {"space.learning_rate.low": low})


def test_unknown_domain_type_lists_the_valid_ones(tmp_path: Path) -> None:
    message = r"space\.learning_rate: Input tag 'normal' .* 'uniform', 'loguniform', 'int', 'choice'"
    with pytest.raises(BenchmarkError, match=message):
        load_with(tmp_path, {"space.learning_rate": {"type": "normal", "low": 0, "high": 1}})


def test_empty_space_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match="space is empty, but a search needs at least one hyperparameter"):
        load_with(tmp_path, {"space": {}, "grid": {}})


def test_unknown_hyperparameter_in_space_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match=f"space: no hyperparameter named 'lr'; known are {HYPERPARAMETERS}"):
        load_with(tmp_path, {"space.lr": LEARNING_RATE})


def test_unknown_hyperparameter_in_default_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match=rf"default\.lr: unknown key; valid here are {HYPERPARAMETERS}"):
        load_with(tmp_path, {"default.lr": 1.0e-4})


@pytest.mark.parametrize(
    ("name", "domain", "value"),
    [
        ("batch_size_per_device", {"type": "choice", "values": [0, 8]}, "0"),
        ("batch_size_per_device", {"type": "int", "low": 0, "high": 8}, "0"),
        ("batch_size_per_device", {"type": "choice", "values": [1.5, 8]}, "1.5"),
        ("learning_rate", {"type": "uniform", "low": -1.0, "high": 1.0}, "-1.0"),
        ("learning_rate", {"type": "uniform", "low": 0.0, "high": 1.0}, "0.0"),
        ("adam_beta1", {"type": "uniform", "low": 0.5, "high": 1.0}, "1.0"),
        ("lr_scheduler", {"type": "choice", "values": ["linear", "step"]}, "'step'"),
    ],
)
def test_domain_with_a_value_no_trial_may_take_is_refused(
    tmp_path: Path, name: str, domain: dict[str, Any], value: str
) -> None:
    with pytest.raises(BenchmarkError, match=rf"space\.{name}: {re.escape(value)} cannot be used: "):
        load_with(tmp_path, {f"space.{name}": domain, "grid": {}})


@pytest.mark.parametrize("kind", ["uniform", "loguniform"])
def test_real_domain_for_a_whole_number_is_refused(tmp_path: Path, kind: str) -> None:
    with pytest.raises(BenchmarkError, match=r"space\.batch_size_per_device"):
        load_with(tmp_path, {"space.batch_size_per_device": {"type": kind, "low": 1, "high": 32}})


@pytest.mark.parametrize("value", [float("inf"), float("nan"), 0, -1])
def test_default_learning_rate_must_be_positive_and_finite(tmp_path: Path, value: float) -> None:
    with pytest.raises(BenchmarkError, match=r"default\.learning_rate: "):
        load_with(tmp_path, {"default.learning_rate": value})


@pytest.mark.parametrize(
    ("axis", "value", "domain"),
    [
        ("learning_rate", 1.0, "loguniform 1e-05..0.01"),
        ("batch_size_per_device", 64, "choice of 8, 16"),
        ("batch_size_per_device", "8", "choice of 8, 16"),
    ],
)
def test_grid_value_outside_the_space_is_refused(tmp_path: Path, axis: str, value: Any, domain: str) -> None:
    message = f"grid.{axis}: {value!r} lies outside the search space, {domain}"
    with pytest.raises(BenchmarkError, match=re.escape(message)):
        load_with(tmp_path, {f"grid.{axis}": [value]})


def test_grid_axis_not_in_the_space_is_refused(tmp_path: Path) -> None:
    message = "grid: 'warmup_ratio' is not in the search space; it has learning_rate, batch_size_per_device"
    with pytest.raises(BenchmarkError, match=message):
        load_with(tmp_path, {"grid.warmup_ratio": [0.1]})


def test_empty_grid_axis_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match=r"grid\.learning_rate is empty, but an axis needs at least one value"):
        load_with(tmp_path, {"grid.learning_rate": []})


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-5", 1e-5),
        ("1E-5", 1e-5),
        ("1.e-5", 1e-5),
        ("1.5e-3", 1.5e-3),
        ("1e+1", 10.0),
        ("2e1", 20.0),
        ("+2e-1", 0.2),
    ],
)
def test_number_with_exponent_is_read_as_a_number(tmp_path: Path, text: str, value: float) -> None:
    space = f"space: {{learning_rate: {{type: choice, values: [{text}]}}}}\n"
    domain = load("nano", write_text(tmp_path, "space.yaml", space)).space["learning_rate"]
    assert domain.model_dump() == {"type": "choice", "values": (value,)}


def test_benchmark_with_both_kinds_of_trial_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match="give either `finetune` or `synthetic`"):
        load_with(tmp_path, {"synthetic": {}})


def test_benchmark_with_no_kind_of_trial_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match="give either `finetune` or `synthetic`"):
        load_with(tmp_path, {"finetune": REMOVED})


@pytest.mark.parametrize(("metric", "mode"), [("eval_loss", "max"), ("exact_match", "min"), ("f1", "min")])
def test_metric_that_does_not_go_with_the_mode_is_refused(tmp_path: Path, metric: str, mode: str) -> None:
    with pytest.raises(BenchmarkError, match=f"metric {metric} does not go with mode {mode}"):
        load_with(tmp_path, {"metric": metric, "mode": mode})


@pytest.mark.parametrize(("metric", "mode"), [("eval_loss", "min"), ("exact_match", "max"), ("f1", "max")])
def test_metric_goes_with_its_mode(tmp_path: Path, metric: str, mode: str) -> None:
    benchmark = load_with(tmp_path, {"metric": metric, "mode": mode})
    assert (benchmark.metric, benchmark.mode) == (metric, mode)


@pytest.mark.parametrize("split", [{"file": "a.json", "dataset": "owner/data", "split": "train"}, {"limit": 5}])
def test_split_needs_exactly_one_source(tmp_path: Path, split: dict[str, Any]) -> None:
    with pytest.raises(BenchmarkError, match=r"finetune\.data\.train: give either `file` or `dataset`"):
        load_with(tmp_path, {"finetune.data.train": split})


def test_dataset_needs_a_split(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match=r"finetune\.data\.train: `dataset` needs `split`, such as \"train\""):
        load_with(tmp_path, {"finetune.data.train": {"dataset": "owner/data"}})


def test_space_file_replaces_space_and_drops_the_grid(tmp_path: Path) -> None:
    path = write_text(tmp_path, "space.yaml", "space:\n  weight_decay: {type: uniform, low: 0.0, high: 0.5}\n")
    benchmark = load("nano", path)
    assert (list(benchmark.space), benchmark.grid) == (["weight_decay"], {})


def test_space_file_may_bring_its_grid(tmp_path: Path) -> None:
    text = "space:\n  weight_decay: {type: uniform, low: 0.0, high: 0.5}\ngrid:\n  weight_decay: [0.1, 0.2]\n"
    assert load("nano", write_text(tmp_path, "space.yaml", text)).grid == {"weight_decay": (0.1, 0.2)}


def test_space_file_leaves_the_rest_of_the_benchmark(tmp_path: Path) -> None:
    path = write_text(tmp_path, "space.yaml", "space:\n  weight_decay: {type: uniform, low: 0.0, high: 0.5}\n")
    replaced, nano = load("nano", path), load("nano")
    assert replaced.model_copy(update={"space": nano.space, "grid": nano.grid}) == nano


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("space: {}\ndefault: {}\nmode: max\n", "found default, mode"),
        ("spaces: {}\n", "found spaces"),
        ("grid: {}\n", "`space` is missing"),
    ],
    ids=["known keys", "unknown key", "no space"],
)
def test_space_file_with_other_keys_is_refused(tmp_path: Path, text: str, found: str) -> None:
    message = rf"space\.yaml: a search space file has the keys `space` and, if wanted, `grid`; {found}$"
    with pytest.raises(BenchmarkError, match=message):
        load("nano", write_text(tmp_path, "space.yaml", text))


def test_missing_space_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match=r"space\.yaml: cannot be read \(No such file or directory\)"):
        load("nano", tmp_path / "space.yaml")


def test_fault_in_a_space_file_names_the_file(tmp_path: Path) -> None:
    path = write_text(tmp_path, "space.yaml", "space:\n  weight_decay: {type: uniform, low: 0.5, high: 0.1}\n")
    with pytest.raises(BenchmarkError, match=rf"nano\.yaml with {re.escape(str(path))}: space\.weight_decay"):
        load("nano", path)


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_data_files_are_relative_to_the_yaml_file(tmp_path: Path, split: str) -> None:
    finetune = load_with(tmp_path, {f"finetune.data.{split}.file": "../data/a.json"}).finetune
    assert finetune is not None
    assert getattr(finetune.data, split).file == tmp_path.resolve().parent / "data/a.json"


def test_absolute_data_file_stays(tmp_path: Path) -> None:
    finetune = load_with(tmp_path, {"finetune.data.train.file": "/somewhere/train.json"}).finetune
    assert finetune is not None
    assert finetune.data.train.file == Path("/somewhere/train.json")


def test_dataset_folder_is_relative_to_the_yaml_file(tmp_path: Path) -> None:
    (tmp_path / "questions").mkdir()
    finetune = load_with(tmp_path, {"finetune.data.train": {"dataset": "questions", "split": "train"}}).finetune
    assert finetune is not None
    assert finetune.data.train.dataset == str(tmp_path.resolve() / "questions")


def test_dataset_on_the_hub_keeps_its_name(tmp_path: Path) -> None:
    finetune = load_with(tmp_path, {"finetune.data.train": {"dataset": "owner/data", "split": "train"}}).finetune
    assert finetune is not None
    assert finetune.data.train.dataset == "owner/data"


@pytest.mark.parametrize("source", [{"file": "a.json"}, {"dataset": "questions", "split": "train"}])
def test_revision_of_what_lies_here_is_refused(tmp_path: Path, source: dict[str, str]) -> None:
    (tmp_path / "questions").mkdir()
    with pytest.raises(BenchmarkError, match="`revision` goes with a `dataset` on the hub, not with a file or folder"):
        load_with(tmp_path, {"finetune.data.train": {**source, "revision": "v1.0"}})


def test_model_folder_is_relative_to_the_yaml_file(tmp_path: Path) -> None:
    (tmp_path / "my model").mkdir()
    finetune = load_with(tmp_path, {"finetune.model": "my model"}).finetune
    assert finetune is not None
    assert finetune.model == str(tmp_path.resolve() / "my model")


def test_model_path_that_is_no_folder_yet_is_still_a_path(tmp_path: Path) -> None:
    finetune = load_with(tmp_path, {"finetune.model": "./missing"}).finetune
    assert finetune is not None
    assert finetune.model == str(tmp_path.resolve() / "missing")


def test_model_on_the_hub_keeps_its_name(tmp_path: Path) -> None:
    finetune = load_with(tmp_path, {}).finetune
    assert finetune is not None
    assert finetune.model == "owner/model"


def test_deepspeed_may_be_the_path_of_a_json_file(tmp_path: Path) -> None:
    write_text(tmp_path, "zero.json", '{"zero_optimization": {"stage": 2}}')
    finetune = load_with(tmp_path, {"finetune.deepspeed": "zero.json"}).finetune
    assert finetune is not None
    assert finetune.deepspeed == {"zero_optimization": {"stage": 2}}


def test_deepspeed_path_of_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match=r"zero\.json: cannot be read \(No such file or directory\)"):
        load_with(tmp_path, {"finetune.deepspeed": "zero.json"})


def test_deepspeed_file_that_is_not_json_is_refused(tmp_path: Path) -> None:
    write_text(tmp_path, "zero.json", "{")
    with pytest.raises(BenchmarkError, match=r"zero\.json: not valid JSON \("):
        load_with(tmp_path, {"finetune.deepspeed": "zero.json"})


def test_deepspeed_file_that_is_no_object_is_refused(tmp_path: Path) -> None:
    write_text(tmp_path, "zero.json", "[]")
    with pytest.raises(BenchmarkError, match=r"finetune\.deepspeed: Input should be a valid dictionary"):
        load_with(tmp_path, {"finetune.deepspeed": "zero.json"})


def test_grid_of_nano_has_twelve_different_points() -> None:
    points = list(points_of(load("nano")))
    assert (len(points), len({tuple(point.items()) for point in points})) == (12, 12)


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


@pytest.mark.parametrize(
    ("domain", "value", "inside"),
    [
        ({"type": "uniform", "low": 0.0, "high": 1.0}, 0.0, True),
        ({"type": "uniform", "low": 0.0, "high": 1.0}, 1, True),
        ({"type": "uniform", "low": 0.0, "high": 1.0}, 1.1, False),
        ({"type": "uniform", "low": 0.0, "high": 1.0}, True, False),
        ({"type": "uniform", "low": 0.0, "high": 1.0}, "0.5", False),
        ({"type": "uniform", "low": 0.0, "high": 1.0}, float("nan"), False),
        ({"type": "loguniform", "low": 0.1, "high": 1.0}, 0.1, True),
        ({"type": "loguniform", "low": 0.1, "high": 1.0}, 0.09, False),
        ({"type": "int", "low": 1, "high": 3}, 3, True),
        ({"type": "int", "low": 1, "high": 3}, 2.0, True),
        ({"type": "int", "low": 1, "high": 3}, 2.5, False),
        ({"type": "int", "low": 1, "high": 3}, 4, False),
        ({"type": "choice", "values": ["linear", "cosine"]}, "cosine", True),
        ({"type": "choice", "values": ["linear", "cosine"]}, "constant", False),
    ],
)
def test_domain_knows_what_it_contains(domain: dict[str, Any], value: Any, inside: bool) -> None:
    assert DOMAIN.validate_python(domain).contains(value) is inside


@pytest.mark.parametrize(
    ("domain", "words"),
    [
        ({"type": "loguniform", "low": 1e-5, "high": 0.03}, "loguniform 1e-05..0.03"),
        ({"type": "int", "low": 1, "high": 3}, "int 1..3"),
        ({"type": "choice", "values": [8, 16]}, "choice of 8, 16"),
    ],
)
def test_domain_is_described_in_words(domain: dict[str, Any], words: str) -> None:
    assert describe(DOMAIN.validate_python(domain)) == words
