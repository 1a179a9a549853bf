"""Promises for bad input, one function for each kind of input; hypothesis makes the cases.

Each gives its input to the real command line.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.fuzz.benchmark_targets import (
    deepspeed_file,
    finetune_benchmark,
    space_file,
    squad_file,
    squad_lines,
    synthetic_benchmark,
)
from tests.fuzz.command_targets import cluster_profile, command_line, csv_import

TARGETS: dict[str, Callable[[], None]] = {
    target.__name__: target
    for target in (
        synthetic_benchmark,
        finetune_benchmark,
        space_file,
        deepspeed_file,
        squad_file,
        squad_lines,
        csv_import,
        cluster_profile,
        command_line,
    )
}
