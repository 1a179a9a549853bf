"""Both inequalities, on the nodes that the originals ran on and on others."""

from __future__ import annotations

import pytest

from slurm import capacity, profile
from slurm.capacity import Capacity


@pytest.mark.parametrize(("name", "trials"), [("v100_node", 4), ("a100_node", 4)])
def test_the_examples_with_two_ranks_a_trial(name: str, trials: int) -> None:
    """Four on one node of 8 V100; two on each of two nodes of 4 A100."""
    assert capacity.of(profile.load(profile.PROFILES / f"{name}.yaml"), ranks_per_trial=2).trials == trials


@pytest.mark.parametrize(
    ("fits", "trials_node", "trials", "binding"),
    [
        (Capacity(0, 20, 8, ranks=2, cpus_rank=2, gpus_rank=1, nodes=1), 4, 4, "GPUs"),
        (Capacity(6, 20, 8, ranks=2, cpus_rank=2, gpus_rank=1, nodes=1), 3, 3, "CPUs"),
        (Capacity(0, 4, 0, ranks=1, cpus_rank=1, gpus_rank=0, nodes=3), 4, 12, "CPUs"),
        (Capacity(0, 8, 4, ranks=8, cpus_rank=1, gpus_rank=1, nodes=2), 0, 1, "GPUs"),
        (Capacity(0, 8, 4, ranks=9, cpus_rank=1, gpus_rank=1, nodes=2), 0, 0, "GPUs"),
    ],
)
def test_what_fits_and_what_binds(fits: Capacity, trials_node: int, trials: int, binding: str) -> None:
    assert (fits.trials_node, fits.trials, fits.binding) == (trials_node, trials, binding)


def test_one_trial_more_would_break_an_inequality() -> None:
    for cpus in range(1, 12):
        for gpus in range(5):
            fits = Capacity(1, cpus + 1, gpus, ranks=2, cpus_rank=2, gpus_rank=int(gpus > 0), nodes=1)
            for trials, holds in ((fits.trials_node, True), (fits.trials_node + 1, False)):
                by_cpus = fits.cpus_system + trials * fits.ranks * fits.cpus_rank <= fits.cpus_node
                by_gpus = trials * fits.ranks * fits.gpus_rank <= fits.gpus_node
                assert (by_cpus and by_gpus) is holds


def test_the_text_has_both_inequalities_with_numbers() -> None:
    text = capacity.describe(Capacity(6, 20, 8, ranks=2, cpus_rank=2, gpus_rank=1, nodes=1))
    assert text.splitlines() == [
        "Csys + Tnode*W*Cw <= Cnode   6 + 3*2*2 = 18 <= 20 CPUs",
        "       Tnode*W*Gw <= Gnode   3*2*1 = 6 <= 8 GPUs",
        "trials at once: 3 per node, 3 on 1 node",
        "CPUs bind: one more trial per node takes 22 CPUs of 20; lower cpus_per_rank or cpus_for_ray; "
        "2 GPUs of a node stay unused",
    ]


def test_a_trial_across_nodes_is_said_to_be_one() -> None:
    text = capacity.describe(Capacity(0, 8, 4, ranks=8, cpus_rank=1, gpus_rank=1, nodes=2))
    assert "1, each across nodes: a trial has 8 ranks, and a node holds 4" in text
