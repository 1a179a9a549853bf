"""An executor in which trials start, and their units arrive, in a given order, such as that of a study that ran on Ray.

Schedulers and searchers decide on each unit as it arrives, so a study whose trials report the same numbers in the same
order must take the same decisions, whatever the time between them was.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from benchmarks.clock import VirtualClock
from hpo.engine.in_process.actors import READY, RESET, Call, Queue
from hpo.engine.in_process.executor import InProcess

Kind = Literal["start", "unit", "checkpoint"]
KINDS: dict[str, Kind] = {READY: "start", RESET: "start", "train": "unit", "save": "checkpoint"}
"""Kinds of arrivals by the method of an actor that ends with one; the other methods decide nothing."""
KeyOf = Callable[[dict[str, Any]], str]
"""Function that names the training which a proposal asks for."""


@dataclass(frozen=True)
class Arrival:
    """A step of a trial.

    Attributes:
        training: the training of the trial, see `KeyOf`.
        kind: it gets its devices, new or after a pause; reports a unit; or has written a checkpoint.
    """

    training: str
    kind: Kind


class OrderedQueue(Queue):
    """Calls of a study in a given order; after its end, and where it cannot be kept, as Tune asked for them.

    Args:
        clock: the study's clock.
        arrivals: the order.
        key_of: names trainings as the arrivals do.
    """

    def __init__(self, clock: VirtualClock, arrivals: Sequence[Arrival], key_of: KeyOf) -> None:
        super().__init__(clock)
        self._due, self._key_of = list(reversed(arrivals)), key_of

    def next(self, calls: Sequence[Call]) -> Call:
        """Do the call that the order asks for, jump to its end and return it."""
        heads: dict[int, Call] = {}
        for call in sorted(calls, key=lambda call: call.number):
            heads.setdefault(call.actor.number, call)
        chosen = self._chosen(list(heads.values()))
        chosen.actor.finish(chosen)
        assert chosen.ends is not None
        self.clock.jump_to(chosen.ends)
        return chosen

    def _chosen(self, heads: Sequence[Call]) -> Call:
        """Choose the call that is due, or one that decides nothing."""
        decides_nothing = [call for call in heads if call.method not in KINDS]
        while self._due and not decides_nothing:
            due = self._due[-1]
            of_kind = [call for call in heads if KINDS[call.method] == due.kind]
            if wanted := [call for call in of_kind if self._key_of(call.config) == due.training]:
                self._due.pop()
                return wanted[0]
            if due.kind != "checkpoint":
                break
            self._due.pop()  # real time asked for it, see `Resource.checkpoint_seconds`
        saves = [call for call in heads if KINDS.get(call.method) == "checkpoint"]
        if not (decides_nothing or saves):
            self._due.clear()
        return (decides_nothing or saves or heads)[0]


class InOrder(InProcess):
    """An executor that runs one study in this process, in a given order.

    Args:
        devices: how many trials there may be at once.
        arrivals: see `OrderedQueue`.
        key_of: see `OrderedQueue`.
    """

    def __init__(self, devices: int, arrivals: Sequence[Arrival], key_of: KeyOf) -> None:
        super().__init__(devices)
        self._arrivals, self._key_of = arrivals, key_of

    def make_queue(self) -> Queue:
        """Make the order of the study's calls."""
        return OrderedQueue(self.clock, self._arrivals, self._key_of)
