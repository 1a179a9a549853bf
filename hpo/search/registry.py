"""Find the methods: a file in `hpo/methods` is a method."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from benchmarks.spec import Benchmark, BenchmarkError
from hpo.core.study import Study
from hpo.core.traits import Traits

if TYPE_CHECKING:  # it imports Ray, which a list of the methods does without
    from hpo.search.plan import MethodArguments, Plan

FOLDER, PACKAGE = Path(__file__).parents[1] / "methods", "hpo.methods"
"""Folder whose files are read, not imported: the methods stand on this module."""
NO_TRAITS = Traits()
"""Traits of a method whose module has no `TRAITS`."""


@dataclass(frozen=True)
class Method:
    """A method as its module defines it.

    Attributes:
        name: the module's name.
        page: the module's docstring.
        arguments: the model of its arguments.
        plan: makes a `Plan`.
        traits: the module's `TRAITS`; none without it.
    """

    name: str
    page: str
    arguments: type[MethodArguments]
    plan: Callable[[Study, Any], Plan]
    traits: Traits = NO_TRAITS

    @property
    def summary(self) -> str:
        """The page's first line."""
        return self.page.splitlines()[0]

    def make_plan(self, study: Study) -> Plan:
        """Make the plan for a study.

        Raises:
            BenchmarkError: an argument that is unknown or out of range, or a study the method cannot run.
        """
        return self.plan(study, self.parse(study.arguments))

    def study(
        self, benchmark: Benchmark, seed: int, budget: int, gpu_hours: float | None, given: Mapping[str, Any]
    ) -> Study:
        """Make a study of this method.

        Args:
            benchmark: the benchmark that is tuned.
            seed: see `Study`.
            budget: see `Study`.
            gpu_hours: see `Study`.
            given: its own arguments, as texts or values; the others keep their defaults.

        Raises:
            BenchmarkError: an argument that is unknown or out of range.
        """
        arguments, defaults = self.parse(given).model_dump(), self.arguments().model_dump()
        variant = " ".join(f"{key}={value}" for key, value in arguments.items() if value != defaults[key])
        return Study(self.name, benchmark, seed, budget, gpu_hours, arguments, variant)

    def parse(self, given: Any) -> MethodArguments:
        """Check arguments given as plain values, texts included.

        Raises:
            BenchmarkError: an argument that is unknown or out of range.
        """
        try:
            return self.arguments.model_validate(dict(given))
        except ValidationError as error:
            fault = error.errors()[0]
            where = ".".join(map(str, fault["loc"]))
            valid = ", ".join(self.arguments.model_fields) or "none"
            message = fault["msg"].removeprefix("Value error, ")
            raise BenchmarkError(
                f"{self.name}: argument {where!r} is {fault['input']!r}: {message} (arguments of {self.name}: {valid})"
            ) from None


def names() -> list[str]:
    """List all methods by name."""
    return sorted(module.name for module in pkgutil.iter_modules([str(FOLDER)]))


def get(name: str) -> Method:
    """Return the method called `name`.

    Raises:
        BenchmarkError: there is none; the message lists those there are.
    """
    if name not in names():
        raise BenchmarkError(f"no method named {name!r}; choose one of {', '.join(names())}")
    module = importlib.import_module(f"{PACKAGE}.{name}")
    traits = getattr(module, "TRAITS", NO_TRAITS)
    return Method(name, (module.__doc__ or "").strip(), module.Arguments, module.plan, traits)


@cache
def traits_of(name: str) -> Traits:
    """Return the traits of a method; none of a label of studies that another program ran."""
    return get(name).traits if name in names() else NO_TRAITS


def with_trait(has: Callable[[Traits], bool]) -> list[str]:
    """List the methods that have a trait, by name."""
    return [name for name in names() if has(get(name).traits)]
