"""Folders in which Ray can make its sockets, whose paths are short."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hpo.cluster import access


def test_a_short_folder_is_taken_without_a_word(capsys: pytest.CaptureFixture[str]) -> None:
    assert access.place_for_sockets("", "/var/tmp") == "/var/tmp"
    assert access.place_for_sockets() == "/tmp"
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("length", [30, 60, 120, 200])
def test_a_long_one_is_replaced_by_a_short_one_and_this_is_said(
    length: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(f"/tmp/{'x' * (length - 5)}")
    folder.mkdir()
    try:
        assert access.place_for_sockets(str(folder)) == "/tmp"
    finally:
        folder.rmdir()
    assert capsys.readouterr().err.startswith(f"warning: Ray's files lie in /tmp, since {folder} is longer than the ")


@pytest.mark.parametrize("kind", ["missing", "file"])
def test_one_that_cannot_be_written_is_replaced(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if kind == "file":
        (tmp_path / kind).touch()
    assert access.place_for_sockets(str(tmp_path / kind)) == "/tmp"
    assert "is no folder that can be written" in capsys.readouterr().err


def test_the_longest_path_in_the_longest_folder_is_one_that_a_socket_may_have() -> None:
    room = access.MAX_SOCKET_BYTES - len(access._LONGEST)
    assert room >= len("/dev/shm")
    assert len(os.fsencode("x" * room + access._LONGEST)) == 107
