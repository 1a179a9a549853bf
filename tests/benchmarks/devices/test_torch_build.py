"""Builds of torch against cards and drivers: the sentence, and an install line that would work."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks.devices import torch_device
from benchmarks.devices.torch_build import ARCHITECTURES, CUDA_12_INDEX, TorchBuild, fault_of, has_kernels, installed
from benchmarks.devices.visible import look_at_visible
from benchmarks.files import BenchmarkError
from hpo.workflows.doctor import pins
from tests.benchmarks.devices.machines import CPU_BUILD, CUDA_12, CUDA_13, R470, R535, R580, gpu, machine, put_in

REPOSITORY = Path(__file__).parents[3]
V100, P100, K80 = ("Tesla V100", (7, 0)), ("Tesla P100", (6, 0)), ("Tesla K80", (3, 7))
T4, H100, B200 = ("Tesla T4", (7, 5)), ("NVIDIA H100", (9, 0)), ("NVIDIA B200", (10, 0))
FROM_CUDA_12 = "pip uninstall -y torch && pip install torch==2.13.0 --index-url https://download.pytorch.org/whl/cu126"
FROM_THE_PACKAGE_INDEX = "pip uninstall -y torch && pip install torch==2.13.0"
Card = tuple[str, tuple[int, int]]
Driver = tuple[str, tuple[int, int] | None]


def fault(monkeypatch: pytest.MonkeyPatch, build: TorchBuild, card: Card, driver: Driver) -> str:
    put_in(monkeypatch, machine(gpu(0, *card), driver=driver))
    return fault_of(build, *look_at_visible())


@pytest.mark.parametrize(
    ("build", "card", "driver"),
    [(CUDA_13, card, R580) for card in (T4, H100, B200)]
    + [(CUDA_12, card, driver) for card in (P100, V100, T4, H100) for driver in (R535, R580)],
)
def test_a_build_that_can_has_no_fault(
    monkeypatch: pytest.MonkeyPatch, build: TorchBuild, card: Card, driver: Driver
) -> None:
    assert fault(monkeypatch, build, card, driver) == ""


@pytest.mark.parametrize(
    ("build", "card", "driver", "reason", "line"),
    [
        (CPU_BUILD, H100, R580, "it takes a build for CUDA", FROM_THE_PACKAGE_INDEX),
        (CPU_BUILD, H100, R535, "it takes a build for CUDA", FROM_CUDA_12),
        (CPU_BUILD, V100, R580, "it takes a build for CUDA", FROM_CUDA_12),
        (CUDA_13, V100, R580, "it has no kernels for this card", FROM_CUDA_12),
        (CUDA_13, P100, R580, "it has no kernels for this card", FROM_CUDA_12),
        (CUDA_13, V100, R535, "CUDA 13 takes a driver of R580 or newer", FROM_CUDA_12),
        (CUDA_13, H100, R535, "CUDA 13 takes a driver of R580 or newer", FROM_CUDA_12),
        (CUDA_12, B200, R580, "it has no kernels for this card", FROM_THE_PACKAGE_INDEX),
    ],
)
def test_another_is_refused_with_the_line_that_works(
    monkeypatch: pytest.MonkeyPatch, build: TorchBuild, card: Card, driver: Driver, reason: str, line: str
) -> None:
    said = fault(monkeypatch, build, card, driver)
    name, (major, minor) = card
    runs = f"CUDA {driver[1][0]}.{driver[1][1]}" if driver[1] else ""
    assert f"cannot use {name} (compute capability {major}.{minor}, driver {driver[0]}: {runs}): {reason}; " in said
    assert said.endswith(f"; install a build that can: {line}")
    assert said.startswith(f"torch {build.version}, ")
    assert all(name in said for name in (build.cuda or "without CUDA", *build.architectures))


@pytest.mark.parametrize(
    ("card", "driver", "remedy"),
    [
        (V100, R470, f"update the driver to R525 or newer, then install a build that can: {FROM_CUDA_12}"),
        (B200, R535, f"update the driver to R580 or newer, then install a build that can: {FROM_THE_PACKAGE_INDEX}"),
        (K80, R535, "no build of torch 2.13.0 has; take another card with CUDA_VISIBLE_DEVICES"),
        (H100, ("580.65.06", None), "let the job or container have the driver (apptainer exec --nv; "),
    ],
)
def test_where_no_build_helps_alone_the_rest_is_named(
    monkeypatch: pytest.MonkeyPatch, card: Card, driver: Driver, remedy: str
) -> None:
    assert f"; {remedy}" in fault(monkeypatch, CUDA_13, card, driver)


@pytest.mark.parametrize(
    ("architectures", "capability", "expected"),
    [
        ("sm_80 sm_86", (8, 9), True),
        ("sm_86", (8, 0), False),
        ("sm_75 sm_80", (7, 0), False),
        ("sm_90", (10, 0), False),
        ("sm_90a", (9, 0), True),
        ("sm_100a", (10, 3), False),
        ("sm_100f", (10, 3), True),
        ("sm_120", (12, 1), True),
        ("compute_90", (10, 0), True),
        ("compute_90", (8, 0), False),
        ("", (9, 0), False),
    ],
)
def test_code_runs_on_cards_of_its_major_version_from_its_minor_one_on(
    architectures: str, capability: tuple[int, int], expected: bool
) -> None:
    assert has_kernels(architectures.split(), capability) is expected


@pytest.mark.parametrize(
    ("version", "cuda", "architectures"),
    [
        ("2.13.0+cpu", None, ()),
        ("2.13.0+cu126", "12.6", ARCHITECTURES["12.6"]),
        ("2.13.0+cu130", "13.0", ARCHITECTURES["13"]),
        ("2.13.0", "13.2", ARCHITECTURES["13"]),
        ("2.13.0+cu128", "12.8", ()),
    ],
)
def test_the_build_is_read_from_its_files(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, version: str, cuda: str | None, architectures: tuple[str, ...]
) -> None:
    (tmp_path / "version.py").write_text(
        f"from typing import Optional\n__version__ = {version!r}\ndebug = False\n"
        f"cuda: Optional[str] = {cuda!r}\nhip: Optional[str] = None\n"
    )
    found = SimpleNamespace(origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: found)
    assert installed() == TorchBuild(version, cuda, architectures)


@pytest.mark.parametrize("page", ["README.md", "slurm/README.md", "slurm/profiles/v100_node.yaml", "docs/gpu.md"])
def test_pages_name_the_line_for_older_cards_and_drivers(page: str) -> None:
    line = f"pip install torch=={pins()['torch']} --index-url {CUDA_12_INDEX}"
    assert line in (REPOSITORY / page).read_text()


def test_the_files_say_what_torch_says() -> None:
    import torch

    assert (installed().version, installed().cuda) == (torch.__version__, torch.version.cuda)


def test_a_rank_that_was_given_a_gpu_does_not_fall_back_to_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    if torch.cuda.is_available():
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    put_in(monkeypatch, machine(gpu(0), driver=R580), build=None)
    with pytest.raises(BenchmarkError, match=r"torch 2\.\d+\.\d+.* cannot use NVIDIA H100 \(compute capability 9\.0"):
        torch_device.require_gpu(0)


def test_a_gpu_that_fails_at_the_first_kernel_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver's facts may be right and the card out of order, or another process's alone."""
    import torch

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("CUDA error: all CUDA-capable devices are busy or unavailable\nmore")

    put_in(monkeypatch, machine(gpu(0), driver=R580))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "ones", fail)
    monkeypatch.setattr(torch_device, "imported", lambda: CUDA_13)
    with pytest.raises(BenchmarkError, match=r"or unavailable; driver 580\.65\.06, which lists NVIDIA H100 9\.0\)"):
        torch_device.require_gpu(0)
    monkeypatch.setattr(torch_device, "imported", lambda: CPU_BUILD)
    with pytest.raises(BenchmarkError, match=r"takes a build for CUDA.*\(torch says: CUDA error: all"):
        torch_device.require_gpu(0)
