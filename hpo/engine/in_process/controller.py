"""Tune's controller and its experiment, on actors in this process and without files.

Schedulers and searchers are Tune's own, and so is the order in which the controller asks them. Left out are Tune's
parts for a Ray and for people: states of experiment and trials on disk, folders of trials, averages of every number
that a trial reports, and the look at all trials, ended ones included, in each round.
"""

from __future__ import annotations

import copy
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

from ray.train._internal.storage import StorageContext
from ray.tune import Trainable, TuneError
from ray.tune.execution import tune_controller
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Experiment, Trial
from ray.tune.experiment import trial as tune_trial
from ray.tune.search import basic_variant, search_generator, variant_generator

from hpo.engine.budgeted import CautiousTrial
from hpo.engine.in_process.actors import ActorClass, Actors

SPECIFICATION = ("run", "config", "stop", "num_samples", "max_failures")
"""Keys of a study that its trials are made from; Tune copies and formats all of them for each trial."""


class TrialHere(CautiousTrial):
    """A trial of Tune's without a folder; it makes one when it fails, since Tune keeps errors in files."""

    trainable_class: type[Trainable]

    def __str__(self) -> str:
        """Return the trial's id; Tune puts a name together for each of its messages, which are not shown."""
        return str(self.trial_id)

    def get_trainable_cls(self) -> type[Trainable]:
        """Return the class, which Tune would unpickle from Ray's store."""
        return self.trainable_class

    def init_local_path(self) -> None:
        """Take the trial's id for the name of its folder."""
        self.relative_logdir = self.storage.trial_dir_name = self.trial_id

    def handle_error(self, exc: Any = None) -> None:
        """Keep an error; see `Trial`."""
        if self.local_path:
            Path(self.local_path).mkdir(parents=True, exist_ok=True)
        super().handle_error(exc)

    def update_last_result(self, result: dict[str, Any]) -> None:
        """Keep a result, without averages."""
        self.run_metadata.last_result = result


class Controller(TuneController):
    """Tune's controller, on actors in this process.

    Args:
        actors: the actors.
        actor_class: makes one.
        trainable: the class of a trial.
        settings: arguments of `TuneController`.
    """

    def __init__(self, actors: Actors, actor_class: ActorClass, trainable: type[Trainable], **settings: Any) -> None:
        self._view: Any = None
        super().__init__(resource_manager_factory=lambda: actors.slots, **settings)
        self._actor_manager = actors
        self._trials: list[Trial] = []
        self._all_trials: list[Trial] = []
        self._class_cache = SimpleNamespace(get=lambda trainable: actor_class)
        self._trial_class = type("TrialHere", (TrialHere,), {"trainable_class": trainable})

    def add_trial(self, trial: Trial) -> None:
        """Add a trial of a searcher's, as one without files."""
        trial.__class__ = self._trial_class
        trial.storage = trial.storage or copy.copy(self._storage)
        self._all_trials.append(trial)
        super().add_trial(trial)

    def on_step_end(self) -> None:
        """Put trials aside that have ended: controller, schedulers and study look at all others in each round."""
        super().on_step_end()
        if any(trial.is_finished() for trial in self._trials):
            self._trials = [trial for trial in self._trials if not trial.is_finished()]

    def end_experiment_callbacks(self) -> None:
        """Show the study all its trials at its end."""
        self._trials = self._all_trials
        super().end_experiment_callbacks()

    def _wrapped(self) -> Any:
        """Return the view of this controller that schedulers get; Tune makes one for each question."""
        self._view = self._view or super()._wrapped()
        return self._view

    def on_step_begin(self) -> None:
        """Ask no Ray for its resources."""

    def checkpoint(self, force: bool = False, wait: bool = False) -> None:
        """Write no state: the study keeps its own."""

    def _mark_trial_to_checkpoint(self, trial: Trial) -> None:
        """Note nothing: there is no state of Tune's."""

    def _validate_result_metrics(self, result: dict[str, Any]) -> None:
        """Check nothing: the trial is ours."""

    def _schedule_trial_task(
        self,
        trial: Trial,
        method_name: str,
        args: tuple[Any, ...] | None = None,
        kwargs: dict[str, Any] | None = None,
        on_result: Callable[..., Any] | None = None,
        on_error: Callable[..., Any] | None = None,
        _return_future: bool = False,
    ) -> Any:
        """Let a trial's actor call a method, without a debug message of all that it returns."""

        def resolved(of: Any, result: Any) -> None:
            if on_result:
                with _as_tune_error():
                    on_result(trial, result)

        def failed(of: Any, error: Exception) -> None:
            if on_error:
                with _as_tune_error():
                    on_error(trial, error)

        return self._actor_manager.schedule_actor_task(
            self._trial_to_actor[trial], method_name, args, kwargs, resolved, failed, _return_future=_return_future
        )

    def _process_trial_results(self, trial: Trial, results: Sequence[dict[str, Any]]) -> None:
        """Process the one result of a call; Tune's trials may give several."""
        self._process_trial_result(trial, *results)

    def _update_trial_queue(self, blocking: bool = False, timeout: int = 600) -> bool:
        """Ask for a trial once: time brings none here, so waiting for one would take ten minutes."""
        return bool(super()._update_trial_queue(blocking=False))


@contextmanager
def _as_tune_error() -> Iterator[None]:
    """Raise an error of a scheduler or searcher as Tune does."""
    try:
        yield
    except Exception as error:
        raise TuneError(traceback.format_exc()) from error


def _trial_of(specification: Mapping[str, Any], parser: object, **given: Any) -> Trial:
    """Make a trial of an `ExperimentHere`."""
    return Trial(
        trainable_name=specification["run"],
        config=specification["config"],
        stopping_criterion=specification["stop"],
        max_failures=specification["max_failures"],
        **given,
    )


@contextmanager
def making_trials_directly() -> Iterator[None]:
    """Make trials without a command line, which Tune's searchers write, with all values as JSON, and parse again.

    Nor are the domains of the search space copied for each trial: they never change. Nor does Tune warn of steps that
    take it long: their time is not the study's.
    """
    with ExitStack() as patches:
        for module in (basic_variant, search_generator):
            patches.enter_context(mock.patch.object(module, "_create_trial_from_spec", _trial_of))
        for module in (variant_generator, tune_trial, tune_controller):
            patches.enter_context(mock.patch.object(module, "copy", COPY))
        patches.enter_context(mock.patch.object(tune_controller, "warn_if_slow", _without_warning))
        yield


def _copied(value: Any) -> Any:
    """Copy the dictionaries and lists of a configuration, and nothing else in them, which never changes."""
    if isinstance(value, dict):
        return {key: _copied(one) for key, one in value.items()}
    return [_copied(one) for one in value] if isinstance(value, list) else value


def _without_warning(*_: object, **__: object) -> AbstractContextManager[None]:
    return WITHOUT_WARNING


WITHOUT_WARNING = nullcontext()
COPY = SimpleNamespace(copy=copy.copy, deepcopy=_copied)
"""A stand-in for the module `copy`, of which Tune uses these two."""


class StorageHere(StorageContext):
    """The folders of a study, temporary files included, which Ray keeps in the folder of its session."""

    def _get_session_path(self) -> str:
        return str(Path(self.storage_fs_path, "session", self.experiment_dir_name))

    def _create_validation_file(self) -> None:
        """Write no file for other nodes to see."""

    def _check_validation_file(self) -> None:
        """Look for no file: there is one node."""


class ExperimentHere(Experiment):
    """A study as Tune knows it, in these folders."""

    _storage_context_cls = StorageHere

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.spec: dict[str, Any] = {key: self.spec[key] for key in SPECIFICATION}
