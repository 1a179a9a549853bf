"""One study that trains nano on Ray's actors; its schedules are then replayed from scratch."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.devices.places import find_places
from benchmarks.space import Config
from benchmarks.spec import Benchmark
from benchmarks.training.ranks import Ranks
from hpo.engine.runner import OnRay
from tests.hpo.search.schedulers.population.studies import SEED, Ran, run_study
from tests.rays import ray_of

SCORES = ("train_loss", "eval_loss", "exact_match", "f1")


@pytest.fixture(scope="module")
def nano(small_nano: Callable[..., Benchmark]) -> Benchmark:
    return small_nano(unit_samples=64, max_units=6)


@pytest.fixture(scope="module")
def tuned(store: None, nano: Benchmark) -> Iterator[Ran]:
    with ray_of(2):
        yield run_study(nano, OnRay(), budget=4, interval_units=2, exploit_share=0.5)


@pytest.fixture(scope="module")
def fresh_session(tuned: Ran, nano: Benchmark) -> Iterator[Ranks]:
    """Open a session in a process of its own: earlier trainings in this one could change the last bits."""
    session = Ranks(nano, find_places(1), threads=1)
    yield session
    session.close()


def change(session: Ranks, config: Config) -> None:
    """Continue with another configuration."""
    with tempfile.TemporaryDirectory() as checkpoint:
        session.save(Path(checkpoint))
        session.start(config, SEED)
        session.load(Path(checkpoint))


def replay(session: Ranks, schedule: list[tuple[int, Config]], max_units: int) -> dict[str, float]:
    """Train a schedule from the base weights; returns the last unit's scores."""
    (_, config), *changes = schedule
    session.start(config, SEED)
    for unit in range(max_units):
        for config in [config for units, config in changes if units == unit]:
            change(session, config)
        scores = session.run_unit()
    return scores


@pytest.mark.thorough  # test_train follows a schedule as a trial does
@pytest.mark.slow
class TestReplay:
    """Schedules trained from scratch, on one thread as in the study: there is no noise, the scores are the same."""

    def test_the_winner_s_schedule_gives_the_winner_s_result(self, tuned: Ran, fresh_session: Ranks) -> None:
        best = tuned.artifact(tuned.finished.run_id, "best_config.json")
        assert len(best["schedule"]) > 1, "this seed's winner should have taken over another"
        schedule = [(entry["units"], entry["config"]) for entry in best["schedule"]]
        scores = replay(fresh_session, schedule, tuned.study.max_units)
        assert {key: scores[key] for key in SCORES} == {key: best["metrics"][key] for key in SCORES}

    def test_every_other_exploited_schedule_gives_its_member_s_result(self, tuned: Ran, fresh_session: Ranks) -> None:
        winner = tuned.finished.books.incumbent()
        others = [row for row in tuned.rows if row.exploits and row is not winner]
        assert others
        for row in others:
            scores = replay(fresh_session, row.schedule, tuned.study.max_units)
            assert {key: scores[key] for key in SCORES} == {key: row.metrics[key] for key in SCORES}

    def test_a_schedule_with_another_batch_size_is_among_them(self, tuned: Ran) -> None:
        sizes = [{config["batch_size_per_device"] for _, config in row.schedule} for row in tuned.rows]
        assert max(map(len, sizes)) > 1

    def test_the_winner_s_last_configuration_alone_gives_another_result(self, tuned: Ran, fresh_session: Ranks) -> None:
        """A schedule is not its last configuration."""
        winner = tuned.finished.books.incumbent()
        assert winner is not None
        scores = replay(fresh_session, [(0, winner.last_config)], tuned.study.max_units)
        assert scores["eval_loss"] != pytest.approx(winner.metrics["eval_loss"], abs=1e-3)
