"""Runs a target on generated cases, and counts them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from hypothesis import HealthCheck, settings
from hypothesis import seed as with_seed

from tests.fuzz import workspace
from tests.fuzz.targets import TARGETS


@dataclass(frozen=True)
class Counts:
    """Commands that were answered, by answer."""

    accepted: int
    refused: int

    @property
    def cases(self) -> int:
        """All of them."""
        return self.accepted + self.refused

    def __str__(self) -> str:
        return f"{self.cases} cases, {self.accepted} accepted, {self.refused} refused"


def run(name: str, cases: int, seed: int | None = None) -> Counts:
    """Try a target on so many cases.

    Args:
        name: one of `TARGETS`.
        cases: how many to generate, beside the regressions that are written down.
        seed: of the generator; by default the same cases each time.

    Raises:
        AssertionError or whatever a command raised: the smallest case is in the error's notes.
    """
    target = TARGETS[name]
    if seed is not None:
        target = with_seed(seed)(target)
    limits = settings(
        max_examples=cases,
        derandomize=seed is None,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    before = Counter(workspace.ANSWERS)
    limits(target)()
    return Counts(workspace.ANSWERS[0] - before[0], workspace.ANSWERS[2] - before[2])
