"""Whatever a cluster profile, a command or an environment variable holds, a job script makes text of it, or refuses."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.spec import BenchmarkError
from hpo.app import cli
from slurm import profile, scripts, submit
from slurm.profile import Profile
from slurm.scripts import Places
from tests.security.hostile import STRINGS, assert_nothing_ran

REPOSITORY = Path(__file__).parents[2]
NOTE = 'printf "%s\\0" "$@"'
STAND_INS = f"""
module() {{ {NOTE}; }}
conda() {{ if [ "$1" = shell.bash ]; then echo ':'; else {NOTE}; fi; }}
"""
"""Functions of a cluster's login shell."""
VARIABLES = ["CLUSTER", "METHOD", "BENCHMARK", "BUDGET", "SEED", "NUM_WORKERS", "LR_LOWER", "LR_UPPER", "BS_CHOICES",
             "WD_CHOICES"]  # fmt: skip

pytestmark = pytest.mark.slow
every_string = pytest.mark.parametrize("text", STRINGS.values(), ids=STRINGS)


def python_in(folder: Path) -> str:
    """A stand-in for Python that prints its arguments."""
    program = folder / "python"
    program.write_text(f"#!/bin/sh\n{NOTE}\n")
    program.chmod(0o755)
    return str(program)


def run(script: str, work: Path, **variables: str) -> tuple[int, list[str]]:
    """Run a job script as SLURM does, but for what it asks SLURM for; returns status and the words it told."""
    done = subprocess.run(
        ["bash", "-s"],
        input=(STAND_INS + script).encode(),
        cwd=work,
        env={"PATH": f"{work}:/usr/bin:/bin", "HOME": str(work), **variables},
        capture_output=True,
        check=False,
    )
    return done.returncode, done.stdout.decode().split("\0")[:-1]


def loaded(folder: Path, **content: Any) -> Profile | None:
    """The profile with these keys, read from a file; None where it is refused."""
    path = folder / "cluster.yaml"
    path.write_text(yaml.safe_dump({"node": {"cpus": 4}, **content}))
    try:
        return profile.load(path)
    except BenchmarkError:
        return None


def all_scripts(cluster: Profile, command: list[str], places: Places) -> list[str]:
    """Write a script of each kind of job."""
    return [
        scripts.head(cluster, "hpo-asha", command, places),
        scripts.worker(cluster, "hpo-asha-worker", command, places),
        scripts.trials(cluster, "hpo-random", command, places, 1, is_array=True),
        scripts.trials(cluster, "hpo-random", command, places, 1, is_array=False),
    ]


@every_string
@pytest.mark.parametrize(
    "key",
    [
        *("partition", "account", "time", "memory", "gpu_request", "directive", "logs", "store", "job_name"),
        *("gpus", "workers", "head", "address", "interface"),
    ],
)
def test_what_slurm_is_asked_for_stays_a_comment(key: str, text: str, tmp_path: Path) -> None:
    """One line that begins with #SBATCH, which bash does not read; the command after it is what it was."""
    told: dict[str, Any] = {key: text}
    if key == "memory":
        told = {"node": {"cpus": 4, "memory": text}, "head": {"memory": text}}
    elif key == "directive":
        told = {"directives": [f"--comment={text}"]}
    elif key in ("workers", "head"):
        told = {key: {"directives": [f"--comment={text}", f"--gres=nvme:{text}"]}}
    elif key == "gpus":
        told = {"node": {"cpus": 4, "gpus": f"{text}:1"}}
    cluster = loaded(tmp_path, **told)
    if cluster is None:
        return
    plain = loaded(tmp_path)
    assert plain is not None
    places = Places(tmp_path, tmp_path, python_in(tmp_path))
    for script, usual in zip(all_scripts(cluster, ["x"], places), all_scripts(plain, ["x"], places), strict=True):
        own = [line for line in script.splitlines() if not line.startswith("#SBATCH ")]
        assert own == [line for line in usual.splitlines() if not line.startswith("#SBATCH ")]
        assert run(script, tmp_path) == (0, ["-m", "hpo", "x"])
    assert_nothing_ran(tmp_path)


@pytest.mark.parametrize(
    ("key", "names"),
    [
        ("time", []),
        ("gpu_request", []),
        ("job_name", []),
        ("address", []),
        ("partition", ["flag", "flag with value", "short flag", "double dash", "parent folder", "absolute path"]),
        ("account", ["flag", "flag with value", "short flag", "double dash", "parent folder", "absolute path"]),
    ],
)
def test_what_is_no_name_is_refused_as_one(key: str, names: list[str], tmp_path: Path) -> None:
    """Any other text stands behind an equals sign, where it is one word to SLURM too."""
    assert [name for name, text in STRINGS.items() if loaded(tmp_path, **{key: text})] == names


@pytest.mark.parametrize("text", ["gpu\n", "logs\ntouch PWNED", "a\rb", "a\u2028b"])
@pytest.mark.parametrize("key", ["partition", "account", "time", "logs", "store", "directives"])
def test_a_line_break_is_refused_with_the_key(key: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / "cluster.yaml"
    value: Any = [f"--comment={text}"] if key == "directives" else text
    path.write_text(yaml.safe_dump({"node": {"cpus": 4}, key: value}))
    with pytest.raises(BenchmarkError, match=rf"{key}.*: must be"):
        profile.load(path)


@every_string
def test_modules_and_environments_are_names(text: str, tmp_path: Path) -> None:
    """They arrive whole where they are loaded; a virtual environment that is not there ends the job."""
    python_in(tmp_path)
    places = Places(tmp_path, tmp_path, "")
    cluster = loaded(tmp_path, environment={"modules": [text, "gcc"], "conda": text})
    if cluster is not None:
        for script in all_scripts(cluster, ["x"], places):
            told = ["load", text, "load", "gcc", "activate", text, "-m", "hpo", "x"]
            assert run(script, tmp_path) == (0, told)
    cluster = loaded(tmp_path, environment={"venv": text})
    if cluster is not None:
        assert run(all_scripts(cluster, ["x"], places)[0], tmp_path) == (1, [])
    assert_nothing_ran(tmp_path)


@every_string
def test_a_container_and_its_folders_are_words(text: str, tmp_path: Path) -> None:
    program = tmp_path / "apptainer"
    program.write_text(f"#!/bin/sh\n{NOTE}\n")
    program.chmod(0o755)
    places = Places(tmp_path, tmp_path, "")
    cluster = loaded(tmp_path, environment={"container": text, "binds": [f"/{text}"]})
    if cluster is None:
        cluster = loaded(tmp_path, environment={"container": text})
    if cluster is None or not text or ":" in cluster.logs:
        return
    for script in all_scripts(cluster, ["x"], places):
        status, told = run(script, tmp_path)
        assert (status, told[0], told[-5:]) == (0, "exec", [cluster.environment.container, *"python -m hpo x".split()])
        assert set(cluster.environment.binds) <= set(told)
    assert_nothing_ran(tmp_path)


@every_string
def test_the_command_its_folder_and_its_python_are_words(text: str, tmp_path: Path) -> None:
    work = tmp_path / f"in {text.replace('/', '|')}"
    work.mkdir()
    python = python_in(work)
    for script in all_scripts(profile_of_one(), ["run", "asha", "--benchmark", text, text], Places(work, work, python)):
        noted = script.replace("exec ", 'printf "%s\\0" "$PWD"; exec ')
        assert run(noted, tmp_path) == (0, [str(work), "-m", "hpo", "run", "asha", "--benchmark", text, text])
    assert_nothing_ran(tmp_path)


def profile_of_one() -> Profile:
    return Profile.model_validate({"node": {"cpus": 1}})


@every_string
def test_a_head_job_s_command_reaches_the_driver_whole(text: str, tmp_path: Path, monkeypatch: Any) -> None:
    """`slurm submit --dry-run` prints what is submitted."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / f"{text.replace('/', '|')}.yaml"
    written = submit.head_script(profile_of_one(), file, ["suite", "--methods", text], tmp_path)
    [*_, last] = run(written.replace(scripts_python(), python_in(tmp_path)), tmp_path)
    assert last == ["-m", "hpo", "slurm", "head", "--cluster", str(file), "--", "suite", "--methods", text]
    assert_nothing_ran(tmp_path)


def scripts_python() -> str:
    import shlex
    import sys

    return shlex.quote(sys.executable)


@every_string
def test_sbatch_alone_hands_no_variable_to_a_shell(text: str, tmp_path: Path) -> None:
    """The script of those who submit with sbatch alone: variables stay in the environment, PYTHON is one program."""
    script = (REPOSITORY / "slurm/head_node.slurm").read_text()
    given = dict.fromkeys(VARIABLES, text)
    wanted = ["-m", "hpo", "slurm", "head", "--from-environment"]
    assert run(script, tmp_path, PYTHON=python_in(tmp_path), **given) == (0, wanted)
    status, told = run(script, tmp_path, PYTHON=text)
    assert (status in (126, 127), told) == (True, [])
    assert_nothing_ran(tmp_path)


@every_string
@pytest.mark.parametrize("name", VARIABLES)
def test_a_variable_that_is_no_value_is_refused(
    name: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In one sentence, with status 2, before Ray or anything else is started."""
    monkeypatch.chdir(tmp_path)
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    for variable in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN"):  # set for the head job, and taken back
        monkeypatch.setenv(variable, os.environ.get(variable, ""))
    (tmp_path / "cluster.yaml").write_text("node: {cpus: 1}\n")
    monkeypatch.setenv(name, text)
    if name in ("LR_LOWER", "LR_UPPER"):
        monkeypatch.setenv({"LR_LOWER": "LR_UPPER", "LR_UPPER": "LR_LOWER"}[name], "1e-3")
    assert cli.main(["slurm", "head", "--from-environment"]) == 2
    told = capsys.readouterr()
    assert told.err.startswith("error: ")
    assert told.out == ""
    assert sorted(path.name for path in tmp_path.iterdir() if not path.name.startswith("logs")) == ["cluster.yaml"]
    assert_nothing_ran(tmp_path)
