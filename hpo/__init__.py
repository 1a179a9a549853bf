"""Search of hyperparameters: methods, studies, ledger, tracking.

The functions for notebooks are those of `hpo.app.notebook`. They are imported when they are first asked for, so that
`import hpo` costs nothing::

    import hpo

    finished = hpo.run("asha", "nano", budget=4)
    hpo.trials("nano", run_id=finished.run_id)
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

QUIET = {"DO_NOT_TRACK": "true", "RAY_USAGE_STATS_ENABLED": "0"}
"""Variables by which MLflow and the client of the model hub, and Ray, do not report to their makers."""
for _name, _value in QUIET.items():
    os.environ.setdefault(_name, _value)

if TYPE_CHECKING:
    from hpo.app.notebook import compare as compare
    from hpo.app.notebook import confirm as confirm
    from hpo.app.notebook import export as export
    from hpo.app.notebook import replay as replay
    from hpo.app.notebook import run as run
    from hpo.app.notebook import studies as studies
    from hpo.app.notebook import trials as trials
    from hpo.app.notebook import verdicts as verdicts

__all__ = ["compare", "confirm", "export", "replay", "run", "studies", "trials", "verdicts"]


def __getattr__(name: str) -> Any:
    """Import a function of the notebook interface."""
    if name not in __all__:
        raise AttributeError(f"module 'hpo' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(importlib.import_module("hpo.app.notebook"), name)


def __dir__() -> list[str]:
    """List the functions of the notebook interface."""
    return [*globals(), *__all__]
