"""Traits of methods: they stand in the methods' own files, and no other module asks for a name."""

from __future__ import annotations

import re

from benchmarks.spec import HERE
from hpo.core.traits import Traits
from hpo.search import registry

ROOT = HERE.parent


def test_each_trait_belongs_to_one_method() -> None:
    assert registry.with_trait(lambda traits: traits.is_single_config) == ["default"]
    assert registry.with_trait(lambda traits: traits.is_reference) == ["random"]
    assert registry.with_trait(lambda traits: traits.is_grid) == ["manual"]
    assert registry.with_trait(lambda traits: traits.shares_proposals_by_journal) == ["optuna"]


def test_a_method_without_traits_and_a_label_of_another_program_have_none() -> None:
    assert registry.traits_of("asha") == registry.traits_of("vizier") == Traits()


def test_no_other_module_asks_for_a_method_by_name() -> None:
    asks = re.compile(rf"method\w* (==|!=|in|not in) \(?[\"']({'|'.join(registry.names())})[\"']")
    modules = [path for folder in ("hpo", "slurm") for path in (ROOT / folder).rglob("*.py")]
    assert [path for path in modules if asks.search(path.read_text())] == []
