"""`python -m hpo`."""

from __future__ import annotations

import gc
import sys

from hpo.workflows import preflight

GARBAGE_THRESHOLD = 100_000
"""New objects after which the collector looks for garbage; with Python's 700 it takes a fifth of the imports' time."""


def run() -> int:
    """Refuse a Python or a lack of packages that could only end in a traceback, then hand over to the command line."""
    gc.set_threshold(GARBAGE_THRESHOLD)
    fault = preflight.python_fault(sys.version_info[:2]) or preflight.package_fault(preflight.TO_PARSE)
    if fault:
        print(f"error: {fault}", file=sys.stderr)
        return 2
    from hpo.app.cli import main

    status = main()
    gc.freeze()  # at its end Python would go through all objects for garbage, most of a second after MLflow's import
    try:
        sys.stdout.flush()
    except OSError:  # the reader has gone; Python would say so at its end
        from hpo.terminal.console import discard

        discard(sys.stdout)
    return status


if __name__ == "__main__":
    sys.exit(run())
