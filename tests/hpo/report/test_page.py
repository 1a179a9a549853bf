"""The report: what its figures hold, what it says, and that a browser shows all of it without asking any network."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from benchmarks import spec
from benchmarks.space import Choice, LogUniform
from benchmarks.spec import Benchmark
from hpo.analysis import compare, curves, timeline
from hpo.analysis.compare import Contestant, Result
from hpo.analysis.pareto import Point
from hpo.analysis.records import Records, StudyRecord, Training
from hpo.core.study import fresh_seeds, schedule_digest
from hpo.report import figures, parallel, plots
from hpo.report import page as report
from hpo.report.plots import Figure, LeftOut

MAX_UNITS = 3
SEEDS = (0, 1, 2)
HOSTILE = (
    "<script>window.hacked=1;alert(1)</script>",
    '"><img src=x onerror="window.hacked=1;alert(2)">',
    "</script><script>window.hacked=1</script>",
    "<b>bold</b> & <a href='javascript:alert(3)'>link</a> %{x} {{ 7 * 7 }}",
)


@pytest.fixture(scope="module", autouse=True)
def _coarse_curves() -> Iterator[None]:
    """Each point of a curve costs a bootstrap."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(curves, "POINTS", 12)
        yield


@pytest.fixture(scope="module")
def benchmark() -> Benchmark:
    """The synthetic one, with short trainings."""
    resource = spec.Resource(unit_samples=64, max_units=MAX_UNITS)
    return spec.load("synthetic").model_copy(update={"resource": resource})


UNITS = """\
trial,units,ended_seconds,startup_seconds,train_seconds,evaluate_seconds,checkpoint_seconds,idle_seconds,eval_loss
0,1,2.0,0.5,1.0,0.5,0.0,0.0,3.0
1,1,2.5,0.5,1.0,0.5,0.0,0.5,3.5
0,2,4.0,0.0,1.5,0.5,0.0,0.0,2.0
2,1,4.5,0.0,1.0,0.5,0.0,0.5,4.0
0,3,6.0,0.0,1.5,0.5,0.0,0.0,{first}
3,1,6.5,0.0,1.0,0.5,0.5,0.0,2.5
3,2,8.0,0.0,1.0,0.5,0.0,0.0,2.2
3,3,9.5,0.0,1.0,0.5,0.0,0.0,{best}
"""
"""Two devices; trial 0 holds the first all its time, 1, 2 and 3 follow each other on the second."""
TRIALS = """\
trial,outcome,units,seed,schedule,learning_rate,batch_size_per_device,weight_decay,eval_loss,f1,device_seconds,reason
0,completed,3,{seed},aa,0.001,8,0.0,{first},0.4,6.0,reached the full resource
1,stopped,1,{seed},bb,0.0001,4,0.01,3.5,0.1,2.5,stopped
2,diverged,1,{seed},cc,0.05,4,0.01,,0.0,2.0,diverged
3,completed,3,{seed},dd,0.003,16,0.0,{best},0.6,5.0,reached the full resource
"""


def make_study(
    method: str, seed: int, best: float = 0.8, schedule: Sequence[Mapping[str, Any]] = (), **changes: Any
) -> StudyRecord:
    """A study of 10 s on two devices."""
    config = {"learning_rate": 0.003, "batch_size_per_device": 16, "weight_decay": 0.0}
    found: dict[str, Any] = {
        "units": 3,
        "config": config,
        "metrics": {"eval_loss": best, "f1": 0.6},
        "schedule": list(schedule),
    }
    parts = {"startup": 1.0, "train": 9.0, "evaluate": 4.0, "checkpoint": 0.5, "idle": 5.5, "failed": 0.0}
    metrics: dict[str, float] = {f"device_hours_{part}": seconds / 3600 for part, seconds in parts.items()}
    metrics |= {"device_hours": 20 / 3600, "gpu_hours": 0.0, "wall_seconds": 10.0, "units": 8.0, "utilization": 0.65}
    files = {
        "units.csv": UNITS.format(first=best + 0.4, best=best),
        "trials.csv": TRIALS.format(seed=seed, first=best + 0.4, best=best),
        "best_config.json": json.dumps(found),
    }
    fields: dict[str, Any] = {
        "run_id": f"{method}-{seed}",
        "method": method,
        "variant": "",
        "seed": seed,
        "budget": 4,
        "tags": {"hpo.accelerator": "cpu"},
        "metrics": metrics | {"best_eval_loss": best},
        "started": 0,
        "files": files,
    }
    return StudyRecord(**(fields | changes))


def trainings(benchmark: Benchmark, study: StudyRecord, f1: float, repeats: int = 2) -> list[Training]:
    """Confirmations of a study's incumbent: F1 a little below and above `f1` on test."""
    assert study.schedule is not None
    digest = schedule_digest(benchmark, study.schedule)
    return [
        Training(
            digest,
            seed,
            diverged=False,
            metrics={"f1": f1 + 0.02, "test_f1": f1 + sign, "test_exact_match": f1 - 0.1, "test_eval_loss": 1 - f1},
            device_seconds=3.0,
        )
        for seed, sign in zip(fresh_seeds(study.seed, repeats), (-0.01, 0.01), strict=True)
    ]


CONFIG = {"learning_rate": 0.001, "batch_size_per_device": 8, "weight_decay": 0.0}
STEPS = ({"units": 0, "config": CONFIG}, {"units": 2, "config": {**CONFIG, "learning_rate": 0.004}})


def make_result(benchmark: Benchmark, seeds: Sequence[int] = SEEDS, is_confirmed: bool = True) -> Result:
    """Three methods; only one of them is a population."""
    studies: list[StudyRecord] = []
    confirmed: list[Training] = []
    for seed in seeds:
        # configurations that are equal share their confirmations, so each method has its own
        for method, f1, rate in (("asha", 0.6, 0.003), ("random", 0.5, 0.002), ("pbt", 0.55, 0.001)):
            steps = STEPS if method == "pbt" else ({"units": 0, "config": {**CONFIG, "learning_rate": rate}},)
            study = make_study(method, seed, best=1.3 - f1 + 0.01 * seed, schedule=steps)
            studies.append(study)
            confirmed += trainings(benchmark, study, f1 + 0.01 * seed) if is_confirmed else []
    return compare.compare(Records(benchmark, "0123abcd", studies, confirmed, 0.01, []))


@pytest.fixture(scope="module")
def result(benchmark: Benchmark) -> Result:
    return make_result(benchmark)


IMPORTANCE = {"learning_rate": (0.7, 0.6, 0.8), "weight_decay": (0.1, None, None)}


@pytest.fixture(scope="module")
def files(result: Result) -> dict[str, str]:
    """Every figure has data."""
    return report.files(result, IMPORTANCE)


def drawn(found: Figure | LeftOut) -> Figure:
    assert isinstance(found, Figure), found
    return found


class TestPacking:
    def test_intervals_that_follow_each_other_share_a_row(self) -> None:
        assert timeline.pack([(0, 2), (2, 3), (3, 9)]) == [0, 0, 0]

    def test_intervals_that_overlap_do_not(self) -> None:
        assert timeline.pack([(0, 2), (1, 3), (2, 4), (3, 5)]) == [0, 1, 0, 1]

    def test_the_row_that_became_free_last_goes_on(self) -> None:
        assert timeline.pack([(0, 1), (0, 3), (3, 4)]) == [0, 1, 1]

    def test_the_order_given_matters_only_among_those_that_begin_together(self) -> None:
        assert timeline.pack([(3, 4), (0, 3), (0, 1)]) == [0, 0, 1]

    def test_no_more_rows_than_devices_though_results_arrive_late(self) -> None:
        assert timeline.pack([(0, 2.01), (0, 3), (2.0, 4)], most=2) == [0, 1, 0]
        assert timeline.pack([(0, 2.01), (0, 3), (2.0, 4)]) == [0, 1, 2]


class TestTimeline:
    def test_parts_lie_before_the_end_of_their_unit(self) -> None:
        parts = timeline.unit_parts(make_study("asha", 0))
        first = parts[(parts["trial"] == 1)]
        assert first[["part", "began_seconds", "ended_seconds"]].values.tolist() == [
            ["idle", 0.0, 0.5],
            ["startup", 0.5, 1.0],
            ["train", 1.0, 2.0],
            ["evaluate", 2.0, 2.5],
        ]

    def test_trials_keep_their_device(self) -> None:
        parts = timeline.unit_parts(make_study("asha", 0))
        rows = parts.groupby("trial")["row"].unique().map(list).to_dict()
        assert rows == {0: [0], 1: [1], 2: [1], 3: [1]}

    def test_a_trial_begins_once_unless_it_was_paused(self) -> None:
        parts = timeline.unit_parts(make_study("asha", 0))
        assert parts[parts["begins"]]["trial"].tolist() == [0, 1, 2, 3]
        paused = "trial,units,ended_seconds,train_seconds\n0,1,1.0,1.0\n1,1,2.0,1.0\n0,2,3.0,1.0\n"
        study = make_study(
            "hyperband", 0, files={"units.csv": paused}, metrics={"device_hours": 3 / 3600, "wall_seconds": 3}
        )
        parts = timeline.unit_parts(study)
        assert parts[["trial", "row", "begins"]].values.tolist() == [[0, 0, True], [1, 0, True], [0, 0, True]]

    def test_all_measured_time_is_there_once(self) -> None:
        parts = timeline.unit_parts(make_study("asha", 0))
        seconds = (parts["ended_seconds"] - parts["began_seconds"]).groupby(parts["part"]).sum()
        assert seconds.to_dict() == pytest.approx(
            {"startup": 1.0, "train": 9.0, "evaluate": 4.0, "checkpoint": 0.5, "idle": 1.0}
        )

    def test_share_of_devices_in_use(self) -> None:
        parts = pd.DataFrame(
            [("train", 0.0, 1.0), ("evaluate", 1.0, 2.0), ("train", 1.5, 2.0), ("idle", 2.0, 4.0)],
            columns=["part", "began_seconds", "ended_seconds"],
        )
        used = timeline.in_use(parts, rows=2, until_seconds=4.0, bins=4)
        assert used["share"].tolist() == pytest.approx([0.5, 0.75, 0.0, 0.0])


class TestFigures:
    def test_a_row_a_block_with_its_score(self, result: Result) -> None:
        data = drawn(figures.confirmed_scores(result, figures.styles(result))).data
        of_asha = data[(data["method"] == "asha") & (data["metric"] == "test_f1")]
        assert of_asha["score"].tolist() == pytest.approx([0.60, 0.61, 0.62])
        assert of_asha["interquartile_mean"].unique() == pytest.approx([0.61])
        assert of_asha["low"].iloc[0] >= 0.6
        assert of_asha["high"].iloc[0] <= 0.62

    def test_curves_begin_with_the_last_study_s_first_incumbent(self, result: Result) -> None:
        data = drawn(figures.anytime_curves(result, figures.styles(result))).data
        asha = data[data["method"] == "asha"]
        assert asha["device_hours"].iloc[0] == pytest.approx(6.0 * 2 / 3600)
        assert asha["device_hours"].iloc[-1] == pytest.approx(10.0 * 2 / 3600)
        assert asha["value"].iloc[0] == pytest.approx(1.11)  # 0.7, 0.71, 0.72, each + 0.4
        assert asha["value"].iloc[-1] == pytest.approx(0.71)

    def test_one_seed_has_no_band_and_a_note_says_so(self, benchmark: Benchmark) -> None:
        one = make_result(benchmark, seeds=[0])
        figure = drawn(figures.anytime_curves(one, figures.styles(one)))
        assert figure.notes == ("Without a band, since one study has no spread: asha, random, pbt.",)
        assert all(trace.fill is None for trace in figure.views[""].data)
        for trace in figure.views[""].data:  # a point where it steps, and the first and the last
            assert 2 <= len(trace.y) <= len(set(trace.y)) + 1

    def test_parts_add_up_to_the_device_hours(self, result: Result) -> None:
        data = drawn(figures.cost_split(result)).data
        assert data.groupby("method")["device_hours"].sum().tolist() == pytest.approx([20 / 3600] * 3)
        idle = data[(data["method"] == "asha") & (data["part"] == "idle")]
        assert idle["share"].tolist() == pytest.approx([5.5 / 20])

    def test_the_front_has_what_nothing_beats_at_its_price(self, result: Result) -> None:
        looks = dict.fromkeys("abc", plots.Style("#0072b2", "circle", "solid"))
        points = [Point("a", 0.9, 2.0), Point("b", 0.8, 1.0), Point("c", 0.7, 3.0)]
        figure = drawn(figures.quality_against_cost(points, looks, {}))
        assert figure.data.set_index("method")["on_front"].to_dict() == {"a": True, "b": True, "c": False}
        line = figure.views[""].data[0]
        assert (list(line.x), list(line.y), line.line.shape) == ([1.0, 2.0, 3.0], [0.8, 0.9, 0.9], "hv")

    def test_points_are_what_the_table_says(self, result: Result) -> None:
        found = {point.name: (point.quality, point.cost) for point in figures.points_of(result)}
        assert found["asha"] == pytest.approx((0.61, 20 / 3600))
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
        names = [trace.name for trace in views["all methods"].data]
        assert names[0] == "no finite score"
        assert names[-1].startswith("best fifth: 0.7 to ")

    def test_a_line_crosses_axes_at_its_values(self, result: Result, benchmark: Benchmark) -> None:
        trace = (
            drawn(parallel.parallel_coordinates(result)).views["all methods"].data[0]
        )  # trial 2: 0.05, 4, 0.01, none
        assert list(trace.x[:5]) == [0, 1, 2, 3, None]
        assert trace.y[0] == pytest.approx(0.9398, abs=1e-4)  # log10(0.05 / 1e-6) / log10(0.1 / 1e-6)
        assert list(trace.y[1:5]) == [0.0, 1.0, None, None]

    def test_schedules_hold_what_changed(self, result: Result) -> None:
        data = drawn(figures.schedules(result, figures.styles(result))).data
        assert data.values.tolist() == [
            ["pbt", seed, "learning_rate", *step] for seed in SEEDS for step in ((0, 2, 0.001), (2, 3, 0.004))
        ]

    def test_shrinkage_is_that_of_the_table(self, result: Result) -> None:
        data = drawn(figures.shrinkage(result, figures.styles(result))).data
        first = data[(data["method"] == "asha") & (data["seed"] == 0)].iloc[0]
        assert (first["selected"], first["validation"], first["test"]) == pytest.approx((0.6, 0.62, 0.6))

    def test_importance_is_ranked(self) -> None:
        figure = drawn(
            figures.hyperparameter_importance({"a": (0.1, 0.0, 0.2), "b": (0.7, None, None)}, ["R2 is 0.5."])
        )
        assert figure.data["hyperparameter"].tolist() == ["b", "a"]
        assert figure.notes == ("R2 is 0.5.",)

    def test_each_method_has_one_look_of_its_own(self, result: Result) -> None:
        looks = figures.styles(result)
        assert len({(look.color, look.dash) for look in looks.values()}) == len(looks)

    def test_twenty_methods_look_different(self, result: Result) -> None:
        many = [Contestant(f"m{number}", "m", {}, {}) for number in range(20)]
        looks = figures.styles(replace(result, contestants=[*many, Contestant("default", "default", {}, {})]))
        assert len({(look.color, look.dash) for look in looks.values()}) == 21

    @pytest.mark.parametrize("color", [*plots.METHOD_COLORS, plots.GREY])
    @pytest.mark.parametrize("page", ["#ffffff", "#14171a"])
    def test_colours_read_on_light_and_dark(self, color: str, page: str) -> None:
        assert contrast(_rgb(color), _rgb(page)) >= 3  # WCAG 2.2, 1.4.11

    def test_rows_of_several_ranks_name_their_devices(self, benchmark: Benchmark) -> None:
        finetune = spec.load("nano").finetune
        assert finetune is not None
        two = benchmark.model_copy(update={"finetune": finetune.model_copy(update={"ranks_per_trial": 2})})
        units = "trial,units,ended_seconds,train_seconds\n0,1,1.0,1.0\n1,1,1.0,1.0\n"
        study = make_study("asha", 0)
        study = replace(study, files={"units.csv": units}, metrics={"device_hours": 4 / 3600, "wall_seconds": 1.0})
        found = compare.compare(Records(two, "", [study], [], 0.0, []))
        (view,) = drawn(figures.timelines(found)).views.values()
        assert list(view.layout.yaxis.ticktext) == ["devices 1 to 2", "devices 3 to 4"]

    def test_of_many_studies_the_first_seed_of_each_method_is_drawn(self, benchmark: Benchmark) -> None:
        figure = drawn(figures.timelines(make_result(benchmark, seeds=[3, 4, 5, 6, 7])))
        assert sorted(figure.data["study"].unique()) == ["asha seed 3", "pbt seed 3", "random seed 3"]
        assert figure.notes == ("Of 15 studies the first seed of each method is drawn.",)

    def test_what_has_no_data_is_left_out_with_the_reason(self, benchmark: Benchmark) -> None:
        files = {"best_config.json": make_study("asha", 0).files["best_config.json"]}
        bare = make_study("asha", 0, files=files, metrics={})
        found = figures.all_of(compare.compare(Records(benchmark, "", [bare], [], 0.0, [])), "too few trials")
        assert all(isinstance(figure, LeftOut) for figure in found)
        whys = {figure.name: figure.why for figure in found if isinstance(figure, LeftOut)}
        assert whys["importance"] == "too few trials"
        assert "python -m hpo confirm --benchmark synthetic" in whys["confirmed_scores"]
        assert len(set(whys.values())) == len(whys) == 9


class TestVerdict:
    def test_not_resolved_says_what_would_resolve_it(self, result: Result) -> None:
        assert report.verdict(result) == (
            "Not resolved: no difference in test F1 was shown in any of 3 pairs. It takes at least 7 blocks (seeds "
            "that all methods were run with) for 3 comparisons at the level 0.05; there are 3. With one method as "
            "the reference there are 2 comparisons, which take 7."
        )

    def test_what_is_resolved_is_said_first(self, benchmark: Benchmark) -> None:
        text = report.verdict(make_result(benchmark, seeds=range(8)))
        assert text == (
            "3 pairs of 3 resolved on test F1: asha is better than random; asha is better than pbt; random is worse "
            "than pbt."
        )

    def test_without_confirmations_there_is_none(self, benchmark: Benchmark) -> None:
        unconfirmed = make_result(benchmark, is_confirmed=False)
        assert report.verdict(unconfirmed).startswith("No verdict: a verdict takes two methods")

    def test_budgets_that_differ_are_marked(self, benchmark: Benchmark, files: dict[str, str]) -> None:
        one = make_result(benchmark, seeds=[0])
        assert "Budgets differ." in report.html(replace(one, is_marked=True))
        assert "Budgets differ." not in files["report.html"]


class TestFiles:
    def test_the_report_and_one_csv_a_figure(self, files: dict[str, str]) -> None:
        drawn = ("confirmed_scores", "anytime", "quality_against_cost", "cost_split", "timelines")
        names = (*drawn, "parallel_coordinates", "importance", "schedules", "shrinkage")
        assert set(files) == {"report.html", *(f"figure_{name}.csv" for name in names)}
        read = pd.read_csv(io.StringIO(files["figure_cost_split.csv"]))
        assert list(read) == ["method", "part", "device_hours", "share"]

    def test_it_refers_to_nothing_outside(self, files: dict[str, str]) -> None:
        page = files["report.html"]
        own = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
        assert not re.findall(r"""(?:src|href|action|url)\s*[=(]\s*["']?(?!#|data:)[^"'\s)]""", own)
        assert "http" not in own.replace('<meta http-equiv="', "")
        assert page.count("plotly.js v") == 1

    def test_the_same_comparison_gives_the_same_files(self, benchmark: Benchmark) -> None:
        assert report.files(make_result(benchmark, seeds=[0])) == report.files(make_result(benchmark, seeds=[0]))

    def test_neither_ray_nor_torch_is_imported(self) -> None:
        code = "import sys, hpo.report.page; print([m for m in ('ray', 'torch', 'deepspeed') if m in sys.modules])"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "[]"


# ---- in a browser


TICKS = ".xtick text"


class Reader:
    """A page of the report in a browser without a network, and what went wrong on it."""

    def __init__(self, browser: Any, path: Path, width: int = 1280, scheme: str = "light") -> None:
        size = {"width": width, "height": 800}
        self.context = browser.new_context(viewport=size, color_scheme=scheme, offline=True, accept_downloads=True)
        self.context.set_default_timeout(10_000)
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda m: self.complaints.append(m.text) if m.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", self._refuse)
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())
        self.page.wait_for_function(
            "[...document.querySelectorAll('.plot')].every((plot) => plot.querySelector('svg.main-svg'))"
        )

    def _refuse(self, dialog: Any) -> None:
        self.complaints.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *error: object) -> None:
        self.context.close()

    def wait_for_drawing(self) -> None:
        """Until what the page has begun is on the screen."""
        self.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def check_is_dark(self) -> None:
        """The page is dark, and what stands on it can be read."""
        page = self.rgb("body", "backgroundColor")
        assert luminance(page) < 0.05
        for selector, what in (("body", "color"), (".read", "color"), ("nav a", "color"), (TICKS, "fill")):
            assert contrast(self.rgb(selector, what), page) >= 4.5, selector

    def column(self, table: str, heading: str) -> list[str]:
        """The first lines of a column's cells."""
        script = """([table, heading]) => {
            const element = document.getElementById(`table-${table}`);
            const heads = [...element.tHead.rows[0].cells].map((head) => head.textContent.trim());
            return [...element.tBodies[0].rows].map((row) => row.cells[heads.indexOf(heading)].childNodes)
                .map((nodes) => [...nodes].find((node) => node.nodeType === 3).textContent.trim());
        }"""
        found: list[str] = self.page.evaluate(script, [table, heading])
        return found

    def click_heading(self, table: str, heading: str) -> str:
        head = self.page.locator(f"#table-{table} thead button", has_text=re.compile(f"^{re.escape(heading)}$"))
        head.click()
        return str(head.locator("..").get_attribute("aria-sort"))

    def rgb(self, selector: str, what: str) -> tuple[float, float, float]:
        script = "([selector, what]) => getComputedStyle(document.querySelector(selector))[what]"
        numbers = re.findall(r"[\d.]+", self.page.evaluate(script, [selector, what]))
        return (float(numbers[0]), float(numbers[1]), float(numbers[2]))


@pytest.fixture(scope="module")
def path(files: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report with every figure, in a folder with a space in its name."""
    path = tmp_path_factory.mktemp("the report") / "report.html"
    path.write_text(files["report.html"], encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def laptop(browser: Any, path: Path) -> Iterator[Reader]:
    with Reader(browser, path) as reader:
        yield reader


DRAWN = """() => Object.fromEntries([...document.querySelectorAll('.plot')].map((plot) => {
    const box = plot.querySelector('svg.main-svg').getBoundingClientRect();
    const marks = [...plot.querySelectorAll('.scatterlayer path, .barlayer path')]
        .map((mark) => mark.getBoundingClientRect()).filter((mark) => mark.width + mark.height > 0);
    return [plot.id, [box.width, box.height, marks.length]];
}))"""


@pytest.mark.slow
class TestInABrowser:
    def test_every_figure_is_drawn(self, laptop: Reader) -> None:
        found = laptop.page.evaluate(DRAWN)
        assert len(found) == 9
        for name, (width, height, marks) in found.items():
            assert width > 600, name
            assert height > 150, name
            assert marks > 0, name

    def test_nothing_fails_and_nothing_is_asked_of_a_network(self, laptop: Reader, path: Path) -> None:
        assert laptop.complaints == []
        assert laptop.requests == [path.as_uri()]

    def test_a_heading_sorts_numbers_both_ways(self, laptop: Reader) -> None:
        assert laptop.click_heading("methods", "test F1") == "descending"
        assert laptop.column("methods", "test F1") == ["0.610", "0.560", "0.510"]
        assert laptop.click_heading("methods", "test F1") == "ascending"
        assert laptop.column("methods", "test F1") == ["0.510", "0.560", "0.610"]
        assert laptop.column("methods", "method") == ["random", "pbt", "asha"]

    def test_a_heading_sorts_text_both_ways(self, laptop: Reader) -> None:
        assert laptop.click_heading("shrinkage", "method") == "ascending"
        assert laptop.column("shrinkage", "method") == ["asha"] * 3 + ["pbt"] * 3 + ["random"] * 3
        assert laptop.click_heading("shrinkage", "method") == "descending"
        assert laptop.column("shrinkage", "method") == ["random"] * 3 + ["pbt"] * 3 + ["asha"] * 3

    def test_what_is_missing_stays_last(self, laptop: Reader) -> None:
        for _ in range(2):
            laptop.click_heading("methods", "> random")
            assert laptop.column("methods", "> random")[-1] == "-"

    def test_another_view_is_drawn_when_it_is_chosen(self, laptop: Reader) -> None:
        title = "document.querySelector('#plot-confirmed_scores .xtitle').textContent"
        assert laptop.page.evaluate(title) == "test F1 (higher is better)"
        laptop.page.select_option("select[data-for=confirmed_scores]", label="test loss")
        assert laptop.page.evaluate(title) == "test loss (lower is better)"

    def test_the_data_can_be_saved(self, laptop: Reader, files: dict[str, str]) -> None:
        with laptop.page.expect_download() as download:
            laptop.page.click("#timelines figcaption a")
        assert download.value.suggested_filename == "figure_timelines.csv"
        assert download.value.path().read_text() == files["figure_timelines.csv"]

    def test_every_entry_of_the_contents_leads_somewhere(self, laptop: Reader) -> None:
        targets = laptop.page.eval_on_selector_all("nav a", "links => links.map((a) => a.getAttribute('href'))")
        assert len(targets) == 12
        assert all(laptop.page.query_selector(target) for target in targets)

    def test_a_phone_needs_no_scrolling_sideways(self, browser: Any, path: Path) -> None:
        with Reader(browser, path, width=375, scheme="dark") as phone:
            assert phone.page.evaluate("document.documentElement.scrollWidth") <= 375
            assert phone.complaints == []
            narrow = [name for name, (width, _, _) in phone.page.evaluate(DRAWN).items() if width > 375]
            assert narrow == ["plot-parallel_coordinates"]  # scrolls in a box of its own
            phone.check_is_dark()

    def test_figures_follow_when_the_scheme_changes_and_paper_is_light(self, laptop: Reader) -> None:
        assert contrast(laptop.rgb(TICKS, "fill"), (255, 255, 255)) >= 4.5
        laptop.page.emulate_media(color_scheme="dark")
        laptop.wait_for_drawing()
        laptop.check_is_dark()
        laptop.page.emulate_media(color_scheme="dark", media="print")
        laptop.wait_for_drawing()
        assert luminance(laptop.rgb("body", "backgroundColor")) > 0.9
        assert contrast(laptop.rgb(TICKS, "fill"), (255, 255, 255)) >= 4.5
        laptop.page.emulate_media(color_scheme="light", media="screen")
        laptop.wait_for_drawing()


def hostile(result: Result) -> Result:
    """The same comparison with names that try to be more than text, in methods, hyperparameters and notes."""
    names = dict(zip((line.name for line in result.lines), HOSTILE, strict=False))
    first, second, third = HOSTILE[:3]
    space = {
        second: Choice(type="choice", values=(first, second)),
        third: LogUniform(type="loguniform", low=1e-5, high=1.0),
    }
    benchmark = result.benchmark.model_copy(update={"description": first, "space": space})
    schedule = [{"units": units, "config": {second: HOSTILE[units], third: 0.1 + units}} for units in (0, 2)]
    columns = {"trial": [0, 1], "outcome": first, "units": 3, second: [first, second], third: [0.1, 0.2]}
    trials = pd.DataFrame({**columns, "eval_loss": [1.0, 2.0]})

    def renamed(contestant: Contestant) -> Contestant:
        studies = {
            seed: replace(
                study,
                method=names[contestant.name],
                files={
                    **study.files,
                    "trials.csv": trials.to_csv(index=False),
                    "best_config.json": json.dumps({**(study.best or {}), "schedule": schedule}),
                },
            )
            for seed, study in contestant.studies.items()
        }
        return replace(contestant, name=names[contestant.name], method=names[contestant.name], studies=studies)

    return replace(
        result,
        benchmark=benchmark,
        accelerator=HOSTILE[2],
        lines=[replace(line, name=names[line.name]) for line in result.lines],
        pairs=[replace(p, a=names[p.a], b=names[p.b], reason=HOSTILE[n % 4]) for n, p in enumerate(result.pairs)],
        shrinkage=[replace(line, name=names[line.name]) for line in result.shrinkage],
        contestants=[renamed(contestant) for contestant in result.contestants],
        notes=list(HOSTILE),
    )


@pytest.fixture(scope="module")
def reader(browser: Any, result: Result, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    path = tmp_path_factory.mktemp("hostile") / "report.html"
    importance = dict.fromkeys(HOSTILE, (0.1, 0.05, 0.2))
    path.write_text(report.html(hostile(result), importance, list(HOSTILE)), encoding="utf-8")
    with Reader(browser, path) as reader:
        yield reader


@pytest.mark.slow
class TestHostileNames:
    def test_none_of_them_runs(self, reader: Reader) -> None:
        assert reader.page.evaluate("window.hacked") is None
        assert reader.complaints == []
        assert reader.page.evaluate("document.images.length") == 0
        assert reader.page.evaluate("[...document.links].every((a) => !a.href.startsWith('javascript'))")

    def test_all_of_them_are_shown_as_text(self, reader: Reader) -> None:
        assert reader.column("methods", "method") == list(HOSTILE[:3])
        assert all(name in reader.page.inner_text(".notes") for name in HOSTILE)
        assert HOSTILE[0] in reader.page.inner_text(".facts")

    @pytest.mark.parametrize(
        "figure", ["confirmed_scores", "anytime", "schedules", "importance", "parallel_coordinates"]
    )
    def test_figures_show_them_as_text(self, reader: Reader, figure: str) -> None:
        texts = reader.page.evaluate(
            "(name) => [...document.querySelectorAll(`#plot-${name} text`)].map((text) => text.textContent)", figure
        )
        shown = [text.rstrip("…") for text in texts if "<" in text]
        assert shown
        flat = [name.replace("_", "") for name in HOSTILE]
        assert all(any(text.replace("_", "") in name for name in flat) for text in shown), shown

    def test_every_figure_is_drawn(self, reader: Reader) -> None:
        assert all(marks > 0 for _, _, marks in reader.page.evaluate(DRAWN).values())

    def test_even_a_script_that_got_in_would_not_run(self, reader: Reader) -> None:
        reader.page.evaluate(
            """() => {
                document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.hacked=2'}));
                document.body.insertAdjacentHTML('beforeend', '<img src="data:," onerror="window.hacked=3">');
            }"""
        )
        reader.page.wait_for_timeout(200)
        assert reader.page.evaluate("window.hacked") is None
        assert any("Content Security Policy" in text for text in reader.complaints)
        reader.complaints.clear()

    def test_hover_shows_them_as_text(self, reader: Reader) -> None:
        box = reader.page.locator("#plot-quality_against_cost .points path").first
        box.scroll_into_view_if_needed()
        box.hover(force=True)
        label = reader.page.locator("#plot-quality_against_cost .hoverlayer .name")
        label.wait_for()
        assert label.text_content()[:7] in {name[:7] for name in HOSTILE}


def _rgb(color: str) -> tuple[float, float, float]:
    red, green, blue = (float(int(color[at : at + 2], 16)) for at in (1, 3, 5))
    return red, green, blue


def luminance(color: tuple[float, float, float]) -> float:
    """Relative luminance, see https://www.w3.org/TR/WCAG22/#dfn-relative-luminance."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (part / 255 for part in color)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: tuple[float, float, float], b: tuple[float, float, float]) -> float:
    """Contrast ratio, see https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio."""
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)
