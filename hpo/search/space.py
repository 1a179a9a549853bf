"""The benchmark's search space in Ray Tune's terms."""

from __future__ import annotations

from typing import Any

from ray import tune

from benchmarks.space import Choice, Domain, Integer, LogUniform, Space


def to_tune(space: Space) -> dict[str, Any]:
    """Return each domain as Ray Tune's sampler, which every searcher of Ray converts further."""
    return {name: _to_tune(domain) for name, domain in space.items()}


def _to_tune(domain: Domain) -> Any:
    if isinstance(domain, Choice):
        return tune.choice(list(domain.values))
    if isinstance(domain, Integer):
        return tune.randint(domain.low, domain.high + 1)  # Tune leaves the upper bound out
    if isinstance(domain, LogUniform):
        return tune.loguniform(domain.low, domain.high)
    return tune.uniform(domain.low, domain.high)
