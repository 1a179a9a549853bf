"""The jobs of a recording's array: a task that records its part, and the last one, which gathers the bank."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.files import BenchmarkError
from benchmarks.spec import Benchmark
from hpo.cluster.devices import Devices, Placement, detect_here, place
from hpo.recording import log as logs
from hpo.recording.configurations import ListedConfiguration, configurations
from hpo.recording.dense.proposals import chosen_before, dense
from hpo.recording.dense.second_sample import samples
from hpo.recording.files import Files, header_of, only_recorder, stored
from hpo.recording.recorder import Recording, progress
from hpo.terminal.console import open_console
from slurm.processes import node_name, say
from slurm.profile import Profile


@dataclass(frozen=True)
class PlannedRecording:
    """The bank that the jobs of an array record.

    Attributes:
        benchmark: the benchmark.
        folder: of bank, card and logs.
        configs: configurations of the sample.
        dense: configurations where searchers go, chosen before the array was submitted.
        seeds: trainings of each.
    """

    benchmark: Benchmark
    folder: Path
    configs: int
    dense: int
    seeds: int

    def files(self, part: int | None = None) -> Files:
        """Return the files of a part, or of the whole."""
        return Files(self.folder, self.benchmark.name, part)

    def choose_dense(self) -> None:
        """Choose the configurations where searchers go, if any are asked for; they are kept in the log.

        Raises:
            BenchmarkError: trainings of the sample are missing, which the choice rests on.
        """
        if not self.dense:
            return
        first, files = configurations(self.benchmark, self.configs, seed=0), self.files()
        with only_recorder(files):
            sample = Recording(self.benchmark, files, first, self.seeds, open_console())
            if sample.due:
                raise BenchmarkError(
                    f"dense configurations rest on the sample, of which {sample.due} trainings are missing; record "
                    "them first, without --dense"
                )
            sample.write()
            deque(samples(self.benchmark, files, first, self.dense), maxlen=0)

    def listed(self) -> Sequence[ListedConfiguration]:
        """List all configurations.

        Raises:
            BenchmarkError: fewer dense ones were chosen than are asked for.
        """
        first = configurations(self.benchmark, self.configs, seed=0)
        if not self.dense:
            return first
        files = self.files()
        kept = chosen_before(logs.read(files.log).dense, stored(files, header_of(self.benchmark)))
        if len(kept) < self.dense:
            raise BenchmarkError(
                f"dense is {self.dense}, but {files.log} has {len(kept)} such configurations; submit the recording "
                "again, which chooses them"
            )
        return [*first, *dense(self.benchmark, files.bank, first, kept, self.dense)]


def record(planned: PlannedRecording, profile: Profile, part: int, parts: int, hours: float | None) -> int:
    """Record a part; return the exit status.

    Args:
        planned: the recording.
        profile: the cluster.
        part: number of this part, from 0.
        parts: number of parts.
        hours: time after which no other training begins; None for no limit but the job's.

    Raises:
        BenchmarkError: the devices of this job cannot be used, or another process records this part.
    """
    files, console = planned.files(part), open_console()
    with only_recorder(files):
        recording = Recording(planned.benchmark, files, planned.listed(), planned.seeds, console, parts)
        say(f"part {part} of {parts}: {recording.due} trainings are due on {node_name()}")
        if not recording.due:
            return 0
        tally = recording.run(_placement(planned.benchmark, profile), hours)
    say(progress(planned.benchmark.name, tally))
    return 1 if tally.ended["failed"] or tally.ended.total() < tally.due else 0


def _placement(benchmark: Benchmark, profile: Profile) -> Placement:
    """Place one training on the devices of this job, which may be a part of its node."""
    found, ranks = detect_here(), benchmark.ranks_per_trial
    if profile.node.gpus and (found.gpu_name is None or found.count < ranks):
        there = found.count if found.gpu_name else 0
        raise BenchmarkError(
            f"a training takes {ranks} GPUs, but this job on {node_name()} finds {there}; see nvidia-smi"
        )
    if not profile.node.gpus:
        found = Devices(ranks, None, ranks * profile.cpus_per_rank)
    return place(benchmark, found, concurrency=1)


def gather(planned: PlannedRecording) -> int:
    """Write bank and card from the logs of all parts; return the exit status, 1 if trainings are missing."""
    with only_recorder(planned.files()):
        recording = Recording(planned.benchmark, planned.files(), planned.listed(), planned.seeds, open_console())
        bank = recording.write(is_last=True)
    files = planned.files()
    say(f"{len(bank.trainings)} trainings are in {files.bank}, {recording.due} are missing")
    if recording.due:
        say("the same submission records the missing ones")
    return 1 if recording.due else 0
