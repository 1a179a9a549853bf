"""The commands of banks: record trainings, and turn them into files."""

from __future__ import annotations

import argparse
from pathlib import Path

from hpo.app.request import load_benchmark
from hpo.terminal import errors
from hpo.terminal.console import open_console, print_line


def record(parsed: argparse.Namespace) -> int:
    """Record a benchmark's trainings."""
    from benchmarks.check.start import check_start
    from hpo.cluster.ray import detect
    from hpo.recording.configurations import configurations
    from hpo.recording.processes import places_of
    from hpo.recording.recorder import Files, Recording, only_recorder, progress
    from hpo.workflows import doctor

    doctor.require()
    benchmark, console = load_benchmark(parsed.benchmark), open_console()
    listed = configurations(benchmark, parsed.configs, seed=0)
    files = Files(Path(parsed.output), benchmark.name)
    with only_recorder(files):
        recording = Recording(benchmark, files, listed, parsed.seeds, console)
        print_line(console, f"{recording.due} of {len(listed) * parsed.seeds} trainings are due")
        if not recording.due:
            recording.write()
            return 0
        placement = places_of(benchmark, detect(), parsed.devices)
        for warning in check_start(benchmark):
            errors.warn(warning)
        tally = recording.run(placement, parsed.hours)
    print_line(console, progress(benchmark.name, tally))
    if files.bank.exists():
        print_line(console, f"written: {files.bank}, {files.card}")
    if tally.ended.total() < tally.due:
        print_line(console, f"{tally.due - tally.ended.total()} trainings are left; the same command resumes")
    return 1 if tally.ended["failed"] else 0
