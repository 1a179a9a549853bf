"""Search spaces and their grids: domains, values that no trial may take, and space files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from benchmarks.space import Domain, describe
from benchmarks.spec import BenchmarkError, load
from tests.benchmarks.own_benchmark import BATCH_SIZE, HYPERPARAMETERS, LEARNING_RATE, load_with, write_text
from tests.grids import points_of

DOMAIN: TypeAdapter[Domain] = TypeAdapter(Domain)


@pytest.mark.parametrize("domain", [LEARNING_RATE, BATCH_SIZE], ids=["loguniform", "choice"])
def test_unknown_key_of_a_domain_is_refused_with_the_valid_ones(tmp_path: Path, domain: dict[str, Any]) -> None:
    message = rf"space\.learning_rate\.{domain['type']}\.typo: unknown key; valid here are type, low, high, values"
    with pytest.raises(BenchmarkError, match=message):
        load_with(tmp_path, {"space.learning_rate": {**domain, "typo": 1}})


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


def test_grid_of_nano_has_twelve_different_points() -> None:
    points = list(points_of(load("nano")))
    assert (len(points), len({tuple(point.items()) for point in points})) == (12, 12)


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
