"""Random state: the sequence with which every method of a block begins, and generators of a library's own.

All methods of a block begin with the benchmark's default, then one random sequence. Methods that begin alike differ by
their own decisions alone, and none is worse than the default for want of trying it. Searchers that draw at random go on
with the sequence. Model-based ones propose from it until their model proposes.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from ray.tune.search import BasicVariantGenerator
from ray.tune.search.variant_generator import generate_variants

from benchmarks.space import Config
from hpo.core.study import Study
from hpo.search.plan import SearchArguments
from hpo.search.space import to_tune


def opening(study: Study, arguments: SearchArguments) -> list[Config]:
    """Return the proposals before the random sequence: the default, if it is asked for and the space holds it."""
    default = study.benchmark.default_in_space() if arguments.start_with_default else None
    return [] if default is None else [default]


class RandomSearcher(BasicVariantGenerator):
    """Tune's random searcher, which proposes the sequence without end.

    Args:
        seed: drives the sequence.
        first: see `opening`.

    Attributes:
        first: as given.
    """

    def __init__(self, seed: int, first: Sequence[Config]) -> None:
        super().__init__(points_to_evaluate=[dict(config) for config in first], random_state=seed)
        self.first = tuple(first)


def random_searcher(study: Study, first: Sequence[Config]) -> RandomSearcher:
    """Make the random searcher of a study, which begins with its opening."""
    return RandomSearcher(study.seed, first)


class Draws:
    """The same sequence, one proposal at a time, for searchers that propose from it while they have no model.

    Args:
        study: gives space and seed.
        first: see `opening`.
    """

    def __init__(self, study: Study, first: Sequence[Config] = ()) -> None:
        self._space, self._random = to_tune(study.benchmark.space), np.random.default_rng(study.seed)
        self._first = list(first)

    @property
    def has_opening(self) -> bool:
        """Tell whether the opening is not over, whose proposals come before those of any model."""
        return bool(self._first)

    def next(self) -> Config:
        """Draw the next proposal."""
        if self._first:
            return dict(self._first.pop(0))
        spec: dict[str, Any]
        _, spec = next(generate_variants({"config": self._space}, random_state=self._random))
        return dict(spec["config"])


class OwnRandomness:
    """Global generators without other users: `with randomness.borrowed(): library.call()`.

    Ray's PBT draws from `random`, BOHB's density estimator and PB2 from `numpy.random`. Seeding those once would
    tie a study to all other draws from them in this process, such as those of the study before it.

    Args:
        seed: an integer in [0, 2**32).
    """

    def __init__(self, seed: int) -> None:
        self._python = random.Random(seed).getstate()
        self._numpy = np.random.RandomState(seed).get_state()

    @contextmanager
    def borrowed(self) -> Iterator[None]:
        """Exchange the global states for this one's, and keep their new position."""
        python, numpy = random.getstate(), np.random.get_state()
        random.setstate(self._python)
        np.random.set_state(self._numpy)
        try:
            yield
        finally:
            self._python, self._numpy = random.getstate(), np.random.get_state()
            random.setstate(python)
            np.random.set_state(numpy)
