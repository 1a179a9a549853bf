"""README, CONTRIBUTING and docs/ keep the house's rules for prose, the files in `.vale/House`."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.prose.vale_rules import Alert, alerts, load_rules

REPOSITORY = Path(__file__).parents[2]
RULES = load_rules(REPOSITORY / ".vale/House")
DOCS = [str(path.relative_to(REPOSITORY)) for path in sorted(REPOSITORY.glob("docs/**/*.md"))]
PAGES = ["README.md", "CONTRIBUTING.md", "slurm/README.md", *DOCS]
MAX_LONG_SENTENCE_SHARE = 0.05
"""Share of sentences that may exceed the length; a list of names in one sentence is no fault."""


def broken(text: str) -> list[str]:
    return [alert.rule for alert in alerts(text, RULES)]


@pytest.mark.parametrize("page", PAGES)
def test_a_page_breaks_no_rule(page: str) -> None:
    found = [alert for alert in alerts((REPOSITORY / page).read_text(), RULES) if alert.level == "error"]
    assert not found


def test_long_sentences_are_few() -> None:
    texts = [(REPOSITORY / page).read_text() for page in PAGES]
    sentences = sum(text.count(". ") + text.count(".\n") for text in texts)
    long: list[Alert] = [alert for text in texts for alert in alerts(text, RULES) if alert.level == "warning"]
    assert len(long) <= MAX_LONG_SENTENCE_SHARE * sentences, "\n".join(alert.text for alert in long)


@pytest.mark.parametrize(
    ("text", "rules"),
    [
        ("What is kept is read first.", ["HeadlessWhat"]),
        ("It reads what others found.", ["HeadlessWhat"]),
        ("What does it cost?", []),
        ("A line marked LACKS says what to do.", []),
        ("The code `what` is no prose.", []),
        ("It writes a line a unit.", ["Distributive"]),
        ("It writes one line per unit.", []),
        ("Whoever may write it.", ["Roles"]),
        ("Nobody else reads it.", ["Roles"]),
        ("word " * 31 + "end.", ["SentenceLength"]),
        ("word " * 20 + "end. " + "word " * 20 + "end.", []),
    ],
)
def test_rules_find_the_fault_and_nothing_else(text: str, rules: list[str]) -> None:
    assert broken(text) == rules


@pytest.mark.slow
def test_vale_itself_agrees() -> None:
    vale = shutil.which("vale")
    if vale is None or subprocess.run([vale, "--version"], capture_output=True, check=False).returncode:
        pytest.skip("vale is not installed here; the same rules were applied by tests/prose/vale_rules.py")
    command = [vale, "--minAlertLevel=error", *PAGES]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
