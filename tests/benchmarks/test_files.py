"""Reading YAML 1.2 as people mean it, and writing files whole or not at all."""

from __future__ import annotations

import os
import socket
import stat
import time
import warnings
from pathlib import Path
from typing import Any

import pytest

from benchmarks.files import BenchmarkError, read_yaml, replacing, replacing_folder, write_whole, yaml_text
from benchmarks.ports import free_port, free_ports


def read(folder: Path, text: str) -> dict[str, Any]:
    path = folder / "own.yaml"
    path.write_text(text)
    return read_yaml(path)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-5", 1e-5),
        ("1E5", 1e5),
        ("3.0e-05", 3e-5),
        (".5", 0.5),
        ("-.inf", float("-inf")),
        ("017", 17),
        ("4:00", "4:00"),
        ("1:59:59.5", "1:59:59.5"),
        ("yes", "yes"),
        ("no", "no"),
        ("true", True),
        ("~", None),
        ("2026-01-31", "2026-01-31"),
        ("2026-13-45", "2026-13-45"),
        ("=", "="),
        ("<<", "<<"),
        ("{<<: {a: 1}}", {"<<": {"a": 1}}),
    ],
)
def test_values_are_those_of_yaml_1_2(tmp_path: Path, text: str, value: Any) -> None:
    found = read(tmp_path, f"key: {text}\n")["key"]
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\na: 2\n", r"key 'a' is given twice \(line 2, column 1\)"),
        ("b:\n  a: 1\n  'a': 2\n", r"key 'a' is given twice \(line 3, column 3\)"),
        ("1: a\n", r"a key is no text; quote it \(line 1, column 1\)"),
        ("true: a\n", "a key is no text; quote it"),
        ("? [a]\n: b\n", "a key is no text; quote it"),
        ("a: b: c\n", r"mapping values are not allowed here \(line 1, column 5\)"),
        ("a: !!python/name:os.system\n", "could not determine a constructor for the tag"),
        ("a: !!binary aGk=\n", "could not determine a constructor for the tag"),
        ("a: !!set {b, c}\n", "could not determine a constructor for the tag"),
        ("a: !!bool x\n", r"a value or a directive cannot be read \('x'\)"),
        ("a: 1\n---\nb: 2\n", r"but found another document \(line 2, column 1\)"),
        ("%YAML 1.1\n---\na: yes\n", "YAML 1.2 is read here; remove the %YAML directive"),
        ("%YAML 1.3\n---\na: 1\n", "a value or a directive cannot be read"),
    ],
)
def test_text_that_is_not_plain_yaml_is_refused_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(BenchmarkError, match=rf"own\.yaml: not valid YAML: .*{message}"):
        read(tmp_path, text)


def test_a_bomb_of_aliases_under_a_repeated_key_is_not_printed(tmp_path: Path) -> None:
    levels = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 12)}]" for n in range(1, 12)]
    text = "\n".join(["a0: &a0 [x, x]", *levels, "b: *a11", "b: *a11"])
    began = time.monotonic()
    with pytest.raises(BenchmarkError, match="key 'b' is given twice") as caught:
        read(tmp_path, text)
    assert len(str(caught.value)) < 500
    assert time.monotonic() - began < 5


def test_an_anchor_may_be_used_again_without_a_warning(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read(tmp_path, "a: &x 1\nb: &x 2\nc: *x\n") == {"a": 1, "b": 2, "c": 2}


@pytest.mark.parametrize("brackets", ["[" * 300, "[" * 100 + "]" * 100, "{a: " * 100 + "1" + "}" * 100])
def test_deep_values_are_refused(tmp_path: Path, brackets: str) -> None:
    with pytest.raises(BenchmarkError, match="values are nested too deep; 50 levels are allowed"):
        read(tmp_path, f"key: {brackets}\n")


def test_written_yaml_reads_back_the_same_in_the_order_given(tmp_path: Path) -> None:
    content = {"b": 1e-05, "a": ["yes", "no", "1e-5", "017", "4:00", "~", "true", ""], "long": "word " * 60 + "end"}
    text = yaml_text(content)
    assert read(tmp_path, text) == content
    assert list(read(tmp_path, text)) == ["b", "a", "long"]
    assert all(line == line.rstrip() for line in text.splitlines())


class TestWritingWhole:
    """A reader finds the file of before or all of the new one."""

    def test_the_new_file_appears_at_the_end(self, tmp_path: Path) -> None:
        path = tmp_path / "state"
        path.write_text("old")
        with replacing(path) as file:
            file.write(b"new")
            file.flush()
            assert path.read_text() == "old"
        assert {one.name: one.read_text() for one in tmp_path.iterdir()} == {"state": "new"}

    def test_an_error_leaves_the_file_of_before_and_nothing_else(self, tmp_path: Path) -> None:
        path = tmp_path / "state"
        path.write_text("old")
        with pytest.raises(TypeError), replacing(path) as file:
            file.writelines([b"ne", "w"])  # type: ignore[list-item]  # which fails half-way
        assert {one.name: one.read_text() for one in tmp_path.iterdir()} == {"state": "old"}

    @pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
    def test_a_secret_is_its_owners_alone(self, tmp_path: Path, mask: int) -> None:
        before = os.umask(mask)
        try:
            write_whole(tmp_path / "secret", "token", mode=0o600)
            write_whole(tmp_path / "plain", "text")
        finally:
            os.umask(before)
        modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("secret", "plain")]
        assert modes == [0o600, 0o666 & ~mask]

    @pytest.mark.parametrize("name", ["state", ".state.part"])
    def test_a_link_is_replaced_and_not_followed(self, tmp_path: Path, name: str) -> None:
        (tmp_path / "elsewhere").write_text("kept")
        (tmp_path / name).symlink_to(tmp_path / "elsewhere")
        write_whole(tmp_path / "state", "new")
        assert (tmp_path / "elsewhere").read_text() == "kept"
        assert (tmp_path / "state").read_text() == "new"
        assert not (tmp_path / "state").is_symlink()

    def test_what_a_killed_process_left_does_not_stay_readable(self, tmp_path: Path) -> None:
        part = tmp_path / ".secret.part"
        part.write_text("half")
        part.chmod(0o644)
        write_whole(tmp_path / "secret", "token", mode=0o600)
        assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o600

    def test_a_folder_is_replaced_whole(self, tmp_path: Path) -> None:
        folder = tmp_path / "model"
        folder.mkdir()
        (folder / "old").write_text("")
        with replacing_folder(folder) as part:
            part.mkdir()
            (part / "new").write_text("")
            assert (folder / "old").exists()
        assert [path.name for path in tmp_path.rglob("*")] == ["model", "new"]


def test_free_ports_are_different_and_free() -> None:
    ports = [*free_ports(5), free_port()]
    assert len(set(ports[:5])) == 5
    for port in ports:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", port))
