"""A study's knowledge of the configurations that fit into memory. Pure.

A configuration that ran out of memory takes along every one that asks for as much in each part: micro-batch, LoRA's
rank, activations. Proposals like these are not trained, and cost nothing.

Between those that fit and those that do not, there are configurations of which nothing is known. Once a trial has been
lost, a study approaches its limit from below: it trains those that ask for at most `STEP` times what fits. After
`MAX_LOST`, and as long as nothing has fitted, it also keeps a distance from what did not fit.

If configurations of the search space differ in their demand, at most `MAX_LOST` trials of which nothing is known run at
once, and one after a loss. So many devices lose no more trials than two do; some of them wait for the first units.
"""

from __future__ import annotations

from benchmarks.out_of_memory import MEMORY_DRIVERS, Demand, least_demand
from benchmarks.space import Config
from hpo.core.study import Study, training_of

MAX_LOST = 2
"""Trials that a study may lose to memory before it keeps a distance from what did not fit."""
STEP = 2.0
"""Growth from what fits to what is tried; also the distance from what did not fit, for each trial that was lost."""


class Feasibility:
    """Demands for memory that fitted and that did not.

    Args:
        study: the study that runs; confirmations train all of their configurations.

    Attributes:
        lost: trials that ran out of memory, by Tune's trial id.
        dropped: trials that ended before they began, since they would be lost.
        skipped: proposals that were not trained, those included.
    """

    def __init__(self, study: Study) -> None:
        self._study, self._differ = study, demands_differ(study)
        self._too_much: list[Demand] = []
        self._fitting: list[Demand] = []
        self._unproven: set[str] = set()
        self._asked: dict[str, tuple[Config, Demand]] = {}
        self._proven: dict[str, Config] = {}
        self.lost: set[str] = set()
        self.dropped: set[str] = set()
        self.skipped = 0

    def is_infeasible(self, config: Config) -> bool:
        """Tell whether a configuration asks for at least as much as one that ran out of memory."""
        demand = self._demand(config)
        return any(demand.covers(lost) for lost in self._too_much)

    def admits(self, config: Config, is_bold: bool = False) -> bool:
        """Tell whether a configuration is to be trained.

        Args:
            config: a proposal of a method.
            is_bold: admit what may not fit; without it, only little is risked once a trial has been lost.
        """
        if self._study.kind == "confirmation":
            return True
        if not self.lost:
            return not self._differ or len(self._unproven) < MAX_LOST or self._fits(self._demand(config))
        if self.is_infeasible(config):
            return False
        demand = self._demand(config)
        if is_bold or self._fits(demand):
            return True
        if not self._fitting:
            return not self._unproven and self._is_distant(demand)
        if self._unproven or all(demand.growth_over(known) > STEP for known in self._fitting):
            return False
        return len(self.lost) < MAX_LOST or self._is_distant(demand)

    @property
    def is_risking(self) -> bool:
        """Tell whether a trial is in its first unit that may not fit: another would be lost for the same knowledge."""
        return bool(self._unproven)

    @property
    def is_about_to_know(self) -> bool:
        """Tell whether trials in their first unit will show more of what fits, so that a proposal waits for them."""
        return bool(self._unproven) and not (self.lost and self._fitting)

    def begin(self, trial_id: str, config: Config) -> None:
        """Note that a trial begins, or goes on with another configuration."""
        if self._fits(self._demand_of(trial_id, config)):
            self._unproven.discard(trial_id)
        else:
            self._unproven.add(trial_id)

    def prove(self, trial_id: str, config: Config) -> None:
        """Note that a trial has finished a unit: it fits. Further units of the same configuration tell nothing new."""
        self._unproven.discard(trial_id)
        if self._proven.get(trial_id) == config:
            return
        self._proven[trial_id] = dict(config)
        demand = self._demand_of(trial_id, config)
        if not self._fits(demand):
            self._fitting = [demand, *(known for known in self._fitting if not demand.covers(known))]
            self._too_much = [lost for lost in self._too_much if not demand.covers(lost)]  # others took its memory

    def lose(self, trial_id: str, config: Config) -> None:
        """Note that a trial ran out of memory; if it asks for no more than what fits, others took its memory."""
        self.end(trial_id)
        self.lost.add(trial_id)
        demand = self._demand_of(trial_id, config)
        if not self._fits(demand) and not any(demand.covers(known) for known in self._too_much):
            self._too_much = [demand, *(known for known in self._too_much if not known.covers(demand))]

    def reconsider(self, trial_id: str, config: Config) -> bool:
        """Admit a trial that has not begun once more, or drop it, now that another has been lost; return which."""
        self.end(trial_id)
        if self.admits(config):
            self.begin(trial_id, config)
            return True
        self.dropped.add(trial_id)
        self.skipped += 1
        return False

    def end(self, trial_id: str) -> None:
        """Note that a trial has ended, in any way."""
        self._unproven.discard(trial_id)

    def _is_distant(self, demand: Demand) -> bool:
        """Tell whether a demand is well below whatever did not fit and asks for more."""
        distance = STEP ** min(len(self.lost), MAX_LOST)
        larger = [lost for lost in self._too_much if lost.covers(demand)]
        return bool(larger) and all(lost.growth_over(demand) >= distance for lost in larger)

    def _fits(self, demand: Demand) -> bool:
        return any(known.covers(demand) for known in self._fitting)

    def _demand_of(self, trial_id: str, config: Config) -> Demand:
        """Return what a trial asks for; computed anew only if its configuration has changed since the last question."""
        known, demand = self._asked.get(trial_id, (None, None))
        if demand is None or known != config:
            demand = self._demand(config)
            self._asked[trial_id] = dict(config), demand
        return demand

    def _demand(self, config: Config) -> Demand:
        return least_demand(self._study.benchmark, training_of(self._study, config).config)


def demands_differ(study: Study) -> bool:
    """Tell whether configurations of the search space may ask for different amounts of memory."""
    benchmark = study.benchmark
    drivers = {name for name in MEMORY_DRIVERS if name in benchmark.space}
    if benchmark.rescue:  # a trial goes on with the micro-batch that fits
        drivers.discard("batch_size_per_device")
    return bool(drivers)
