"""The same Trainer script without DeepSpeed, with ZeRO 0 to 3, and with offload: time, memory and loss of each.

A training is a process of its own, or several under a launcher, and differs from the next in nothing but the
`--deepspeed` argument. One that cannot run, or runs out of memory, is a row that says so.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.clock import REAL
from benchmarks.out_of_memory import OUT_OF_MEMORY, sign_in
from benchmarks.parent import end_with_parent
from benchmarks.ports import ALL_INTERFACES, free_port
from benchmarks.spec import BenchmarkError, load_json
from benchmarks.training import memory
from benchmarks.zero.settings import Configuration, Launcher, Machine, Scale, Training

PROJECT = Path(__file__).parents[2]
CONFIGURATIONS = Path(__file__).parent
KILLED = re.compile(r"SIGKILL|exitcode\s*:\s*-9\b|return code = -9\b")
ERROR = re.compile(r"^(\[rank\d+\]: )?[\w.]*(Error|Exception)\b(:|$)")
OF_THE_LAUNCHER = "ChildFailedError"


@dataclass(frozen=True)
class Row:
    """One configuration at one scale.

    Attributes:
        outcome: "completed", "out of memory", "failed" or "not run".
        reason: why it has no measurements; of a completed one, why its file of samples is not whole, if so.
        wall_seconds: from the launcher's start to its end.
        measured: by name, `RankFigures` of all ranks together; empty unless completed.
    """

    configuration: Configuration
    scale: Scale
    outcome: str
    reason: str = ""
    wall_seconds: float = 0.0
    measured: dict[str, Any] = field(default_factory=dict)


def deepspeed_config(configuration: Configuration) -> dict[str, Any] | None:
    """Return the argument of `--deepspeed`; None for nothing.

    Offload keeps the optimizer that all others have: torch's AdamW, which steps on the host then.
    """
    if configuration.stage is None:
        return None
    content: dict[str, Any] = load_json(CONFIGURATIONS / f"stage{configuration.stage}.json")
    if configuration.offload:
        zero = content["zero_optimization"]
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": True}
        if configuration.stage == 3:
            zero["offload_param"] = {"device": "cpu", "pin_memory": True}
        content["zero_force_ds_cpu_optimizer"] = False
    return content


def why_not(training: Training, configuration: Configuration, scale: Scale, machine: Machine) -> str:
    """Return the reason for which a row cannot run on this machine; empty if it can."""
    if configuration.offload and not machine.gpus:
        return "offload moves states from a GPU to the host, and there is no GPU"
    devices, kind = (machine.gpus, "GPUs") if machine.gpus else (machine.cpus, "cores")
    if scale.ranks_per_node > devices:
        return f"{scale.ranks_per_node} ranks a node need as many {kind}, and there are {devices}"
    if machine.are_slices and scale.ranks > 1:
        return "the GPUs are slices (MIG), and NCCL does not work between slices; take ranks=1, or whole GPUs"
    if machine.are_slices and machine.launcher == "deepspeed":
        return "DeepSpeed's launcher takes GPUs by number, and slices (MIG) have none; take launcher=torchrun"
    if scale.nodes > int(os.environ.get("SLURM_JOB_NUM_NODES", "1")) or (scale.nodes > 1 and not _is_on_its_node()):
        return f"{scale.nodes} nodes take a SLURM job that has them, and this command in its script (`sbatch`)"
    if machine.launcher == "deepspeed" and scale.nodes > 1:
        return "DeepSpeed's launcher reaches other nodes by ssh; take launcher=torchrun, which goes by srun"
    if machine.precision == "fp16" and configuration.stage == 0:
        return "DeepSpeed does not scale the loss in fp16 at stage 0 with torch's AdamW"
    try:
        shares(training, scale)
    except BenchmarkError as error:
        return str(error)
    return ""


def _is_on_its_node() -> bool:
    """Tell whether this is a node of the SLURM job; the shell of `salloc` may be on the login node."""
    return "SLURMD_NODENAME" in os.environ


def run(
    training: Training,
    configurations: Sequence[Configuration],
    scales: Sequence[Scale],
    machine: Machine,
    folder: Path,
) -> Iterator[Row]:
    """Train under every configuration at every scale, one after the other, and yield each row when it is done.

    Args:
        training: the training, the same each time.
        configurations: the ways to train.
        scales: numbers of ranks; a rank has as many cores at each.
        machine: the machine that trains.
        folder: gets one folder per row with configuration, log and samples of memory.
    """
    # Without a GPU a rank is a core, as a trial's is; two threads that share a busy core wait for each other.
    threads = max(1, machine.cpus // max(scale.ranks_per_node for scale in scales)) if machine.gpus else 1
    for scale in scales:
        for configuration in configurations:
            reason = why_not(training, configuration, scale, machine)
            if reason:
                yield Row(configuration, scale, "not run", reason)
                continue
            kind = "" if scale.ranks == 1 else f"-{scale.scaling}"
            place = folder / f"{configuration.name}-{scale.nodes}x{scale.ranks_per_node}{kind}"
            yield _train(training, configuration, scale, machine, threads, place)


def _train(
    training: Training, configuration: Configuration, scale: Scale, machine: Machine, threads: int, folder: Path
) -> Row:
    shutil.rmtree(folder, ignore_errors=True)  # of an earlier run; its ranks would be taken for this one's
    folder.mkdir(parents=True)
    words = [*launch(machine.launcher, scale), *script(training, configuration, scale, machine, folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": _with_project()}
    if not machine.gpus:
        environment |= {"DS_ACCELERATOR": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    log, began, killed_before = folder / "log.txt", REAL.now(), memory.kills()
    status = _wait(words, environment, log)
    wall_seconds = REAL.now() - began
    ranks = [load_json(path) for path in sorted(folder.glob("rank-*.json"))]
    if status == 0 and len(ranks) == scale.ranks:
        return Row(configuration, scale, "completed", ranks[0]["fault"], wall_seconds, together(ranks))
    if status == 0:
        reason = f"{len(ranks)} of {scale.ranks} ranks left a result; do all nodes share {folder}?"
        return Row(configuration, scale, "failed", reason, wall_seconds)
    for_memory = memory.kills() > killed_before
    outcome, reason = what_went_wrong(status, log.read_text(errors="replace"), for_memory)
    return Row(configuration, scale, outcome, f"{reason}; its log: {log}", wall_seconds)


def launch(launcher: Launcher, scale: Scale) -> list[str]:
    """Return the command before the script. `srun` reaches other nodes, from the first node of a job that has them."""
    ranks = str(scale.ranks_per_node)
    if launcher == "deepspeed":
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")  # it would take no notice of it
        chosen = [part.strip() for part in visible.split(",")][: scale.ranks_per_node]
        which = ["--include", f"localhost:{','.join(chosen)}"] if visible else ["--num_gpus", ranks]
        start = [sys.executable, "-m", "deepspeed.launcher.runner", *which]
        return [*start, "--master_addr", "127.0.0.1", "--master_port", str(free_port(ALL_INTERFACES)), "--module"]
    start = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", ranks, "--rdzv-backend", "c10d"]
    if scale.nodes == 1:
        return [*start, "--rdzv-endpoint", "127.0.0.1:0", "-m"]
    nodes = str(scale.nodes)
    step = ["srun", "--nodes", nodes, "--ntasks", nodes, "--ntasks-per-node", "1", "--kill-on-bad-exit=1"]
    # All ranks of a node are one task to SLURM, which would have a core by default; the job may have been
    # submitted with `--export=NONE`, which holds for its steps too.
    step += ["--cpu-bind=none", "--export=ALL"]
    meeting = f"{socket.gethostname()}:{free_port(ALL_INTERFACES)}"
    return [*step, *start, "--nnodes", nodes, "--rdzv-endpoint", meeting, "-m"]


def script(training: Training, configuration: Configuration, scale: Scale, machine: Machine, folder: Path) -> list[str]:
    """Return the script and its arguments; from row to row at one scale, only `--deepspeed` differs."""
    examples, batch_size, accumulation = shares(training, scale)
    arguments: dict[str, object] = {
        "benchmark": training.benchmark,
        "examples": examples,
        "eval_examples": training.eval_examples,
        "output_dir": folder,
        "num_train_epochs": training.epochs,
        "per_device_train_batch_size": batch_size,
        "per_device_eval_batch_size": _eval_batch_size(training, scale),
        "gradient_accumulation_steps": accumulation,
        "learning_rate": training.learning_rate,
        "weight_decay": training.weight_decay,
        "seed": training.seed,
        "eval_strategy": "epoch",
        "logging_strategy": "epoch",
        "logging_nan_inf_filter": False,
        "save_strategy": "no",
        "report_to": "none",
        "remove_unused_columns": False,
        "disable_tqdm": True,
        "dataloader_pin_memory": machine.gpus > 0,
        **({machine.precision: True} if machine.precision != "fp32" else {}),
    }
    words = [word for name, value in arguments.items() for word in (f"--{name}", str(value))]
    content = deepspeed_config(configuration)
    if content is not None:
        path = folder / "deepspeed.json"
        path.write_text(json.dumps(content, indent=2))
        words += ["--deepspeed", str(path)]
    return ["benchmarks.zero.trainer", *words]


def shares(training: Training, scale: Scale) -> tuple[int, int, int]:
    """Return the examples of all ranks, and batch size and accumulation of one.

    Raises:
        BenchmarkError: under strong scaling, the global batch cannot be shared out evenly.
    """
    if scale.scaling == "weak":
        return training.examples * scale.ranks, training.batch_size, training.accumulation
    whole = training.batch_size * training.accumulation
    samples, rest = divmod(whole, scale.ranks)
    if rest:
        raise BenchmarkError(
            f"a global batch of {whole} (batch_size x accumulation) cannot be shared out among {scale.ranks} ranks; "
            "take another number of ranks, or scaling=weak"
        )
    batch_size = math.gcd(samples, training.batch_size)
    return training.examples, batch_size, samples // batch_size


def _eval_batch_size(training: Training, scale: Scale) -> int:
    """Return the batch size of a rank; under strong scaling the ranks divide that of one rank.

    Trainer's evaluation loss is the mean over batches of all ranks together, each the mean over its answer tokens:
    other batches give another loss of the same model.
    """
    return max(1, training.batch_size // scale.ranks) if scale.scaling == "strong" else training.batch_size


def together(ranks: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Combine the ranks' measurements: common values from the first, memory of the rank that has most."""
    memories = [rank["memory"] for rank in ranks]
    most = {
        name: max(memory[name] for memory in memories) if memories[0][name] is not None else None
        for name in ("host_mean_mb", "gpu_peak_mb", "gpu_mean_mb", "gpu_min_mb", "longest_gap_seconds")
    }
    most["memory_samples_per_second"] = min(memory["num_samples"] / memory["seconds"] for memory in memories)
    peaks = [rank["torch_peak_mb"] for rank in ranks]
    shared = {key: value for key, value in ranks[0].items() if key not in ("memory", "fault")}
    return {
        **shared,
        **most,
        "torch_peak_mb": max(peaks) if peaks[0] is not None else None,
        "host_peak_mb": max(rank["host_peak_mb"] for rank in ranks),
    }


def _wait(words: Sequence[str], environment: dict[str, str], log: Path) -> int:
    """Run to the end in a process group of its own, which does not outlive an interruption."""
    with log.open("w") as file:
        process = subprocess.Popen(
            words,
            env=environment,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=end_with_parent,
        )
        try:
            return process.wait()
        except BaseException:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()
            raise


def what_went_wrong(status: int, log: str, killed_for_memory: bool = False) -> tuple[str, str]:
    """Return outcome and reason of a training that failed.

    Args:
        status: the launcher's exit status.
        log: output of the launcher and the ranks.
        killed_for_memory: the kernel has killed a process for want of memory meanwhile.
    """
    lines = [line.strip()[:300] for line in log.splitlines()]
    if sign := sign_in(log):
        return OUT_OF_MEMORY, sign
    if KILLED.search(log):
        if killed_for_memory:
            return OUT_OF_MEMORY, "the kernel killed a rank, since the host's memory was used up"
        return "failed", "a rank was killed (signal 9)"
    errors = [line for line in lines if ERROR.search(line) and OF_THE_LAUNCHER not in line]
    return "failed", errors[0] if errors else f"exit status {status}"


def _with_project() -> str:
    return os.pathsep.join([str(PROJECT), *filter(None, [os.environ.get("PYTHONPATH")])])
