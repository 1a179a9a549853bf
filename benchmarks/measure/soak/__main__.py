"""Watch a long study for growth: `python -m benchmarks.measure.soak` (200 trials, two minutes on 2 cores).

Runs one study of many very short trials on `nano` through the command that users run, in a process and folders of its
own, and looks at it every second: memory, file descriptors, threads and processes of the driver, the ranks, the trials'
actors and Ray; bytes on disk. For each it prints the first value, the last, the greatest, and the slope in 100 trials
with its interval. The first half of the trials does not count: libraries are loaded, allocators and caches fill up.

`--method hyperband` pauses trials and goes on with them, through checkpoints; `random` does neither. The ranks' memory
settles within 100 trials of random search and 400 of hyperband: give it `--trials 800` or more.

The exit status is 1 if the study failed, if a slope's whole interval is above its bound (a heap that settles late makes
a step, a leak makes a slope), or if processes or temporary files are left.
The bounds let a study of 10,000 trials run: driver, ranks and Ray's server may grow by 50 kB per trial, half a gigabyte
in all, every other role by a fifth of that; file descriptors stay below the usual limit of 1,024; the study's state,
Ray's session and the store take 200 MB each.
"""

from __future__ import annotations

import argparse
import csv
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil

from benchmarks import spec
from benchmarks.clock import REAL
from benchmarks.files import yaml_text
from benchmarks.measure.soak.trend import PER_TRIALS, Trend, fit
from benchmarks.measure.soak.watch import ROLES, StudySample, StudyWatch

SECONDS_PER_SAMPLE = 1.0
SECONDS_TO_END = 30.0
"""Seconds after the driver's end; Ray's own processes look after it by then."""
BEGIN, END = 0.5, 0.98
"""The part of the trials that counts. The store lags behind: when its last trial has ended, Ray is gone."""
LEAST_SAMPLES = 3


@dataclass(frozen=True)
class Workload:
    """A kind of study.

    Attributes:
        max_units: resource of a full training, in units of an optimizer step or two.
        trials_per_training: trials that the method makes of the budget of a full training.
    """

    max_units: int
    trials_per_training: float


WORKLOADS = {"random": Workload(1, 1.0), "hyperband": Workload(3, 15 / 11)}  # two brackets: 5 trials in 11 units


@dataclass(frozen=True)
class Quantity:
    """A quantity that must not grow.

    Attributes:
        name: for the table.
        unit: for the table.
        of: its value in a sample.
        bound: of its slope, in 100 trials.
    """

    name: str
    unit: str
    of: Callable[[StudySample], float]
    bound: float


MEMORY_BOUNDS = {"driver": 5.0, "rank": 5.0, "gcs_server": 5.0}
"""Bounds in MB; 1 MB for the other roles. Ray's server keeps the latest 100,000 calls of actors: 10,000 trials."""
DISK_BOUNDS = {"unfinished study": 2.0, "Ray's session": 2.0, "MLflow store": 2.0}
DESCRIPTOR_BOUNDS = {"agent": 50.0}
"""Bounds; 1 for other roles. Ray's agents hold two more per actor started anew, and free them by the hundred."""
PROCESSES_BOUND, THREADS_BOUND = 1.0, 5.0  # Ray's pools of threads settle late, by two or four


def quantities() -> list[Quantity]:
    """List all watched quantities, in the order of the table."""
    memory = [Quantity(f"{role}: memory", "MB", partial(_memory, role), MEMORY_BOUNDS.get(role, 1.0)) for role in ROLES]
    fds = [
        Quantity(f"{role}: descriptors", "", partial(_descriptors, role), DESCRIPTOR_BOUNDS.get(role, 1.0))
        for role in ROLES
    ]
    counts = [Quantity("threads", "", _threads, THREADS_BOUND), Quantity("processes", "", _processes, PROCESSES_BOUND)]
    disk = [Quantity(name, "MB", partial(_disk, name), bound) for name, bound in DISK_BOUNDS.items()]
    return [*memory, *fds, *counts, *disk]


def _memory(role: str, sample: StudySample) -> float:
    return sample.held[role].memory_mb


def _descriptors(role: str, sample: StudySample) -> float:
    return float(sample.held[role].fds)


def _threads(sample: StudySample) -> float:
    return float(sum(held.threads for held in sample.held.values()))


def _processes(sample: StudySample) -> float:
    return float(sum(held.processes for held in sample.held.values()))


def _disk(name: str, sample: StudySample) -> float:
    return sample.disk_mb[name]


@dataclass(frozen=True)
class Watched:
    """A study that has been watched.

    Attributes:
        status: its exit status.
        errors: the end of its stderr.
        samples: while it ran.
        survivors: processes that outlived it.
        left: temporary files that outlived it.
    """

    status: int
    errors: str
    samples: list[StudySample]
    survivors: list[str]
    left: list[str]

    @property
    def trials(self) -> int:
        """Number of ended trials."""
        return max((sample.trials for sample in self.samples), default=0)

    @property
    def counted(self) -> list[StudySample]:
        """Samples after the warm-up and before the end."""
        return [sample for sample in self.samples if BEGIN * self.trials <= sample.trials < END * self.trials]

    def trends(self) -> list[tuple[Quantity, Trend]]:
        """Compute the trend of every quantity.

        Raises:
            BenchmarkError: the study was too short for one.
        """
        counted = self.counted
        trials = [sample.trials for sample in counted]
        if len(set(trials)) < LEAST_SAMPLES:
            raise spec.BenchmarkError(
                f"{self.trials} trials ended, with {len(counted)} samples between them, and a slope takes "
                f"{LEAST_SAMPLES}; the study ended with status {self.status}, saying: {self.errors or 'nothing'}"
            )
        return [(quantity, fit(trials, [quantity.of(sample) for sample in counted])) for quantity in quantities()]

    def faults(self) -> list[str]:
        """List the faults of the study, one line each."""
        found = [f"the study ended with status {self.status}: {self.errors}"] if self.status else []
        found += [f"process {process} outlived the study" for process in self.survivors]
        found += [f"{path} was left in the temporary folder" for path in self.left]
        return found + [
            f"{quantity.name} grows by {trend.slope:.2f} {quantity.unit} a {PER_TRIALS} trials, over {quantity.bound:g}"
            for quantity, trend in self.trends()
            if trend.interval[0] > quantity.bound
        ]


def main() -> int:
    """Run the study, print the table, judge."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.measure.soak", description=__doc__.split("\n")[0])
    parser.add_argument("--trials", type=int, default=200, help="trials of the study, about")
    parser.add_argument("--method", choices=WORKLOADS, default="random")
    parser.add_argument("--output", type=Path, help="folder for samples.csv")
    arguments = parser.parse_args()
    watched = watch(arguments.method, arguments.trials)
    if arguments.output:
        write_samples(arguments.output / "samples.csv", watched.samples)
    try:
        print("\n".join(table(watched)))
        faults = watched.faults()
    except spec.BenchmarkError as error:
        faults = [str(error)]
    print("\n".join(f"FAIL: {fault}" for fault in faults) or "PASS: nothing grows beyond its bound, nothing is left")
    return 1 if faults else 0


def watch(method: str, trials: int) -> Watched:
    """Run a study of about so many trials in folders of its own, and look at it.

    Args:
        method: one of `WORKLOADS`.
        trials: number of trials, 20 or more.
    """
    with tempfile.TemporaryDirectory(prefix="soak-") as name:  # a short path: Ray's sockets lie in it
        folder, temporary = Path(name), Path(name, "tmp")
        temporary.mkdir()
        folders = {
            "unfinished study": [folder / "unfinished"],
            "Ray's session": [temporary],
            "MLflow store": [folder / "mlflow.db", folder / "mlruns"],
        }
        with (folder / "errors").open("w+") as errors:
            driver = _start(method, trials, folder, temporary, errors.fileno())
            watching = StudyWatch(psutil.Process(driver.pid), folder / "mlflow.db", folders)
            try:
                samples = list(_samples(driver, watching))
            finally:
                driver.kill()
            survivors = [_describe(process) for process in watching.survivors(SECONDS_TO_END)]
            left = [str(path.relative_to(folder)) for path in temporary.rglob("*") if not path.is_dir()]
            errors.seek(0)
            return Watched(driver.wait(), errors.read()[-2000:].strip(), samples, survivors, left)


def _start(method: str, trials: int, folder: Path, temporary: Path, errors: int) -> subprocess.Popen[bytes]:
    """Start the study's process."""
    workload = WORKLOADS[method]
    write_benchmark(folder / "soak.yaml", workload.max_units)
    environment = {
        **os.environ,
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
        "PYTHONPATH": str(spec.HERE.parent),
        "TMPDIR": str(temporary),
        "RAY_TMPDIR": str(temporary),
    }
    environment.pop("RAY_ADDRESS", None)
    environment.pop("MLFLOW_RUN_ID", None)
    budget = math.ceil(trials / workload.trials_per_training)
    command = [sys.executable, "-m", "hpo", "run", method, "--benchmark", "soak.yaml", "--budget", str(budget)]
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=errors)


def write_benchmark(path: Path, max_units: int) -> None:
    """Write the benchmark nano with a unit of 16 samples, and hardly any evaluation."""
    content = spec.load("nano").model_dump(mode="json", exclude_none=True)
    for name, split in content["finetune"]["data"].items():
        split["limit"] = 8 if name == "validation" else 32
    content |= {"name": "soak", "resource": {"unit_samples": 16, "max_units": max_units}, "grid": {}}
    path.write_text(yaml_text(content))


def _samples(driver: subprocess.Popen[bytes], watching: StudyWatch) -> Iterator[StudySample]:
    """Yield one sample per second until the driver ends."""
    while driver.poll() is None:
        yield watching.look()
        REAL.sleep(SECONDS_PER_SAMPLE)


def _describe(process: psutil.Process) -> str:
    return f"{process.pid} {process.name()}"


def table(watched: Watched) -> list[str]:
    """Write the measurements, one line each."""
    seconds, number = watched.samples[-1].seconds, len(watched.counted)
    lines = [
        f"{watched.trials} trials in {seconds:.0f} s; {number} samples count; slopes are in {PER_TRIALS} trials",
        f"{'':24} {'':>2} {'first':>8} {'last':>8} {'greatest':>8} {'slope':>8} {'95 % interval':>18} {'bound':>6}",
    ]
    for quantity, trend in watched.trends():
        low, high = trend.interval
        lines.append(
            f"{quantity.name:24} {quantity.unit:>2} {trend.first:8.1f} {trend.last:8.1f} {trend.largest:8.1f} "
            f"{trend.slope:8.2f} {f'{low:.2f} .. {high:.2f}':>18} {quantity.bound:6g}"
        )
    return lines


def write_samples(path: Path, samples: Sequence[StudySample]) -> None:
    """Write all samples, one line each."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["seconds", "trials", *(quantity.name for quantity in quantities())])
        for sample in samples:
            values = [round(quantity.of(sample), 3) for quantity in quantities()]
            writer.writerow([round(sample.seconds, 1), sample.trials, *values])


if __name__ == "__main__":
    sys.exit(main())
