"""Checks of interpreter and packages, before anything else can be imported. Standard library only."""

from __future__ import annotations

import importlib.util

OLDEST_PYTHON, NEWEST_PYTHON = (3, 11), (3, 13)
TO_PARSE = ("pydantic", "yaml", "rich")
TO_RUN = (*TO_PARSE, "torch", "deepspeed", "transformers", "ray", "mlflow", "hyperopt", "optuna", "pynvml", "psutil")
INSTALL = "pip install -r requirements.txt"


def python_fault(version: tuple[int, ...]) -> str:
    """Return a sentence if this Python is not supported, else an empty text."""
    if OLDEST_PYTHON <= version <= NEWEST_PYTHON:
        return ""
    return (
        f"Python is {version[0]}.{version[1]}, but must be {'.'.join(map(str, OLDEST_PYTHON))} to "
        f"{'.'.join(map(str, NEWEST_PYTHON))}; make a virtual environment with one of these"
    )


def package_fault(modules: tuple[str, ...]) -> str:
    """Return a sentence if a module cannot be found, else an empty text."""
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    return f"package {missing[0]} is missing; install the pinned versions: {INSTALL}" if missing else ""
