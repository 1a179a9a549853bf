"""The list of configurations of a bank: always the same one, longer at will, and in an order that serves half of it."""

from __future__ import annotations

import pytest

from benchmarks import spec
from benchmarks.space import Choice, Integer, LogUniform, Uniform
from benchmarks.spec import Benchmark, BenchmarkError
from hpo.recording.configurations import configurations, orders, value_at

NANO = spec.load("nano")


def test_more_configurations_extend_the_list() -> None:
    long = configurations(NANO, 1200, seed=0)
    assert configurations(NANO, 40, seed=0) == long[:40]
    assert configurations(NANO, 1200, seed=0) == long
    assert configurations(NANO, 40, seed=1)[:13] == long[:13]
    assert configurations(NANO, 40, seed=1)[13:] != long[13:40]


def test_it_begins_with_the_default_and_the_grid() -> None:
    sources = [one.source for one in configurations(NANO, 20, seed=0)]
    assert sources == ["default"] + ["grid"] * 12 + ["random"] * 7


def test_no_configuration_comes_twice_and_all_lie_in_the_space() -> None:
    found = configurations(NANO, 300, seed=0)
    assert len({tuple(sorted(one.config.items())) for one in found}) == 300
    for one in found:
        assert all(domain.contains(one.config[name]) for name, domain in NANO.space.items())


def test_a_sample_follows_the_prior_of_each_hyperparameter() -> None:
    drawn = [one.config for one in configurations(NANO, 1037, seed=0) if one.source == "random"]
    rates = sorted(float(config["learning_rate"]) for config in drawn)
    assert rates[512] == pytest.approx((3e-5 * 3e-2) ** 0.5, rel=0.01)
    sizes = [config["batch_size_per_device"] for config in drawn]
    assert all(abs(sizes.count(size) - 341) <= 5 for size in (8, 16, 32))


def test_a_share_of_a_prior_is_a_value_of_its_domain() -> None:
    assert value_at(LogUniform(type="loguniform", low=1e-4, high=1e-2), 0.5) == 1e-3
    assert value_at(Uniform(type="uniform", low=0.0, high=0.5), 0.25) == 0.125
    assert [value_at(Integer(type="int", low=1, high=2), share) for share in (0.0, 0.49, 0.5, 0.99)] == [1, 1, 2, 2]
    assert [value_at(Choice(type="choice", values=("a", "b")), share) for share in (0.0, 0.99)] == ["a", "b"]


def tiny() -> Benchmark:
    space = {"weight_decay": Choice(type="choice", values=(0.0, 0.01))}
    return spec.load("synthetic").model_copy(update={"space": space, "grid": {}})


def test_a_space_with_fewer_configurations_is_refused_with_their_number() -> None:
    assert len(configurations(tiny(), 2, seed=0)) == 2
    with pytest.raises(BenchmarkError, match="configs is 3, but the search space of synthetic has 2 configurations"):
        configurations(tiny(), 3, seed=0)


def test_a_prefix_has_many_configurations_and_repeats_all_over_the_space() -> None:
    listed = configurations(NANO, 113, seed=0)
    ordered = orders(listed, 3)
    assert len({order.identity for order in ordered}) == len(ordered) == 339
    first_wave = ordered[: 21 * 3 + 92]
    of_one = {id(one): [order.seed for order in first_wave if order.configuration is one] for one in listed}
    assert all(0 in seeds for seeds in of_one.values())
    repeated = [one for one in listed if of_one[id(one)] == [0, 1, 2]]
    assert [one.source for one in repeated] == ["default"] + ["random"] * 20
    assert {order.seed for order in ordered[len(first_wave) :][:92]} == {1}


def test_a_benchmark_that_selects_best_units_is_refused() -> None:
    with pytest.raises(BenchmarkError, match=r"select is best_unit in benchmark nano.*last_unit"):
        configurations(NANO.model_copy(update={"select": "best_unit"}), 3, seed=0)


@pytest.mark.parametrize(("number", "seeds", "said"), [(0, 1, "configs is 0"), (1, 0, "seeds is 0")])
def test_numbers_below_one_are_refused(number: int, seeds: int, said: str) -> None:
    with pytest.raises(BenchmarkError, match=said):
        orders(configurations(NANO, number, seed=0), seeds)
