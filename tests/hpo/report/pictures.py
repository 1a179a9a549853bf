"""Take the pictures of a report for the docs: `python -m tests.hpo.report.pictures docs/images`.

Methods run on `synthetic` with the same seeds, in this process, on two devices and a clock that jumps. The incumbents
are confirmed and compared, and Chromium shows the report as a reader sees it.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from hpo.app.cli import main as command
from hpo.engine.in_process import InProcess
from tests.stores import working_in

METHODS = "manual,random,asha,hyperband,bohb,pbt,optuna,default"
SEEDS, REPEATS, BUDGET = 9, 3, 12
WIDTH, PHONE, HEIGHT = 1440, 390, 2500
"""Pixels of a window that is wide enough for the first table, of a phone, and of the beginning that the docs show."""


def make_report(folder: Path, methods: str, seeds: int) -> Path:
    """Run, confirm and compare in an empty folder; return the report.

    Raises:
        RuntimeError: a command did not succeed.
    """
    numbers = ",".join(map(str, range(seeds)))
    asked = (
        ["suite", "--methods", methods, "--seeds", numbers, "--budget", str(BUDGET)],
        ["confirm", "--repeats", str(REPEATS)],
        ["compare", "--budget", str(BUDGET), "--output", str(folder / "report")],
    )
    modules = ("hpo.engine.runner", "hpo.workflows.suite")
    with mock.patch(f"{modules[0]}.OnRay", _here), mock.patch(f"{modules[1]}.OnRay", _here), working_in(folder):
        for words in asked:
            if status := command([*words, "--benchmark", "synthetic"]):
                raise RuntimeError(f"{' '.join(words)} ended with exit status {status}")
    return folder / "report/report.html"


def _here() -> InProcess:
    return InProcess(devices=2)


def shoot(browser: Any, report: Path, folder: Path, everything: bool = False) -> None:
    """Write the pictures of the docs: the report's beginning, and its first table.

    Args:
        browser: Chromium.
        report: the page.
        folder: their folder.
        everything: also the dark page, and the one on a phone, which are there to be looked at.
    """
    page = _open(browser, report, WIDTH, "light")
    _beginning(page, folder / "report-light.png")
    page.locator("#table-methods").screenshot(path=folder / "report-methods.png")
    if everything:
        _beginning(_open(browser, report, WIDTH, "dark"), folder / "report-dark.png")
        _beginning(_open(browser, report, PHONE, "light"), folder / "report-phone.png")


def _beginning(page: Any, path: Path) -> None:
    width = page.viewport_size["width"]
    page.screenshot(path=path, clip={"x": 0, "y": 0, "width": width, "height": HEIGHT}, full_page=True)


def _open(browser: Any, report: Path, width: int, scheme: str) -> Any:
    page = browser.new_page(viewport={"width": width, "height": 844}, color_scheme=scheme)
    page.goto(report.as_uri())
    page.wait_for_function("[...document.querySelectorAll('.plot')].every((p) => p.querySelector('svg.main-svg'))")
    return page


def main(words: Sequence[str] | None = None) -> int:
    """Take the pictures; return the exit status."""
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--methods", default=METHODS, help="as `hpo suite` takes them")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="seeds of each method")
    parser.add_argument("--everything", action="store_true", help="also the dark page, and the one on a phone")
    given = parser.parse_args(words)
    output = given.folder.absolute()
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        report = make_report(Path(name), given.methods, given.seeds)
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        shoot(browser, report, output, given.everything)
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
