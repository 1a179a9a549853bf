"""Checkpoints of ranks on Ray: kept in memory by a process of their node, which outlives the ranks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

from benchmarks.devices.places import find_places
from benchmarks.spec import Benchmark
from benchmarks.training.checkpoint.files import is_whole
from benchmarks.training.checkpoint.keeper import LostCheckpointError
from benchmarks.training.pool import RankPool
from benchmarks.training.ranks import Ranks

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray_of_two")]
CONFIG = {"learning_rate": 1e-3, "batch_size_per_device": 8}


@pytest.fixture(scope="module")
def pool() -> Iterator[Any]:
    pool = RankPool.remote()  # type: ignore[attr-defined]
    yield pool
    ray.kill(pool)


@pytest.fixture(scope="module")
def keeper(pool: Any) -> Any:
    """The keeper of this node, started."""
    node = ray.get_runtime_context().get_node_id()
    keeper = ray.get(pool.keepers.remote([node]))[node]
    ray.get(keeper.__ray_ready__.remote())
    return keeper


@pytest.fixture(scope="module")
def ranks(
    pool: Any, keeper: Any, small_nano: Callable[..., Benchmark], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Ranks]:
    """A rank that has its keeper's first answer, for which it waits a moment only."""
    ranks = Ranks(small_nano(unit_samples=16, stage=1), find_places(1), pool=pool)
    ranks.start(CONFIG, 0)
    folder = folder_in(tmp_path_factory.mktemp("first"))
    ranks.save(folder)
    while not ray.get(keeper.paths.remote(folder)):
        folder = folder_in(tmp_path_factory.mktemp("first"))
        ranks.save(folder)
    yield ranks
    ranks.close()


def folder_in(tmp_path: Path) -> Path:
    folder = tmp_path / "checkpoints" / "a1"
    folder.mkdir(parents=True)
    return folder


def files(folder: Path) -> list[Path]:
    return list(folder.rglob("*.pt"))


def wait_until_written(folder: Path) -> None:
    while not is_whole(folder):
        time.sleep(0.01)


def test_a_trial_continues_from_memory_and_its_donor_s_bytes_are_no_second_copy(
    ranks: Ranks, keeper: Any, tmp_path: Path
) -> None:
    folder = folder_in(tmp_path)
    ranks.start(CONFIG, 3)
    ranks.run_unit()
    ranks.save(folder)
    held = ray.get(keeper.paths.remote(folder))
    assert set(held) == {str(path.relative_to(folder)) for path in written(folder)}
    expected = ranks.run_unit()
    for file in files(folder):
        file.unlink()  # so that there is the memory alone
    clones = []
    for seed in (5, 6):
        ranks.start({**CONFIG, "learning_rate": 1e-2}, seed)
        ranks.start(CONFIG, seed)
        ranks.load(folder)
        clones.append(ranks.run_unit())
    assert [clone["eval_loss"] for clone in clones] == [expected["eval_loss"]] * 2
    assert ray.get(keeper.paths.remote(folder)) == held
    assert files(folder) == []


def written(folder: Path) -> list[Path]:
    wait_until_written(folder)
    return files(folder)


def test_a_trial_returns_from_the_disk_where_memory_has_nothing(ranks: Ranks, keeper: Any, tmp_path: Path) -> None:
    folder = folder_in(tmp_path)
    ranks.start(CONFIG, 3)
    ranks.run_unit()
    ranks.save(folder)
    expected = ranks.run_unit()
    wait_until_written(folder)
    for name in ray.get(keeper.paths.remote(folder)):
        ray.get(keeper.discard.remote(folder, name))
    ranks.start(CONFIG, 5)
    ranks.load(folder)
    assert ranks.run_unit()["eval_loss"] == expected["eval_loss"]


def test_without_room_in_memory_a_checkpoint_goes_straight_to_the_disk(
    ranks: Ranks, keeper: Any, tmp_path: Path
) -> None:
    folder = folder_in(tmp_path)
    ray.get(keeper.limit.remote(0.0))
    ranks.start(CONFIG, 3)
    ranks.save(folder)
    assert is_whole(folder)
    assert len(files(folder)) == 2
    assert ray.get(keeper.paths.remote(folder)) == {}
    ray.get(keeper.limit.remote(0.5))


def test_one_for_a_moment_is_never_written_and_is_lost_with_its_keeper(
    ranks: Ranks, keeper: Any, tmp_path: Path
) -> None:
    """Ray starts the keeper anew, which has nothing."""
    folder = folder_in(tmp_path)
    ranks.start(CONFIG, 3)
    ranks.save(folder, to_disk=False)
    ranks.load(folder)
    assert files(folder) == []
    ray.kill(keeper, no_restart=False)
    ranks.start(CONFIG, 3)
    with pytest.raises(LostCheckpointError, match="is lost, since its node died before"):
        ranks.load(folder)
