"""Every command of every chapter runs, and fills the chapter's table.

By default the trials are computed curves in this process; `thorough` tests type the same commands as the page has them.
"""

from __future__ import annotations

import csv
import re
import shlex
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from matplotlib.image import imread

from benchmarks import spec
from hpo.app.cli import main
from hpo.app.parser import parse
from hpo.engine.in_process import InProcess
from hpo.report.workshop import CHAPTERS
from hpo.search import registry
from slurm.arrays import Evaluation, with_evaluation
from tests.stores import fresh_store, working_in
from tests.studies import make_project
from tests.test_readme import blocks, commands, type_all, unfolded
from tests.workshop import figures

REPOSITORY = Path(__file__).parents[2]
WORKSHOP = REPOSITORY / "docs/workshop"
PAGES = {int(path.name[:2]): path for path in sorted(WORKSHOP.glob("0*.md"))}
ON_SLURM, ON_DEEPSPEED = 6, 8
"""Chapters whose commands take a cluster, and processes of their own."""
GRIDS = {1: {1e-4: 1, 1e-3: 1, 1e-2: 1}, 2: dict.fromkeys((1e-4, 1e-3, 1e-2), 4)}
"""Chapters whose table is a grid: how often each learning rate is trained."""
FIGURE = re.compile(r"^!\[[^]]+\]\(\.\./images/([^)]+)\.png\)$", re.MULTILINE)
FIGURES_OF_RESULTS = (ON_DEEPSPEED, max(PAGES))
"""Chapters whose figure shows what the exercise finds."""
IN_PROCESS = [number for number in PAGES if number not in (ON_SLURM, ON_DEEPSPEED)]


def test_each_chapter_has_a_page_with_all_its_parts() -> None:
    assert list(PAGES) == list(CHAPTERS)
    for number, path in PAGES.items():
        text = path.read_text()
        assert text.startswith(f"# {number}. ")
        assert re.findall("^## (.*)$", text, re.MULTILINE) == ["Concept", "Exercise", "Expected result", "Quiz"]
        quiz = text.partition("## Quiz")[2]
        concept, expected = text.partition("## Exercise")[0], text.partition("## Expected result")[2]
        assert FIGURE.search(concept if number not in FIGURES_OF_RESULTS else text), path.name
        assert re.search(r"^\|(---\|)+$", expected.partition("## Quiz")[0], re.MULTILINE), path.name
        assert not re.search(r"^\d+\. ", quiz, re.MULTILINE), "a list begins there, whose number is not shown"
        assert quiz.count("<summary>") == quiz.count('<details markdown="1">') == quiz.count("</details>") >= 5
        assert f"[{number}. " in (WORKSHOP / "index.md").read_text()


def test_each_drawn_figure_is_on_a_page_with_the_command_that_draws_it() -> None:
    shown = {name: path for path in PAGES.values() for name in FIGURE.findall(path.read_text())}
    assert {name for name in shown if name.startswith("workshop-")} == set(figures.FIGURES)
    for name in figures.FIGURES:
        assert "`python -m tests.workshop.figures docs/images`" in " ".join(shown[name].read_text().split())
        assert (WORKSHOP.parent / f"images/{name}.png").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("name", figures.FIGURES)
def test_a_figure_is_drawn(name: str, tmp_path: Path) -> None:
    assert figures.main([str(tmp_path), "--only", name]) == 0
    [path] = tmp_path.iterdir()
    assert path.name == f"{name}.png"
    assert imread(path).std() > 0.05


@pytest.mark.slow
def test_the_trials_of_a_long_study_are_those_of_its_replay() -> None:
    """The page's numbers change with the bank: then write these."""
    [(small, large, *trials)] = re.findall(
        r"budget of 48, this replay with the factors (\d) and (\d) begins (\d+) and (\d+) trials", PAGES[3].read_text()
    )
    factors = map(float, (small, large))
    begun = [len(figures.searched("asha", "nano_recorded", 48, reduction_factor=one).rows) for one in factors]
    assert begun == list(map(int, trials))


@pytest.mark.slow
def test_the_brackets_of_the_figure_are_those_of_hyperband() -> None:
    """Each trial belongs to one, and only those of the first are stopped at unit 1."""
    trials = figures.searched("hyperband", "nano_recorded", 9).rows
    of = {number: name for name, (numbers, _) in figures.BRACKETS.items() for number in numbers}
    assert sorted(of) == [row.number for row in trials]
    least = {name: min(row.units for row in trials if of[row.number] == name) for name in figures.BRACKETS}
    assert least == {"s = 2": 1, "s = 1": 3, "s = 0": 9}


@pytest.mark.parametrize("path", sorted(WORKSHOP.glob("*.md")), ids=lambda path: path.stem)
def test_every_command_is_one_of_the_suite_s(path: Path) -> None:
    """Also those for a cluster, which the text shows beside the ones to type."""
    shown = [line for block in blocks(path, "text") for line in unfolded(block).splitlines()]
    listed = [*commands(path), *shown]
    typed = [shlex.split(line)[3:] for line in listed if line.startswith("python -m hpo")]
    for words in typed:
        parse(words)
    assert typed or path.stem == "instructor"


def test_the_instructor_s_sizes_are_those_of_the_budgets() -> None:
    """The sum of the chapters' trainings, and the hours that follow from it."""
    text = (WORKSHOP / "instructor.md").read_text()
    [budgets, total] = re.findall(r"Chapters 1 to 7 ask for ([\d +]+) = (\d+) full trainings", text)[0]
    typed = [list(map(int, re.findall(r"--budget (\d+)", "\n".join(commands(path))))) for path in PAGES.values()]
    assert [int(count) for count in budgets.split(" + ")] == [sum(of_one) for of_one in typed[:7]]
    assert int(total) == sum(map(sum, typed[:7]))
    [seconds] = re.findall(r"took ([\d.]+) s on one quiet core", text)
    [useful] = re.findall(r"useful share of ([\d.]+)", text)
    rows = re.findall(r"^\| (\d+) \| ([\d.]+) \|$", text, re.MULTILINE)
    assert [people for people, _ in rows] == ["10", "30", "100"]
    for people, hours in rows:
        assert float(hours) == pytest.approx(int(people) * int(total) * float(seconds) / 3600 / float(useful), abs=0.06)


def on_a_cluster(path: Path) -> list[str]:
    """List the commands that a page shows for a cluster, beside those to type on any machine."""
    lines = [line for block in blocks(path, "text") for line in unfolded(block).splitlines()]
    return [line for line in lines if line.startswith("python -m hpo slurm")]


def study_of(line: str) -> tuple[str, int, str] | None:
    """Return method, budget and variant of the study that a command makes; None if it makes none."""
    way = re.match(r"python -m hpo (run|slurm serial|slurm array) (\w+) ", line)
    if way is None:
        return None
    options = dict(re.findall(r"--([\w-]+) (\S+)", line))
    own = registry.get(way[2]).arguments.model_fields
    given = {name: options[name.replace("_", "-")] for name in own if name.replace("_", "-") in options}
    study = registry.get(way[2]).study(spec.load("nano"), 0, int(options["budget"]), None, given)
    evaluation: dict[str, Evaluation] = {"slurm serial": "sequential", "slurm array": "asynchronous"}
    if way[1] in evaluation:
        study = with_evaluation(study, "batch" if "batch" in options else evaluation[way[1]])
    return study.method, study.budget, study.variant


def write_files(folder: Path) -> None:
    """Write the file that a chapter asks the reader to save."""
    [text] = [text for path in PAGES.values() for text in blocks(path, "yaml")]
    (folder / "rates.yaml").write_text(text)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a store and the files that chapters ask for, in which studies run in this process."""
    for module in ("hpo.engine.runner", "hpo.workflows.suite"):
        monkeypatch.setattr(f"{module}.OnRay", lambda: InProcess(devices=2))
    write_files(tmp_path)
    (tmp_path / "slurm").symlink_to(REPOSITORY / "slurm")
    with working_in(tmp_path):
        yield tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("number", IN_PROCESS)
def test_the_commands_of_a_chapter_fill_its_table(number: int, folder: Path) -> None:
    for line in commands(PAGES[number]):
        words = [{"nano": "synthetic"}.get(word, word) for word in shlex.split(line)[3:]]
        if words[0] == "workshop" and "--benchmark" not in words:
            words += ["--benchmark", "synthetic"]
        if number == max(CHAPTERS) and words[0] == "workshop":
            main(["run", "random", "--benchmark", "synthetic", "--budget", "1"])  # a study of another chapter
        assert main(words) == 0, line
    table = (folder / f"workshop/chapter-{number}.md").read_text()
    assert table.startswith(f"# Chapter {number}: {CHAPTERS[number].title}\n")
    assert list((folder / "workshop").glob(f"chapter-{number}-*.csv"))
    if number in GRIDS:
        [path] = (folder / "workshop").glob(f"chapter-{number}-*.csv")
        trained = [row["learning_rate"] for row in csv.DictReader(path.read_text().splitlines())]
        assert Counter(map(float, trained)) == GRIDS[number]


@pytest.mark.slow
def test_a_chapter_s_studies_are_those_that_its_commands_make() -> None:
    """By budget and by the arguments that the page types; a way to evaluate is a command of its own."""
    made: dict[int, set[tuple[str, int, str]]] = {number: set() for number in PAGES}
    for number, path in PAGES.items():
        for line in [*commands(path), *on_a_cluster(path)]:
            if study := study_of(line):
                made[number].add(study)
    for number, chapter in CHAPTERS.items():
        if chapter.made:
            assert made[number] == {(one.method, one.budget, name) for one in chapter.made for name in one.variants}


@pytest.mark.slow
def test_the_instructor_s_lines_read_the_seconds_of_a_study(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["run", "random", "--benchmark", "synthetic", "--budget", "2"])
    capsys.readouterr()
    [code] = blocks(WORKSHOP / "instructor.md", "python")
    exec(code.replace('"nano"', '"synthetic"'), {})  # the page's own lines
    seconds, useful = capsys.readouterr().out.splitlines()
    assert float(seconds.removeprefix("seconds per training: ")) > 0
    assert 0 < float(useful.removeprefix("useful share: ")) <= 1


@pytest.mark.slow
def test_the_capacity_on_the_page_is_printed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    [line] = [line for line in commands(PAGES[4]) if " capacity " in line]
    assert main(shlex.split(line)[3:]) == 0
    [shown] = blocks(PAGES[4], "text")
    assert shown in capsys.readouterr().out


@pytest.mark.thorough  # trainings of nano: minutes each; `test_the_commands_of_a_chapter_fill_its_table` takes seconds
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("number", [number for number in PAGES if number not in (ON_SLURM, max(CHAPTERS))])
def test_the_commands_of_a_chapter_run_as_typed(number: int, tmp_path: Path) -> None:
    fresh_store(tmp_path)
    project = make_project(tmp_path / "project")
    write_files(project)
    type_all(commands(PAGES[number]), project)
    assert (project / f"workshop/chapter-{number}.md").is_file()
