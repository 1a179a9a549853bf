"""The commands of banks: record trainings, turn them into files, and replay studies on them."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.files import BenchmarkError
from benchmarks.trials.recorded import extent_warnings
from hpo.app.request import command_line, load_benchmark
from hpo.terminal import errors, next_steps
from hpo.terminal.console import open_console, print_line


def record(parsed: argparse.Namespace) -> int:
    """Record a benchmark's trainings: those of the sample, then those where searchers go."""
    from benchmarks.check.share import require_share
    from benchmarks.check.start import check_start
    from hpo.cluster.ray import detect
    from hpo.recording.configurations import configurations
    from hpo.recording.dense.second_sample import samples
    from hpo.recording.files import Files, only_recorder
    from hpo.recording.processes import places_of
    from hpo.recording.recorder import Recording, progress
    from hpo.workflows import doctor

    doctor.require()
    benchmark, console = load_benchmark(parsed.benchmark), open_console()
    first = configurations(benchmark, parsed.configs, seed=0)
    files, hours, failed, left = Files(Path(parsed.output), benchmark.name), parsed.hours, 0, 0
    with only_recorder(files):
        for listed in samples(benchmark, files, first, parsed.dense):
            recording = Recording(benchmark, files, listed, parsed.seeds, console)
            print_line(console, f"{recording.due} of {len(listed) * parsed.seeds} trainings are due")
            if not recording.due:
                recording.write()
                continue
            placement = places_of(benchmark, detect(), parsed.devices)
            for warning in check_start(benchmark):
                errors.warn(warning)
            require_share(placement.benchmark, placement.devices.accelerator, placement.devices.memory_bytes)
            tally = recording.run(placement, hours)
            print_line(console, progress(benchmark.name, tally))
            failed, left = failed + tally.ended["failed"], tally.due - tally.ended.total()
            hours = hours and max(0.0, hours - tally.wall_seconds / 3600)
            if left:
                break
    if files.bank.exists():
        print_line(console, f"written: {files.bank}, {files.card}")
    if left:
        print_line(console, f"{left} trainings are left; the same command resumes")
    return 1 if failed else 0


def card(parsed: argparse.Namespace) -> int:
    """Write the card of a bank anew."""
    from benchmarks import spec
    from benchmarks.banks import bank as banks
    from hpo.recording.card import card
    from hpo.recording.files import require_bank

    path = banks.find(parsed.bank)
    bank, file, benchmark = banks.read(path), path.with_suffix(".md"), None
    if parsed.benchmark or bank.header.digest:  # a bank of another program has no benchmark here
        benchmark = spec.load(parsed.benchmark or bank.header.name)
        require_bank(benchmark, path)
    banks.write_beside(file, card(bank, benchmark).encode())
    print_line(open_console(), f"written: {file}")
    return 0


def collect(parsed: argparse.Namespace) -> int:
    """Collect the store's studies of a benchmark into a bank."""
    from hpo.recording.collecting import collect
    from hpo.recording.files import Files, header_of, joined, only_recorder, stored, write

    benchmark, console = load_benchmark(parsed.benchmark), open_console()
    found, files = collect(benchmark), Files(Path(parsed.output), benchmark.name)
    for sentence in found.left_out:
        errors.warn(sentence)
    if not found.trainings:
        raise BenchmarkError(f"none of the store's trials of {benchmark.name} can be collected; record a bank")
    with only_recorder(files):
        before = stored(files, header_of(benchmark))
        write(joined(before, found.sessions, found.trainings), files, benchmark)
    print_line(console, f"{len(found.trainings)} trainings of {len(found.sessions)} studies collected")
    if found.num_mixed:
        print_line(console, f"{found.num_mixed} trials were trained by several configurations, and are left out")
    print_line(console, f"written: {files.bank}, {files.card}")
    return 0


def import_(parsed: argparse.Namespace) -> int:
    """Make a bank of trainings of another program."""
    from hpo.recording import importing
    from hpo.recording.files import Files, joined, only_recorder, stored, write

    path, console = Path(parsed.file), open_console()
    if parsed.format == "opda":
        _refuse(parsed, "benchmark", "accelerator")
        bank = importing.of_opda(path, parsed.units, _required(parsed, "licence"))
    else:
        _refuse(parsed, "licence")
        benchmark = load_benchmark(_required(parsed, "benchmark"))
        bank = importing.of_csv(path, benchmark, parsed.seed, _required(parsed, "accelerator"))
    files = Files(Path(parsed.output), bank.header.name)
    with only_recorder(files):
        before = stored(files, bank.header)
        write(joined(before, bank.header.sessions, bank.trainings), files)
    print_line(console, f"{len(bank.trainings)} trainings imported")
    print_line(console, f"written: {files.bank}, {files.card}")
    return 0


def export(parsed: argparse.Namespace) -> int:
    """Write a bank as a blackbox of Syne Tune."""
    from benchmarks.banks import bank as banks
    from hpo.recording import blackbox

    bank, folder = banks.read(banks.find(parsed.bank)), Path(parsed.output)
    kept, left_out = blackbox.export(bank, parsed.seeds, folder)
    console = open_console()
    print_line(console, f"{kept} configurations with {parsed.seeds} seeds written to {folder}; {left_out} left out")
    return 0


def replay(parsed: argparse.Namespace) -> int:
    """Replay studies on a virtual clock, and store them as one run."""
    from hpo.planning import replay_request
    from hpo.replays import costs, driver

    console = open_console()
    processes = driver.cores() if parsed.processes is None else parsed.processes
    if processes < 1:
        raise BenchmarkError(f"processes is {processes}, but must be >= 1")
    loaded = load_benchmark(parsed.benchmark, parsed.space)
    benchmark = replay_request.with_seconds(loaded, parsed.accelerator, parsed.seconds_of)
    asked = replay_request.request(
        benchmark, parsed.methods, parsed.seeds, parsed.budgets, parsed.devices, parsed.repeats
    )
    for warning in (*extent_warnings(benchmark), *asked.header.left_out):
        errors.warn(warning)
    print_line(console, f"{len(asked.studies)} studies, {parsed.devices} devices each; {asked.header.certificate}")
    params = {name: getattr(parsed, name) for name in ("benchmark", "methods", "seeds", "budgets", "devices")}
    folder, command = Path(parsed.output), command_line(parsed)
    done = driver.run(asked.studies, asked.header, folder, processes, console, params, command)
    console.print(costs.table(done.replay.studies, benchmark))
    print_line(console, f"written: {done.path}")
    if done.fault:
        errors.show(f"MLflow lacks a part of this replay ({done.fault}); {done.path} has all of it")
    if done.missing:
        errors.show(f"{done.missing} studies are missing, since the replay was interrupted; the same command resumes")
        return 1
    print_line(console, f"compare the methods: {next_steps.command('compare', benchmark=parsed.benchmark)}")
    return 1 if done.fault else 0


def certify(parsed: argparse.Namespace) -> int:
    """Check replays on a bank against real studies."""
    from benchmarks.banks import bank as banks
    from benchmarks.banks import certificate as certificates
    from hpo.planning import contest
    from hpo.planning.replay_request import parse_numbers
    from hpo.recording.certificate import table
    from hpo.recording.certificate.certify import certify
    from hpo.recording.certificate.evidence import CertificateRequest
    from hpo.workflows import doctor

    doctor.require()
    methods, seeds = contest.parse_methods(parsed.methods, parsed.budget), parse_numbers("seeds", parsed.seeds)
    if parsed.replays < 1:
        raise BenchmarkError(f"replays is {parsed.replays}, but must be >= 1; 40 are usual")
    benchmark, console = load_benchmark(parsed.benchmark), open_console()
    asked = CertificateRequest(
        benchmark=contest.GivenBenchmark(benchmark, parsed.benchmark),
        bank=banks.find(parsed.bank or benchmark.name),
        methods=methods,
        seeds=seeds,
        replays=parsed.replays,
        budget=parsed.budget,
        devices=parsed.devices,
    )
    certificate, failures = certify(asked, console)
    if certificate is None:
        errors.show(
            "interrupted before all real studies had ended, so no certificate is made; the same command resumes"
        )
        return 1
    console.print(table.table(certificate))
    for line in table.notes(certificate):
        print_line(console, line)
    path = certificates.write(certificate, asked.bank)
    print_line(console, certificates.words(certificate))
    print_line(console, f"written: {path}")
    if failures:
        errors.show(f"{failures} real studies did not reach their end; the same command runs the missing ones")
    return 1 if failures else 0


def _required(parsed: argparse.Namespace, name: str) -> str:
    value = str(getattr(parsed, name))
    if not value:
        raise BenchmarkError(f"--{name} is missing, which format {parsed.format} needs")
    return value


def _refuse(parsed: argparse.Namespace, *names: str) -> None:
    for name in names:
        if getattr(parsed, name):
            raise BenchmarkError(f"--{name} goes with another format than {parsed.format}; leave it out")
