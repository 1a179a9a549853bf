"""Quotes in an error may come out of another user's file."""

from __future__ import annotations

import pytest

from hpo.terminal import errors


def test_an_error_is_a_line_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    errors.show("budget is 0,\n  but must be >= 1")
    assert capsys.readouterr() == ("", "error: budget is 0, but must be >= 1\n")


def test_what_a_terminal_would_act_upon_is_written_as_an_escape() -> None:
    assert errors.paragraph("no \x1b[2J\0\ud800 there") == r"no \x1b[2J\x00\ud800 there"


def test_a_long_value_is_shortened_and_the_rule_is_not() -> None:
    told = errors.paragraph(f"budget is {'9' * 5000}, but must be <= 10")
    assert told.startswith("budget is 999")
    assert "(5001 characters)" in told
    assert told.endswith(", but must be <= 10")
    assert len(told) < 350


def test_many_words_are_shortened_in_the_middle() -> None:
    told = errors.paragraph(" ".join(map(str, range(10_000))))
    assert told.startswith("0 1 2 ")
    assert told.endswith(" 9998 9999")
    assert len(told) <= errors.LONGEST
