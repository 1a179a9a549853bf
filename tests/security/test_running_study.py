"""Traces of a running study that other users see: ports, command lines, files and logs.

It trains on two ranks, in an environment that has tokens and passwords, and with the user's Ray told to ask for none.
"""

from __future__ import annotations

import ipaddress
import os
import re
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from hpo.app import cli
from hpo.store import client as store
from tests import joining
from tests.servers import Server
from tests.stores import fresh_store
from tests.studies import write_benchmark

REPOSITORY = Path(__file__).parents[2]
SECRETS = {
    "HF_TOKEN": "hf_Kq7secretOfTheHub",
    "MLFLOW_TRACKING_USERNAME": "somebody",
    "MLFLOW_TRACKING_PASSWORD": "Zt4secretOfTheServer",
    "RAY_AUTH_TOKEN": "Rw9secretOfAnotherRay",
    "RAY_AUTH_MODE": "disabled",
}
IN_ADDRESS = "Up2secretInTheAddress"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


@dataclass
class Seen:
    """Observations of a study while it ran."""

    commands: set[str] = field(default_factory=set)
    listeners: dict[str, str] = field(default_factory=dict)
    ui_listeners: dict[str, str] = field(default_factory=dict)
    answers: dict[str, str] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    modes: dict[str, int] = field(default_factory=dict)
    token: str = ""
    rank_listeners: int = 0
    status: int | None = None


def processes(first: int) -> list[psutil.Process]:
    with suppress(psutil.Error):
        return [psutil.Process(first), *psutil.Process(first).children(recursive=True)]
    return []


def listening(first: int) -> dict[str, str]:
    """List the addresses on which a process and its descendants listen, each with the process."""
    found = {}
    for process in processes(first):
        with suppress(psutil.Error):
            for connection in process.net_connections(kind="tcp"):
                if connection.status == psutil.CONN_LISTEN:
                    found[f"{connection.laddr.ip} {connection.laddr.port}"] = process.name()
    return found


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    work = tmp_path_factory.mktemp("study")
    (work / "home").mkdir()
    words = ["ui", "--backend-store-uri", fresh_store(work)]  # as in the README
    with Server(words, work) as server:
        yield watch(work, server.uri.replace("//", f"//user:{IN_ADDRESS}@"), server.pid)


def watch(work: Path, address: str, server: int) -> Seen:
    """Run a study and look at it."""
    seen = Seen(ui_listeners=listening(server))
    environment = {**os.environ, **SECRETS, "MLFLOW_TRACKING_URI": address, "HOME": str(work / "home")}
    environment |= {"PYTHONPATH": str(REPOSITORY), "CUDA_VISIBLE_DEVICES": ""}
    for name in ("MLFLOW_RUN_ID", "TMPDIR", "RAY_TMPDIR", "RAY_ADDRESS"):
        environment.pop(name, None)
    benchmark = write_benchmark(work, limit=64, finetune={"ranks_per_trial": 2})
    command = [sys.executable, "-m", "hpo", "run", "random", "--budget", "1", "--benchmark", str(benchmark)]
    with (work / "out").open("w") as out:
        study = subprocess.Popen(command, cwd=work, env=environment, stdout=out, stderr=subprocess.STDOUT)
        try:
            while study.poll() is None:
                look(seen, study.pid, work)
                time.sleep(1)
        finally:
            for process in reversed(processes(study.pid)):
                with suppress(psutil.Error):
                    process.kill()
            study.wait()
    seen.status = study.returncode
    keep_files(seen, work)
    return seen


def look(seen: Seen, study: int, work: Path) -> None:
    listeners = listening(study)
    seen.listeners |= listeners
    seen.rank_listeners = max(seen.rank_listeners, sum("_Rank" in name for name in listeners.values()))
    for process in processes(study):
        with suppress(psutil.Error):
            words = process.cmdline()
            seen.commands.add(" ".join(words))
            if words and "raylet" in words[0] and not seen.token:
                seen.token = process.environ().get(joining.TOKEN, "")
    folders = {Path(found) for text in seen.commands for found in re.findall(r"/tmp/hpo-ray-\w+", text)}
    for folder in folders:
        with suppress(FileNotFoundError):
            seen.modes[str(folder)] = stat.S_IMODE(folder.stat().st_mode)
            keep_files(seen, folder)
    for folder in work.glob("unfinished/*"):
        with suppress(FileNotFoundError):
            seen.modes[str(folder)] = stat.S_IMODE(folder.stat().st_mode)
            keep_files(seen, folder)
    if not seen.answers and (found := re.search(r"--gcs-address=(\S+)", " ".join(seen.commands))) and seen.token:
        seen.answers = joining.answers(found[1], seen.token)


def keep_files(seen: Seen, folder: Path) -> None:
    """Keep the newest content of each file below a folder."""
    for where, _, names in os.walk(folder):
        for path in (Path(where) / name for name in names):
            with suppress(OSError):
                if stat.S_ISREG(path.lstat().st_mode):
                    seen.files[str(path)] = path.read_bytes()


def test_the_study_ran_to_its_end(seen: Seen) -> None:
    """With all of it in sight, or the other tests show nothing."""
    assert seen.status == 0, next(text for name, text in seen.files.items() if name.endswith("/out"))
    assert seen.token not in ("", SECRETS[joining.TOKEN])
    assert any(name.endswith("mlflow.db") for name in seen.files)
    assert any("/logs/raylet" in name for name in seen.files)
    assert any("/unfinished/" in name and name.endswith("/state") for name in seen.files)
    assert seen.rank_listeners >= 3  # two of gloo, and the store by which the ranks meet


def test_every_port_is_on_loopback(seen: Seen) -> None:
    assert seen.listeners
    addresses = {address: who for address, who in seen.listeners.items() if not is_loopback(address.split()[0])}
    assert addresses == {}


def is_loopback(text: str) -> bool:
    address = ipaddress.ip_address(text.removeprefix("::ffff:"))
    return address.is_loopback


def test_the_readme_s_mlflow_is_on_loopback(seen: Seen) -> None:
    assert seen.ui_listeners
    assert all(is_loopback(address.split()[0]) for address in seen.ui_listeners), seen.ui_listeners


def test_ray_lets_nobody_in_without_the_study_s_own_token(seen: Seen) -> None:
    """Though the user's environment turns authentication off."""
    *others, right = seen.answers.items()
    assert {answer for _, answer in others} == {joining.REFUSED}
    assert right == ("the token", "1")


def test_no_command_line_has_a_secret(seen: Seen) -> None:
    assert len(seen.commands) > 5
    assert [text for text in seen.commands if any(secret in text for secret in all_secrets(seen))] == []


def test_no_file_has_a_secret(seen: Seen) -> None:
    """Output, MLflow's store and artifacts, Ray's logs, what is kept for `resume`, and what lies in the home folder."""
    assert {name: s for name, data in seen.files.items() for s in all_secrets(seen) if s.encode() in data} == {}


def all_secrets(seen: Seen) -> list[str]:
    words = [value for name, value in SECRETS.items() if name not in ("RAY_AUTH_MODE", "MLFLOW_TRACKING_USERNAME")]
    return [*words, IN_ADDRESS, seen.token]


def test_what_a_study_keeps_is_its_owner_s_alone(seen: Seen) -> None:
    assert len(seen.modes) == 2
    assert set(seen.modes.values()) == {0o700}


def test_nothing_of_ray_is_left(seen: Seen) -> None:
    assert [folder for folder in seen.modes if Path(folder).exists()] == []
    assert [name for name in seen.files if name.endswith("auth_token")] == []


# ---- what is printed


ADDRESSES = [
    f"http://user:{IN_ADDRESS}@127.0.0.1:1",
    f"http://user:{IN_ADDRESS}@127.0.0.1:1/path?a=b",
    f"postgresql://user:{IN_ADDRESS}@127.0.0.1:1/db",
    f"mysql+nothing://user:p@ss/{IN_ADDRESS}@127.0.0.1:1/db",
]


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("verb", ["compare", "export", "run"])
def test_an_address_is_printed_without_its_password(
    verb: str, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    words = ["run", "random", "--benchmark", "synthetic"] if verb == "run" else [verb, "--benchmark", "synthetic"]
    began = time.monotonic()
    assert cli.main(words) == 2
    assert time.monotonic() - began < 20
    told = capfd.readouterr()
    assert f"error: tracking store {address.split('://')[0]}://***@127.0.0.1:1" in told.err
    assert IN_ADDRESS not in told.out + told.err


def test_a_server_without_encryption_beyond_this_machine_is_warned_of_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store.warn_of.cache_clear()
    for name in ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    quiet = ["http://127.0.0.1:5000", "http://localhost:5000", "http://[::1]:5000", "https://far.invalid",
             "sqlite:///mlflow.db", f"https://user:{IN_ADDRESS}@far.invalid"]  # fmt: skip
    for address in quiet:
        store.warn_of(address)
    assert capsys.readouterr().err == ""
    for _ in range(2):
        store.warn_of("http://far.invalid:5000")
        store.warn_of(f"http://user:{IN_ADDRESS}@192.0.2.9:5000")
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("warning: http://far.invalid:5000 is not encrypted: all that is stored can be read")
    assert second.startswith("warning: http://***@192.0.2.9:5000 is not encrypted: the password and all that is stored")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "t")
    store.warn_of("http://other.invalid:5000")
    assert "the password and all" in capsys.readouterr().err


def test_a_ray_without_a_token_is_used_with_a_warning(tmp_path: Path) -> None:
    """One that somebody else started, named by RAY_ADDRESS."""
    rest = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment = {**rest, "RAY_AUTH_MODE": "disabled", "PYTHONPATH": str(REPOSITORY)}
    ray = [sys.executable, "-m", "ray.scripts.scripts"]
    folder = f"/tmp/hpo-test-{os.getpid()}"
    start = [*ray, "start", "--head", "--port=0", "--num-cpus=1", "--include-dashboard=false", "--block"]
    log = tmp_path / "log"
    with log.open("w") as out:
        head = subprocess.Popen(
            [*start, f"--temp-dir={folder}", "--disable-usage-stats"],
            env=environment,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + 120
        while not (found := re.search(r"--address='([^']+)'", log.read_text())):
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        code = "from hpo.cluster import ray; ray.connect(); print('connected')"
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**environment, "RAY_ADDRESS": found[1]},
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        for process in reversed(processes(head.pid)):
            with suppress(psutil.Error):
                process.kill()
        head.wait()
        shutil.rmtree(folder, ignore_errors=True)
    assert done.stdout == "connected\n", done.stderr
    assert (
        f"warning: the Ray at {found[1]} asks for no token: any program that reaches its ports runs code" in done.stderr
    )
