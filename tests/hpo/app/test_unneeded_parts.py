"""Commands neither import nor build the parts of packages that they do not need, each most of a tenth of a second."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[3]


def printed(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, check=True)
    return done.stdout


@pytest.mark.slow
def test_runs_get_mlflows_tags_of_their_origin_without_ipython() -> None:
    program = """
import sys
from hpo.store.runs import origin_tags
ours, imported = origin_tags(), "IPython" in sys.modules
from mlflow.tracking.context.registry import resolve_tags
print(imported, ours == resolve_tags(), "mlflow.user" in ours)
"""
    assert printed(program) == "False True True\n"


@pytest.mark.slow
def test_the_models_of_a_deepspeed_block_and_a_bank_are_built_where_one_is_read() -> None:
    program = """
from benchmarks.banks.training import BankTraining
from benchmarks.check.deepspeed import Block
before = Block.__pydantic_complete__, BankTraining.__pydantic_complete__
Block.model_validate({})
print(*before, Block.__pydantic_complete__)
"""
    assert printed(program) == "False False True\n"


@pytest.mark.slow
def test_a_command_reads_once_which_plug_ins_packages_offer() -> None:
    program = """
import importlib.metadata as metadata
before = {group: metadata.entry_points(group=group) for group in ("pytest11", "console_scripts", "no_such_group")}
looked_up, distributions = [], metadata.distributions
metadata.distributions = lambda: looked_up.append(True) or distributions()
from hpo.cluster import plugins
plugins.look_up_once()
print(all(metadata.entry_points(group=group) == found for group, found in before.items()), len(looked_up))
print(metadata.entry_points(group="pytest11", name="xdist") == before["pytest11"].select(name="xdist"))
"""
    assert printed(program) == "True 1\nTrue\n"


@pytest.mark.slow
def test_ray_starts_before_mlflow_is_imported() -> None:
    """The two take as long as each other, and go on side by side."""
    program = """
import sys
from benchmarks import spec
from hpo.cluster import ray
from hpo.search import registry
for name in registry.names():
    method = registry.get(name)
    method.make_plan(method.study(spec.load("synthetic"), 0, 4, None, {}))
    if "mlflow" in sys.modules:
        sys.exit(f"{name} imports MLflow")
"""
    printed(program)
