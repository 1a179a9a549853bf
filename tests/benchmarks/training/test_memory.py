"""Memory of a process: peaks and samples are right, and the sampler ends with its process."""

from __future__ import annotations

import csv
import mmap
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from benchmarks.training import memory

REPOSITORY = Path(__file__).parents[3]
CPU = torch.device("cpu")
BLOCK_MB = 200


def hold(megabytes: int) -> mmap.mmap:
    """So much memory, touched; pages of its own, since an allocator may have kept some of those before."""
    block = mmap.mmap(-1, megabytes * memory.MIB)
    for page in range(0, len(block), mmap.PAGESIZE):
        block[page] = 1
    return block


def test_a_peak_is_of_what_was_held_since_it_was_reset() -> None:
    memory.reset_peak(CPU)
    before = memory.peak_mb(CPU)
    block = hold(BLOCK_MB)
    block.close()
    assert memory.peak_mb(CPU) - before == pytest.approx(BLOCK_MB, abs=20)
    memory.reset_peak(CPU)
    assert memory.peak_mb(CPU) - before < 20


class TestSampler:
    def test_it_sees_memory_come_and_go(self, tmp_path: Path) -> None:
        with memory.Sampler(tmp_path / "memory.csv", interval=0.01) as sampler:
            time.sleep(0.2)
            block = hold(BLOCK_MB)
            time.sleep(0.2)
            block.close()
            time.sleep(0.2)
        found, first, last = sampler.summary(), sampler.samples[0], sampler.samples[-1]
        assert found.host_peak_mb - first.host_mb == pytest.approx(BLOCK_MB, abs=20)
        assert found.host_peak_mb - last.host_mb == pytest.approx(BLOCK_MB, abs=20)
        assert first.host_mb < found.host_mean_mb < found.host_peak_mb
        assert (found.gpu_peak_mb, found.gpu_mean_mb, found.gpu_min_mb) == (None, None, None)

    @pytest.mark.slow
    def test_it_samples_ten_times_a_second_beside_a_busy_process(self) -> None:
        """At the interval that trainings have, with the interpreter and torch at work."""
        with memory.Sampler() as sampler:
            end = time.perf_counter() + 3
            while time.perf_counter() < end:
                torch.ones(300, 300) @ torch.ones(300, 300)
                sum(range(1000))
        assert len(sampler.samples) >= 30

    def test_the_file_has_every_sample(self, tmp_path: Path) -> None:
        with memory.Sampler(tmp_path / "memory.csv", interval=0.01) as sampler:
            time.sleep(0.1)
        rows = list(csv.DictReader((tmp_path / "memory.csv").open()))
        assert [float(row["seconds"]) for row in rows] == [round(s.seconds, 4) for s in sampler.samples]
        assert [float(row["host_mb"]) for row in rows] == [round(s.host_mb, 4) for s in sampler.samples]
        assert {row["gpu_mb"] for row in rows} == {""}
        assert sampler.fault == ""

    def test_no_thread_is_left_behind(self) -> None:
        with memory.Sampler():
            assert "memory" in [thread.name for thread in threading.enumerate()]
        assert "memory" not in [thread.name for thread in threading.enumerate()]

    def test_a_file_that_cannot_be_written_does_not_end_what_is_measured(self) -> None:
        with memory.Sampler(Path("/dev/full"), interval=0.01) as sampler:
            time.sleep(0.1)
        assert len(sampler.samples) > 3
        assert "No space left" in sampler.fault

    @pytest.mark.slow
    def test_it_ends_with_a_process_that_is_killed_and_leaves_whole_lines(self, tmp_path: Path) -> None:
        path = tmp_path / "memory.csv"
        program = f"""
import time
from pathlib import Path
from benchmarks.training.memory import Sampler
with Sampler(Path({str(path)!r}), interval=0.01):
    time.sleep(600)
"""
        process = subprocess.Popen([sys.executable, "-c", program], cwd=REPOSITORY)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not (path.exists() and len(path.read_text().splitlines()) > 5):
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        lines = path.read_text().splitlines()
        assert len(lines) > 5
        assert all(line.count(",") == 2 for line in lines)
        written = path.stat().st_size
        time.sleep(0.2)
        assert path.stat().st_size == written


class TestKills:
    """Counts of the kernel, in trees of control groups as it shows them."""

    EVENTS = "low 0\nhigh 0\nmax 14\noom 3\noom_kill {}\noom_group_kill 0\n"

    def count(self, folder: Path, groups: str) -> int:
        (folder / "cgroup").write_text(groups)
        (folder / "vmstat").write_text("pgfault 17\noom_kill 40\n")
        return memory.kills(folder / "tree", folder / "cgroup", folder / "vmstat")

    def write(self, path: Path, text: str) -> None:
        path.parent.mkdir(parents=True)
        path.write_text(text)

    def test_of_this_process_s_group(self, tmp_path: Path) -> None:
        self.write(tmp_path / "tree/slurm/job_7/memory.events", self.EVENTS.format(2))
        assert self.count(tmp_path, "0::/slurm/job_7\n") == 2

    def test_of_the_root_of_a_container(self, tmp_path: Path) -> None:
        self.write(tmp_path / "tree/memory.events", self.EVENTS.format(5))
        assert self.count(tmp_path, "0::/../outside\n") == 5

    def test_of_the_first_version_of_control_groups(self, tmp_path: Path) -> None:
        control = "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"
        self.write(tmp_path / "tree/memory/slurm/job_7/memory.oom_control", control)
        assert self.count(tmp_path, "5:cpu,cpuacct:/\n4:memory:/slurm/job_7\n0::/\n") == 3

    def test_of_the_machine_where_no_group_can_be_read(self, tmp_path: Path) -> None:
        assert self.count(tmp_path, "0::/slurm/job_7\n") == 40

    def test_none_where_the_kernel_tells_nothing(self, tmp_path: Path) -> None:
        assert memory.kills(tmp_path, tmp_path / "no", tmp_path / "none") == 0
        assert memory.kills() >= 0
