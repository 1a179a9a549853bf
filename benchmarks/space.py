"""Search spaces: the domains from which a hyperparameter's values are drawn. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Literal, TypeGuard

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    model_validator,
)

Scalar = bool | int | float | str
Config = dict[str, Scalar]
Count = Annotated[int, Field(ge=1, lt=2**31)]
"""Number of things, at least 1, which libraries hold in 32 bits."""
Seconds = Annotated[float, Field(gt=0, lt=2**31)]
"""Duration above 0, which libraries hold in 32 bits."""


class Strict(BaseModel):
    """Base of everything that is read from a file: no unknown key, no change afterwards, no NaN."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, defer_build=True)


class Uniform(Strict):
    """Real numbers, uniform between `low` and `high`.

    Attributes:
        type: names this domain.
        low: the least value.
        high: the greatest value, above `low`.
    """

    type: Literal["uniform"]
    low: float
    high: float

    @model_validator(mode="after")
    def _check(self) -> Uniform:
        _check_bounds(self.low, self.high)
        return self

    def contains(self, value: Scalar) -> bool:
        """Tell whether `value` may be drawn from this domain."""
        return _is_number(value) and self.low <= value <= self.high


class LogUniform(Strict):
    """Positive real numbers whose logarithm is uniform between those of `low` and `high`.

    Attributes:
        type: names this domain.
        low: the least value, above 0.
        high: the greatest value, above `low`.
    """

    type: Literal["loguniform"]
    low: float
    high: float

    @model_validator(mode="after")
    def _check(self) -> LogUniform:
        _check_bounds(self.low, self.high)
        if self.low <= 0:
            raise ValueError(f"low is {self.low:g}, but a loguniform domain needs low > 0; use `uniform` to include 0")
        return self

    def contains(self, value: Scalar) -> bool:
        """Tell whether `value` may be drawn from this domain."""
        return _is_number(value) and self.low <= value <= self.high


class Integer(Strict):
    """Whole numbers, uniform from `low` to `high`, both included.

    Attributes:
        type: names this domain.
        low: the least value.
        high: the greatest value, above `low`.
    """

    type: Literal["int"]
    low: Annotated[int, Field(ge=0, lt=2**31)]
    high: Count

    @model_validator(mode="after")
    def _check(self) -> Integer:
        _check_bounds(self.low, self.high)
        return self

    def contains(self, value: Scalar) -> bool:
        """Tell whether `value` may be drawn from this domain."""
        return _is_number(value) and self.low <= value <= self.high and float(value).is_integer()


class Choice(Strict):
    """Choices from `values`, each as likely as another.

    Attributes:
        type: names this domain.
        values: numbers or texts, without repetition.
    """

    type: Literal["choice"]
    values: tuple[Scalar, ...]

    @model_validator(mode="after")
    def _check(self) -> Choice:
        if not self.values:
            raise ValueError("values is empty, but a choice needs at least one value")
        if len(set(self.values)) < len(self.values):
            raise ValueError(f"values repeats an entry: {list(self.values)}")
        return self

    def contains(self, value: Scalar) -> bool:
        """Tell whether `value` may be drawn from this domain."""
        return value in self.values


Domain = Annotated[Uniform | LogUniform | Integer | Choice, Field(discriminator="type")]
Space = dict[str, Domain]


def _check_bounds(low: float, high: float) -> None:
    if low >= high:
        raise ValueError(f"low is {low:g} and high is {high:g}, but low must be < high")
    if not math.isfinite(high - low) or (low > 0 and not math.isfinite(high / low)):
        raise ValueError(f"low is {low:g} and high is {high:g}, but their difference and ratio must be finite")


def _is_number(value: Scalar) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def describe(domain: Domain) -> str:
    """Describe a domain in words, such as "loguniform 1e-05..0.03"."""
    if isinstance(domain, Choice):
        return f"choice of {', '.join(map(str, domain.values))}"
    return f"{domain.type} {domain.low:g}..{domain.high:g}"


def value_in(domain: Domain, text: str) -> Scalar | None:
    """Return the value of a domain that `text` stands for, as the domain has it; None if it has no such value."""
    number = _number(text)
    if isinstance(domain, Choice):  # a grid may say 0 where the choice says 0.0
        return next((value for value in domain.values if str(value) == text or value == number), None)
    if number is None or not domain.contains(number):
        return None
    return int(number) if isinstance(domain, Integer) else number


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def check_grid_axis(name: str, values: Sequence[Scalar], space: Space) -> None:
    """Require that the values of a hyperparameter of the grid lie in the search space, each once.

    Raises:
        ValueError: they do not.
    """
    if name not in space:
        raise ValueError(f"grid: {name!r} is not in the search space; it has {', '.join(space)}")
    if not values:
        raise ValueError(f"grid.{name} is empty, but an axis needs at least one value")
    if len(set(values)) < len(values):
        raise ValueError(f"grid.{name} repeats an entry: {list(values)}")
    for value in values:
        if not space[name].contains(value):
            raise ValueError(f"grid.{name}: {value!r} lies outside the search space, {describe(space[name])}")
