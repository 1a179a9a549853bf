"""The garbage collector of a command: at rest while packages are imported, and never for longer than that."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[3]
PROGRAM = """
import gc
from hpo.cluster import garbage

collections = []
garbage.rest_while_importing()
gc.callbacks.insert(0, lambda phase, info: collections.append(phase))
{statements}
print(len(collections), gc.get_threshold()[0], gc.get_freeze_count() > 0)
"""


def printed(statements: str) -> str:
    command = [sys.executable, "-c", PROGRAM.format(statements=statements)]
    return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize(
    ("statements", "expected"),
    [
        ("kept = [[] for _ in range(1_000_000)]", "0 2000000 False"),
        ("kept = [[] for _ in range(2_100_000)]", "4 100000 False"),
        ("garbage.collect_from_here()", "0 100000 True"),
    ],
    ids=["rests during imports", "collects as usual after the first collection", "collects where imports are done"],
)
@pytest.mark.slow
def test_it_rests_until_imports_are_done(statements: str, expected: str) -> None:
    assert printed(statements) == expected


@pytest.mark.slow
def test_a_process_of_the_users_own_keeps_its_setting() -> None:
    program = "import gc; from hpo.cluster import garbage; garbage.collect_from_here(); print(gc.get_threshold()[0])"
    done = subprocess.run([sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert done.stdout == "700\n"
