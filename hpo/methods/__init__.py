"""The methods, one file each. A file becomes a method by being in this folder; nothing is registered elsewhere.

A method's module has

* a docstring: what it does, the paper, what it does not do, when to use it;
* `Arguments`, a pydantic model of its own arguments; its fields become options of the command line and
  parameters of the MLproject entry;
* `plan(study, arguments) -> Plan`, which wires Ray's own searcher and scheduler.

It proposes and stops. The benchmark owns metric, resource and budget, and the runner holds every method to them.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import SearchAlgorithm, Searcher

from benchmarks.spec import Benchmark, BenchmarkError
from hpo.core.budget import Admission, Budget, BudgetedScheduler, PerTrial
from hpo.core.study import Study

OBJECTIVE = "objective"
"""The key of a trial's result that searchers and schedulers rank by; see `study.objective`."""
TIME_ATTRIBUTE = "units"
"""The key of a trial's result that counts its resource."""


class MethodArguments(BaseModel):
    """Base of every method's `Arguments`: strict, immutable, each field with a description."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True)
class Plan:
    """How Ray Tune is to search.

    Attributes:
        searcher: proposes configurations.
        space: Tune's `param_space` for searchers that draw from it; empty for those that were given theirs.
        num_samples: trials at most; the budget usually ends a study earlier.
        scheduler: stops and pauses trials.
        admission: what a new trial reserves of the budget; None for one unit where there is a scheduler, which may
            stop it anywhere, and a full training where there is none.
        concurrency: trials at once at most; None for as many as there are devices.
    """

    searcher: Searcher | SearchAlgorithm
    space: dict[str, Any]
    num_samples: int
    scheduler: TrialScheduler | None = None
    admission: Admission | None = None
    concurrency: int | None = None

    def within(self, budget: Budget, max_units: int) -> BudgetedScheduler:
        """The scheduler, or one that lets every trial run on, held to a budget."""
        admission = self.admission or PerTrial(1 if self.scheduler else max_units)
        return BudgetedScheduler(self.scheduler or FIFOScheduler(), admission, budget, max_units)


@dataclass(frozen=True)
class Method:
    """A method as its module defines it.

    Attributes:
        name: the module's name.
        page: the module's docstring.
        arguments: the model of its arguments.
        plan: makes a `Plan`.
    """

    name: str
    page: str
    arguments: type[MethodArguments]
    plan: Callable[[Study, Any], Plan]

    @property
    def summary(self) -> str:
        """The page's first line."""
        return self.page.splitlines()[0]

    def make_plan(self, study: Study) -> Plan:
        """The plan for a study.

        Raises:
            BenchmarkError: an argument that is unknown or out of range, or a study the method cannot run.
        """
        return self.plan(study, self.parse(study.arguments))

    def study(
        self, benchmark: Benchmark, seed: int, budget: int, gpu_hours: float | None, given: Mapping[str, Any]
    ) -> Study:
        """A study of this method.

        Args:
            benchmark: what is tuned.
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
        """Checked arguments from plain values, texts included.

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
    """All methods, by name."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def get(name: str) -> Method:
    """The method called `name`.

    Raises:
        BenchmarkError: there is none; the message lists those there are.
    """
    if name not in names():
        raise BenchmarkError(f"no method named {name!r}; choose one of {', '.join(names())}")
    module = importlib.import_module(f"{__name__}.{name}")
    return Method(name, (module.__doc__ or "").strip(), module.Arguments, module.plan)
