"""The page of the Python interface, made from the docstrings of its functions."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import hpo
from hpo.core.text_tables import markdown_cell, markdown_table

HEADER = """\
# The Python interface

Made by `python -m hpo reference --output docs`. These functions are for notebooks and scripts: `import hpo` gives them,
and imports their parts when they are first called. `run`, `confirm`, `replay`, `compare` and `export` are commands of
the same names, and store in MLflow as the commands do. `studies` and `trials` read the store, and `verdicts` reaches
those that the command `compare` prints. Tables are pandas frames. The package is typed (`py.typed`), so that mypy
checks your calls.

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
    types = inspect.get_annotations(function)
    parts.append(markdown_table(("argument", "type", "meaning"), _entries(sections["Args"], types)))
    returned = {"Returns": f" ({_type(types['return'])})"}
    parts += [
        f"**{title}**{returned.get(title, '')} {_joined(sections[title])}"
        for title in ("Returns", "Raises")
        if title in sections
    ]
    return "\n\n".join(parts) + "\n"


def _signature(name: str, function: Callable[..., Any]) -> str:
    """Write the call with its defaults; types are in the table below it."""
    parameters = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for parameter in inspect.signature(function).parameters.values()
    ]
    return f"hpo.{name}{inspect.Signature(parameters)}"


def _entries(section: str, types: Mapping[str, str]) -> Iterator[list[str]]:
    for name, meaning in re.findall(r"^(\*{0,2}\w+): (.*(?:\n +.*)*)", section, re.MULTILINE):
        yield [f"`{name}`", _type(types[name.lstrip("*")]), markdown_cell(_joined(meaning))]


def _type(annotation: str) -> str:
    """Write a type as the code names it; alternatives without the bar, which would divide cells."""
    return " or ".join(f"`{part}`" for part in annotation.split(" | "))


def _joined(words: str) -> str:
    return " ".join(words.split())
