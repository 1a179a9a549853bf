"""Tables on the terminal: few incumbents one by one, many in a line."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from benchmarks.spec import Benchmark
from hpo.report import tables
from tests.hpo.report.comparisons import make_result


@pytest.mark.parametrize(("seeds", "is_table"), [(3, True), (14, False)])
def test_many_incumbents_are_summed_up_in_a_line(seeds: int, is_table: bool, benchmark: Benchmark) -> None:
    result, console = make_result(benchmark, seeds=list(range(seeds))), Console(file=io.StringIO(), width=200)
    tables.print_shrinkage(console, result)
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    assert ("trainings" in printed) is is_table
    if not is_table:
        assert printed.startswith("42 incumbents were trained again with fresh seeds: eval loss is worse by ")
        assert printed.count("\n") == 1
