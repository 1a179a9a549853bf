"""Docstrings, comments and messages name things: first words, and few headless "what" clauses."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.prose.count_headless import (
    CODE_FOLDERS,
    REPOSITORY,
    headless_clauses,
    passages,
    rate,
    without_code,
    word_count,
)

BANNED_FIRST_WORDS = {"What", "Whether", "Those", "Of", "As", "How", "When", "Whoever", "Which"}
NAMELESS_ROLES = re.compile(r"\b(?:who(?:m|se)?(?:so)?ever|nobody|somebody|anybody)\b", re.IGNORECASE)
MAX_HEADLESS_PER_10_000_WORDS = 5
FOLDERS = sorted(
    {
        str(path.parent.relative_to(REPOSITORY))
        for folder in (*CODE_FOLDERS, "tests")
        for path in (REPOSITORY / folder).rglob("*.py")
    }
)


def docstrings(path: Path) -> Iterator[str]:
    """Yield the docstrings of a file's module, classes and functions, and the texts below its constants."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            for statement in node.body:
                if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
                    yield str(statement.value.value)


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_docstring_begins_with_a_word_that_names_nothing(folder: str) -> None:
    banned = [
        f"{path.relative_to(REPOSITORY)}: {text.splitlines()[0]}"
        for path in sorted((REPOSITORY / folder).glob("*.py"))
        for text in docstrings(path)
        if text.split() and text.split()[0].strip(",:") in BANNED_FIRST_WORDS
    ]
    assert not banned, "\n".join(banned)


@pytest.mark.slow
def test_headless_clauses_are_few() -> None:
    found = [(passage, headless_clauses(passage.text)) for passage in passages(REPOSITORY)]
    words = sum(word_count(passage.text) for passage, _ in found)
    clauses = [f"{passage.path}:{passage.line}: {text}" for passage, texts in found for text in texts]
    assert rate(words, len(clauses)) < MAX_HEADLESS_PER_10_000_WORDS, "\n".join(clauses)


@pytest.mark.slow
def test_roles_have_names() -> None:
    found = [passage for passage in passages(REPOSITORY) if passage.path.suffix == ".py"]
    nameless = [f"{it.path}:{it.line}: {it.text}" for it in found if NAMELESS_ROLES.search(without_code(it.text))]
    assert not nameless, "\n".join(nameless)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("What is kept is read first.", 1),
        ("Reads what was kept, and what others found.", 2),
        ("What does it cost?", 0),
        ("Says what to do.", 0),
        ("The name `what` is code.", 0),
        ("Whatever the seed, the result is the same.", 0),
    ],
)
def test_the_count_takes_clauses_and_leaves_questions_and_code(text: str, number: int) -> None:
    assert len(headless_clauses(text)) == number
