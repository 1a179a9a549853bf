"""Files of checkpoints in memory: they are there at once, reach the disk whole, and leave nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.training.checkpoint.files import is_whole, missing, write_list
from benchmarks.training.checkpoint.memory import CheckpointMemory, write_file
from benchmarks.training.checkpoint.writer import Writer, view

NAME = "unit/weights"
CONTENT = b"0123456789abcdef" * 4096


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a checkpoint, in that of all checkpoints."""
    folder = tmp_path / "checkpoints" / "a1"
    (folder / "unit").mkdir(parents=True)
    return folder


def put(memory: CheckpointMemory, folder: Path, name: str = NAME, to_disk: bool = True) -> None:
    """Write a file as a rank does."""
    place = memory.open(folder, name, len(CONTENT))
    assert place is not None
    Path(place).write_bytes(CONTENT)
    memory.close(folder, name, to_disk)


def test_a_file_is_in_memory_at_once_and_on_the_disk_soon(folder: Path) -> None:
    memory = CheckpointMemory()
    put(memory, folder)
    assert Path(memory.paths(folder)[NAME]).read_bytes() == CONTENT
    memory.wait()
    assert (folder / NAME).read_bytes() == CONTENT
    assert [path.name for path in folder.parent.iterdir()] == ["a1"]
    assert memory.bytes == len(CONTENT)


def test_another_process_reads_the_same_bytes(folder: Path) -> None:
    """They are one file: what one process writes, the other has."""
    memory = CheckpointMemory()
    put(memory, folder, to_disk=False)
    place = memory.paths(folder)[NAME]
    subprocess.run([sys.executable, "-c", f"open({place!r}, 'r+b').write(b'other')"], check=True)
    assert Path(place).read_bytes() == b"other" + CONTENT[5:]


def test_a_checkpoint_in_memory_is_mapped_and_one_on_the_disk_is_read(folder: Path) -> None:
    """A member that takes over another costs no copy of its files."""
    import torch

    memory, content = CheckpointMemory(), {"module": {"weight": torch.ones(1 << 16)}}
    place = memory.open(folder, NAME, 1 << 18)
    assert place is not None
    torch.save(content, place)
    memory.close(folder, NAME)
    memory.wait()
    for places, is_mapped in ((memory.paths(folder), True), ({}, False)):
        with view(folder, places) as seen:
            found = Writer(None, folder, None).load(str(seen / NAME))
        assert ("memfd:weights" in Path("/proc/self/maps").read_text()) == is_mapped
        assert torch.equal(found["module"]["weight"], content["module"]["weight"])
        del found


def test_one_that_lives_for_a_moment_never_reaches_the_disk(folder: Path) -> None:
    memory = CheckpointMemory()
    put(memory, folder, to_disk=False)
    put(memory, folder, "unit/other")
    memory.wait()
    assert [path.name for path in (folder / "unit").iterdir()] == ["other"]


def test_there_is_no_room_beyond_the_share_of_free_memory(folder: Path) -> None:
    """The share is of the memory that would be free without checkpoints, so it does not shrink with each."""
    memory = CheckpointMemory(0.5, lambda: 4 * len(CONTENT) - memory.bytes)
    put(memory, folder, "unit/1")
    put(memory, folder, "unit/2")
    assert memory.open(folder, "unit/3", len(CONTENT)) is None


def test_a_deleted_checkpoint_makes_room(folder: Path) -> None:
    memory = CheckpointMemory(1.0, lambda: len(CONTENT) - memory.bytes)
    put(memory, folder)
    memory.wait()
    other = folder.with_name("a2")
    (other / "unit").mkdir(parents=True)
    assert memory.open(other, NAME, len(CONTENT)) is None
    folder.rename(folder.with_name(".a1.gone"))
    put(memory, other)
    assert memory.paths(folder) == {}


def test_one_that_is_deleted_before_it_is_written_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    memory = CheckpointMemory()
    place = memory.open(folder, NAME, len(CONTENT))
    assert place is not None
    folder.rename(folder.with_name(".a1.gone"))
    memory.close(folder, NAME)
    memory.wait()
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == [".a1.gone"]
    assert memory.bytes == 0


@pytest.mark.slow
def test_a_disk_that_refuses_a_file_is_asked_again(folder: Path) -> None:
    (folder / "unit").rename(folder / "away")
    memory = CheckpointMemory()
    put(memory, folder)
    time.sleep(0.2)
    assert not is_whole_with(folder, NAME)
    (folder / "away").rename(folder / "unit")
    memory.wait()
    assert (folder / NAME).read_bytes() == CONTENT


def is_whole_with(folder: Path, name: str) -> bool:
    write_list(folder, {name: len(CONTENT)})
    return is_whole(folder)


class TestList:
    def test_a_checkpoint_lacks_what_has_not_arrived(self, folder: Path) -> None:
        write_list(folder, {"unit/a": 1, "unit/b": 1})
        assert missing(folder) == {"unit/a", "unit/b"}
        (folder / "unit/a").write_text("a")
        assert missing(folder) == {"unit/b"}
        assert not is_whole(folder)
        (folder / "unit/b").write_text("b")
        assert is_whole(folder)

    def test_one_of_an_earlier_version_has_no_list_and_lacks_nothing(self, folder: Path) -> None:
        assert is_whole(folder)

    def test_one_that_is_gone_is_not_whole(self, folder: Path) -> None:
        assert not is_whole(folder / "gone")


WRITER = """
import sys
from pathlib import Path
from benchmarks.training.checkpoint.memory import CheckpointMemory
memory, folder = CheckpointMemory(), Path(sys.argv[1])
for number in range(1000):
    name = f"unit/{number}"
    place = memory.open(folder, name, 1 << 22)
    Path(place).write_bytes(bytes(1 << 22))
    memory.close(folder, name)
    print(place, flush=True)
memory.wait()
"""


@pytest.mark.slow
@pytest.mark.parametrize("after", [2, 7])
def test_a_kill_at_any_time_leaves_whole_files_alone_and_no_memory(folder: Path, after: int) -> None:
    with subprocess.Popen([sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        places = [process.stdout.readline().strip() for _ in range(after)]
        process.send_signal(signal.SIGKILL)
    sizes = {path.stat().st_size for path in (folder / "unit").iterdir()}
    assert sizes <= {1 << 22}
    assert not any(os.path.exists(place) for place in places)


def test_a_file_that_cannot_be_written_leaves_no_part(folder: Path) -> None:
    (folder / NAME).mkdir()
    source = os.memfd_create("source")
    try:
        os.write(source, CONTENT)
        with pytest.raises(OSError, match="directory"):
            write_file(source, folder, NAME)
    finally:
        os.close(source)
    assert [path.name for path in folder.parent.iterdir()] == ["a1"]
