"""Turns of an Optuna journal: a proposal is the next draw or the model's. Processes that share one: test_trial_job"""

from __future__ import annotations

from pathlib import Path

from hpo.core.study import Study
from hpo.search import journal
from hpo.search.journal import Proposal
from hpo.search.plan import TPEArguments
from tests.hpo.engine.in_process import synthetic

INITIAL_POINTS = 2
STUDY = Study("optuna", synthetic(), 0, 6)


def begun(tmp_path: Path) -> Path:
    path = tmp_path / "journal"
    journal.begin(path, STUDY, TPEArguments(initial_points=INITIAL_POINTS))
    return path


def ask(path: Path, trial: int) -> Proposal:
    return journal.ask(path, STUDY, INITIAL_POINTS, trial)


def tell(path: Path, proposal: Proposal, objective: float | None, is_infeasible: bool = False) -> None:
    assert proposal.number is not None
    journal.tell(path, STUDY.benchmark, proposal.number, objective, is_infeasible)


def test_the_model_proposes_once_enough_trials_have_ended_with_a_result(tmp_path: Path) -> None:
    path = begun(tmp_path)
    at_once = [ask(path, trial) for trial in range(3)]
    assert [one.by_model for one in at_once] == [False] * 3  # none has ended
    tell(path, at_once[0], 1.0)
    tell(path, at_once[1], None)
    tell(path, at_once[2], None, is_infeasible=True)
    drawn = ask(path, 3)
    assert drawn.by_model is False  # neither a failure nor one that does not fit into memory is a result
    tell(path, drawn, 0.5)
    assert [ask(path, trial).by_model for trial in (4, 5)] == [True, True]


def test_without_a_draw_left_and_too_few_results_optuna_s_own_random_start_up_proposes(tmp_path: Path) -> None:
    path = begun(tmp_path)
    for trial in range(STUDY.budget):
        tell(path, ask(path, trial), None, is_infeasible=True)
    left = ask(path, STUDY.budget)
    assert left.by_model is False
    assert left == ask(begun_like(path, tmp_path / "again"), STUDY.budget)


def begun_like(path: Path, copy: Path) -> Path:
    """Copy a journal without its latest proposal."""
    lines = path.read_text().splitlines(keepends=True)
    last = max(place for place, line in enumerate(lines) if '"op_code": 4' in line or '"op_code":4' in line)
    copy.write_text("".join(lines[:last]))
    return copy
