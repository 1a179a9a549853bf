"""Free memory: of the machine, or of the control group that a job scheduler has put this process into."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from benchmarks.training.checkpoint.free_memory import free_memory_bytes

GIB = 2**30


def group(folder: Path, limit: str, used: int, cache: int = 0, version: int = 2) -> None:
    """Write the files of a control group."""
    folder.mkdir(parents=True, exist_ok=True)
    names = ("memory.max", "memory.current") if version == 2 else ("memory.limit_in_bytes", "memory.usage_in_bytes")
    (folder / names[0]).write_text(f"{limit}\n")
    (folder / names[1]).write_text(f"{used}\n")
    (folder / "memory.stat").write_text(
        f"anon 1\n{'inactive_file' if version == 2 else 'total_inactive_file'} {cache}\n"
    )


def groups(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "cgroup"
    path.write_text(text)
    return path


def test_without_groups_it_is_the_machine_s(tmp_path: Path) -> None:
    found = free_memory_bytes(tmp_path / "none", tmp_path)
    assert found == pytest.approx(psutil.virtual_memory().available, rel=0.2)


@pytest.mark.parametrize(("version", "line"), [(2, "0::/job/step\n"), (1, "4:memory:/job/step\n9:pids:/other\n")])
def test_a_job_has_what_its_group_leaves(tmp_path: Path, version: int, line: str) -> None:
    """Page cache counts as free: the kernel gives it up."""
    root = tmp_path / "sys"
    base = root if version == 2 else root / "memory"
    group(base / "job/step", str(2**63 - 4096 if version == 1 else "max"), GIB, version=version)
    group(base / "job", str(GIB // 4), GIB // 4, cache=GIB // 8, version=version)
    assert free_memory_bytes(groups(tmp_path, line), root) == GIB // 8


def test_a_group_that_is_over_its_limit_leaves_nothing(tmp_path: Path) -> None:
    group(tmp_path / "sys/job", "1000", 2000)
    assert free_memory_bytes(groups(tmp_path, "0::/job\n"), tmp_path / "sys") == 0


def test_groups_that_cannot_be_read_are_left_out(tmp_path: Path) -> None:
    assert free_memory_bytes(groups(tmp_path, "0::/elsewhere\n"), tmp_path / "sys") > 0
