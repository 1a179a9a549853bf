"""CUDA_VISIBLE_DEVICES by number, UUID and slice, and the machines that are refused."""

from __future__ import annotations

import pytest

from benchmarks.devices.visible import look_at_visible
from benchmarks.files import BenchmarkError
from tests.benchmarks.devices.machines import broken, gpu, machine, put_in, sliced

FOUR = machine(*(gpu(number) for number in range(4)))
DISPLAY = machine(gpu(0, "NVIDIA T400", (7, 5)), gpu(1), gpu(2))
SLICED = machine(sliced(0, "1g.10gb", "1g.10gb"), sliced(1, "1g.10gb"))
UNLIKE_SLICES = machine(sliced(0, "3g.40gb", "1g.10gb", "1g.10gb"))


def ids(monkeypatch: pytest.MonkeyPatch, described: str, visible: str | None) -> str:
    put_in(monkeypatch, described, visible)
    return ",".join(found.id for found in look_at_visible()[0])


@pytest.mark.parametrize(
    ("described", "visible", "expected"),
    [
        pytest.param(FOUR, None, "0,1,2,3", id="all"),
        pytest.param(FOUR, "2, 0", "2,0", id="numbers, in their order"),
        pytest.param(FOUR, "GPU-3a7c-3,GPU-1a7c-1", "3,1", id="UUIDs become numbers"),
        pytest.param(FOUR, "GPU-3,GPU-1a", "3,1", id="beginnings of UUIDs"),
        pytest.param(FOUR, "GPU-3a7c-3,1", "3,1", id="both"),
        pytest.param(FOUR, "03,", "3", id="zeros and an end"),
        pytest.param(FOUR, "0,-1,1", "0", id="an end in the list"),
        pytest.param(FOUR, "0,1,,", "0,1", id="two ends"),
        pytest.param(FOUR, "0,-1,,2", "0", id="whatever comes after an end"),
        pytest.param(FOUR, ",", "", id="nothing but ends"),
        pytest.param(FOUR, "", "", id="none"),
        pytest.param(FOUR, "-1", "", id="none by number"),
        pytest.param(FOUR, "NoDevFiles", "", id="none, by SLURM"),
        pytest.param(DISPLAY, "1,2", "1,2", id="all but the display's"),
        pytest.param(DISPLAY, "0", "0", id="the display's alone"),
        pytest.param(SLICED, None, "MIG-00e-9,MIG-01e-9,MIG-10e-9", id="all slices"),
        pytest.param(SLICED, "MIG-10e-9,MIG-00", "MIG-10e-9,MIG-00e-9", id="slices by name"),
        pytest.param(SLICED, "0", "MIG-00e-9,MIG-01e-9", id="a GPU stands for its slices"),
        pytest.param(UNLIKE_SLICES, "MIG-01,MIG-02", "MIG-01e-9,MIG-02e-9", id="slices of one kind"),
        pytest.param(broken(12), "0", "", id="no driver"),
        pytest.param(broken(9), None, "", id="a driver that is not loaded"),
        pytest.param(broken(18), "", "", id="a broken driver that is not used"),
    ],
)
def test_the_list_chooses(monkeypatch: pytest.MonkeyPatch, described: str, visible: str | None, expected: str) -> None:
    assert ids(monkeypatch, described, visible) == expected


@pytest.mark.parametrize(
    ("described", "visible", "message"),
    [
        pytest.param(FOUR, "7", "is '7', but must name devices .*'7' is none of them: GPU 0 ", id="a number too high"),
        pytest.param(FOUR, "0,GPU-9", "'GPU-9' is none of them", id="a UUID of another machine"),
        pytest.param(FOUR, "GPU-", "'GPU-' begins 4 of them", id="a beginning of several"),
        pytest.param(FOUR, "MIG-1", "'MIG-1' is none of them", id="a slice where there are none"),
        pytest.param(FOUR, "1gpu", "'1gpu' is none of them", id="no name at all"),
        pytest.param(FOUR, "\u0663", "is none of them", id="a digit of another script"),
        pytest.param(FOUR, "9" * 5000, r"is '9{120}\.\.\.', but", id="a number without an end"),
        pytest.param(FOUR, "GPU-\x1b[31m,0", r"'GPU-\\x1b\[31m' is none of them", id="signs that steer a terminal"),
        pytest.param(FOUR, "1,,2", r"'1,,2', but CUDA ends the list at its empty entry; remove that", id="a gap"),
        pytest.param(FOUR, " ,0", r"' ,0', but CUDA ends the list at its empty entry", id="a gap in front"),
        pytest.param(broken(12), ",0", r"ends the list at its empty entry", id="a gap on a machine without a driver"),
        pytest.param(FOUR, "0,0", r"names GPU 0 \(.*\) twice, and CUDA finds no GPU then; name each once", id="twice"),
        pytest.param(FOUR, "1,GPU-1a", r"names GPU 1 \(.*\) twice", id="twice by other names"),
        pytest.param(SLICED, "0,MIG-01", "names NVIDIA A100 MIG 1g.10gb MIG-01e-9 twice", id="a slice and its GPU"),
        pytest.param(
            DISPLAY,
            None,
            r"2 kinds, .* up: NVIDIA T400, .* 7\.5 \(0\); NVIDIA H100, .* 9\.0 \(1, 2\); .* CUDA_VISIBLE_DEVICES=1,2$",
            id="a display's among others",
        ),
        pytest.param(
            machine(gpu(0, "NVIDIA Graphics Device", (8, 6)), gpu(1, "NVIDIA Graphics Device", (8, 9))),
            None,
            r"2 kinds, .*compute capability 8\.6 \(0\); .*compute capability 8\.9 \(1\)",
            id="cards whose names the driver does not know yet",
        ),
        pytest.param(UNLIKE_SLICES, None, r"2 kinds.*CUDA_VISIBLE_DEVICES=MIG-01e-9,MIG-02e-9$", id="unlike slices"),
        pytest.param(machine(sliced(0)), None, "is in MIG mode and has no slice.*nvidia-smi mig", id="MIG, not sliced"),
        pytest.param(broken(18), None, "says: Driver/library version mismatch; run nvidia-smi", id="a broken driver"),
        pytest.param(broken(999), "0", "says: Unknown Error", id="a driver lost by a container"),
    ],
)
def test_what_cuda_would_read_otherwise_is_refused(
    monkeypatch: pytest.MonkeyPatch, described: str, visible: str | None, message: str
) -> None:
    with pytest.raises(BenchmarkError, match=message):
        ids(monkeypatch, described, visible)


def test_a_number_means_one_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    put_in(monkeypatch, DISPLAY, "1,2")
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "FASTEST_FIRST")
    with pytest.raises(BenchmarkError, match=r"CUDA_DEVICE_ORDER is FASTEST_FIRST, .* unset it, or set PCI_BUS_ID"):
        look_at_visible()
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    assert len(look_at_visible()[0]) == 2
