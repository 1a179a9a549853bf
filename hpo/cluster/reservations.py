"""Reservations of devices for trials, of which none is used on a node that does not fit the study.

Ray places a trial on any node with room, also on one that has just joined. Tune uses a placement group as soon as Ray
has made it; here each of its nodes is asked first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from unittest.mock import patch

import ray
from ray.air.execution import PlacementGroupResourceManager, ResourceRequest
from ray.air.execution.resources.placement_group import PlacementGroupAcquiredResources
from ray.util import placement_group, remove_placement_group
from ray.util.placement_group import NODE_ID_LABEL_KEY, PlacementGroup, placement_group_table

from hpo.cluster.nodes import Newcomers, living, offered


class FitReservations(PlacementGroupResourceManager):
    """Tune's placement groups. One that lies on an unfit node is made anew, once that node's devices are held.

    Args:
        newcomers: judges the nodes.
        most: groups in use at once, a trial each; None for as many as there is room for, on nodes that join later too.
        update_interval_s: see Ray's class.
    """

    def __init__(self, newcomers: Newcomers, most: int | None = None, update_interval_s: float = 0.1) -> None:
        super().__init__(update_interval_s)
        self._newcomers, self._most = newcomers, most
        self._held = dict[str, list[PlacementGroup]]()

    def has_resources_ready(self, resource_request: ResourceRequest) -> bool:
        """Tell whether a group is ready on nodes that are fit; see Ray's own method."""
        self._maybe_update_state()
        return self._fit(resource_request) is not None

    def acquire_resources(self, resource_request: ResourceRequest) -> PlacementGroupAcquiredResources | None:
        """Take such a group; see Ray's own method."""
        group = self._fit(resource_request)
        if group is None:
            return None
        self._request_to_ready_pgs[resource_request].remove(group)
        self._acquired_pgs.add(group)
        return PlacementGroupAcquiredResources(placement_group=group, resource_request=resource_request)

    def clear(self) -> None:
        """Remove all groups; see Ray's own method, which makes this object anew."""
        if not ray.is_initialized():
            return
        for groups in self._held.values():
            for group in groups:
                remove_placement_group(group)
        for groups in (*self._request_to_staged_pgs.values(), *self._request_to_ready_pgs.values(), self._acquired_pgs):
            for group in groups:
                remove_placement_group(group)
        self.__init__(self._newcomers, self._most, self.update_interval_s)  # type: ignore[misc]  # as Ray does

    def _fit(self, request: ResourceRequest) -> PlacementGroup | None:
        """Return a ready group on fit nodes; give up those on others."""
        if self._most is not None and len(self._acquired_pgs) >= self._most:
            return None
        for group in list(self._request_to_ready_pgs[request]):
            nodes = _nodes_of(group)
            verdict = self._newcomers.are_fit(nodes)
            if verdict:
                return group
            if verdict is False:
                self._hold(self._newcomers.unfit(nodes))
                self._give_up(group, request)
        return None

    def _give_up(self, group: PlacementGroup, request: ResourceRequest) -> None:
        self._request_to_ready_pgs[request].remove(group)
        self._pg_to_request.pop(group)
        remove_placement_group(group)  # after `_hold`: Ray gives free devices to groups in their order
        self.request_resources(request)

    def _hold(self, node_ids: list[str]) -> None:
        """Hold the devices of nodes, each as soon as it is free, so that Ray has no room for a trial there."""
        for node in living():
            name = node["NodeID"]
            if name in node_ids and name not in self._held:
                kind, there = self._newcomers.kind, [{NODE_ID_LABEL_KEY: name}]
                self._held[name] = [
                    placement_group([{kind: 1.0}], bundle_label_selector=there) for _ in range(offered(node, kind))
                ]


def _nodes_of(group: PlacementGroup) -> list[str]:
    """List the nodes of a group's bundles."""
    table: Mapping[int, str] = placement_group_table(group)["bundles_to_node_id"]
    return [node for node in table.values() if node]


@contextmanager
def on_fit_nodes(newcomers: Newcomers, most_trials: int | None = None) -> Iterator[None]:
    """Let Tune's controllers reserve devices so, for so many trials at once; `tune.run` takes no argument for it."""
    where = "ray.tune.execution.tune_controller.PlacementGroupResourceManager"
    with patch(where, lambda: FitReservations(newcomers, most_trials)):
        yield
