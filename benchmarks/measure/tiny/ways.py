"""Ways to run the same trials, and the times of their trials.

A trial is a computed curve that sleeps, so that trials do not compete for cores and only the ways differ. Its length
stands for sequences at `RATE`. All ways have two places for trials: the two nodes of the test bed, or two cores.
"""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks import spec
from benchmarks.clock import REAL
from benchmarks.files import yaml_text
from benchmarks.spec import Benchmark

PROJECT = Path(__file__).parents[3]
PLACES = 2
RATE = 64
"""Sequences per second and place: about those of nano on a core."""
POLL_SECONDS = 0.2
PROFILE = {"time": "01:00:00", "workers": PLACES, "node": {"cpus": 1}, "head": {"cpus": 1}}


@dataclass(frozen=True)
class Span:
    """The times of a way's trials.

    Attributes:
        start_seconds: from the command to the begin of the first trial.
        seconds: from there to the end of the last one.
    """

    start_seconds: float
    seconds: float


@dataclass(frozen=True)
class Bench:
    """A folder with a benchmark and a store, and a SLURM to submit to.

    Attributes:
        folder: the folder.
        trials: how many of them.
        sequences: of a trial.
    """

    folder: Path
    trials: int
    sequences: int

    @property
    def name(self) -> str:
        """Name of the benchmark."""
        return f"tiny{self.sequences}"

    @property
    def benchmark(self) -> Benchmark:
        """The benchmark: one unit of so many sequences, of which only the learning rate is searched."""
        content = spec.load("synthetic").model_dump(mode="json", exclude_none=True)
        content |= {"name": self.name, "resource": {"unit_samples": self.sequences, "max_units": 1}, "grid": {}}
        content["synthetic"] = {"seconds_per_unit": self.sequences / RATE}
        content["space"] = {"learning_rate": content["space"]["learning_rate"]}
        return Benchmark.model_validate(content)

    def write(self) -> None:
        """Write benchmark and cluster profile."""
        text = yaml_text(self.benchmark.model_dump(mode="json", exclude_none=True))
        (self.folder / f"{self.name}.yaml").write_text(text)
        (self.folder / "cluster.yaml").write_text(yaml_text(PROFILE))

    def hpo(self, *words: str) -> Span:
        """Run a command of the suite, wait for the jobs that it has submitted, and read its trials' times."""
        began = REAL.epoch()
        study = ["random", "--benchmark", f"{self.name}.yaml", "--budget", str(self.trials)]
        self._run([sys.executable, "-m", "hpo", *words, *study])
        wait_for_jobs()
        return self._stored(began)

    def _run(self, command: list[str]) -> None:
        done = subprocess.run(
            command, cwd=self.folder, env=self._environment(), capture_output=True, text=True, check=False
        )
        if done.returncode:
            sys.exit(f"{' '.join(command)}: {done.stderr}")

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if name != "MLFLOW_RUN_ID"}
        store = f"sqlite:///{self.folder}/mlflow.db"
        own = {"PYTHONPATH": str(PROJECT), "MLFLOW_TRACKING_URI": store, "CUDA_VISIBLE_DEVICES": ""}
        return {**kept, **own, "RAY_worker_niceness": "0"}  # else other work on the machine delays Ray's trials alone

    def _stored(self, since: float) -> Span:
        """Read when the first trial began and the last one ended, of the study that began after a time."""
        with sqlite3.connect(self.folder / "mlflow.db") as connection:
            query = (
                "SELECT count(*), min(start_time), max(end_time) FROM runs JOIN tags ON tags.run_uuid = runs.run_uuid "
                "WHERE tags.key = 'hpo.kind' AND tags.value = 'trial' AND start_time >= ?"
            )
            count, first, last = connection.execute(query, [int(1000 * since)]).fetchone()
        if count != self.trials:
            sys.exit(f"{count} of {self.trials} trials are in the store")
        return Span(first / 1000 - since, (last - first) / 1000)

    def sbatch(self) -> Span:
        """Submit a job for each trial, as a loop in a shell does; a job starts Python once."""
        began, results = REAL.epoch(), [self.folder / f"{self.name}-{trial}.jsonl" for trial in range(self.trials)]
        for trial, result in enumerate(results):
            order = result.with_suffix(".json")
            content = {"config": {"learning_rate": 0.001}, "seed": 0, "threads": 1, "began": began, "trial": str(trial)}
            order.write_text(json.dumps({"benchmark": self.benchmark.model_dump(mode="json"), **content}))
            script = f'exec "{sys.executable}" -m hpo.engine.one_trial "{order}" "{result}"'
            self._run(["sbatch", "--output=/dev/null", "--exclusive", "--wrap", script])
        wait_for_jobs()
        ends = [json.loads(result.read_text().splitlines()[-1])["at"] for result in results]  # since the epoch
        first = min(ends) - self.sequences / RATE
        return Span(first - began, max(ends) - first)


def wait_for_jobs() -> None:
    """Wait until no job is left: the test bed has no others."""
    while subprocess.run(["squeue", "--noheader"], capture_output=True, text=True, check=True).stdout.strip():
        REAL.sleep(POLL_SECONDS)


def hyperqueue(per_task: int) -> Callable[[Bench], Span]:
    """Return the way of HyperQueue with so many trials in a task."""
    return lambda bench: bench.hpo("hq", "submit", "--workers", str(PLACES), "--per-task", str(per_task))


WAYS: Mapping[str, Callable[[Bench], Span]] = {
    "HyperQueue, 8 trials per task": hyperqueue(8),
    "HyperQueue": hyperqueue(1),
    "Ray, warm actors": lambda bench: bench.hpo("run"),
    "sbatch in a loop": Bench.sbatch,
    "SLURM array": lambda bench: bench.hpo("slurm", "array", "--at-once", str(PLACES), "--cluster", "cluster.yaml"),
}
