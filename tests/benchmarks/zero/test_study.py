"""One Trainer script under several DeepSpeed configurations: real trainings of nano, and what is said of the others."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.spec import BenchmarkError
from benchmarks.zero import settings, study
from benchmarks.zero.settings import Configuration, Machine, Scale, Training

SHORT = Training(examples=32, eval_examples=16, epochs=2)
CPU = Machine(gpus=0, cpus=2, precision="fp32")
PLAIN, ZERO3 = Configuration(), Configuration(3)


def test_the_configurations_are_those_of_the_study() -> None:
    names = [configuration.name for configuration in settings.ALL]
    stages = ["zero0", "zero1", "zero2", "zero3"]
    assert names == ["plain", *stages, "zero1-offload", "zero2-offload", "zero3-offload"]


def test_nothing_but_the_deepspeed_argument_differs(tmp_path: Path) -> None:
    plain = study.script(SHORT, PLAIN, Scale(), CPU, tmp_path)
    for configuration in settings.ALL[1:]:
        words = study.script(SHORT, configuration, Scale(), CPU, tmp_path)
        assert words == [*plain, "--deepspeed", str(tmp_path / "deepspeed.json")]
        content = json.loads((tmp_path / "deepspeed.json").read_text())
        zero = content["zero_optimization"]
        assert zero["stage"] == configuration.stage
        assert ("offload_optimizer" in zero) == configuration.offload
        assert ("offload_param" in zero) == (configuration.offload and configuration.stage == 3)


@pytest.mark.parametrize(
    ("scale", "examples", "batch_size", "accumulation"),
    [
        (Scale(), 500, 4, 4),
        (Scale(2), 500, 4, 2),
        (Scale(2, nodes=2), 500, 4, 1),
        (Scale(8), 500, 2, 1),
        (Scale(2, scaling="weak"), 1000, 4, 4),
        (Scale(2, 3, "weak"), 3000, 4, 4),
    ],
)
def test_strong_scaling_keeps_the_global_batch_and_weak_that_of_a_rank(
    scale: Scale, examples: int, batch_size: int, accumulation: int
) -> None:
    assert study.shares(Training(), scale) == (examples, batch_size, accumulation)
    if scale.scaling == "strong":
        assert batch_size * accumulation * scale.ranks == 16


def test_a_global_batch_that_cannot_be_shared_out_is_refused() -> None:
    with pytest.raises(BenchmarkError, match=r"a global batch of 16 .* among 3 ranks; take another number"):
        study.shares(Training(), Scale(3))
    assert "among 3 ranks" in study.why_not(Training(), PLAIN, Scale(3), Machine(0, 4, "fp32"))


@pytest.mark.parametrize(
    ("configuration", "scale", "machine", "reason"),
    [
        (Configuration(2, offload=True), Scale(), CPU, "there is no GPU"),
        (PLAIN, Scale(4), Machine(2, 8, "bf16"), "4 ranks a node need as many GPUs, and there are 2"),
        (Configuration(0), Scale(), Machine(1, 8, "fp16"), "does not scale the loss in fp16"),
        (PLAIN, Scale(4), CPU, "4 ranks a node need as many cores, and there are 2"),
        (PLAIN, Scale(1, 2), CPU, "2 nodes take a SLURM job that has them"),
        (PLAIN, Scale(2), Machine(2, 8, "bf16", are_slices=True), "NCCL does not work between slices; take ranks=1"),
    ],
)
def test_a_row_that_cannot_run_says_why(
    configuration: Configuration, scale: Scale, machine: Machine, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SLURM_JOB_NUM_NODES", raising=False)
    assert reason in study.why_not(SHORT, configuration, scale, machine)
    assert study.why_not(SHORT, PLAIN, Scale(), machine) == ""


def test_deepspeed_s_launcher_takes_no_slices() -> None:
    machine = Machine(1, 8, "bf16", "deepspeed", are_slices=True)
    assert "slices (MIG) have none; take launcher=torchrun" in study.why_not(SHORT, PLAIN, Scale(), machine)


@pytest.mark.parametrize(
    ("status", "log", "outcome", "reason"),
    [
        (
            1,
            "step 3\n[rank0]: torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20 GiB\nmore",
            "out of memory",
            "[rank0]: torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20 GiB",
        ),
        (1, "DefaultCPUAllocator: can't allocate memory: you tried", "out of memory", "DefaultCPUAllocator"),
        (
            1,
            "exitcode : -9\nslurmstepd: error: Detected 1 oom_kill event in StepId=7.0.",
            "out of memory",
            "slurmstepd: ",
        ),
        (1, "  exitcode  : -9 (pid: 5)\n", "failed", "a rank was killed (signal 9)"),
        (1, "ok\n[rank1]: ValueError: no such thing\n[rank0]: late", "failed", "[rank1]: ValueError: no such thing"),
        (1, "torch.distributed.elastic.ChildFailedError: x\nAssertionError", "failed", "AssertionError"),
        (1, "a warning: out of memory is near\nValueError: other", "failed", "ValueError: other"),
        (3, "nothing of use", "failed", "exit status 3"),
    ],
)
def test_what_a_log_tells(status: int, log: str, outcome: str, reason: str) -> None:
    found, why = study.what_went_wrong(status, log)
    assert found == outcome
    assert why.startswith(reason)


def test_a_kill_is_for_want_of_memory_if_the_kernel_says_so() -> None:
    found, why = study.what_went_wrong(1, "exitcode : -9", killed_for_memory=True)
    assert (found, why) == ("out of memory", "the kernel killed a rank, since the host's memory was used up")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0, but must be at least 1"),
        ({"examples": -1}, "examples is -1, but must be at least 1"),
        ({"learning_rate": 0.0}, "learning_rate is 0, but must be above 0"),
        ({"weight_decay": -1.0}, "weight_decay is -1, but must be at least 0"),
    ],
)
def test_a_training_that_could_only_fail_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BenchmarkError, match=message):
        Training(**changes)


def test_fp16_takes_a_gpu() -> None:
    with pytest.raises(BenchmarkError, match="precision is fp16, but there is no GPU"):
        Machine(0, 2, "fp16")


class TestLaunchers:
    """The commands before the script."""

    @pytest.fixture(autouse=True)
    def port(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(study, "free_port", lambda host: 2900)
        monkeypatch.setattr("socket.gethostname", lambda: "n1")

    def test_torchrun(self) -> None:
        words = "-m torch.distributed.run --nproc-per-node 2 --rdzv-backend c10d --rdzv-endpoint 127.0.0.1:0 -m"
        assert study.launch("torchrun", Scale(2))[1:] == words.split()

    def test_several_nodes(self) -> None:
        step = "srun --nodes 2 --ntasks 2 --ntasks-per-node 1 --kill-on-bad-exit=1 --cpu-bind=none --export=ALL"
        start = "-m torch.distributed.run --nproc-per-node 4 --rdzv-backend c10d --nnodes 2 --rdzv-endpoint n1:2900 -m"
        assert study.launch("torchrun", Scale(4, 2)) == [*step.split(), sys.executable, *start.split()]

    @pytest.mark.parametrize(
        ("visible", "which"),
        [("", "--num_gpus 2"), ("2,3,5", "--include localhost:2,3"), ("1", "--include localhost:1")],
    )
    def test_deepspeed_s_own_uses_the_gpus_that_are_visible(
        self, visible: str, which: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        words = f"-m deepspeed.launcher.runner {which} --master_addr 127.0.0.1 --master_port 2900 --module"
        assert study.launch("deepspeed", Scale(2))[1:] == words.split()


@pytest.mark.thorough  # test_deepspeed runs the study by its command
@pytest.mark.slow
class TestTrainings:
    @pytest.fixture(scope="class")
    @staticmethod
    def rows(tmp_path_factory: pytest.TempPathFactory) -> list[study.Row]:
        """Without DeepSpeed on one rank, ZeRO-3 on one by DeepSpeed's launcher and on two; a row that cannot run."""
        folder = tmp_path_factory.mktemp("zero")
        other = dataclasses.replace(CPU, launcher="deepspeed")
        one = study.run(SHORT, [ZERO3, Configuration(3, offload=True)], [Scale()], other, folder)
        return [
            *study.run(SHORT, [PLAIN], [Scale()], CPU, folder),
            *one,
            *study.run(SHORT, [ZERO3], [Scale(2)], CPU, folder),
        ]

    def test_they_end_or_say_why(self, rows: list[study.Row]) -> None:
        assert [row.outcome for row in rows] == ["completed", "completed", "not run", "completed"], rows

    def test_they_train_the_same(self, rows: list[study.Row]) -> None:
        """The same steps on the same data: losses agree, with DeepSpeed or without, on one rank or two."""
        plain, *others = [row.measured for row in rows if row.measured]
        assert len(plain["eval_losses"]) == len(plain["train_losses"]) == SHORT.epochs
        assert plain["eval_losses"][1] < plain["eval_losses"][0]
        for other in others:
            assert other["eval_losses"] == pytest.approx(plain["eval_losses"], abs=1e-3)
            assert other["train_losses"] == pytest.approx(plain["train_losses"], abs=1e-3)
            assert other["steps_per_epoch"] == plain["steps_per_epoch"] == 2
            assert other["parameters"] == plain["parameters"]

    def test_they_measure(self, rows: list[study.Row]) -> None:
        for row in (row for row in rows if row.measured):
            found = row.measured
            assert found["train_samples_per_second"] == pytest.approx(32 * 2 / found["train_seconds"])
            assert found["train_tokens_per_second"] > found["train_samples_per_second"]
            assert found["eval_samples_per_second"] > 0
            assert 0 < found["train_seconds"] < row.wall_seconds
            assert 100 < found["host_mean_mb"] < found["host_peak_mb"]
            assert found["gpu_peak_mb"] is None
            assert found["memory_samples_per_second"] >= 10
            assert (found["train_examples"], found["eval_examples"]) == (32, 16)

    def test_a_training_that_fails_is_a_row_with_its_cause(self, tmp_path: Path) -> None:
        [row] = study.run(Training(examples=3000), [PLAIN], [Scale()], CPU, tmp_path)
        assert row.outcome == "failed"
        assert "3000 training examples are asked for, and nano has 2112; lower examples" in row.reason
        assert row.reason.endswith(f"its log: {tmp_path / 'plain-1x1/log.txt'}")
