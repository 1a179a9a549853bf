"""Commands that print a page: methods, benchmarks, this machine, and the files made from the table of options."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks import spec
from hpo.app.request import name_of
from hpo.search import registry
from hpo.terminal.console import open_console, print_line


def methods(parsed: argparse.Namespace) -> int:
    """Print all methods, or the page of one."""
    if parsed.name:
        print(registry.get(parsed.name).page)
        return 0
    for name in registry.names():
        print(f"{name:10} {registry.get(name).summary}")
    return 0


def benchmarks(parsed: argparse.Namespace) -> int:
    """Print the benchmarks that come with the suite."""
    for name in spec.names():
        print(f"{name:20} {spec.load(name).description}")
    return 0


def doctor(parsed: argparse.Namespace) -> int:
    """Print this machine's versions, devices and faults."""
    from hpo.workflows import doctor

    return doctor.report(open_console())


def mlproject(parsed: argparse.Namespace) -> int:
    """Print the MLproject file."""
    from hpo.app import mlproject

    print(mlproject.text(), end="")
    return 0


def reference(parsed: argparse.Namespace) -> int:
    """Print the page of all commands and options, or write every generated page."""
    from hpo.app.reference import options_page, pages

    if parsed.output:
        pages.write(Path(parsed.output))
    else:
        print(options_page.text(), end="")
    return 0


def workshop_table(parsed: argparse.Namespace) -> int:
    """Fill the result tables of a chapter from the store; print them and write them as Markdown and CSV."""
    from hpo.report import workshop
    from hpo.terminal import files as output

    benchmark, console = name_of(parsed.benchmark), open_console()
    filled = workshop.tables(parsed.chapter, benchmark)
    texts = workshop.files(parsed.chapter, benchmark, filled)
    for one in filled:
        print_line(console, f"{one.title}\n\n{workshop.markdown(one)}\n")
    print_line(console, f"written to {output.write(Path(parsed.output), texts)}: {', '.join(texts)}")
    return 0


def workshop_notebooks(parsed: argparse.Namespace) -> int:
    """Write the chapters as Jupyter notebooks."""
    from hpo.report.notebooks import notebooks
    from hpo.terminal import files as output

    folder = Path(parsed.output)
    print(f"written to {output.write(folder, notebooks(folder))}; open them with `jupyter lab` or an editor")
    return 0
