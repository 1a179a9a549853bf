"""Whatever a parameter of an MLproject entry is given, no shell makes more of it than one word."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.projects._project_spec import load_project

from tests.security.hostile import STRINGS, assert_nothing_ran
from tests.stores import fresh_store

REPOSITORY = Path(__file__).parents[2]
PROJECT = load_project(str(REPOSITORY))
VALUES = list(STRINGS.values())
END = "end of the call"
RECORDER = f'#!/bin/sh\nprintf "%s\\0" "$@" "{END}" >> "$RECORD"\n'

pytestmark = pytest.mark.slow


def write_recorder(folder: Path, name: str = "python", then: str = "") -> Path:
    """Write a program that notes its arguments and, if told, goes on as another."""
    folder.mkdir(exist_ok=True)
    program = folder / name
    program.write_text(RECORDER + (f'exec "{then}" "$@"\n' if then else ""))
    program.chmod(0o755)
    return program


def recorded(path: Path) -> list[list[str]]:
    """Read the arguments of each call."""
    return [call.split("\0")[:-1] for call in path.read_bytes().decode().split(f"{END}\0")[:-1]]


def test_there_are_many_of_them() -> None:
    assert len(set(VALUES)) == len(STRINGS) >= 30


@pytest.mark.parametrize("entry", sorted(PROJECT._entry_points))
def test_every_parameter_takes_every_string_as_one_word(entry: str, tmp_path: Path) -> None:
    """MLflow makes the command, bash runs it, and what stands in for Python notes what it is given."""
    point = PROJECT.get_entry_point(entry)
    names, record, work = list(point.parameters), tmp_path / "record", tmp_path / "work"
    work.mkdir()
    environment = {"PATH": f"{write_recorder(tmp_path / 'bin').parent}:/usr/bin:/bin", "RECORD": str(record)}
    for first in range(len(VALUES)):
        given = {name: VALUES[(first + place) % len(VALUES)] for place, name in enumerate(names)}
        command = point.compute_command(given, str(tmp_path))
        record.unlink(missing_ok=True)
        done = subprocess.run(
            ["bash", "-c", command], cwd=work, env=environment, capture_output=True, text=True, check=True
        )
        assert done.stdout + done.stderr == ""
        [words] = recorded(record)
        assert words[-1 if entry == "resume" else -2 * len(names) + 1 :: 2] == list(given.values())
    assert_nothing_ran(tmp_path)


def test_an_undeclared_parameter_is_one_word_too(tmp_path: Path) -> None:
    """MLflow hands it on as an option."""
    record = tmp_path / "record"
    environment = {"PATH": f"{write_recorder(tmp_path / 'bin').parent}:/usr/bin:/bin", "RECORD": str(record)}
    given = dict.fromkeys(VALUES, "; touch PWNED")
    command = PROJECT.get_entry_point("compare").compute_command(given, str(tmp_path))
    subprocess.run(["bash", "-c", command], cwd=tmp_path, env=environment, check=True)
    [words] = recorded(record)
    assert set(VALUES) - {"--"} <= {word.removeprefix("--") for word in words} | set(words)
    assert_nothing_ran(tmp_path)


@pytest.mark.timeout(300)
def test_mlflow_run_hands_every_string_on_to_a_command_line_that_refuses_it(tmp_path: Path) -> None:
    """The launcher itself, with the real command line behind it: declared parameters, and undeclared ones beside."""
    work = tmp_path / "work"
    work.mkdir()
    write_recorder(tmp_path / "bin", then=sys.executable)
    declared = list(PROJECT.get_entry_point("deepspeed").parameters)
    given = [
        ("deepspeed", dict(zip(declared, VALUES, strict=False))),
        ("resume", {"run_id": "$(touch PWNED)", **{f"x{i}": value for i, value in enumerate(VALUES[len(declared) :])}}),
    ]
    running = [launch(entry, values, tmp_path) for entry, values in given]
    seen: set[str] = set()
    for process, (entry, values) in zip(running, given, strict=True):
        out, err = process.communicate(timeout=240)
        assert process.returncode == 1, err
        refusal = next(line for line in err.splitlines() if line.startswith("error: "))
        assert "usage" not in out + refusal
        [words] = [call for call in recorded(tmp_path / f"record-{entry}") if call[:2] == ["-m", "hpo"]]
        assert set(values.values()) <= set(words)
        seen |= set(values.values())
    assert seen == set(VALUES)
    assert_nothing_ran(tmp_path)
    assert not list(REPOSITORY.glob("PWNED*"))


def launch(entry: str, given: dict[str, str], folder: Path) -> subprocess.Popen[str]:
    """`mlflow run`."""
    record, store = folder / f"record-{entry}", fresh_store(folder / f"store-{entry}")
    environment = {**os.environ, "MLFLOW_TRACKING_URI": store, "RECORD": str(record)}
    environment["PATH"] = os.pathsep.join([str(folder / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]])
    command = [sys.executable, "-m", "mlflow", "run", str(REPOSITORY), "-e", entry, "--env-manager", "local"]
    for name, value in given.items():
        command += ["-P", f"{name}={value}"]
    return subprocess.Popen(
        command,
        cwd=folder / "work",
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_mlflow_keeps_the_strings_as_they_were_given(tmp_path: Path) -> None:
    """MLflow stores text, and its content does not matter."""
    client = MlflowClient(fresh_store(tmp_path))
    run = client.create_run("0").info.run_id
    for name in STRINGS:
        client.set_tag(run, name.replace(" ", "_"), STRINGS[name])
    tags = client.get_run(run).data.tags
    assert {name: tags[name.replace(" ", "_")] for name in STRINGS} == STRINGS
