"""Plug-ins that installed packages offer each other: looked up once in a process that runs one command.

MLflow looks for eight kinds of them while it is imported, pydantic and Alembic for one each. Each time Python reads a
file of every installed package, which took a twentieth of the time of `compare`.
"""

from __future__ import annotations

import importlib.metadata
from functools import cache
from typing import Any


def look_up_once() -> None:
    """Keep the plug-ins of all packages until this process ends; a package installed meanwhile is not seen."""
    all_of_them = cache(importlib.metadata.entry_points)

    def entry_points(**wanted: Any) -> Any:
        return all_of_them().select(**wanted)

    importlib.metadata.entry_points = entry_points
