"""More cases than the tests try: `python -m tests.fuzz [--cases N] [--seed S] [--only NAME]`.

Prints a line for each kind of input, and the smallest case that fails with the command that finds it again. Exit status
1 if one failed.
"""

from __future__ import annotations

import argparse
import secrets
import sys
import tempfile
import time
import traceback
from pathlib import Path

from tests.fuzz.runs import run
from tests.fuzz.targets import TARGETS
from tests.fuzz.workspace import workspace


def main() -> int:
    """Fuzz; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__, allow_abbrev=False)
    parser.add_argument("--cases", type=int, default=1000, help="for each kind of input (default: 1000)")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**32), help="default: another each time")
    parser.add_argument("--only", choices=TARGETS, help="one kind of input (default: all)")
    asked = parser.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory() as folder, workspace(Path(folder)):
        for name in [asked.only] if asked.only else TARGETS:
            failed += _fuzz(name, asked.cases, asked.seed)
    return 1 if failed else 0


def _fuzz(name: str, cases: int, seed: int) -> bool:
    """Try one kind of input; returns whether a case failed."""
    began, fault = time.monotonic(), ""
    try:
        counts = str(run(name, cases, seed))
    except BaseException as error:  # hypothesis groups several faults
        if isinstance(error, KeyboardInterrupt):
            raise
        counts, fault = "FAILED", "".join(traceback.format_exception(error))
    print(f"{name:20} {counts}, {time.monotonic() - began:.1f} s", flush=True)
    if fault:
        print(fault, f"again: python -m tests.fuzz --only {name} --cases {cases} --seed {seed}", sep="\n", flush=True)
    return bool(fault)


if __name__ == "__main__":
    sys.exit(main())
