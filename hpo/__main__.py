"""`python -m hpo`."""

from __future__ import annotations

import errno
import gc
import os
import sys

from hpo.cluster import garbage, plugins
from hpo.workflows import preflight

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Errors of an output that takes nothing more, though it has a reader."""


def run() -> int:
    """Refuse a Python or a lack of packages that could only end in a traceback, then hand over to the command line."""
    garbage.rest_while_importing()
    plugins.look_up_once()
    _open_closed_streams()
    fault = preflight.python_fault(sys.version_info[:2]) or preflight.package_fault(preflight.TO_PARSE)
    if fault:
        print(f"error: {fault}", file=sys.stderr)
        return 2
    from hpo.app.cli import main
    from hpo.terminal.console import discard

    try:
        status = main()
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        return _without_room(error)
    gc.freeze()  # at its end Python would go through all objects for garbage, most of a second after MLflow's import
    try:
        sys.stdout.flush()
    except OSError as error:  # the reader has gone; Python would say so at its end
        discard(sys.stdout)
        return _without_room(error) if error.errno in NO_ROOM else status
    return status


def _without_room(error: OSError) -> int:
    from hpo.terminal.console import discard
    from hpo.terminal.errors import show

    discard(sys.stdout)
    show(f"the output cannot be written ({error.strerror}); free some room, or send it elsewhere")
    return 2


def _open_closed_streams() -> None:
    """Send stdout and stderr nowhere if they were closed, as by `>&-`: the next file opened would take their place."""
    for number, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, number)
            if nowhere != number:
                os.close(nowhere)
            setattr(sys, name, os.fdopen(number, "w"))


if __name__ == "__main__":
    sys.exit(run())
