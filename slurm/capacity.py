"""Number of trials that run at once on a cluster, and the resource that allows no more; before submission. Pure.

Two inequalities bind the trials of a node, Tnode, each of W ranks with Cw CPUs and Gw GPUs per rank::

    Csys + Tnode * W * Cw <= Cnode
           Tnode * W * Gw <= Gnode

Where k trials share a GPU, Gw is 1/k. A trial with more ranks than a node holds spans nodes; the number of ranks on all
nodes binds then.
"""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.spec import BenchmarkError
from hpo.core.wording import counted
from slurm.profile import Profile


@dataclass(frozen=True)
class Capacity:
    """The room of a cluster for trials.

    Attributes:
        cpus_system: CPUs of a node left to Ray, Csys.
        cpus_node: CPUs of a node, Cnode.
        gpus_node: GPUs of a node, Gnode.
        ranks: ranks of a trial, W.
        cpus_rank: CPUs of a rank, Cw.
        gpus_rank: GPUs of a rank, Gw: 1, or 0 where a node has none.
        nodes: worker nodes.
        trials_per_gpu: trials that share a GPU, k.
    """

    cpus_system: int
    cpus_node: int
    gpus_node: int
    ranks: int
    cpus_rank: int
    gpus_rank: int
    nodes: int
    trials_per_gpu: int = 1

    @property
    def ranks_by_cpus(self) -> int:
        """Ranks that a node's CPUs allow."""
        return (self.cpus_node - self.cpus_system) // self.cpus_rank

    @property
    def ranks_by_gpus(self) -> int | None:
        """Ranks that a node's GPUs allow; None where ranks take none."""
        return self.gpus_node * self.trials_per_gpu // self.gpus_rank if self.gpus_rank else None

    @property
    def ranks_node(self) -> int:
        """Ranks of a node at once."""
        by_gpus = self.ranks_by_gpus
        return self.ranks_by_cpus if by_gpus is None else min(self.ranks_by_cpus, by_gpus)

    @property
    def trials_node(self) -> int:
        """Trials of a node at once, Tnode; 0 where a trial spans nodes."""
        return self.ranks_node // self.ranks

    @property
    def trials(self) -> int:
        """Trials at once on all nodes."""
        return self.trials_node * self.nodes if self.trials_node else self.ranks_node * self.nodes // self.ranks

    @property
    def spans_nodes(self) -> bool:
        """Tell whether a trial's ranks lie on more than one node."""
        return self.trials_node == 0 and self.trials > 0

    @property
    def binding(self) -> str:
        """The resource that allows no further trial."""
        by_gpus = self.ranks_by_gpus
        return "CPUs" if by_gpus is None or self.ranks_by_cpus // self.ranks < by_gpus // self.ranks else "GPUs"


def of(profile: Profile, ranks_per_trial: int, trials_per_gpu: int = 1) -> Capacity:
    """Return the capacity of a cluster for trials of so many ranks, or for so many on each GPU.

    Raises:
        BenchmarkError: trials are to share GPUs, and a node has none.
    """
    node = profile.node
    if trials_per_gpu > 1 and not node.gpus:
        raise BenchmarkError(
            f"trials_per_gpu is {trials_per_gpu}, but the profile's node has no GPUs; set trials_per_gpu to 1 in the "
            "benchmark, or `gpus` in the profile"
        )
    return Capacity(
        profile.cpus_for_ray,
        node.cpus,
        node.gpus,
        ranks_per_trial,
        profile.cpus_per_rank,
        1 if node.gpus else 0,
        profile.workers.count,
        trials_per_gpu,
    )


def without_ray(profile: Profile, ranks_per_trial: int) -> Capacity:
    """Return the capacity of a cluster for trials that are jobs of their own: no CPUs are left to Ray."""
    return of(profile.model_copy(update={"cpus_for_ray": 0}), ranks_per_trial)


def describe(capacity: Capacity) -> str:
    """Return both inequalities with their numbers, the trials that fit, the resource that binds, and a change."""
    c = capacity
    fits = c.trials_node
    used = c.cpus_system + fits * c.ranks * c.cpus_rank
    lines = [
        f"Csys + Tnode*W*Cw <= Cnode   {c.cpus_system} + {fits}*{c.ranks}*{c.cpus_rank} = {used} <= {c.cpus_node} CPUs",
        f"       Tnode*W*Gw <= Gnode   {fits}*{c.ranks}*{_gpus_rank(c)} = {_gpus(c, fits):g} <= {c.gpus_node} GPUs",
        f"trials at once: {at_once(c)}",
        f"{c.binding} bind: {_advice(c)}",
    ]
    return "\n".join(lines)


def sentence(capacity: Capacity) -> str:
    """Return the lines of `describe` as one."""
    return "; ".join(" ".join(line.split()) for line in describe(capacity).splitlines())


def at_once(c: Capacity) -> str:
    """Return the number of trials at once, in words; and the reason if there are none."""
    nodes = counted(c.nodes, "node")
    if c.trials == 0:
        return f"none: a trial has {_ranks(c.ranks)}, and {nodes} hold {c.ranks_node * c.nodes}"
    if c.spans_nodes:
        return f"{c.trials}, each across nodes: a trial has {_ranks(c.ranks)}, and a node holds {c.ranks_node}"
    return f"{c.trials_node} per node, {c.trials} on {nodes}"


def _gpus_rank(c: Capacity) -> str:
    return f"{c.gpus_rank}/{c.trials_per_gpu}" if c.trials_per_gpu > 1 else str(c.gpus_rank)


def _gpus(c: Capacity, trials: int) -> float:
    """Return the GPUs of so many trials."""
    return round(trials * c.ranks * c.gpus_rank / c.trials_per_gpu, 2)


def _ranks(number: int) -> str:
    return counted(number, "rank")


def _advice(c: Capacity) -> str:
    """Return the resources that one more trial per node takes."""
    more = (c.trials_node + 1) * c.ranks
    if c.binding == "GPUs":
        needs, shares = f"{_gpus(c, c.trials_node + 1):g} GPUs of {c.gpus_node}", c.trials_per_gpu > 1
        lower = "raise trials_per_gpu" if shares else "lower ranks_per_trial"
        return f"one more trial per node takes {needs}; {lower}, or add workers"
    cpus = c.cpus_system + more * c.cpus_rank
    left = c.gpus_node - _gpus(c, c.trials_node)
    spare = "" if c.ranks_by_gpus is None else f"; {left:g} GPUs of a node stay unused"
    return f"one more trial per node takes {cpus} CPUs of {c.cpus_node}; lower cpus_per_rank or cpus_for_ray{spare}"
