"""`python -m hpo`."""

from __future__ import annotations

import sys

from hpo.workflows import preflight


def run() -> int:
    """Refuse a Python or a lack of packages that could only end in a traceback, then hand over to the command line."""
    fault = preflight.python_fault(sys.version_info[:2]) or preflight.package_fault(preflight.TO_PARSE)
    if fault:
        print(f"error: {fault}", file=sys.stderr)
        return 2
    from hpo.app.cli import main

    status = main()
    try:
        sys.stdout.flush()
    except OSError:  # the reader has gone; Python would say so at its end
        from hpo.terminal.console import discard

        discard(sys.stdout)
    return status


if __name__ == "__main__":
    sys.exit(run())
