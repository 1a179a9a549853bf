"""The report as text: its verdict, its files, and no address outside itself."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import pandas as pd
import pytest

from benchmarks.spec import Benchmark
from hpo.analysis.compare import Result
from hpo.report import page as report
from hpo.report import sentences
from tests.hpo.report.comparisons import (
    make_result,
)


class TestVerdict:
    def test_not_resolved_says_what_would_resolve_it(self, benchmark: Benchmark, result: Result) -> None:
        assert sentences.verdict(result) == (
            "Not resolved: no difference in test eval loss was shown in any of 2 pairs. It takes at least 7 blocks "
            "(seeds that all methods were run with) for 2 comparisons at the level 0.05; there are 3."
        )
        assert sentences.verdict(make_result(benchmark, reference="all")) == (
            "Not resolved: no difference in test eval loss was shown in any of 3 pairs. It takes at least 7 blocks "
            "(seeds that all methods were run with) for 3 comparisons at the level 0.05; there are 3. With one method "
            "as the reference there are 2 comparisons, which take 7."
        )

    def test_what_is_resolved_is_said_first(self, benchmark: Benchmark) -> None:
        text = sentences.verdict(make_result(benchmark, seeds=range(8), reference="all"))
        assert text == (
            "3 pairs of 3 resolved on test eval loss: asha is better than random; asha is better than pbt; random is "
            "worse than pbt."
        )

    def test_without_confirmations_there_is_none(self, benchmark: Benchmark) -> None:
        unconfirmed = make_result(benchmark, is_confirmed=False)
        assert sentences.verdict(unconfirmed).startswith("No verdict: a verdict takes two methods")

    @pytest.mark.slow
    def test_budgets_that_differ_are_marked(self, benchmark: Benchmark, files: dict[str, str]) -> None:
        one = make_result(benchmark, seeds=[0])
        assert "Budgets differ." in report.files(replace(one, is_marked=True))["report.html"]
        assert "Budgets differ." not in files["report.html"]


class TestFiles:
    def test_the_report_and_one_csv_a_figure(self, files: dict[str, str]) -> None:
        drawn = (
            "confirmed_scores",
            "critical_difference",
            "anytime",
            "target_reached",
            "quality_against_cost",
            "cost_split",
            "timelines",
        )
        names = (*drawn, "parallel_coordinates", "importance", "schedules", "shrinkage")
        assert set(files) == {"report.html", *(f"figure_{name}.csv" for name in names)}
        read = pd.read_csv(io.StringIO(files["figure_cost_split.csv"]))
        assert list(read) == ["method", "part", "device_hours", "share"]

    @pytest.mark.slow
    def test_smaller_ones_lack_first_plots_and_then_data(self, benchmark: Benchmark) -> None:
        whole = report.files(result := make_result(benchmark, seeds=[0]))["report.html"]
        without_plots, tables_alone = report.smaller(result)
        for page in (without_plots, tables_alone):
            assert "plotly.js v" not in page
            assert 'class="plot"' not in page
            assert len(page) < 100_000 < len(whole)
            assert page.count("<table") == whole.count("<table")
        assert without_plots.count("data:text/csv") == whole.count("data:text/csv") > 0
        assert "data:text/csv" not in tables_alone

    def test_it_refers_to_nothing_outside(self, files: dict[str, str]) -> None:
        page = files["report.html"]
        own = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
        assert not re.findall(r"""(?:src|href|action|url)\s*[=(]\s*["']?(?!#|data:)[^"'\s)]""", own)
        assert "http" not in own.replace('<meta http-equiv="', "")
        assert page.count("plotly.js v") == 1

    @pytest.mark.slow
    def test_the_same_comparison_gives_the_same_files(self, benchmark: Benchmark) -> None:
        assert report.files(make_result(benchmark, seeds=[0])) == report.files(make_result(benchmark, seeds=[0]))
