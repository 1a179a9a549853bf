"""The job scripts of a recording, and its parts without SLURM."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks import spec
from benchmarks.banks import bank as banks
from benchmarks.files import BenchmarkError
from benchmarks.spec import Benchmark
from hpo.app.cli import main
from hpo.cluster.devices import Devices
from hpo.recording.configurations import configurations
from hpo.recording.files import Files
from hpo.recording.processes import places_of
from hpo.recording.recorder import Recording
from slurm import profile
from slurm.profile import Profile
from slurm.recording.array import ArrayRecording, submissions
from slurm.recording.task import PlannedRecording, gather, record
from tests.hpo.engine.in_process import synthetic
from tests.slurm.testbed.drills import write_profile

QUICK = synthetic(seconds_per_unit=0.0)


@pytest.fixture
def cluster(tmp_path: Path) -> Profile:
    write_profile(tmp_path)
    return profile.load(tmp_path / "cluster.yaml")


def planned(folder: Path, **changes: int) -> PlannedRecording:
    return PlannedRecording(QUICK, folder, **{"configs": 14, "dense": 0, "seeds": 1, **changes})


def recorded_parts(folder: Path, cluster: Profile, parts: range, seeds: int = 1) -> None:
    for part in parts:
        assert record(planned(folder, seeds=seeds), cluster, part, 3, None) == 0


@pytest.mark.slow
def test_parts_record_each_training_once_and_are_gathered(tmp_path: Path, cluster: Profile) -> None:
    folder = tmp_path / "banks"
    recorded_parts(folder, cluster, range(2))
    assert not (folder / "synthetic.parquet").exists()  # parts write their logs alone
    assert gather(planned(folder)) == 1
    first = banks.read(folder / "synthetic.parquet")
    assert (len(first.trainings), first.header.planned) == (10, (14, 1))
    recorded_parts(folder, cluster, range(3))  # those that are there are skipped
    assert gather(planned(folder)) == 0
    bank = banks.read(folder / "synthetic.parquet")
    assert [len(of_one) for of_one in bank.configurations()] == [1] * 14
    assert len(bank.header.sessions) == 3
    lines = [len((folder / f"synthetic.part-{part}.jsonl").read_text().splitlines()) for part in range(3)]
    assert sum(lines) == 14 + 3
    assert "14 trainings of 9 units" in (folder / "synthetic.md").read_text()


@pytest.mark.slow
def test_a_recording_without_parts_goes_on_where_parts_were(tmp_path: Path, cluster: Profile) -> None:
    folder = tmp_path / "banks"
    recorded_parts(folder, cluster, range(1))
    files, listed = Files(folder, QUICK.name), configurations(QUICK, 14, seed=0)
    recording = Recording(QUICK, files, listed, 1, Console(file=io.StringIO()))
    assert recording.due == 9
    recording.run(places_of(QUICK, Devices(1, None, 1), 1), hours=None)
    assert len(banks.read(files.bank).trainings) == 14


def test_a_part_of_another_benchmark_is_refused(tmp_path: Path, cluster: Profile) -> None:
    folder = tmp_path / "banks"
    recorded_parts(folder, cluster, range(1))
    other = PlannedRecording(synthetic(max_units=3), folder, configs=14, dense=0, seeds=1)
    with pytest.raises(BenchmarkError, match=r"synthetic\.part-0\.jsonl was recorded on another version of synthetic"):
        gather(other)


def test_the_array_has_its_tasks_and_a_job_after_them(tmp_path: Path, cluster: Profile) -> None:
    recording = ArrayRecording(spec.load("synthetic"), 4, ("--benchmark", "synthetic", "--configs", "14"))
    task, gathering = submissions(cluster, tmp_path / "cluster.yaml", recording)
    assert task.options == ("--array=0-3",)
    assert gathering.options == ("--dependency=afterany:{previous}",)
    assert "-m hpo slurm record-task --cluster " in task.script
    assert "--tasks 4 --benchmark synthetic --configs 14\n" in task.script
    assert "#SBATCH --job-name=hpo-record-synthetic\n" in task.script
    assert "-m hpo slurm record-gather --cluster " in gathering.script


@pytest.mark.parametrize("tasks", [0, 1002])
def test_a_number_of_tasks_that_no_array_has_is_refused(tmp_path: Path, cluster: Profile, tasks: int) -> None:
    with pytest.raises(BenchmarkError, match=rf"tasks is {tasks}, but must be from 1 to 1001, the cluster's MaxArray"):
        submissions(cluster, tmp_path / "cluster.yaml", ArrayRecording(QUICK, tasks, ()))


def test_dense_configurations_wait_for_the_sample(tmp_path: Path, cluster: Profile) -> None:
    folder = tmp_path / "banks"
    with pytest.raises(BenchmarkError, match="rest on the sample, of which 14 trainings are missing"):
        planned(folder, dense=2).choose_dense()
    with pytest.raises(BenchmarkError, match=r"dense is 2, but .*synthetic\.jsonl has 0 such configurations"):
        planned(folder, dense=2).listed()


@pytest.mark.slow
def test_dense_configurations_are_chosen_once_for_all_tasks(tmp_path: Path, cluster: Profile) -> None:
    folder = tmp_path / "banks"
    recorded_parts(folder, cluster, range(3))
    of_both = planned(folder, dense=3)
    of_both.choose_dense()
    listed = of_both.listed()
    assert [one.source for one in listed[14:]] == ["dense"] * 3
    for part in range(2):
        assert record(of_both, cluster, part, 2, None) == 0
    assert gather(of_both) == 0
    recorded = banks.read(folder / "synthetic.parquet").trainings
    dense = [one.config for one in recorded if one.source == "dense"]
    assert sorted(map(str, dense)) == sorted(str(one.config) for one in listed[14:])


def test_a_task_outside_an_array_is_refused(
    tmp_path: Path, cluster: Profile, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("SLURM_ARRAY_TASK_ID", raising=False)
    assert main(["slurm", "record-task", "--cluster", str(tmp_path / "cluster.yaml")]) == 2
    assert "submit it with `slurm record`" in capsys.readouterr().err


def benchmark_of_two_ranks() -> Benchmark:
    nano = spec.load("nano")
    assert nano.finetune is not None
    return nano.model_copy(update={"finetune": nano.finetune.model_copy(update={"ranks_per_trial": 2})})


def test_a_training_that_no_node_holds_is_refused(tmp_path: Path, cluster: Profile) -> None:
    with pytest.raises(BenchmarkError, match="a trial without Ray runs on one node, and none fits on one"):
        submissions(cluster, tmp_path / "cluster.yaml", ArrayRecording(benchmark_of_two_ranks(), 2, ()))
