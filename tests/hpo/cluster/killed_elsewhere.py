"""Usage: python killed_elsewhere.py BENCHMARK.json, on two nodes: kills a rank on the other node, twice.

The second time that node's kernel says that it has killed one more process for want of memory, in a file of that node's
own /sys/fs/cgroup, which is an empty folder there. Prints the names of the errors that the ranks' owner gets, as JSON.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import psutil
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from benchmarks.devices.places import Place
from benchmarks.spec import Benchmark
from benchmarks.training.control_groups import ROOT
from benchmarks.training.ranks import Ranks


def kill_rank(kills: int) -> None:
    """Kill the rank on this node, and write the kernel's count."""
    for group in (ROOT / "memory/memory.oom_control", ROOT / "memory.events"):
        group.parent.mkdir(exist_ok=True)
        group.write_text(f"oom_kill {kills}\n")
    own = os.readlink("/proc/self/ns/mnt")
    for process in psutil.process_iter():
        if "".join(process.cmdline()).startswith("ray::_Rank") and _namespace_of(process) == own:
            process.kill()


def _namespace_of(process: psutil.Process) -> str:
    return os.readlink(f"/proc/{process.pid}/ns/mnt")


def error_of(benchmark: Benchmark, here: str, other: str, kills: int) -> str:
    """Train a unit on ranks of which one is killed; return the error's name."""
    ranks = Ranks(benchmark, [Place(here), Place(other)])
    ranks.start({}, 0)
    there = NodeAffinitySchedulingStrategy(other, soft=False)
    ray.get(ray.remote(num_cpus=0)(kill_rank).options(scheduling_strategy=there).remote(kills))
    try:
        ranks.run_unit()
    except Exception as error:  # the name is asked for
        return type(error).__name__
    finally:
        ranks.close()
    return ""


def main() -> None:
    benchmark = Benchmark.model_validate_json(Path(sys.argv[1]).read_text())
    ray.init(address=os.environ["RAY_ADDRESS"], log_to_driver=False)
    here = ray.get_runtime_context().get_node_id()
    [other] = [node["NodeID"] for node in ray.nodes() if node["Alive"] and node["NodeID"] != here]
    there = NodeAffinitySchedulingStrategy(other, soft=False)
    ray.get(ray.remote(num_cpus=0)(kill_rank).options(scheduling_strategy=there).remote(3))
    print(json.dumps([error_of(benchmark, here, other, kills) for kills in (3, 4)]))


if __name__ == "__main__":
    main()
