"""A task of HyperQueue, in this process: its events, and the two rounds of a trial that raises."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import spec
from benchmarks.spec import Benchmark, BenchmarkError
from hpo.cluster.devices import Devices
from hpo.core import event_log
from hpo.core import events as core
from hpo.search import registry
from slurm import study_folder
from slurm.hq import study, task


def make(folder: Path, benchmark: Benchmark, budget: int = 3) -> Path:
    wanted = registry.get("random").study(benchmark, 0, budget, None, {})
    return study.new_folder(folder, study.prepare(wanted, 2, 1, "the command"))


def limited(memory: float) -> Benchmark:
    """A benchmark whose trials are computed at once, and run out of memory above a limit."""
    content = spec.load("synthetic").model_dump(mode="json", exclude_none=True)
    content["synthetic"] = {"seconds_per_unit": 0.0, "memory_limit": memory}
    return Benchmark.model_validate(content)


def ended(folder: Path) -> list[tuple[str, str]]:
    return [(event.trial, event.outcome) for event in study_folder.events(folder) if isinstance(event, core.Ended)]


def test_one_process_trains_its_trials_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make(tmp_path, limited(100))
    monkeypatch.setenv(task.CORES, "1")
    assert task.main([str(folder), "hq0", "1", "0", "2"]) == 0
    assert [path.name for path in folder.glob("*.jsonl")] == ["job-hq0.slot-1.jsonl"]
    assert ended(folder) == [("0", "completed"), ("2", "completed")]
    assert study_folder.finished(folder) == {0, 2}
    units = [event for event in study_folder.events(folder) if isinstance(event, core.Unit)]
    assert [event.units for event in units] == [*range(1, 10)] * 2
    first, second = (event.seconds["startup"] for event in units if event.units == 1)
    assert first > 10 * second  # the start of Python is paid once


def test_a_task_that_is_started_again_keeps_the_trials_that_have_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make(tmp_path, limited(100))
    assert task.main([str(folder), "hq0", "1", "0"]) == 0
    monkeypatch.setenv(task.INSTANCE, "1")
    assert task.main([str(folder), "hq0", "1", "0", "1"]) == 0
    assert ended(folder) == [("0", "completed"), ("1", "completed")]


def test_a_trial_that_raises_ends_the_first_round_s_task_and_is_a_result_of_the_second(tmp_path: Path) -> None:
    folder = make(tmp_path, limited(0.5))
    assert task.main([str(folder), "hq0", "1", "0", "1"]) == task.FAILED
    assert ended(folder) == [("0", "interrupted")]
    assert study_folder.finished(folder) == set()
    assert task.main([str(folder), "hq0", "2", "0"]) == 0
    assert ended(folder)[1:] == [("0", "failed")]
    [failed] = [event for event in study_folder.events(folder) if isinstance(event, core.Failed)]
    assert failed.reason.startswith("out of memory: MemoryError: tried to allocate ")


def test_methods_that_need_results_are_refused(tmp_path: Path) -> None:
    benchmark = spec.load("synthetic")
    for method, sentence in (("asha", "so it needs Ray"), ("optuna", "use `slurm array optuna`")):
        with pytest.raises(BenchmarkError, match=sentence):
            study.prepare(registry.get(method).study(benchmark, 0, 4, None, {}), 2, 1, "")


def test_trials_of_several_ranks_and_a_missing_package_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    two = spec.load("bloom_560m_squad_two_gpus")
    with pytest.raises(BenchmarkError, match="ranks_per_trial is 2, but a task of HyperQueue is one process"):
        study.require(two)
    monkeypatch.setattr(study, "PACKAGE", "hyperqueue_that_is_not_there")
    with pytest.raises(BenchmarkError, match=r"is not installed; type `pip install -r requirements-run.txt`"):
        study.require(spec.load("synthetic"))


def test_a_driver_that_was_killed_has_held_its_cores_to_the_last_event_of_its_trials(tmp_path: Path) -> None:
    folder = make(tmp_path, limited(100))
    event_log.append(study_folder.log_of(folder, "hq0"), core.Reserved(0.0, 2, "hq0", "cpu"))
    assert task.main([str(folder), "hq0", "1", "0"]) == 0
    *_, last = [event for event in study_folder.events(folder) if isinstance(event, core.Ended)]
    [released] = [event for event in study_folder.events(folder) if isinstance(event, core.Released)]
    assert (released.holder, released.at) == ("hq0", last.at)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    submitted = study.prepare(registry.get("random").study(spec.load("synthetic"), 0, 2, None, {}), 2, 1, "")
    with pytest.raises(BenchmarkError, match="cannot be written"):
        study.new_folder(tmp_path / "file", replace(submitted, at_once=1))


def test_a_model_is_not_trained_on_the_cores_of_a_machine_with_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    study.require_cores(spec.load("nano"))
    monkeypatch.setattr(study, "detect_here", lambda: Devices(2, "NVIDIA A100", 16))
    study.require_cores(spec.load("synthetic"))
    with pytest.raises(BenchmarkError, match=r"this machine has NVIDIA A100, but .* CPU cores only"):
        study.require_cores(spec.load("nano"))
