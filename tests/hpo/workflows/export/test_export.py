"""The best configuration, exported from a real store: the choice, the files, and the card."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import spec
from benchmarks.spec import Benchmark, BenchmarkError
from hpo.core.study import Study, default_schedule
from hpo.report.model_card import escape
from hpo.store.queries import stored_runs
from hpo.workflows import export
from tests.hpo.workflows.export.exports import (
    GOOD,
    OTHER,
    card_of,
    confirm,
    is_study,
    named,
    read,
    scores,
    store,
    store_study,
)
from tests.stores import working_in


@pytest.fixture(scope="module", autouse=True)
def _store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One store for all tests, since making its tables takes seconds; each test has an experiment of its own."""
    folder = tmp_path_factory.mktemp("export")
    with working_in(folder):
        yield


@pytest.fixture
def benchmark(request: pytest.FixtureRequest) -> Benchmark:
    """The synthetic benchmark under the name of the test."""
    return named(spec.load("synthetic"), request)


@pytest.mark.slow
class TestChoice:
    def test_best_is_the_best_confirmed_test_score_not_validation(self, benchmark: Benchmark, tmp_path: Path) -> None:
        store_study(benchmark, "asha", config=OTHER, eval_loss=0.1)
        store_study(benchmark, "random", config=GOOD, eval_loss=0.9)
        confirm(benchmark, 0, 0.6, schedule=[(0, OTHER)])
        confirm(benchmark, 0, 0.7, schedule=[(0, GOOD)])
        exported = export.export(benchmark.name, "best", tmp_path)
        assert exported.choice.contestant.name == "random"
        assert exported.is_confirmed

    def test_within_the_method_validation_chooses_never_test(self, benchmark: Benchmark, tmp_path: Path) -> None:
        store_study(benchmark, "asha", 0, GOOD, eval_loss=0.1)
        store_study(benchmark, "asha", 1, OTHER, eval_loss=0.2)
        confirm(benchmark, 0, 0.2, schedule=[(0, GOOD)])
        confirm(benchmark, 1, 0.9, schedule=[(0, OTHER)])
        exported = export.export(benchmark.name, "best", tmp_path)
        assert exported.choice.study.seed == 0
        card = card_of(exported)
        assert "| confirmed test eval loss of the method | 0.4500 |" in card
        assert "| confirmed test F1 of the method | 0.5500 |" in card
        assert "| confirmed test eval loss of this configuration | 0.8000 |" in card

    def test_a_diverged_confirmation_counts_as_the_worst(self, benchmark: Benchmark, tmp_path: Path) -> None:
        store_study(benchmark, "asha", 0, GOOD)
        store_study(benchmark, "asha", 1, GOOD)
        confirm(benchmark, 0, 0.9, schedule=[(0, GOOD)])
        confirm(benchmark, 1, math.nan, schedule=[(0, GOOD)])
        for seed in (0, 1):
            store_study(benchmark, "random", seed, OTHER)
            confirm(benchmark, seed, 0.5, schedule=[(0, OTHER)])
        assert export.export(benchmark.name, "best", tmp_path).choice.contestant.name == "random"
        assert "2 diverged" in card_of(export.export(benchmark.name, "asha", tmp_path))

    def test_a_method_with_a_study_that_is_not_confirmed_cannot_win(self, benchmark: Benchmark, tmp_path: Path) -> None:
        store_study(benchmark, "asha", 0, GOOD)
        store_study(benchmark, "asha", 1, OTHER)
        store_study(benchmark, "random", 0, {**GOOD, "weight_decay": 0.0})
        confirm(benchmark, 0, 0.9, schedule=[(0, GOOD)])
        confirm(benchmark, 0, 0.1, schedule=[(0, {**GOOD, "weight_decay": 0.0})])
        assert export.export(benchmark.name, "best", tmp_path).choice.contestant.name == "random"

    def test_best_without_a_confirmation_says_what_to_run(self, benchmark: Benchmark, tmp_path: Path) -> None:
        store_study(benchmark, "asha")
        command = re.escape(f"python -m hpo confirm --benchmark {benchmark.name}")
        with pytest.raises(BenchmarkError, match=command):
            export.export(benchmark.name, "best", tmp_path / "new")
        assert not (tmp_path / "new").exists()

    def test_a_named_method_may_be_unconfirmed_and_the_card_says_so(self, benchmark: Benchmark, tmp_path: Path) -> None:
        store_study(benchmark, "asha", variant="searcher=optuna")
        exported = export.export(benchmark.name, "asha searcher=optuna", tmp_path)
        assert not exported.is_confirmed
        assert "**Not confirmed**" in card_of(exported)

    def test_commands_of_the_card_name_the_file_that_the_benchmark_was_given_as(
        self, benchmark: Benchmark, tmp_path: Path
    ) -> None:
        store_study(benchmark, "asha")
        card = card_of(export.export(benchmark.name, "asha", tmp_path, "own study.yaml"))
        words = "python -m hpo {} --benchmark 'own study.yaml'"
        assert [verb for verb in ("confirm", "compare") if words.format(verb) not in card] == []

    def test_an_unknown_method_names_those_there_are(self, benchmark: Benchmark, tmp_path: Path) -> None:
        store_study(benchmark, "asha")
        store_study(benchmark, "random")
        with pytest.raises(BenchmarkError, match=r"method is 'bohb', .*: 'asha', 'random'"):
            export.export(benchmark.name, "bohb", tmp_path)

    def test_a_method_without_a_sound_trial_is_refused(self, benchmark: Benchmark, tmp_path: Path) -> None:
        store(Study("asha", benchmark, budget=3), (dict(GOOD), scores(math.nan)))
        with pytest.raises(BenchmarkError, match=r"no trial of asha on .* was sound"):
            export.export(benchmark.name, "asha", tmp_path)

    @pytest.mark.slow
    @pytest.mark.parametrize("method", ["best", "asha"])
    def test_a_file_that_cannot_be_had_never_makes_another_configuration_win(
        self, method: str, benchmark: Benchmark, tmp_path: Path
    ) -> None:
        """The method with the higher test score, or its better study, has lost its file."""
        benchmark = benchmark.model_copy(update={"name": f"lost_{method}"})
        store_study(benchmark, "asha", 0, GOOD, eval_loss=0.1)
        store_study(benchmark, "asha", 1, {**GOOD, "weight_decay": 0.0}, eval_loss=0.2)
        store_study(benchmark, "random", 0, OTHER, eval_loss=0.9)
        confirm(benchmark, 0, 0.9, schedule=[(0, GOOD)])
        confirm(benchmark, 1, 0.9, schedule=[(0, {**GOOD, "weight_decay": 0.0})])
        confirm(benchmark, 0, 0.4, schedule=[(0, OTHER)])
        assert export.export(benchmark.name, method, tmp_path / "before").choice.best["config"] == GOOD
        lost = next(run for run in stored_runs(benchmark.name, "tags.hpo.method = 'asha'") if is_study(run, seed="0"))
        (Path(lost.info.artifact_uri.removeprefix("file://")) / "best_config.json").unlink()
        with pytest.raises(BenchmarkError, match=r"asha seed 0 .*best_config\.json is missing") as raised:
            export.export(benchmark.name, method, tmp_path / "after")
        assert lost.info.run_id in str(raised.value)
        assert not (tmp_path / "after").exists()
        assert export.export(benchmark.name, "random", tmp_path / "other").choice.best["config"] == OTHER

    def test_a_benchmark_without_studies_is_refused(self, benchmark: Benchmark, tmp_path: Path) -> None:
        with pytest.raises(BenchmarkError, match="no finished study"):
            export.export(benchmark.name, "best", tmp_path)


class TestFiles:
    def test_the_configuration_is_as_it_was_stored(self, benchmark: Benchmark, tmp_path: Path) -> None:
        store_study(benchmark, "asha", seed=4)
        export.export(benchmark.name, "asha", tmp_path / "deep" / "folder")
        best = read(tmp_path / "deep" / "folder", "best_config.json")
        assert list(best) == ["benchmark", "method", "seed", "units", "config", "metrics", "run_id"]
        assert (best["config"], best["seed"], best["method"]) == (GOOD, 4, "asha")

    def test_a_benchmark_without_a_model_gets_configuration_and_card_alone(
        self, benchmark: Benchmark, tmp_path: Path
    ) -> None:
        store_study(benchmark, "asha")
        exported = export.export(benchmark.name, "asha", tmp_path)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["MODEL_CARD.md", "best_config.json"]
        assert "trains no model" in card_of(exported)

    def test_a_schedule_is_written_and_gone_with_the_next_export(self, benchmark: Benchmark, tmp_path: Path) -> None:
        schedule = [(0, GOOD), (4, OTHER)]
        store_study(benchmark, "pbt", schedule=schedule)
        store_study(benchmark, "random")
        (tmp_path / "notes.txt").write_text("mine")
        exported = export.export(benchmark.name, "pbt", tmp_path)
        assert read(tmp_path, "schedule.json") == [{"units": units, "config": config} for units, config in schedule]
        assert read(tmp_path, "best_config.json")["config"] == OTHER
        assert "| from unit 0 | from unit 4 |" in card_of(exported)
        export.export(benchmark.name, "random", tmp_path)
        names = sorted(path.name for path in tmp_path.iterdir())
        assert names == ["MODEL_CARD.md", "best_config.json", "notes.txt"]

    def test_a_file_in_the_folder_s_place_is_refused(self, benchmark: Benchmark, tmp_path: Path) -> None:
        store_study(benchmark, "asha")
        (tmp_path / "file").write_text("mine")
        with pytest.raises(BenchmarkError, match="cannot be written"):
            export.export(benchmark.name, "asha", tmp_path / "file")


@pytest.mark.slow
class TestCard:
    def test_it_says_by_how_much_at_what_cost_and_how_sure(self, benchmark: Benchmark, tmp_path: Path) -> None:
        store_study(benchmark, "asha", config=GOOD, accelerator="NVIDIA | A*100")
        store_study(benchmark, "random", config=OTHER, accelerator="NVIDIA | A*100")
        confirm(benchmark, 0, 0.8, schedule=[(0, GOOD)])
        confirm(benchmark, 0, 0.75, schedule=[(0, OTHER)])
        confirm(benchmark, 0, 0.7, schedule=default_schedule(benchmark))
        card = card_of(export.export(benchmark.name, "best", tmp_path))
        assert "| test eval loss minus default's | -0.1000 (1 block) |" in card
        assert "| test eval loss minus random's | -0.0500 (1 block) |" in card
        assert "2 trainings on 1 block (seeds 0), of which none diverged" in card
        assert "**not resolved**" in card
        assert "| test eval loss that chose it from 2 methods (1 block) | 0.2000 |" in card
        assert "| the same, corrected for having been chosen | takes 2 blocks |" in card
        assert "Methods that are not shown to be worse: random" in card
        assert r"| accelerator | NVIDIA \| A\*100 |" in card
        assert "| device-hours of this study | 1 |" in card
        assert "| `learning_rate` | searched | 0.00123457 |" in card

    def test_the_correction_for_having_been_chosen_is_a_number(self, benchmark: Benchmark, tmp_path: Path) -> None:
        """Each method is better on one block, so the block that does not choose reports the other's score."""
        for method, config, scores_by_block in (("asha", GOOD, (0.9, 0.5)), ("random", OTHER, (0.5, 0.8))):
            for seed, score in enumerate(scores_by_block):
                store_study(benchmark, method, seed, config)
                confirm(benchmark, seed, score, schedule=[(0, config)])
        card = card_of(export.export(benchmark.name, "best", tmp_path))
        assert "| test eval loss that chose it from 2 methods (2 blocks) | 0.3000 |" in card
        assert "| the same, corrected for having been chosen | 0.5000 (+0.2000) |" in card

    def test_a_difference_by_rounding_has_no_minus(self, benchmark: Benchmark, tmp_path: Path) -> None:
        store_study(benchmark, "asha", config=GOOD)
        confirm(benchmark, 0, 0.8, schedule=[(0, GOOD)])
        confirm(benchmark, 0, 0.8 - 1e-9, schedule=default_schedule(benchmark))
        card = card_of(export.export(benchmark.name, "asha", tmp_path))
        assert "| test eval loss minus default's | +0.0000 (1 block) |" in card

    def test_values_cannot_break_the_page(self) -> None:
        assert escape("a|b\n# `x` <b> *y* [z](u)") == r"a\|b \# \`x\` \<b\> \*y\* \[z\](u)"
