"""The DeepSpeed study: its lines, its files, its runs in MLflow."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from rich.console import Console

from benchmarks.spec import BenchmarkError
from benchmarks.zero.plan import ModelSize
from benchmarks.zero.settings import ALL, Configuration, Scale
from benchmarks.zero.study import Row
from hpo.report import deepspeed as zero_report
from hpo.report.deepspeed import ScaledRow
from hpo.workflows import deepspeed as zero_study
from tests.stores import fresh_store

REPOSITORY = Path(__file__).parents[3]
SIZE = ModelSize(parameters=2**20, largest_layer=2**18)


def trained(name: str, ranks: int, samples_per_second: float, scaling: Any = "strong", **measured: Any) -> Row:
    [configuration] = zero_study.configurations(name)
    found = {
        "train_losses": [2.0, 1.5],
        "eval_losses": [1.9, 1.6],
        "train_samples_per_second": samples_per_second,
        "train_tokens_per_second": samples_per_second * 50,
        "eval_samples_per_second": 30.0,
        "steps_per_epoch": 32,
        "train_seconds": 12.0,
        "host_peak_mb": 700.0,
        "host_mean_mb": 650.0,
        "gpu_peak_mb": None,
        "torch_peak_mb": None,
        **measured,
    }
    return Row(configuration, Scale(ranks, 1, scaling), "completed", "", 20.0, found)


def shown(lines: list[ScaledRow], width: int) -> str:
    """Print the tables of a study as on a terminal."""
    console = Console(file=io.StringIO(), width=width)
    console.print(*zero_report.tables(lines, "here"))
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def judged(*rows: Row) -> list[ScaledRow]:
    lines: list[ScaledRow] = []
    for row in rows:
        lines.append(zero_study.judged(row, SIZE, "fp32", lines))
    return lines


class TestWhatIsAskedFor:
    def test_one_rank_scales_neither_way(self) -> None:
        found = zero_study.scales([2, 1], [1], "both")
        assert found == [Scale(1), Scale(2), Scale(2, 1, "weak")]
        assert zero_study.scales([1], [1, 2], "weak") == [Scale(1, 1, "weak"), Scale(1, 2, "weak")]

    def test_numbers_below_one_are_refused(self) -> None:
        with pytest.raises(BenchmarkError, match="ranks is 0, but must be at least 1"):
            zero_study.scales([0, 1], [1], "strong")

    def test_configurations_go_by_name(self) -> None:
        assert zero_study.configurations("all") == list(ALL)
        assert zero_study.configurations("zero3-offload, plain") == [Configuration(3, offload=True), Configuration()]
        with pytest.raises(BenchmarkError, match=r"configurations has 'zero4'; known are: plain, zero0"):
            zero_study.configurations("plain,zero4")


def test_the_page_explains_every_key_of_the_configurations() -> None:
    page = (REPOSITORY / "docs/deepspeed.md").read_text()
    for path in (REPOSITORY / "benchmarks/zero").glob("stage*.json"):
        for key, value in json.loads(path.read_text()).items():
            names = [f"{key}.{inner}" for inner in value] if isinstance(value, dict) else [key]
            assert all(f"| `{name}` |" in page for name in names), names


class TestScaling:
    def test_speed_up_is_over_the_fewest_ranks_of_the_same_configuration(self) -> None:
        lines = judged(trained("zero2", 1, 40.0), trained("plain", 2, 100.0), trained("zero2", 4, 120.0))
        assert [line.speed_up for line in lines] == [1.0, 1.0, 3.0]
        assert [line.efficiency for line in lines] == [1.0, 1.0, 0.75]

    def test_weak_scaling_is_measured_against_one_rank_too(self) -> None:
        lines = judged(trained("zero2", 1, 40.0), trained("zero2", 2, 72.0, "weak"))
        assert (lines[1].speed_up, lines[1].efficiency) == (1.8, 0.9)

    def test_weak_and_strong_do_not_mix(self) -> None:
        rows = [trained("zero2", n, speed, kind) for n, speed, kind in ((2, 60.0, "strong"), (2, 80.0, "weak"))]
        lines = judged(*rows, trained("zero2", 4, 120.0, "weak"))
        assert [(line.base_ranks, line.speed_up, line.efficiency) for line in lines] == [
            (2, 1.0, 1.0),
            (2, 1.0, 1.0),
            (2, 1.5, 0.75),
        ]

    def test_a_row_that_failed_is_no_base(self) -> None:
        failed = Row(Configuration(2), Scale(1), "failed", "it broke", 3.0)
        lines = judged(failed, trained("zero2", 2, 50.0))
        assert (lines[0].speed_up, lines[1].speed_up) == (None, 1.0)


class TestFiles:
    def test_the_table_has_every_row_and_number(self) -> None:
        gone = Row(Configuration(3, offload=True), Scale(), "not run", "there is no GPU")
        files = zero_report.files(judged(trained("plain", 1, 40.0), gone))
        plain, offload = csv.DictReader(io.StringIO(files["deepspeed.csv"]))
        assert (plain["train_loss"], plain["eval_loss"], plain["eval_loss_by_epoch"]) == ("1.5", "1.6", "1.9 1.6")
        assert (plain["planned_device_mb"], plain["gpu_peak_mb"], plain["speed_up"]) == ("16.0", "", "1.0")
        assert (offload["outcome"], offload["reason"]) == ("not run", "there is no GPU")
        assert offload["train_loss"] == ""
        assert "| plain | 1 | 1 | strong | completed | 1.5 |" in files["deepspeed.md"]
        assert "gpu_peak_mb" not in files["deepspeed.md"]  # no row has one
        assert "zero3-offload" in files["deepspeed.md"]

    def test_nothing_gives_no_files(self) -> None:
        assert zero_report.files([]) == {}
        assert shown([], 80) == "\n"

    def test_the_figure_has_every_row_by_scale(self) -> None:
        gone = Row(Configuration(2), Scale(), "out of memory", "CUDA out of memory")
        drawn = zero_report.figure(judged(trained("plain", 1, 40.0), trained("plain", 2, 60.0), gone))
        one, two = [trace for trace in drawn.data if trace.type == "bar" and trace.showlegend is None]
        assert (one.name, one.x, one.y) == ("1", ("plain", "zero2"), (40.0, 0.0))
        assert (two.name, two.x, two.y) == ("2, strong", ("plain",), (60.0,))
        assert one.text == ("", "out of memory")
        planned = [trace for trace in drawn.data if trace.type == "scatter"]
        assert [mark.offsetgroup for mark in planned] == [one.offsetgroup, two.offsetgroup]  # each over its bars
        assert drawn.layout.scattermode == "group"

    def test_the_figure_of_nothing_that_ran_says_so(self) -> None:
        drawn = zero_report.figure(judged(Row(Configuration(2), Scale(), "failed", "it broke")))
        assert drawn.data[0].text == ("failed",)
        assert drawn.layout.yaxis.range == (0, 1)

    @pytest.mark.parametrize("width", [80, 120])
    def test_the_tables_fit(self, width: int) -> None:
        """A GPU's too, which have the most columns."""
        memory = {"gpu_peak_mb": 79000.0, "gpu_mean_mb": 78000.0, "gpu_min_mb": 500.0, "torch_peak_mb": 68500.0}
        name = "zero3-offload"
        rows = [trained(name, 1, 1040.0, **memory), trained(name, 2, 2060.0, "weak", **memory)]
        gone = Row(Configuration(2), Scale(), "out of memory", "CUDA out of memory")
        printed = shown(judged(*rows, gone), width)
        words = f"{name} weak 1.5000 1.9000 1.6000 1040.0 (30.0) 103000 1.98 99% memory 32 20"
        words += " 79000 78000 500 68500 (0) 700 (20) 650"
        assert [word for word in ("…", *words.split()) if word not in printed] == ["…"], printed

    def test_without_a_gpu_what_it_would_hold_is_in_the_host(self) -> None:
        printed = shown(judged(trained("plain", 1, 40.0)), 80).splitlines()
        assert [line.split()[-1] for line in printed[-4:-1]] == ["700", "(16)", "650"]

    def test_reasons_are_said_once(self) -> None:
        rows = [Row(Configuration(n, offload=True), Scale(), "not run", "there is no GPU") for n in (1, 2)]
        assert zero_report.reasons(judged(*rows)) == ["not run: zero1-offload (1), zero2-offload (1): there is no GPU"]


@pytest.mark.slow
class TestAStudy:
    @pytest.fixture(scope="class")
    @staticmethod
    def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
        return tmp_path_factory.mktemp("deepspeed")

    @pytest.fixture(scope="class")
    @staticmethod
    def printed(folder: Path) -> str:
        """Run a study of two rows by the entry of the MLproject file, and return its output."""
        options = ["configurations=zero2,zero2-offload", "examples=32", "eval_examples=16", "epochs=2"]
        done = subprocess.run(
            [sys.executable, "-m", "mlflow", "run", str(REPOSITORY), "-e", "deepspeed", "--env-manager", "local"]
            + [word for option in [*options, f"output={folder}/out"] for word in ("-P", option)],
            cwd=folder,
            env=_environment(folder),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def test_it_prints_every_line_and_the_table(self, printed: str) -> None:
        assert "451,104 parameters; model states of a rank" in printed
        assert "  ranks 1: zero2 9 (0), zero2-offload" in printed
        assert "1/2 zero2 (1): train loss " in printed
        assert "2/2 zero2-offload (1): not run: offload moves states from a GPU to the host" in printed
        assert "nano on cpu, fp32" in printed
        assert "not run: zero2-offload (1): offload moves states" in printed

    def test_mlflow_keeps_the_study_and_every_row(self, printed: str, folder: Path) -> None:
        client, runs = MlflowClient(fresh_store(folder)), stored(folder)
        [study] = [run for run in runs if run.data.tags.get("hpo.kind") == "deepspeed"]
        rows = {r.info.run_name: r for r in runs if r.data.tags.get("mlflow.parentRunId") == study.info.run_id}
        assert {name: run.data.tags["hpo.outcome"] for name, run in rows.items()} == {
            "zero2, 1": "completed",
            "zero2-offload, 1": "not run",
        }
        assert study.info.status == "FINISHED"
        assert study.data.params["examples"] == "32"
        assert {file.path for file in client.list_artifacts(study.info.run_id)} == {
            "deepspeed.csv",
            "deepspeed.md",
            "deepspeed.html",
        }
        measured = rows["zero2, 1"].data.metrics
        assert {"train_samples_per_second", "host_peak_mb", "planned_device_mb", "speed_up"} <= set(measured)
        losses = client.get_metric_history(rows["zero2, 1"].info.run_id, "eval_loss")
        assert [point.step for point in losses] == [1, 2]

    def test_memory_was_sampled(self, printed: str, folder: Path) -> None:
        samples = (folder / "out/rows/zero2-1x1/memory-0.csv").read_text().splitlines()
        assert samples[0] == "seconds,host_mb,gpu_mb"
        assert len(samples) > 10


SCARCE = """
import resource, sys

def leave_little(event, arguments):
    if event == "open" and str(arguments[0]).endswith("memory-0.csv") and "--deepspeed" in sys.argv:
        with open("/proc/self/status") as status:
            used = next(int(line.split()[1]) for line in status if line.startswith("VmData"))
        resource.setrlimit(resource.RLIMIT_DATA, (used * 1024 + 2**27,) * 2)

sys.addaudithook(leave_little)
"""
"""A `sitecustomize` that leaves a rank under DeepSpeed 128 MiB once its data are ready; ZeRO-2 takes 200 MB at once."""


@pytest.mark.thorough  # the kernel decides
@pytest.mark.slow
def test_a_rank_that_runs_out_of_memory_is_a_row_that_says_so(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(SCARCE)
    options = ["--configurations", "zero2,plain", "--examples", "16", "--eval-examples", "4", "--epochs", "1"]
    done = subprocess.run(
        [sys.executable, "-m", "hpo", "deepspeed", *options, "--output", "out"],
        cwd=tmp_path,
        env={**_environment(tmp_path), "PYTHONPATH": f"{REPOSITORY}{os.pathsep}{tmp_path}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr  # it is what the study was to find out
    reason = "DefaultCPUAllocator: can't allocate memory: you tried to allocate 200000000 bytes"
    assert re.search(rf"^out of memory: zero2 \(1\): .*{reason}.*; its log: ", done.stdout, re.MULTILINE), done.stdout
    assert "2/2 plain (1): train loss " in done.stdout
    assert {run.info.run_name: (run.data.tags.get("hpo.outcome", ""), run.info.status) for run in stored(tmp_path)} == {
        "deepspeed of nano": ("", "FINISHED"),
        "zero2, 1": ("out of memory", "FAILED"),
        "plain, 1": ("completed", "FINISHED"),
    }


@pytest.mark.thorough
@pytest.mark.slow
def test_a_study_that_is_terminated_ends_its_ranks_and_keeps_what_it_found(tmp_path: Path) -> None:
    options = ["--configurations", "plain,zero0", "--examples", "32", "--eval-examples", "4", "--epochs", "1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "hpo", "deepspeed", *options, "--output", "out"],
        cwd=tmp_path,
        env={**_environment(tmp_path), "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    second = tmp_path / "out/rows/zero0-1x1/memory-0.csv"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not second.exists():
        time.sleep(0.1)
    ranks = psutil.Process(process.pid).children(recursive=True)
    assert [rank for rank in ranks if "benchmarks.zero.trainer" in rank.cmdline()]
    process.terminate()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "error: the study did not reach its end (interrupted); its results are in out" in err
    _, alive = psutil.wait_procs(ranks, timeout=10)
    assert alive == []
    [plain] = csv.DictReader((tmp_path / "out/deepspeed.csv").open())
    assert (plain["configuration"], plain["outcome"]) == ("plain", "completed")
    statuses = {run.data.tags["hpo.kind"]: run.info.status for run in stored(tmp_path)}
    assert statuses == {"deepspeed": "KILLED", "configuration": "FINISHED"}


def stored(folder: Path) -> list[Run]:
    """The runs of nano in a folder's store."""
    client = MlflowClient(fresh_store(folder))
    found = client.get_experiment_by_name("nano")
    assert found is not None
    return list(client.search_runs([found.experiment_id]))


def _environment(folder: Path) -> dict[str, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "MLFLOW_TRACKING_URI": fresh_store(folder), "CUDA_VISIBLE_DEVICES": ""}
