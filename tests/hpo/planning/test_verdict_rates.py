"""Rates of verdicts by simulation: on tables of which the truth is plain."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.spec import BenchmarkError
from hpo.planning.verdict_rates import Needed, blocks_for, main, pairings, rates, read_scores

TIED = np.where(np.random.default_rng(0).random((40, 3)) < 0.3, 0.3, 0.7)
"""Scores of three methods that tie in most blocks and differ much in others."""


def write(path: Path, scores: dict[str, list[float]]) -> Path:
    rows = [f"{method},{seed},{score}" for method, found in scores.items() for seed, score in enumerate(found)]
    path.write_text("\n".join(["method,seed,score", *rows]) + "\n")
    return path


@pytest.mark.parametrize("blocks", [5, 12])
def test_where_no_method_is_better_few_families_say_so(blocks: int) -> None:
    assert rates(np.random.default_rng(1).normal(size=(40, 4)), blocks, 100).family_wise_error <= 0.1


def test_pairs_that_differ_in_half_of_all_rows_are_seldom_called_equivalent() -> None:
    half = np.tile([[0.7, 0.7], [0.7, 0.3]], (20, 1))
    found = rates(half, 12, 200)
    assert found.wrong_equivalence == found.equivalences <= 0.08


def test_pairs_that_tie_in_most_blocks_are_called_equivalent_and_rightly() -> None:
    found = rates(np.where(TIED < 0.5, 0.701, TIED), 12, 50)
    assert found.equivalences > 0
    assert found.wrong_equivalence == 0


def test_student_s_t_covers_more_often_than_the_bootstrap() -> None:
    found = rates(np.random.default_rng(2).normal(size=(40, 2)), 5, 300)
    assert found.coverage > 0.9 > found.coverage_of_bootstrap


def test_the_blocks_of_a_large_difference_are_the_fewest_there_are() -> None:
    assert blocks_for(0.001, 0.1, draws=50) == Needed(0.001, 0.1, 6)


def test_a_difference_that_no_number_of_blocks_finds_has_none() -> None:
    assert blocks_for(0.1, 0.0, draws=50).blocks is None


def test_blocks_that_methods_share_take_spread_away_and_others_do_not() -> None:
    rng = np.random.default_rng(3)
    base, own = rng.normal(size=400), rng.normal(size=400)
    found = {
        one.method: one for one in pairings(pd.DataFrame({"random": base, "like": base + 0.1 * own, "apart": own}))
    }
    assert found["like"].paired == pytest.approx(0.1, rel=0.1)
    assert found["like"].paired < 0.2 * found["like"].apart
    assert found["apart"].paired == pytest.approx(found["apart"].apart, rel=0.1)
    assert found["apart"].ties == 0.0
    assert found["like"].worst == pytest.approx(float(0.1 * own.min()))


def test_without_random_search_nothing_is_paired() -> None:
    assert pairings(pd.DataFrame({"a": [1.0, 2.0], "b": [2.0, 3.0]})) == []


def test_figures_are_the_same_each_time() -> None:
    assert rates(TIED, 8, 20) == rates(TIED, 8, 20)


@pytest.mark.slow
def test_a_file_of_scores_gives_all_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "scores.csv", {"asha": TIED[:, 0].tolist(), "random": TIED[:, 1].tolist()})
    main([str(path), "4"])
    found = json.loads(capsys.readouterr().out)
    assert (found["methods"], found["rows"]) == (2, 40)
    assert [row["blocks"] for row in found["rates"]] == [5, 8, 12, 20]
    assert len(found["needed"]) == 9


def test_blocks_that_a_method_lacks_are_left_out_and_the_first_metric_counts(tmp_path: Path) -> None:
    rows = ["metric,method,seed,score"]
    rows += [f"test_f1,{method},{seed},0.5" for method in ("a", "b") for seed in range(6) if (method, seed) != ("b", 3)]
    rows += [f"test_eval_loss,{method},{seed},2.5" for method in ("a", "b") for seed in range(6)]
    (tmp_path / "scores.csv").write_text("\n".join(rows))
    assert read_scores(tmp_path / "scores.csv").tolist() == [[0.5, 0.5]] * 5


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "method,seed,score\na,0,0.1\na,0,0.2\n", "method,seed,score\n"])
def test_a_file_that_holds_no_scores_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "scores.csv").write_text(text)
    with pytest.raises(BenchmarkError, match=r"scores\.csv: (holds no confirmed scores|has 0 methods)"):
        read_scores(tmp_path / "scores.csv")


def test_too_few_blocks_in_common_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "scores.csv", {"a": [0.1] * 4, "b": [0.2] * 9})
    with pytest.raises(BenchmarkError, match="has 2 methods with 4 blocks in common, but it takes 2 with 5"):
        read_scores(path)
