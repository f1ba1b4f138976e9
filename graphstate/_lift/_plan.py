"""A plan of one object: what was found when its graph was walked, kept for as long as the graph is unchanged.

A plan lives on the Node that it describes, so that dropping the Node drops the plan; everything else refers to it
by its serial number, which no other plan ever has.
"""

import itertools
import operator
from collections.abc import Callable
from typing import Any, Final

from graphstate.graph._flatten import Flat, flatten, is_unchanged
from graphstate.graph._node import Node
from graphstate.graph._state import State

__all__ = ["Plan", "plan_of"]

_serials: Final = itertools.count(1)
_version: Final[Callable[[Any], int]] = operator.attrgetter("_graph_version")
_set_plan: Final = Node._graph_plan.__set__


class Plan:
    """The walked graph of one object.

    Attributes:
        serial: the number of this plan.
        flat: the walk.
        leaves: the States and arrays of the graph, in order.
        only_states: whether all leaves are States.
    """

    __slots__ = ("_containers", "_nodes", "_versions", "flat", "leaves", "only_states", "serial")

    def __init__(self, root: Any) -> None:
        self.serial = next(_serials)
        self.flat: Flat = flatten(root)
        self.leaves = self.flat.leaves
        self.only_states = all(isinstance(leaf, State) for leaf in self.leaves)
        self._nodes = self.flat.nodes
        self._versions = self.flat.versions
        self._containers = self.flat.containers

    def is_current(self) -> bool:
        """Whether the graph is as it was when it was walked."""
        if list(map(_version, self._nodes)) != self._versions:
            return False
        return not self._containers or is_unchanged(self.flat)


def plan_of(root: Any) -> Plan:
    """The current plan of a Node, a State or an object of a registered class."""
    if isinstance(root, Node):
        plan: Plan | None = root._graph_plan
        if plan is None or not plan.is_current():
            plan = Plan(root)
            _set_plan(root, plan)
        return plan
    if isinstance(root, State):
        if root._plan is None:
            root._plan = Plan(root)
        return root._plan  # type: ignore[no-any-return]
    return Plan(root)
