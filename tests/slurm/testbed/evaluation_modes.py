"""Sequential, batch and asynchronous evaluation of one random search on the test bed, and what a job costs by its size.

    python -m tests.slurm.testbed.evaluation_modes FOLDER

As root on a Debian machine with slurm-wlm, munge and chromium, two cores, a quarter of an hour. Trains nano for real.
Prints two tables in Markdown and writes FOLDER/evaluation-<mode>.png, the Gantt charts of the report.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
import time
from pathlib import Path

import yaml
from playwright.sync_api import sync_playwright

from benchmarks import spec
from hpo.analysis import records
from hpo.analysis.studies import StudyRecord
from slurm.testbed import daemons
from tests.slurm.testbed.drills import REPOSITORY, hpo, running, wait_until, write_profile

DEVICES = 2
MODES = {
    "sequential": ("serial", "random"),
    "batch": ("array", "random", "--batch", "2"),
    "asynchronous": ("array", "random", "--at-once", "2"),
}
SIZES = (1, 3, 9)
"""Units of a full training, of 256 samples each."""


def write_benchmark(folder: Path, name: str, units: int) -> None:
    """nano with a full training of so many units; batch sizes that take from 1 to 3 times as long, as ranks vary."""
    content = spec.load("nano").model_dump(mode="json", exclude_none=True)
    content |= {"name": name, "resource": {"unit_samples": 256, "max_units": units}, "grid": {}}
    content["space"]["batch_size_per_device"] = {"type": "choice", "values": [1, 4, 16]}
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(content))


def run(folder: Path, *words: str) -> None:
    """A command of the suite, to the end of the jobs that it has submitted."""
    done = hpo(folder, *words)
    if done.returncode:
        sys.exit(f"{' '.join(words)}: {done.stderr}")
    wait_until(lambda: not running(), "the jobs' end", 1800)
    for log in folder.glob("logs/*.out"):
        if not re.search(r"^FINISH .* exit status 0$", log.read_text(), re.MULTILINE):
            sys.exit(f"{log.name}:\n{log.read_text()}")


def submit(folder: Path, *words: str) -> None:
    run(folder, "slurm", *words, "--cluster", "cluster.yaml")


def modes(folder: Path) -> list[str]:
    """The same eight trials in three modes."""
    write_benchmark(folder, "modes", 3)
    for words in MODES.values():
        submit(folder, *words, "--benchmark", "modes.yaml", "--budget", "8")
    lines = ["| evaluation | wall seconds | device-seconds | train + evaluate | of two devices all the time |"]
    lines.append("|---|---|---|---|---|")
    for study in sorted(records.finished("modes"), key=lambda study: -study.metrics["wall_seconds"]):
        wall, used = study.metrics["wall_seconds"], study.metrics["device_hours"] * 3600
        useful = study.metrics["utilization"]
        numbers = f"{wall:.0f} | {used:.0f} | {useful:.0%} | {useful * used / wall / DEVICES:.0%}"
        lines.append(f"| {study.variant.removeprefix('evaluation=')} | {numbers} |")
    return lines


def sizes(folder: Path) -> list[str]:
    """Measure the share that a job of one trial loses to its start, against warm ranks under Ray."""
    lines = ["| a full training | seconds of training and evaluation | one job per trial | warm ranks under Ray |"]
    lines.append("|---|---|---|---|")
    for units in SIZES:
        name = f"size{units}"
        write_benchmark(folder, name, units)
        submit(folder, *MODES["asynchronous"], "--benchmark", f"{name}.yaml", "--budget", "6")
        run(folder, "run", "random", "--benchmark", f"{name}.yaml", "--budget", "6")
        array, warm = sorted(records.finished(name), key=lambda study: not study.variant)
        seconds = _useful_seconds(warm) / warm.metrics["num_trials"]
        shares = f"{array.metrics['utilization']:.0%} | {warm.metrics['utilization']:.0%}"
        lines.append(f"| {units * 256} samples | {seconds:.0f} | {shares} |")
    return lines


def _useful_seconds(study: StudyRecord) -> float:
    return study.metrics["utilization"] * study.metrics["device_hours"] * 3600


def draw(folder: Path, output: Path) -> None:
    """The timelines of the report, as a browser shows them."""
    run(folder, "compare", "--benchmark", "modes", "--output", "report")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1000, "height": 900}, device_scale_factor=1.5)
        page.goto(f"file://{folder}/report/report.html")
        choice = page.locator('select[data-for="timelines"]')
        for label in choice.locator("option").all_inner_texts():
            [mode] = [mode for mode in MODES if mode in label]
            choice.select_option(label=label)
            page.wait_for_timeout(1000)
            page.locator("#plot-timelines").screenshot(path=output / f"evaluation-{mode}.png")
        browser.close()


def main() -> None:
    """Both tables and the picture."""
    output = Path(sys.argv[1])
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bed-") as name:
        folder = Path(name) / "work"
        folder.mkdir()
        os.environ |= {"PYTHONPATH": str(REPOSITORY), "CUDA_VISIBLE_DEVICES": ""}
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
        os.environ["SLURM_CONF"] = str(daemons.start(Path(name)))
        write_profile(folder)
        began = time.monotonic()
        try:
            tables = [modes(folder), sizes(folder)]
            draw(folder, output)
        finally:
            daemons.stop(Path(name))
    print("\n\n".join("\n".join(table) for table in tables))
    print(f"\nmade in {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
