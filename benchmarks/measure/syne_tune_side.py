"""The side of Syne Tune in `benchmarks.measure.simulator`; run by an environment that has it, so it imports no suite.

ASHA of the stopping type on its simulator, with a blackbox that is a formula: curves of 9 units that fall towards a
floor of their own, ten seconds per unit.
"""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import time
from typing import Any

import numpy as np

MAX_UNITS, SECONDS_PER_UNIT, WORKERS = 9, 10.0, 2


def run(trials: int, seed: int) -> tuple[float, int]:
    """Run one experiment; return the seconds that it computed, and its units."""
    began = time.process_time()
    backend = _part("blackbox_repository.simulated_tabular_backend").UserBlackboxBackend(
        _formula(), elapsed_time_attr="elapsed_time"
    )
    scheduler = _part("optimizer.baselines").ASHA(
        {**_space(), "epochs": MAX_UNITS},
        metric="loss",
        time_attr="epoch",
        max_t=MAX_UNITS,
        grace_period=1,
        reduction_factor=3,
        random_seed=seed,
    )
    simulated = _part("backend.simulator_backend.simulator_callback").SimulatorCallback()
    tuner = _part("tuner").Tuner(
        trial_backend=backend,
        scheduler=scheduler,
        stop_criterion=_part("stopping_criterion").StoppingCriterion(max_num_trials_finished=trials),
        n_workers=WORKERS,
        sleep_time=0,
        callbacks=[simulated],
        results_update_interval=1e9,
        print_update_interval=1e9,
        save_tuner=False,
        suffix_tuner_name=False,
        tuner_name="timing",
    )
    tuner.run()
    seconds = time.process_time() - began
    return seconds, int(
        sum(tuner.tuning_status.trial_rows[one].get("epoch", 0) for one in tuner.tuning_status.trial_rows)
    )


def _part(name: str) -> Any:
    """Import a module of Syne Tune."""
    return importlib.import_module(f"syne_tune.{name}")


def _space() -> dict[str, Any]:
    domains = _part("config_space")
    return {"learning_rate": domains.loguniform(1e-6, 1e-1), "weight_decay": domains.uniform(0.0, 0.1)}


def _formula() -> Any:
    """Make a blackbox that computes its curves."""
    base: Any = _part("blackbox_repository.blackbox").Blackbox
    units = np.arange(1, MAX_UNITS + 1)

    class Formula(base):
        def __init__(self) -> None:
            resource = {"epoch": _part("config_space").randint(1, MAX_UNITS)}
            super().__init__(_space(), resource, ["loss", "elapsed_time"])

        def _objective_function(self, configuration: Any, fidelity: Any = None, seed: Any = None) -> Any:
            place = (np.log(configuration["learning_rate"]) - np.log(1e-3)) / 3.0
            loss = 0.6 + place**2 + configuration["weight_decay"] + np.exp(-units / 3.0)
            values = np.stack([loss, SECONDS_PER_UNIT * units], axis=1)
            if fidelity is None:
                return values
            return dict(zip(self.objectives_names, values[int(fidelity["epoch"]) - 1], strict=True))

        @property
        def fidelity_values(self) -> Any:
            return units

    return Formula()


def main() -> None:
    """Time experiments, the first of which warms up and does not count."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    given = parser.parse_args()
    logging.disable(logging.CRITICAL)
    found = [run(given.trials, seed) for seed in range(given.seeds + 1)]
    print(json.dumps({"trials": given.trials, "units": found[-1][1], "seconds": [one for one, _ in found[1:]]}))


if __name__ == "__main__":
    main()
