"""The page for clusters: its profile is read, its commands are taken, its output is ours."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest

from hpo.app.cli import main
from slurm import capacity, profile

PAGE = (Path(__file__).parents[2] / "slurm/README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The page's profile, where its commands look for it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")  # commands set it; undone at the end
    path = tmp_path / "my.yaml"
    path.write_text(blocks("yaml")[0])
    return path


@pytest.mark.parametrize("text", blocks("yaml"))
def test_each_profile_on_the_page_is_read(text: str, tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_text(text)
    assert profile.load(path).workers.count == 2


def test_the_profile_of_the_test_bed_makes_the_jobs_of_the_workshop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Copy it as a participant does: two nodes of one core without GPUs, a partition or a module."""
    [copy] = [line for block in blocks("bash") for line in block.splitlines() if line.startswith("cp ")]
    _, source, target = copy.split()
    shutil.copy(profile.PROFILES.parents[1] / source, tmp_path / target)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    words = "slurm array random --benchmark nano --budget 4 --batch 2 --dry-run --cluster".split()
    assert main([*words, target]) == 0
    printed = capsys.readouterr().out
    assert "#SBATCH --cpus-per-task=1\n" in printed
    assert not {"gpu", "--partition", "module load"} & set(re.findall("gpu|--partition|module load", printed))


def test_the_inequalities_on_the_page_are_those_of_its_profile(cluster: Path) -> None:
    [inequalities] = [block for block in blocks("text") if block.startswith("Csys")]
    assert f"{capacity.describe(capacity.of(profile.load(cluster), ranks_per_trial=2))}\n" == inequalities


@pytest.mark.parametrize(
    "command",
    [
        line
        for block in blocks("bash")
        for line in block.splitlines()
        if " hpo slurm " in line and " doctor " not in line
    ],
)
def test_commands_are_taken(command: str, cluster: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The commands are taken as they are, with a dry run: without a cluster, a submission ends at sbatch."""
    words = shlex.split(command)[3:]
    submits = {"submit", "array", "serial"} & set(words)
    if submits and "--dry-run" not in words:
        words.append("--dry-run")
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert printed
    if submits:
        assert "#!/bin/bash -l\n#SBATCH --job-name=hpo-" in printed


@pytest.mark.parametrize(
    ("layout", "jobs", "nodes"), [("jobs", ["hpo-asha", "hpo-asha-worker"], []), ("one_job", ["hpo-asha"], ["2"])]
)
def test_a_dry_run_prints_the_scripts_of_head_and_workers(
    layout: str, jobs: list[str], nodes: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "my.yaml"
    path.write_text(f"node: {{cpus: 4}}\ncpus_for_ray: 1\nworkers: 2\nlayout: {layout}\n")
    words = ["slurm", "submit", "asha", "--cluster", str(path), "--benchmark", "synthetic", "--dry-run"]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert re.findall(r"^#!/bin/bash\n#SBATCH --job-name=(\S+)$", printed, re.MULTILINE) == jobs
    assert re.findall(r"^#SBATCH --nodes=(\d+)$", printed, re.MULTILINE) == (nodes or ["1"] * len(jobs))
    assert (" slurm head " in printed, " slurm worker " in printed) == (True, layout == "jobs")
