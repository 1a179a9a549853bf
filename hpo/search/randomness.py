"""Random state of one's own, for libraries that draw from the process's global generators."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np


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
