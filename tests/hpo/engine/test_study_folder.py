"""The folder of a study that has not reached its end: written at once, read by its owner alone."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from benchmarks import spec
from benchmarks.identity import digest
from benchmarks.spec import BenchmarkError
from hpo.app.cli import main
from hpo.core.study import Study
from hpo.engine import study_folder as unfinished
from hpo.engine.study_folder import Asked, Unfinished

RUN_ID = "4f2a"


def asked(job: str = "", method: str = "asha") -> Asked:
    benchmark = spec.load("synthetic")
    study = Study(method, benchmark, 3, 5, 0.5, {"searcher": "optuna"}, "searcher=optuna")
    return Asked(study, "python -m hpo run asha", "cpu", digest(benchmark), job)


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Unfinished:
    """Make the folder of a study that has begun, and waits."""
    monkeypatch.chdir(tmp_path)
    study = Unfinished(RUN_ID)
    with study.held():
        study.begin(asked())
        study.write({"units": 3})
    return study


class TestFolder:
    def test_what_was_asked_for_comes_back(self, kept: Unfinished) -> None:
        assert Unfinished(RUN_ID).asked() == asked()

    def test_the_state_comes_back(self, kept: Unfinished) -> None:
        assert Unfinished(RUN_ID).read() == {"units": 3}

    def test_so_does_how_long_it_ran_whatever_the_clock_says_now(self, kept: Unfinished) -> None:
        assert Unfinished(RUN_ID).seconds == 0.0
        time.sleep(unfinished.SECONDS_PER_TOUCH)
        kept.touch(7.25)
        kept.touch(7.5)  # at once after it: not written
        os.utime(kept.folder / "seconds", (0, 0))
        assert Unfinished(RUN_ID).seconds == 7.25

    def test_only_its_owner_may_look(self, kept: Unfinished) -> None:
        assert kept.folder.stat().st_mode & 0o777 == 0o700
        assert (kept.folder / "state").stat().st_mode & 0o777 == 0o600

    def test_a_state_that_others_may_write_is_not_read(self, kept: Unfinished) -> None:
        (kept.folder / "state").chmod(0o620)
        with pytest.raises(BenchmarkError, match="others may write it; it is not read"):
            Unfinished(RUN_ID).read()

    @pytest.mark.parametrize("name", ["hpo.state\nState", "hpo.budget\nBudgetedScheduler", "hpo.runner\nFinished"])
    def test_a_state_of_classes_that_have_moved_since_is_refused_with_the_next_step(
        self, kept: Unfinished, name: str
    ) -> None:
        (kept.folder / "state").write_bytes(f"c{name}\n.".encode())  # a pickle of a name, as older versions wrote it
        with pytest.raises(BenchmarkError, match="resume with the versions that began the study, or run it again"):
            Unfinished(RUN_ID).read()
        assert (kept.folder / "state").exists()

    def test_a_state_that_is_damaged_is_an_error_in_words(self, kept: Unfinished) -> None:
        (kept.folder / "state").write_bytes(b"half")
        with pytest.raises(BenchmarkError, match="cannot be read"):
            Unfinished(RUN_ID).read()

    def test_a_disk_that_is_full_costs_the_new_state_alone(
        self, kept: Unfinished, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def no_space(*_: object) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as full:
            full.setattr("ray.cloudpickle.dump", no_space)
            kept.write({"units": 4})
        assert "No space left on device" in kept.fault
        assert Unfinished(RUN_ID).read() == {"units": 3}

    def test_a_second_driver_is_refused(self, kept: Unfinished) -> None:
        with kept.held():
            assert Unfinished(RUN_ID).is_running
            with pytest.raises(BenchmarkError, match=f"study {RUN_ID} is running"), Unfinished(RUN_ID).held():
                pass
        assert not Unfinished(RUN_ID).is_running

    def test_nothing_is_left_of_the_last_one(self, kept: Unfinished, tmp_path: Path) -> None:
        kept.remove()
        assert list(tmp_path.iterdir()) == []


class TestFinding:
    def test_the_same_study_is_found(self, kept: Unfinished) -> None:
        assert unfinished.like(asked().fingerprint, unfinished.found()) == RUN_ID

    def test_another_one_is_not(self, kept: Unfinished) -> None:
        assert unfinished.like(asked(method="random").fingerprint, unfinished.found()) is None

    def test_one_that_is_running_is_not(self, kept: Unfinished) -> None:
        with kept.held():
            assert unfinished.like(asked().fingerprint, unfinished.found()) is None

    def test_one_of_another_version_is_passed_over(self, kept: Unfinished) -> None:
        other = Unfinished("0000")
        other.folder.mkdir()
        (other.folder / "study.json").write_text('{"study": {"method": "asha"}}')
        assert unfinished.like(asked().fingerprint, unfinished.found()) == RUN_ID

    def test_those_of_a_job_are_found(self, kept: Unfinished) -> None:
        other = Unfinished("0001")
        other.folder.mkdir()
        other.begin(asked(job="17"))
        assert [study.run_id for study in unfinished.of_job("17")] == ["0001"]


class TestCommand:
    def test_it_lists_what_can_go_on(self, kept: Unfinished, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["resume"]) == 0
        assert f"asha searcher=optuna seed 3 on synthetic: python -m hpo resume {RUN_ID}" in capsys.readouterr().out

    def test_it_says_so_where_there_is_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.chdir(tmp_path)
        assert main(["resume"]) == 0
        assert capsys.readouterr().out == "no study here is unfinished\n"
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("run_id", ["nothing", "../unfinished/4f2a", "/etc", "..", "-x", "a/b"])
    def test_what_is_no_study_is_refused(
        self, kept: Unfinished, run_id: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["resume", "--", run_id]) == 2
        error = capsys.readouterr().err
        assert f"no unfinished study {run_id!r}" in error
        assert f"there are: {RUN_ID}" in error

    @pytest.mark.parametrize(
        ("changes", "why"),
        [
            ({"benchmark_digest": "another"}, "differ from those that the study began with"),
            ({"accelerator": "Tesla V100"}, "the study began on Tesla V100, and this is cpu"),
        ],
    )
    def test_a_study_that_began_with_something_else_is_refused_and_kept(
        self, kept: Unfinished, changes: dict[str, str], why: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        began = asked()
        kept.begin(Asked(**{**vars(began), **changes}))
        assert main(["resume", RUN_ID]) == 2
        assert why in capsys.readouterr().err
        assert kept.has_state
