"""Count headless "what" clauses in docstrings, comments, messages and pages, per 10,000 words.

A headless clause begins with "what" and stands for a noun that is not named: "what is kept is read first". A question
is none ("What does it cost?"), and neither is an indirect question of the form "what to do". Code in backticks, fenced
blocks and tables' rules are not prose and count neither as words nor as clauses.

    python -m tests.prose.count_headless           # one line per folder
    python -m tests.prose.count_headless --list    # every clause with its file and line
"""

from __future__ import annotations

import argparse
import ast
import io
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
CODE_FOLDERS = ("benchmarks", "hpo", "slurm")
PAGES = ("*.md", "docs/**/*.md", "benchmarks/**/*.md", "hpo/**/*.md", "slurm/**/*.md", "mlruns/*.md")
MIN_MESSAGE_WORDS = 4
"""Words from which a string literal counts as a message; shorter ones are names, keys and formats."""

_WORD = re.compile(r"[A-Za-z][A-Za-z'-]*")
_SENTENCE_END = re.compile(r"(?<=[.!?:;])\s+|\n\s*\n|\n\s*(?=[-*#|])")
_NOT_PROSE = re.compile(r"```.*?```|``.*?``|`[^`]*`|\]\([^)]*\)|https?://\S+", re.DOTALL)
_HEADLESS = re.compile(r"\bwhat\b(?!\s+to\b)(?![^.!;]*\?)", re.IGNORECASE)


@dataclass(frozen=True)
class Passage:
    """A piece of prose.

    Attributes:
        path: its file, relative to the repository.
        line: the line at which it begins.
        text: the words.
    """

    path: Path
    line: int
    text: str


def without_code(text: str) -> str:
    """Leave out code, fenced blocks and addresses."""
    return _NOT_PROSE.sub(" ", text)


def word_count(text: str) -> int:
    """Count the words of a text, code left out."""
    return len(_WORD.findall(without_code(text)))


def headless_clauses(text: str) -> list[str]:
    """List the sentences of a text once per headless clause in them."""
    sentences = _SENTENCE_END.split(_NOT_PROSE.sub(lambda code: "x" + "\n" * code[0].count("\n"), text))
    prose = [" ".join(sentence.split()) for sentence in sentences if not sentence.rstrip().endswith("?")]
    return [sentence for sentence in prose for _ in _HEADLESS.findall(sentence)]


def passages_of_code(path: Path, source: str) -> Iterator[Passage]:
    """Yield docstrings, messages and comments of a Python file."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = [part.value if isinstance(part, ast.Constant) else "x" for part in node.values]
            yield from _message(path, node.lineno, "".join(map(str, parts)))
    within = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in within:
            yield from _message(path, node.lineno, node.value)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield Passage(path, token.start[0], token.string.lstrip("#! "))


def _message(path: Path, line: int, text: str) -> Iterator[Passage]:
    if word_count(text) >= MIN_MESSAGE_WORDS:
        yield Passage(path, line, text)


def passages(repository: Path) -> Iterator[Passage]:
    """Yield the prose of the packages and pages, file by file."""
    for folder in CODE_FOLDERS:
        for path in sorted((repository / folder).rglob("*.py")):
            yield from passages_of_code(path.relative_to(repository), path.read_text())
    for path in sorted({page for pattern in PAGES for page in repository.glob(pattern)}):
        yield from paragraphs(path.relative_to(repository), path.read_text())


def paragraphs(path: Path, page: str) -> Iterator[Passage]:
    """Yield the paragraphs of a page, without its fenced blocks."""
    prose = re.sub(r"```.*?```", lambda block: "\n" * block[0].count("\n"), page, flags=re.DOTALL)
    for paragraph in re.finditer(r"(?:[^\n]+\n?)+", prose):
        yield Passage(path, prose.count("\n", 0, paragraph.start()) + 1, paragraph[0])


def folder_of(path: Path) -> str:
    """Name the folder, or the page of the top folder, under which a file is reported."""
    return "/".join(path.parts[:2]) if len(path.parts) > 2 else path.parts[0]


def rate(words: int, clauses: int) -> float:
    """Return clauses per 10,000 words."""
    return 10_000 * clauses / max(words, 1)


def main() -> None:
    """Print the table, or every clause."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--list", action="store_true", help="every clause with its file and line")
    parser.add_argument("--root", type=Path, default=REPOSITORY, help="another checkout")
    arguments = parser.parse_args()
    words: dict[str, int] = {}
    clauses: dict[str, int] = {}
    for passage in passages(arguments.root):
        found = headless_clauses(passage.text)
        folder = folder_of(passage.path)
        words[folder] = words.get(folder, 0) + word_count(passage.text)
        clauses[folder] = clauses.get(folder, 0) + len(found)
        if arguments.list:
            print(
                *(f"{passage.path}:{passage.line}: {sentence}" for sentence in found), sep="\n", end="\n" * bool(found)
            )
    if not arguments.list:
        for folder in sorted(words):
            print(
                f"{folder:28} {words[folder]:6} words {clauses[folder]:4} {rate(words[folder], clauses[folder]):6.1f}"
            )
    total, found_clauses = sum(words.values()), sum(clauses.values())
    print(f"{found_clauses} clauses in {total} words: {rate(total, found_clauses):.1f} per 10,000")


if __name__ == "__main__":
    main()
