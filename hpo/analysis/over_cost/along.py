"""Incumbents along the way: what a study had found once a quarter and half of its budget were spent. Pure."""

from __future__ import annotations

from benchmarks.space import Config
from benchmarks.spec import Benchmark
from hpo.analysis.over_cost.curves import unit_values
from hpo.analysis.studies import StudyRecord
from hpo.core.study import filled_in
from hpo.store import stored_trials

SHARES = (0.25, 0.5)
"""Shares of the budget at which incumbents may be confirmed, beside those at its end."""


def schedule_at(study: StudyRecord, benchmark: Benchmark, share: float) -> list[tuple[int, Config]] | None:
    """Return the training of a study's incumbent once a share of its budget was spent.

    Args:
        study: the study.
        benchmark: the benchmark that it tuned.
        share: of the budget, in (0, 1].

    Returns:
        One configuration. None if no trial was at the full resource by then, if several configurations trained it,
        as in populations, or if the store lacks the study's trials or units.
    """
    units, max_units = study.units, benchmark.resource.max_units
    if units.empty or study.trials.empty or benchmark.metric not in units:
        return None
    values = unit_values(units, benchmark).iloc[: int(share * study.budget * max_units)]
    full = values[(units["units"] == max_units).iloc[: len(values)] & values.notna()]
    if full.empty:
        return None
    best = units["trial"][full.idxmin() if benchmark.mode == "min" else full.idxmax()]
    row = study.trials[study.trials["trial"] == best]
    trial = next(iter(stored_trials.of_table(row, benchmark, study.label, study.seed, study.run_id)), None)
    if trial is None or not trial.is_single:
        return None
    names = {*filled_in(benchmark, {}), *benchmark.space}  # those that are logged of a trial
    return [(0, {name: value for name, value in trial.config.items() if name in names})]
