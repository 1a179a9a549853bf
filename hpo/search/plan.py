"""The contract between a method and the engine: its arguments, and the plan that it makes of a study."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from hpo.core.budget import Admission

if TYPE_CHECKING:  # a method's arguments are read without Ray
    from ray.tune.schedulers import TrialScheduler
    from ray.tune.search import SearchAlgorithm, Searcher

OBJECTIVE = "objective"
"""Key of a trial's result by which searchers and schedulers rank; see `study.objective`."""
TIME_ATTRIBUTE = "units"
"""Key of a trial's result that counts its resource."""
TPEName = Literal["hyperopt", "optuna"]
SearcherName = Literal["random", TPEName]


class MethodArguments(BaseModel):
    """Base of every method's `Arguments`: strict, immutable, each field with a description."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class SearchArguments(MethodArguments):
    """Base of the `Arguments` of every method that searches."""

    start_with_default: bool = Field(
        True, description="begin with the benchmark's default, if the search space holds it"
    )


@dataclass(frozen=True)
class Plan:
    """The search of a study in Ray Tune's terms.

    Attributes:
        searcher: proposes configurations.
        space: Tune's `param_space` for searchers that draw from it; empty for those that were given theirs.
        num_samples: samples of `space` at most; the budget usually ends a study earlier.
        scheduler: stops and pauses trials.
        admission: the reservation of a new trial; None for one unit where there is a scheduler, which may
            stop it anywhere, and a full training where there is none.
        concurrency: trials at once at most; None for as many as there are devices.
        paused: trials at most that may wait with a checkpoint; 0 for a method that pauses none.
        is_list: its trials are a list, so that none takes the place of another that does not fit into memory.
    """

    searcher: Searcher | SearchAlgorithm
    space: dict[str, Any]
    num_samples: int
    scheduler: TrialScheduler | None = None
    admission: Admission | None = None
    concurrency: int | None = None
    paused: int = 0
    is_list: bool = False


class TPEArguments(SearchArguments):
    """Arguments of the methods that are TPE alone, HyperOpt's or Optuna's."""

    initial_points: int = Field(
        0, ge=0, description="trials before the model proposes; 0 is a third of the budget, at least 2"
    )
    warm_start: bool = Field(False, description="whether to begin with the trials of earlier studies of the benchmark")
