"""The page of the Python interface, made from the docstrings of its functions."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

import hpo
from hpo.core.text_tables import markdown_cell, markdown_table

HEADER = """\
# The Python interface

Made by `python -m hpo reference --output docs`. These functions are for notebooks and scripts: `import hpo` gives them,
and imports their parts when they are first called. Each is a command of the same name, and stores in MLflow as the
command does. Tables are pandas frames.

```python
import hpo

finished = hpo.run("asha", "nano", budget=4)
print(finished.best["config"])
hpo.trials("nano", run_id=finished.run_id).sort_values("eval_loss").head()
hpo.studies("nano")[["method", "seed", "best_eval_loss", "device_hours"]]
```

MLflow reads the same store, so this suite repeats none of its functions. For example,
`mlflow.search_runs(experiment_names=["nano"])` has every run with all tags, and `mlflow.artifacts.load_text` reads a
file of a run.
"""
SECTION = re.compile(r"^(Args|Returns|Raises):\n((?:^    .*\n?|^\n)+)", re.MULTILINE)


def text() -> str:
    """Write the page."""
    return "\n".join([HEADER, *(_function(name, getattr(hpo, name)) for name in hpo.__all__)])


def _function(name: str, function: Callable[..., Any]) -> str:
    page = inspect.getdoc(function) or ""
    parts = [f"## hpo.{name}", page.splitlines()[0], f"```text\n{_signature(name, function)}\n```"]
    sections = {title: inspect.cleandoc(body) for title, body in SECTION.findall(page + "\n")}
    parts.append(markdown_table(("argument", "meaning"), _entries(sections["Args"])))
    parts += [f"**{title}** {_joined(sections[title])}" for title in ("Returns", "Raises") if title in sections]
    return "\n\n".join(parts) + "\n"


def _signature(name: str, function: Callable[..., Any]) -> str:
    """Write the call with its defaults; types are in the code."""
    parameters = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for parameter in inspect.signature(function).parameters.values()
    ]
    return f"hpo.{name}{inspect.Signature(parameters)}"


def _entries(section: str) -> Iterator[list[str]]:
    for name, meaning in re.findall(r"^(\*{0,2}\w+): (.*(?:\n +.*)*)", section, re.MULTILINE):
        yield [f"`{name}`", markdown_cell(_joined(meaning))]


def _joined(words: str) -> str:
    return " ".join(words.split())
