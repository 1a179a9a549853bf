"""The hook that keeps the fast tests fast."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests import conftest


def run_as(cpu_seconds: float, *marks: str) -> None:
    """Let the hook see a test with these marks that computes for so long, on a quiet machine."""
    item: Any = SimpleNamespace(get_closest_marker=lambda mark: mark if mark in marks else None)
    with pytest.MonkeyPatch.context() as monkeypatch:  # undone before the hook looks at this test
        monkeypatch.setattr(conftest, "_cpu_seconds", iter([0.0, cpu_seconds]).__next__)
        monkeypatch.setattr(conftest, "_slowdown", lambda: 1.0)
        hook = conftest.pytest_runtest_call(item)
        next(hook)
        with pytest.raises(StopIteration):
            hook.send(None)


def test_a_test_without_a_mark_fails_if_it_computes_for_more_than_a_second() -> None:
    with pytest.raises(pytest.fail.Exception, match=r"computes for 1\.6 s; make it shorter, or mark it `slow`"):
        run_as(1.6)


@pytest.mark.parametrize("mark", ["slow", "thorough"])
def test_one_with_a_mark_does_not(mark: str) -> None:
    run_as(1.6, mark)


def test_nor_does_one_that_may_have_taken_a_second_on_a_quiet_machine() -> None:
    run_as(1.4)


def test_long_files_come_first_and_files_of_fast_tests_last() -> None:
    """Otherwise one of pytest's workers ends long before the other."""
    first, *_ = conftest.LONGEST_FIRST
    of_files = [("test_b.py", False), ("test_a.py", False), ("test_a.py", True), (first, True), ("test_c.py", True)]
    items: Any = [
        SimpleNamespace(path=Path(name), get_closest_marker=lambda mark, is_slow=is_slow: is_slow and mark == "slow")
        for name, is_slow in of_files
    ]
    conftest.pytest_collection_modifyitems(items)
    assert [item.path.name for item in items] == [first, "test_a.py", "test_a.py", "test_c.py", "test_b.py"]


def is_left_out(module: Path, expression: str) -> bool:
    config: Any = SimpleNamespace(option=SimpleNamespace(markexpr=expression))
    return bool(conftest.pytest_ignore_collect(module, config))


@pytest.mark.parametrize(
    ("expression", "left_out"),
    [("not slow and not thorough", True), ("slow and not thorough", False), ("not thorough", False), ("", False)],
)
@pytest.mark.parametrize(
    "marks", ["pytest.mark.slow", "[pytest.mark.slow, pytest.mark.timeout(9)]", "[\n    pytest.mark.slow,\n]"]
)
def test_a_module_is_not_imported_if_the_mark_of_all_its_tests_is_not_asked_for(
    tmp_path: Path, marks: str, expression: str, left_out: bool
) -> None:
    module = tmp_path / "test_trained.py"
    module.write_text(f"import pytest\n\npytestmark = {marks}\n")
    assert is_left_out(module, expression) == left_out


@pytest.mark.parametrize("line", ["@pytest.mark.slow\ndef test_a(): ...", "pytestmark = [pytest.mark.timeout(9)]"])
def test_one_of_which_some_are_asked_for_is(tmp_path: Path, line: str) -> None:
    module = tmp_path / "test_mixed.py"
    module.write_text(f"import pytest\n\n{line}\n")
    assert not is_left_out(module, "not slow and not thorough")


def test_bytecode_and_other_files_are_never_read(tmp_path: Path) -> None:
    assert not is_left_out(tmp_path / "told.py", "not slow and not thorough")
