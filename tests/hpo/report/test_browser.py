"""The report in a browser: all of it is drawn, no network is asked, and no name in it runs as a script."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hpo.analysis.compare import Result
from hpo.report import page as report
from hpo.report.figures import catalogue
from tests.hpo.report.colors import contrast, luminance
from tests.hpo.report.comparisons import (
    HOSTILE,
    hostile,
)

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
        assert len(found) == 11
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
        assert laptop.page.evaluate(title) == "test loss (lower is better)"
        laptop.page.select_option("select[data-for=confirmed_scores]", label="test F1")
        assert laptop.page.evaluate(title) == "test F1 (higher is better)"

    def test_the_data_can_be_saved(self, laptop: Reader, files: dict[str, str]) -> None:
        with laptop.page.expect_download() as download:
            laptop.page.click("#timelines figcaption a")
        assert download.value.suggested_filename == "figure_timelines.csv"
        assert download.value.path().read_text() == files["figure_timelines.csv"]

    def test_every_entry_of_the_contents_leads_somewhere(self, laptop: Reader) -> None:
        targets = laptop.page.eval_on_selector_all("nav a", "links => links.map((a) => a.getAttribute('href'))")
        assert len(targets) == 16
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


@pytest.fixture(scope="module")
def reader(browser: Any, result: Result, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    path = tmp_path_factory.mktemp("hostile") / "report.html"
    importance = dict.fromkeys(HOSTILE, (0.1, 0.05, 0.2))
    shown = hostile(result)
    figures = catalogue.all_of(shown, importance, list(HOSTILE))
    path.write_text(report.files(shown, figures)["report.html"], encoding="utf-8")
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
