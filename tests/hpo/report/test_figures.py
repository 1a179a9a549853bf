"""Figures: the data that each draws, the reason where one is left out, and colours that can be read."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks import spec
from benchmarks.spec import Benchmark
from hpo.analysis import compare
from hpo.analysis.compare import Result
from hpo.analysis.contestants import Contestant
from hpo.analysis.pareto import Point
from hpo.analysis.records import Records
from hpo.report.figures import catalogue, parallel, plots
from hpo.report.figures.cost_split import cost_split
from hpo.report.figures.importance import hyperparameter_importance
from hpo.report.figures.over_cost.anytime import anytime_curves
from hpo.report.figures.over_cost.reached import target_reached
from hpo.report.figures.pareto import points_of, quality_against_cost
from hpo.report.figures.plots import LeftOut
from hpo.report.figures.schedules import schedules
from hpo.report.figures.scores import confirmed_scores
from hpo.report.figures.shrinkage import shrinkage
from hpo.report.figures.timelines import timelines
from tests.hpo.report.colors import contrast, rgb
from tests.hpo.report.comparisons import (
    SEEDS,
    as_plotly_reads,
    as_written,
    drawn,
    make_result,
    make_study,
)


class TestFigures:
    def test_a_row_a_block_with_its_score(self, result: Result) -> None:
        data = drawn(confirmed_scores(result, plots.styles(result))).data
        of_asha = data[(data["method"] == "asha") & (data["metric"] == "test_f1")]
        assert of_asha["score"].tolist() == pytest.approx([0.60, 0.61, 0.62])
        assert of_asha["mean"].unique() == pytest.approx([0.61])
        assert of_asha["low"].isna().all()  # of three blocks

    def test_five_blocks_have_an_interval_around_their_mean(self, benchmark: Benchmark) -> None:
        five = make_result(benchmark, seeds=[0, 1, 2, 3, 4])
        data = drawn(confirmed_scores(five, plots.styles(five))).data
        one = data[(data["method"] == "asha") & (data["metric"] == "test_f1")].iloc[0]
        assert one["low"] < one["mean"] < one["high"]

    def test_curves_begin_with_the_last_study_s_first_incumbent(self, result: Result) -> None:
        data = drawn(anytime_curves(result, plots.styles(result))).data
        asha = data[data["method"] == "asha"]
        assert asha["device_hours"].iloc[0] == pytest.approx(6.0 * 2 / 3600)
        assert asha["device_hours"].iloc[-1] == pytest.approx(10.0 * 2 / 3600)
        assert asha["value"].iloc[0] == pytest.approx(1.11)  # 0.7, 0.71, 0.72, each + 0.4
        assert asha["value"].iloc[-1] == pytest.approx(0.71)

    def test_studies_that_reached_random_search_s_median_are_counted(self, result: Result) -> None:
        """Random search's incumbents are 0.8, 0.81 and 0.82; ASHA's and PBT's are better from the last unit on."""
        figure = drawn(target_reached(result, plots.styles(result)))
        assert "of 0.81," in figure.how_to_read
        shares = figure.data.groupby("method")["share"].max().to_dict()
        assert shares == pytest.approx({"asha": 1.0, "pbt": 1.0, "random": 2 / 3})
        assert figure.notes[0].startswith("asha: 3 of 3 reached it, half of all by ")
        assert any(note.startswith("random: 2 of 3 reached it") for note in figure.notes)

    def test_a_random_search_that_found_nothing_lowers_the_target(self, result: Result) -> None:
        """Its incumbents are 0.8, 0.81 and 0.82; if the first two found nothing, the median is the worst loss."""
        random = next(one for one in result.contestants if one.name == "random")
        lost = {seed: replace(study, files={}) for seed, study in random.studies.items() if seed < 2}
        changed = replace(random, studies={**random.studies, **lost})
        others = [changed if one is random else one for one in result.contestants]
        figure = drawn(target_reached(replace(result, contestants=others), plots.styles(result)))
        assert f"of {result.benchmark.diverged_above:.4g}," in figure.how_to_read

    def test_one_seed_has_no_band_and_a_note_says_so(self, benchmark: Benchmark) -> None:
        one = make_result(benchmark, seeds=[0])
        figure = drawn(anytime_curves(one, plots.styles(one)))
        assert figure.notes == ("Without a band, which takes 5 seeds: asha, random, pbt.",)
        assert all("fill" not in trace for trace in figure.views[""].data)
        for trace in figure.views[""].data:  # a point where it steps, and the first and the last
            assert 2 <= len(trace["y"]) <= len(set(trace["y"])) + 1

    def test_parts_add_up_to_the_device_hours(self, result: Result) -> None:
        data = drawn(cost_split(result)).data
        assert data.groupby("method")["device_hours"].sum().tolist() == pytest.approx([20 / 3600] * 3)
        idle = data[(data["method"] == "asha") & (data["part"] == "idle")]
        assert idle["share"].tolist() == pytest.approx([5.5 / 20])

    def test_the_front_has_what_nothing_beats_at_its_price(self, result: Result) -> None:
        looks = dict.fromkeys("abc", plots.Style("#0072b2", "circle", "solid"))
        points = [Point("a", 0.9, 2.0), Point("b", 0.8, 1.0), Point("c", 0.7, 3.0)]
        figure = drawn(quality_against_cost(points, result.benchmark.metrics[-1], looks, {}))
        assert figure.data.set_index("method")["on_front"].to_dict() == {"a": True, "b": True, "c": False}
        line = figure.views[""].data[0]
        assert (line["x"], line["y"], line["line"]["shape"]) == ([1.0, 2.0, 3.0], [0.8, 0.9, 0.9], "hv")

    def test_points_are_what_the_table_says(self, result: Result) -> None:
        found = {point.name: (point.quality, point.cost) for point in points_of(result)}
        assert found["asha"] == pytest.approx((0.39, 20 / 3600))
        assert set(found) == {"asha", "random", "pbt"}

    def test_a_row_a_trial_with_the_search_space(self, result: Result) -> None:
        data = parallel.trials_of(result)
        assert len(data) == 3 * 3 * 4
        assert list(data) == ["method", "seed", "trial", "outcome", "units", "learning_rate", "batch_size_per_device",
                              "weight_decay", "eval_loss"]  # fmt: skip
        assert data["eval_loss"].isna().sum() == 9

    def test_trials_without_a_score_are_drawn_and_the_best_fifth_is_named(self, result: Result) -> None:
        views = drawn(parallel.parallel_coordinates(result)).views
        assert list(views) == ["all methods", "asha", "random", "pbt"]
        names = [trace["name"] for trace in views["all methods"].data]
        assert names[0] == "no finite score"
        assert names[-1].startswith("best fifth: 0.7 to ")

    def test_a_line_crosses_axes_at_its_values(self, result: Result, benchmark: Benchmark) -> None:
        trace = (
            drawn(parallel.parallel_coordinates(result)).views["all methods"].data[0]
        )  # trial 2: 0.05, 4, 0.01, none
        assert trace["x"][:5] == [0, 1, 2, 3, None]
        assert trace["y"][0] == pytest.approx(0.9398, abs=1e-4)  # log10(0.05 / 1e-6) / log10(0.1 / 1e-6)
        assert trace["y"][1:5] == [0.0, 1.0, None, None]

    def test_schedules_hold_what_changed(self, result: Result) -> None:
        data = drawn(schedules(result, plots.styles(result))).data
        assert data.values.tolist() == [
            ["pbt", seed, "learning_rate", *step] for seed in SEEDS for step in ((0, 2, 0.001), (2, 3, 0.004))
        ]

    def test_shrinkage_is_that_of_the_table(self, result: Result) -> None:
        data = drawn(shrinkage(result, plots.styles(result))).data
        first = data[(data["method"] == "asha") & (data["seed"] == 0)].iloc[0]
        assert (first["selected"], first["validation"], first["test"]) == pytest.approx((0.7, 0.38, 0.4))

    def test_importance_is_ranked(self) -> None:
        figure = drawn(hyperparameter_importance({"a": (0.1, 0.0, 0.2), "b": (0.7, None, None)}, ["R2 is 0.5."]))
        assert figure.data["hyperparameter"].tolist() == ["b", "a"]
        assert figure.notes == ("R2 is 0.5.",)

    @pytest.mark.slow
    def test_plotly_knows_every_key_and_value_of_all_plots(self, benchmark: Benchmark) -> None:
        figures = catalogue.all_of(make_result(benchmark, seeds=list(range(6))), {"a": (0.1, 0.0, 0.2)})
        views = [(one.name, view) for one in figures if isinstance(one, plots.Figure) for view in one.views.values()]
        assert len({name for name, _ in views}) >= 9
        for name, view in views:
            assert as_plotly_reads(view) == as_written(view), name

    def test_each_method_has_one_look_of_its_own(self, result: Result) -> None:
        looks = plots.styles(result)
        assert len({(look.color, look.dash) for look in looks.values()}) == len(looks)

    def test_twenty_methods_look_different(self, result: Result) -> None:
        many = [Contestant(f"m{number}", "m", {}, {}) for number in range(20)]
        looks = plots.styles(replace(result, contestants=[*many, Contestant("default", "default", {}, {})]))
        assert len({(look.color, look.dash) for look in looks.values()}) == 21

    @pytest.mark.parametrize("color", [*plots.METHOD_COLORS, plots.GREY])
    @pytest.mark.parametrize("page", ["#ffffff", "#14171a"])
    def test_colours_read_on_light_and_dark(self, color: str, page: str) -> None:
        assert contrast(rgb(color), rgb(page)) >= 3  # WCAG 2.2, 1.4.11

    def test_rows_of_several_ranks_name_their_devices(self, benchmark: Benchmark) -> None:
        finetune = spec.load("nano").finetune
        assert finetune is not None
        two = benchmark.model_copy(update={"finetune": finetune.model_copy(update={"ranks_per_trial": 2})})
        units = "trial,units,ended_seconds,train_seconds\n0,1,1.0,1.0\n1,1,1.0,1.0\n"
        study = make_study("asha", 0)
        study = replace(study, files={"units.csv": units, "devices.csv": "since_seconds,devices\n0.0,4\n"})
        found = compare.compare(Records(two, "", [study], [], 0.0, []))
        (view,) = drawn(timelines(found)).views.values()
        assert view.layout["yaxis"]["ticktext"] == ["devices 1 to 2", "devices 3 to 4"]

    @pytest.mark.parametrize("train", ["0.0", ""])
    def test_a_study_whose_units_took_no_time_is_left_out(self, benchmark: Benchmark, train: str) -> None:
        units = f"trial,units,ended_seconds,train_seconds\n0,1,0.0,{train}\n1,1,0.0,{train}\n"
        timed, timeless = make_study("asha", 0), make_study("random", 0)
        timeless = replace(timeless, files={**timeless.files, "units.csv": units})
        found = compare.compare(Records(benchmark, "", [timed, timeless], [], 0.0, []))
        assert [label.split(" (")[0] for label in drawn(timelines(found)).views] == ["asha seed 0"]

    def test_of_many_studies_the_first_seed_of_each_method_is_drawn(self, benchmark: Benchmark) -> None:
        figure = drawn(timelines(make_result(benchmark, seeds=[3, 4, 5, 6, 7])))
        assert sorted(figure.data["study"].unique()) == ["asha seed 3", "pbt seed 3", "random seed 3"]
        assert figure.notes == ("Of 15 studies the first seed of each method is drawn.",)

    def test_what_has_no_data_is_left_out_with_the_reason(self, benchmark: Benchmark) -> None:
        files = {"best_config.json": make_study("asha", 0).files["best_config.json"]}
        bare = make_study("asha", 0, files=files, metrics={})
        found = catalogue.all_of(compare.compare(Records(benchmark, "", [bare], [], 0.0, [])), "too few trials")
        assert all(isinstance(figure, LeftOut) for figure in found)
        whys = {figure.name: figure.why for figure in found if isinstance(figure, LeftOut)}
        assert whys["importance"] == "too few trials"
        assert "python -m hpo confirm --benchmark synthetic" in whys["confirmed_scores"]
        assert len(set(whys.values())) == len(whys) == 13
