"""Trials without Ray: real processes, that end well or do not. SLURM itself is in test_jobs.py."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import optuna
import psutil
import pytest
import yaml
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from benchmarks import spec
from benchmarks.spec import Benchmark, BenchmarkError
from hpo.core import event_log
from hpo.core import events as core
from hpo.search import journal, registry
from hpo.search.plan import TPEArguments
from slurm import arrays, profile, study_folder
from slurm.jobs import trial_job
from slurm.processes import Signals
from slurm.profile import Profile
from tests.benchmarks.devices.machines import CPU_BUILD, FAKE, gpu, machine, put_in

REPOSITORY = Path(__file__).parents[3]
pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Set the environment of a job's script; the process's own signals are restored."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


def make(folder: Path, benchmark: Benchmark, method: str = "random", budget: int = 2) -> Path:
    """A study's folder."""
    made = folder / "study"
    made.mkdir()
    study = registry.get(method).study(benchmark, 0, budget, None, {})
    cluster = Profile.model_validate({"node": {"cpus": 1}})
    arrays.write(made, arrays.prepare(study, "sequential", cluster, 0, ""))
    return made


def slow(seconds_per_unit: float) -> Benchmark:
    benchmark = spec.load("synthetic")
    assert benchmark.synthetic is not None
    synthetic = benchmark.synthetic.model_copy(update={"seconds_per_unit": seconds_per_unit})
    return benchmark.model_copy(update={"synthetic": synthetic})


def train(folder: Path) -> list[str]:
    with Signals() as signals:
        return trial_job.train(folder, [], signals)


def told(folder: Path, *kinds: type[core.Event]) -> list[Any]:
    return [event for event in study_folder.events(folder) if isinstance(event, kinds)]


def ended(folder: Path) -> list[core.Ended]:
    return told(folder, core.Ended)


@pytest.mark.thorough  # test_ranks and test_session hold both sides to one
def test_ranks_of_a_trial_train_as_under_ray(
    tmp_path: Path, small_nano: Callable[..., Benchmark], ray_of_two: None
) -> None:
    """Two ranks by torchrun, and the same two as Ray's actors: the same losses, to the last bit that gloo sums."""
    from benchmarks.devices.places import Place, find_places
    from benchmarks.training.ranks import Ranks
    from hpo.core.study import training_of

    benchmark = small_nano(max_units=1, ranks_per_trial=2)
    folder = make(tmp_path, benchmark, budget=1)
    assert train(folder) == ["completed"]
    places: list[Place] = find_places(2)
    ranks = Ranks(benchmark, places)
    order = study_folder.SubmittedStudy.read(folder)
    training = training_of(order.study, order.proposals[0])
    ranks.start(training.config, training.seed)
    expected, tokens = ranks.run_unit(), ranks.token_statistics()
    ranks_precision = ranks.precision()
    ranks.close()
    found = study_folder.last_unit(folder, 0)
    assert found is not None
    assert list(found.tokens) == tokens
    assert [split.questions for split in tokens] == [512, 48, 480]
    losses = found.metrics["train_loss"], found.metrics["eval_loss"]
    assert losses == pytest.approx((expected["train_loss"], expected["eval_loss"]))
    assert found.precision == ranks_precision
    assert found.metrics["peak_memory_mb"] > 100
    assert found.seconds["startup"] > 1


def test_gpus_that_torch_cannot_use_end_the_job_before_its_first_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_nano: Callable[..., Benchmark]
) -> None:
    folder = make(tmp_path, small_nano(max_units=1), budget=1)
    put_in(monkeypatch, machine(gpu(0)), build=CPU_BUILD)
    with pytest.raises(BenchmarkError, match=r"built without CUDA, cannot use NVIDIA H100 .* install a build that can"):
        train(folder)
    assert study_folder.events(folder) == ()


def test_a_trial_s_process_that_was_given_a_gpu_does_not_train_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_nano: Callable[..., Benchmark]
) -> None:
    """The facts of card and driver may be right, and torch finds no GPU all the same."""
    folder = make(tmp_path, small_nano(max_units=1, precision="auto", stage=1), budget=1)
    put_in(monkeypatch, machine(gpu(0), gpu(1)), "GPU-1")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(FAKE), str(REPOSITORY)]))
    assert train(folder) == ["failed"]
    assert "cannot use NVIDIA H100" in ended(folder)[-1].reason or "finds no GPU" in ended(folder)[-1].reason
    assert study_folder.last_unit(folder, 0) is None


def test_a_process_that_is_killed_is_started_once_more(tmp_path: Path) -> None:
    folder = make(tmp_path, slow(0.3), budget=1)

    def kill() -> None:
        _child(folder).send_signal(signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    assert train(folder) == ["completed"]
    killer.join()
    assert [event.reason for event in told(folder, core.Failed, core.Retried)] == [
        "its process was ended by SIGKILL"
    ] * 2
    assert [event.outcome for event in ended(folder)] == ["completed"]


def _child(folder: Path, deadline: float = 60.0) -> psutil.Process:
    """The process of a trial that has begun to train."""
    until = time.monotonic() + deadline
    while time.monotonic() < until:
        if told(folder, core.Unit) and (found := _training()):
            return found[0]
        time.sleep(0.02)
    raise AssertionError("no trial began")


def _training() -> list[psutil.Process]:
    """Processes of trials that this one has started."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if "hpo.engine.one_trial" in process.cmdline():
                found.append(process)
    return found


def test_a_trial_that_raises_is_a_failed_row_and_the_next_one_runs(
    tmp_path: Path, small_nano: Callable[..., Benchmark], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model whose weights are gone: refused when the trial loads it, with the reason in its row."""
    nano = small_nano(max_units=1)
    assert nano.finetune is not None
    broken = nano.model_copy(update={"finetune": nano.finetune.model_copy(update={"model": str(tmp_path)})})
    folder = make(tmp_path, broken, budget=1)
    assert train(folder) == ["failed"]
    first, second = told(folder, core.Failed)
    [end] = ended(folder)
    assert first.reason == second.reason == end.reason
    assert end.reason.startswith(f"benchmarks.files.BenchmarkError: model {tmp_path}: its tokenizer cannot be loaded")


@pytest.mark.parametrize(
    ("number", "reason"), [(signal.SIGUSR1, "the time limit is near"), (signal.SIGTERM, "the job was cancelled")]
)
def test_a_signal_ends_the_trial_and_keeps_its_units(tmp_path: Path, number: signal.Signals, reason: str) -> None:
    folder = make(tmp_path, slow(0.3))

    def tell() -> None:
        _child(folder)
        os.kill(os.getpid(), number)

    teller = threading.Thread(target=tell)
    teller.start()
    assert train(folder) == ["interrupted", "interrupted"]
    teller.join()
    assert [(event.outcome, event.reason) for event in ended(folder)] == [("interrupted", reason)]
    assert study_folder.last_unit(folder, 0) is not None
    assert _training() == []
    assert study_folder.finished(folder) == set()


def test_a_serial_job_whose_trials_have_all_ended_is_not_queued_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The signal falls between the end of its last trial and its own."""
    folder, program = make(tmp_path, slow(0.0), budget=1), tmp_path / "scontrol"
    program.write_text(f"#!/bin/sh\ntouch '{tmp_path}/called'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    file = tmp_path / "cluster.yaml"
    file.write_text(yaml.safe_dump({"node": {"cpus": 1}, "store": "http://127.0.0.1:9"}))

    def tell() -> None:
        while not study_folder.finished(folder):
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGUSR1)

    teller = threading.Thread(target=tell)
    teller.start()
    trial_job.serial(folder, profile.load(file), file)
    teller.join()
    assert not (tmp_path / "called").exists()
    printed = capsys.readouterr().out
    assert "queued again" not in printed
    assert f"nothing is lost, all results are in {folder}" in printed


def test_optuna_proposes_what_it_has_learnt_from_other_processes(tmp_path: Path) -> None:
    """The same journal without what the first trials told proposes something else for the last one."""
    folder = make(tmp_path, slow(0.0), "optuna", 6)
    assert set(train(folder)) <= {"completed", "diverged"}
    begun = [event.schedule[0][1] for event in told(folder, core.Proposed)]
    asked = optuna_study(folder / study_folder.JOURNAL).trials
    assert [trial.user_attrs[journal.TRIAL] for trial in asked] == list(range(6))
    last = [study_folder.last_unit(folder, trial) for trial in range(6)]
    assert [trial.value for trial in asked] == [unit.objective for unit in last if unit]
    assert [{**begun[0], **trial.params} for trial in asked] == begun
    order, untold = study_folder.SubmittedStudy.read(folder), tmp_path / "untold.journal"
    journal.begin(untold, order.study, TPEArguments())
    for trial in range(6):
        proposed = journal.ask(untold, order.study, order.initial_points, trial).config
        is_drawn = trial < order.initial_points  # by the study's seed alone
        assert ({**begun[trial], **proposed} == begun[trial]) is is_drawn, trial
    assert [event.by_model for event in told(folder, core.Proposed)] == [False, False, True, True, True, True]


def test_a_trial_that_is_begun_again_keeps_whether_a_model_proposed_it(tmp_path: Path) -> None:
    folder = make(tmp_path, slow(0.0), "optuna", 1)
    study, log = study_folder.SubmittedStudy.read(folder).study, study_folder.log_of(folder, "1")
    event_log.append(log, core.proposed(study, "0", 0, {}, 0.5, by_model=True))
    event_log.append(log, core.Ended(1.0, "0", "interrupted", "the time limit is near"))
    assert train(folder) == ["completed"]
    assert [event.by_model for event in told(folder, core.Proposed)] == [True, True]


def optuna_study(path: Path) -> optuna.Study:
    """The journal, read as any program of Optuna's reads it."""
    return optuna.load_study(study_name="study", storage=JournalStorage(JournalFileBackend(str(path))))


def test_tasks_at_once_ask_the_journal_for_trials_of_their_own(tmp_path: Path) -> None:
    folder = make(tmp_path, slow(0.02), "optuna", 4)
    (tmp_path / "cluster.yaml").write_text(yaml.safe_dump({"node": {"cpus": 1}}))
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "hpo", "slurm", "task", str(folder)],
            env={**os.environ, "SLURM_ARRAY_TASK_ID": str(task), "SLURM_JOB_ID": f"{100 + task}"},
            stdout=subprocess.PIPE,
            text=True,
        )
        for task in range(4)
    ]
    printed = [process.communicate()[0] for process in running]
    assert [process.returncode for process in running] == [0] * 4, printed
    asked = optuna_study(folder / study_folder.JOURNAL).trials
    assert sorted(trial.user_attrs[journal.TRIAL] for trial in asked) == [0, 1, 2, 3]
    assert len({event.schedule[0][1]["learning_rate"] for event in told(folder, core.Proposed)}) == 4
    assert "START trial 3: learning_rate=" in printed[3]
    assert "FINISH trial 3: " in printed[3]


def test_a_task_outside_of_slurm_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_ARRAY_TASK_ID", raising=False)
    command = [sys.executable, "-m", "hpo", "slurm", "task", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: SLURM_ARRAY_TASK_ID is not set")
