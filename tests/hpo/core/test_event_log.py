"""The log of events on disk: exact numbers, strict JSON, torn lines, full disks."""

from __future__ import annotations

import json
import math
import re
import resource
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.files import BenchmarkError
from hpo.core.event_log import EventLog, event_of, line_of, read, text_of
from hpo.core.events import KINDS, Began, Ended, Event, Failed, Interrupted, Proposed, Released, Reserved, Unit
from tests.hpo.core.told_studies import logs

FEW = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
SOME = [Reserved(0.0, 2.0), Began(0.1, "a", 1.0), Failed(1 / 3, "a", "x", "Traceback\n  \ud800 é"), Released(1e-320)]


@contextmanager
def full_disk(free_bytes: int) -> Iterator[None]:
    """Let no file of this process grow beyond a length."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (free_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class TestLines:
    @pytest.mark.slow
    @given(logs())
    @FEW
    def test_each_event_reads_back_as_it_was(self, events: list[Event]) -> None:
        lines = text_of(events).splitlines()
        assert repr([event_of(line) for line in lines]) == repr(events)  # as text, NaN equals NaN and 1 is not 1.0

    @given(st.floats())
    @FEW
    def test_each_number_reads_back_exactly_from_strict_json(self, value: float) -> None:
        event = Unit(0.0, "a", 1, value, False, {"eval_loss": value}, {})
        line = line_of(event)
        assert "NaN" not in line
        assert "Infinity" not in line
        again = event_of(line)
        assert isinstance(again, Unit)
        for number in (again.objective, again.metrics["eval_loss"]):
            assert number == value or (math.isnan(number) and math.isnan(value))
            assert math.copysign(1, number) == math.copysign(1, value) or math.isnan(value)

    def test_numbers_that_json_lacks_are_named(self) -> None:
        content = json.loads(line_of(Unit(0.0, "a", 1, math.inf, True, {"eval_loss": math.nan}, {})))
        assert (content["objective"], content["metrics"]) == ({"float": "inf"}, {"eval_loss": {"float": "nan"}})

    def test_numbers_of_numpy_are_plain_numbers(self) -> None:
        import numpy as np

        config = {"learning_rate": np.float64(0.1), "lora_rank": np.int64(4), "nan": np.float32("nan")}
        line = line_of(Proposed(0.0, "a", 0, 1, ((0, config),)))
        assert json.loads(line)["schedule"] == [[0, {"learning_rate": 0.1, "lora_rank": 4, "nan": {"float": "nan"}}]]

    def test_texts_that_look_like_numbers_stay_texts(self) -> None:
        event = Proposed(0.0, "nan", 0, 1, ((0, {"a": "nan", "b": "1", "c": True, "d": 1, "e": 1.0}),))
        assert repr(event_of(line_of(event))) == repr(event)

    def test_a_line_begins_with_its_kind_and_time(self) -> None:
        assert line_of(Interrupted(2.5)) == '{"event": "interrupted", "at": 2.5}'
        assert len(KINDS) == 13

    @pytest.mark.parametrize(
        ("line", "fault"),
        [
            ("", "no event in JSON"),
            ("[]", "no event in JSON"),
            ('"text"', "no event in JSON"),
            ("{}", "no event in JSON"),
            ("[" * 100_000, "no event in JSON"),
            ('{"event": "slept", "at": 1}', "event is 'slept', but must be one of reserved, resized, "),
            ('{"event": ["slept"], "at": 1}', "no event in JSON"),
            ('{"event": "interrupted", "at": NaN}', "NaN is not JSON"),
            ('{"event": "interrupted", "at": -Infinity}', "-Infinity is not JSON"),
            ('{"event": "interrupted"}', "at of event interrupted cannot be used: Field required"),
            ('{"event": "interrupted", "at": "soon"}', "at of event interrupted cannot be used"),
            ('{"event": "interrupted", "at": 1, "by": "me"}', "by of event interrupted cannot be used"),
            ('{"event": "ended", "at": 1, "trial": "a", "outcome": "won", "reason": ""}', "outcome of event ended"),
        ],
    )
    def test_other_lines_are_refused(self, line: str, fault: str) -> None:
        with pytest.raises(BenchmarkError, match=re.escape(fault)):
            event_of(line)


class TestFile:
    def test_lines_are_appended_and_read(self, tmp_path: Path) -> None:
        log = EventLog(tmp_path / "log")
        for event in SOME[:2]:
            log.add(event)
        log.sync()
        again = EventLog(tmp_path / "log")
        for event in SOME[2:]:
            again.add(event)
        assert read(tmp_path / "log") == (SOME[:2], "")
        assert again.events() == SOME
        again.sync()
        assert read(tmp_path / "log") == (SOME, "")
        assert again.events() == SOME
        assert again.text() == text_of(SOME) == (tmp_path / "log").read_text()
        assert again.length == len(again.text())

    def test_only_its_owner_reads_it(self, tmp_path: Path) -> None:
        log = EventLog(tmp_path / "log")
        log.add(SOME[0])
        log.sync()
        assert stat.S_IMODE((tmp_path / "log").stat().st_mode) == 0o600

    def test_before_the_first_event_there_is_no_file(self, tmp_path: Path) -> None:
        assert (EventLog(tmp_path / "log").text(), list(tmp_path.iterdir())) == ("", [])

    def test_a_torn_last_line_is_left_out_said_and_cut_off(self, tmp_path: Path) -> None:
        """For each byte at which the process may have been killed."""
        path, text = tmp_path / "log", text_of(SOME).encode()
        for length in range(len(text) + 1):
            path.write_bytes(text[:length])
            whole = text[:length].count(b"\n")
            torn = length - len(b"".join(text.splitlines(keepends=True)[:whole]))
            events, said = read(path)
            assert events == SOME[:whole]
            assert said == (f"{path}: its last line is torn ({torn} bytes) and left out; the driver was killed while "
                            "writing it" if torn else "")  # fmt: skip
            log = EventLog(path)
            log.add(SOME[0])
            log.sync()
            assert read(path) == ([*SOME[:whole], SOME[0]], "")

    @pytest.mark.parametrize("line", [b"\0\0\0\n", b"{}\n", b"\xff\n", b"\n"])
    def test_a_bad_line_before_the_last_is_refused_with_its_number(self, tmp_path: Path, line: bytes) -> None:
        path = tmp_path / "log"
        path.write_bytes(text_of(SOME[:1]).encode() + line + text_of(SOME[1:]).encode())
        with pytest.raises(BenchmarkError, match=r"log, line 2: .*; read it with the version that wrote it, or run"):
            read(path)

    def test_a_file_that_is_not_there_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(BenchmarkError, match=r"log: cannot be read \(No such file or directory\)"):
            read(tmp_path / "log")

    def test_a_full_disk_costs_no_event(self, tmp_path: Path) -> None:
        """The disk takes the first line and half of the next; both follow once there is room."""
        path, first = tmp_path / "log", text_of(SOME[:1])
        log = EventLog(path)
        with full_disk(len(first) + 10):
            for event in SOME[:3]:
                log.add(event)
                if event is SOME[0]:
                    log.sync()
                else:
                    with pytest.raises(OSError, match="File too large"):
                        log.sync()
            assert log.text() == text_of(SOME[:3])
            assert log.length == len(log.text())
            assert read(path)[0] == SOME[:1]
        log.add(SOME[3])
        log.sync()
        assert read(path) == (SOME, "")

    @pytest.mark.parametrize("left", [None, b"", text_of(SOME[:1]).encode()])
    def test_a_log_that_was_deleted_or_cut_meanwhile_is_not_filled_up_with_zeros(
        self, tmp_path: Path, left: bytes | None
    ) -> None:
        path = tmp_path / "log"
        log = EventLog(path)
        for event in SOME[:2]:
            log.add(event)
        log.sync()
        path.unlink()
        if left is not None:
            path.write_bytes(left)
        log.add(SOME[2])
        with pytest.raises(OSError, match=r"events\.jsonl was deleted or cut meanwhile"):
            log.sync()
        assert path.read_bytes() == (left or b"")

    @pytest.mark.parametrize("synced", [0, 1, 2, 4])
    def test_a_study_resumes_from_an_earlier_length(self, tmp_path: Path, synced: int) -> None:
        log, lengths = EventLog(tmp_path / "log"), []
        for number, event in enumerate(SOME, start=1):
            log.add(event)
            lengths.append(log.length)
            if number == synced:
                log.sync()
        log.cut(lengths[0])
        assert log.events() == SOME[:1]
        log.add(Ended(9.0, "a", "stopped", ""))
        log.sync()
        assert read(tmp_path / "log") == ([SOME[0], Ended(9.0, "a", "stopped", "")], "")

    def test_a_log_shorter_than_its_snapshot_is_refused(self, tmp_path: Path) -> None:
        log = EventLog(tmp_path / "log")
        log.add(SOME[0])
        with pytest.raises(BenchmarkError, match=r"has 82 bytes, but the study's snapshot was taken at 99; run it"):
            log.cut(99)
