"""Nothing is reported to the makers of the packages that the suite uses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
PROGRAM = """
import json
import hpo, mlflow
from huggingface_hub import constants
from mlflow.telemetry import get_telemetry_client
from ray._common.usage import usage_lib
print(json.dumps([get_telemetry_client() is None, constants.HF_HUB_DISABLE_TELEMETRY, usage_lib.usage_stats_enabled()]))
"""


def told(**variables: str) -> list[bool]:
    """Ask whether MLflow is silent, the hub's client is, and Ray reports, in a process that no test runs."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    command, env = [sys.executable, "-c", PROGRAM], {**kept, **variables}
    done = subprocess.run(command, cwd=PROJECT, env=env, capture_output=True, text=True, check=True)
    found: list[bool] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.slow
def test_no_package_reports_its_use() -> None:
    assert told() == [True, True, False]


@pytest.mark.slow
def test_a_user_s_own_choice_stays() -> None:
    offline = {"HTTPS_PROXY": "http://127.0.0.1:9", "NO_PROXY": ""}  # MLflow asks its makers for settings first
    assert told(DO_NOT_TRACK="false", RAY_USAGE_STATS_ENABLED="1", **offline)[1:] == [False, True]
