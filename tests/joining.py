"""Attempts to join a Ray that runs, as any program that reaches its ports may make them."""

from __future__ import annotations

import os
import subprocess
import sys

REFUSED = "AuthenticationError"
TOKEN = "RAY_AUTH_TOKEN"
ASK = """
import sys
from ray._raylet import GcsClient
try:
    print(len(GcsClient(address=sys.argv[1]).get_all_node_info()))
except Exception as error:
    print(type(error).__name__)
"""
"""Asks Ray's head for its nodes, as everything that joins does first."""


def answers(address: str, token: str) -> dict[str, str]:
    """Collect the answers of a head to each kind of attempt: a number of nodes, or an error's name."""
    return {kind: _ask(address, variables) for kind, variables in attempts(token).items()}


def attempts(token: str) -> dict[str, dict[str, str]]:
    """List the variables of each attempt, the last one with the right token."""
    return {
        "no token": {},
        "authentication turned off": {"RAY_AUTH_MODE": "disabled"},
        "another token": {"RAY_AUTH_MODE": "token", TOKEN: "ab" * 32},
        "the token": {"RAY_AUTH_MODE": "token", TOKEN: token},
    }


def _ask(address: str, variables: dict[str, str]) -> str:
    rest = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    command = [sys.executable, "-c", ASK, address]
    environment = {**rest, "HOME": "/nowhere", **variables}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    return done.stdout.strip()
