"""The garbage collector of a process that runs one command: it rests while packages are imported.

Importing Ray and MLflow makes a million objects, nearly all of which stay. Python would go through each of them, which
takes a tenth of the imports' time.
"""

from __future__ import annotations

import gc

OBJECTS_OF_IMPORTS = 2_000_000
"""New objects before the first collection; a command that ends earlier, such as `compare`, has none."""
OBJECTS_PER_COLLECTION = 100_000
"""New objects before any other collection; Python's own 700 are for programs with less to go through."""


def rest_while_importing() -> None:
    """Put the first collection off until the command has imported its packages, or for good if it ends before."""
    gc.set_threshold(OBJECTS_OF_IMPORTS)
    gc.callbacks.append(_end_rest)


def collect_from_here() -> None:
    """Leave all that was imported out of the collections, and begin with them if they were put off."""
    gc.freeze()
    _end_rest()


def _end_rest(*_: object) -> None:
    """End the rest; the first collection does so for commands that do not say when their imports are done."""
    if _end_rest in gc.callbacks:
        gc.callbacks.remove(_end_rest)
        gc.set_threshold(OBJECTS_PER_COLLECTION)
