"""Logs of studies that hypothesis makes up: any order of events that a study can have."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from benchmarks.tasks.task import TokenStatistics
from hpo.core import events as core
from hpo.core.ledger import PARTS

MAX_STEPS, MAX_DEVICES = 30, 4
TOKENS = TokenStatistics("train", 8, 60.5, 60.0, 70, 80, 160, 0.1, 0.0)

durations = st.floats(0.0, 1e4) | st.sampled_from([0.0, 1e-9, 0.1, 1 / 3])
metrics = st.dictionaries(st.sampled_from(["eval_loss", "train_loss", "exact_match"]), st.floats())
values = st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | st.text(max_size=5)
sound = st.fixed_dictionaries({"learning_rate": st.floats(1e-6, 1.0), "batch_size_per_device": st.integers(1, 64)})
configs = st.dictionaries(st.sampled_from(["learning_rate", "optimizer", "lora_rank"]), values, min_size=1)


@dataclass
class _Making:
    """A study while it is made up.

    Attributes:
        draw: hypothesis's.
        share: devices of each trial.
        reports_idle: whether trials report waiting.
        configs: configurations of trials.
        devices: reserved now.
        running: trials that hold devices, with the time of their last event.
        waiting: trials that do not.
    """

    draw: DrawFn
    share: float
    reports_idle: bool
    configs: st.SearchStrategy[Any]
    devices: float = 0.0
    now: float = 0.0
    proposed: int = 0
    events: list[core.Event] = field(default_factory=list)
    running: dict[str, float] = field(default_factory=dict)
    waiting: list[str] = field(default_factory=list)

    def add(self, kind: type[Any], *arguments: Any, **more: Any) -> None:
        event = kind(self.now, *arguments, **more)
        if not self.events or repr(event) != repr(self.events[-1]):  # no study has a line twice
            self.events.append(event)

    def one_of(self, trials: Any) -> str:
        return self.draw(st.sampled_from(sorted(trials)))

    # ---- steps, each possible where `possible` names it

    def possible(self) -> list[str]:
        has_room = (len(self.running) + 1) * self.share <= self.devices
        steps = ["resize", "interrupt", "propose_and_fail", "skip"]
        steps += ["propose"] * has_room * 3 + ["begin"] * bool(has_room and self.waiting) * 3
        steps += ["unit", "unit", "unit", "keep", "pause", "retry", "fail"] * bool(self.running)
        steps += ["end", "exploit"] * bool(self.running or self.waiting)
        return steps

    def propose(self) -> None:
        trial = self._new_trial()
        self.running[trial] = self.now
        self.add(core.Began, trial, self.share)

    def _new_trial(self) -> str:
        trial = f"trial {self.proposed}"
        schedule = ((0, self.draw(self.configs)),)
        self.add(
            core.Proposed,
            trial,
            self.proposed,
            self.draw(st.integers(0, 2**32 - 1)),
            schedule,
            self.draw(st.booleans()),
        )
        self.proposed += 1
        return trial

    def propose_and_fail(self) -> None:
        trial = self._new_trial()
        self.add(core.Failed, trial, "RuntimeError: no start", self.draw(st.text(max_size=20)))
        self.add(core.Ended, trial, "failed", "RuntimeError: no start")

    def begin(self) -> None:
        trial = self.one_of(self.waiting)
        self.waiting.remove(trial)
        self.running[trial] = self.now
        self.add(core.Began, trial, self.share)

    def unit(self) -> None:
        trial = self.one_of(self.running)
        parts = [part for part in PARTS if part != "idle" or self.reports_idle]
        weights = self.draw(st.lists(st.integers(0, 9), min_size=len(parts), max_size=len(parts)))
        elapsed = (self.now - self.running[trial]) * self.draw(st.sampled_from([1.0, 0.5]))
        seconds = {part: elapsed * weight / (sum(weights) or 1) for part, weight in zip(parts, weights, strict=True)}
        told, precision = self.draw(st.sampled_from([(), (TOKENS,)])), self.draw(st.sampled_from(["", "fp32", "bf16"]))
        numbers = (self.draw(st.integers(1, 9)), self.draw(st.floats(allow_nan=False)), self.draw(st.booleans()))
        self.add(
            core.Unit,
            trial,
            *numbers,
            self.draw(metrics),
            seconds,
            tokens=told,
            precision=precision,
            micro_batch=self.draw(st.none() | st.integers(1, 9)),
        )
        self.running[trial] = self.now

    def keep(self) -> None:
        trial = self.one_of(self.running)
        self.add(core.Checkpoint, trial, True, self.waited(trial))
        self.running[trial] = self.now

    def pause(self) -> None:
        trial = self.one_of(self.running)
        self.add(core.Checkpoint, trial, False, self.waited(trial))
        del self.running[trial]
        self.waiting.append(trial)

    def waited(self, trial: str) -> float:
        """Draw the time that a trial waits for a checkpoint, within that since its last event."""
        return (self.now - self.running[trial]) * self.draw(st.sampled_from([0.0, 0.5, 1.0]))

    def retry(self) -> None:
        trial = self.one_of(self.running)
        del self.running[trial]
        self.waiting.append(trial)
        self.add(core.Failed, trial, "RuntimeError: out", "Traceback\n  RuntimeError: out")
        self.add(core.Retried, trial, "RuntimeError: out")

    def fail(self) -> None:
        trial = self.one_of(self.running)
        del self.running[trial]
        self.add(core.Failed, trial, "RuntimeError: out", "")
        self.add(core.Ended, trial, "failed", "RuntimeError: out")

    def end(self) -> None:
        trial = self.one_of([*self.running, *self.waiting])
        self.running.pop(trial, None)
        self.waiting = [other for other in self.waiting if other != trial]
        self.add(core.Ended, trial, self.draw(st.sampled_from(["completed", "stopped", "diverged"])), "reached its end")

    def exploit(self) -> None:
        live = [*self.running, *self.waiting]
        trial, donor = self.one_of(live), self.one_of(live)
        self.add(core.Exploited, trial, donor, self.draw(st.integers(1, 9)), self.draw(self.configs))

    def resize(self) -> None:
        held = len(self.running) * self.share
        self.devices = self.draw(st.sampled_from([float(n) for n in range(MAX_DEVICES + 1) if n >= held]))
        self.add(core.Resized, self.devices)

    def skip(self) -> None:
        self.add(core.Skipped, self.draw(st.integers(0, 99)))

    def interrupt(self) -> None:
        self.add(core.Interrupted)
        self.waiting += self.running
        self.running = {}

    def close(self) -> None:
        for trial in [*self.running, *self.waiting]:
            self.add(core.Ended, trial, "interrupted", "the study ended")
        self.add(core.Released)


@st.composite
def logs(draw: DrawFn, reports_idle: bool = True, of: st.SearchStrategy[dict[str, Any]] = configs) -> list[core.Event]:
    """Make up a study's log, whole or up to some event.

    Args:
        draw: hypothesis's.
        reports_idle: whether trials report waiting.
        of: configurations of trials; by default any, sound or not.
    """
    making = _Making(draw, draw(st.sampled_from([0.5, 1.0, 2.0])), reports_idle, of)
    making.devices = float(draw(st.integers(1, MAX_DEVICES)))
    making.add(core.Reserved, making.devices)
    for _ in range(draw(st.integers(0, MAX_STEPS))):
        making.now += draw(durations)
        getattr(making, draw(st.sampled_from(making.possible())))()
    if draw(st.booleans()):
        making.close()
    return making.events


def reserved_seconds(events: list[core.Event]) -> float:
    """Integrate the number of reserved devices over the time of a log with one holder."""
    total, devices, since = 0.0, 0.0, 0.0
    for event in events:
        total, since = total + devices * (event.at - since), event.at
        if isinstance(event, (core.Reserved, core.Resized)):
            devices = event.devices
        elif isinstance(event, core.Released):
            devices = 0.0
    return total
