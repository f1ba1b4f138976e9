"""A plan of one object: what was found when its graph was walked, kept for as long as the graph is unchanged.

A plan lives on the Node that it describes and does not hold that Node itself, so that dropping the Node drops both at
once; everything else refers to a plan by its serial number, which no other plan ever has.
"""

import itertools
import operator
from collections.abc import Sequence
from typing import Any, Final

from graphstate._compat import ArrayImpl
from graphstate._trace import is_tracing, read_cells

from ._attributes import has_extras, state_extras
from ._flatten import Flat, are_unchanged, flatten
from ._graphdef import GraphDef
from ._kept import Kept
from ._node import Node, changes
from ._state import State

__all__ = ["Plan", "plan_of", "read_arrays", "serial_of"]

_serials: Final = itertools.count(1)
_set_plan: Final = Node._graph_plan.__set__


class Plan:
    """The walked graph of one object, the root.

    Attributes:
        serial: the number of this plan.
        graphdef: the structure.
        leaves: the States and arrays of the graph, in order.
        only_states: whether all leaves are States.
        captured: for a program that captures some of the States, by its serial number, which: kept here, so that
            nothing that outlives the root holds them.
        kept: what was looked up for this plan.
    """

    __slots__ = (
        "_below",
        "_containers",
        "_last_change",
        "_lists",
        "_nodes",
        "_others",
        "_root_version",
        "_versions",
        "captured",
        "graphdef",
        "kept",
        "leaves",
        "only_states",
        "serial",
    )

    def __init__(self, root: Any) -> None:
        self._last_change = changes.last  # looked at first: what another thread changes meanwhile is compared again
        flat = flatten(root)
        self.serial = next(_serials)
        self.graphdef: GraphDef = flat.graphdef
        self.leaves = flat.leaves
        self.only_states = all(isinstance(leaf, State) for leaf in self.leaves)
        self.captured: dict[int, list[Any]] = {}
        self.kept = Kept()
        self._below = flat.objects[1:]
        self._lists = [(each, before) for each, before, _, _ in flat.containers if type(each) is list]
        self._containers = flat.containers
        self._others = [each for each in flat.containers if type(each[0]) is not list]
        skipped = 1 if isinstance(root, Node) else 0
        self._root_version = flat.versions[0] if skipped else 0
        self._nodes = flat.nodes[skipped:]
        self._versions = flat.versions[skipped:]

    def is_current(self, root: Node) -> bool:
        """Whether the graph of `root` is as it was when it was walked."""
        last = changes.last
        if last is not self._last_change:
            if root._graph_version != self._root_version:
                return False
            if [node._graph_version for node in self._nodes] != self._versions:
                return False
            self._last_change = last
        for now, before in self._lists:
            if len(now) != len(before) or not all(map(operator.is_, now, before)):
                return False
        return not self._others or are_unchanged(self._others)

    def of(self, state: State | None) -> "Plan":
        """This plan of a State, for that State; for None what can be kept on the State, which must not hold itself."""
        plan = Plan.__new__(Plan)
        for name in Plan.__slots__:
            setattr(plan, name, getattr(self, name))
        plan.leaves = [state]
        plan.captured = {}
        return plan

    def objects(self, root: Any) -> list[Any]:
        """The object at each place."""
        return [root, *self._below]

    def flat(self, root: Any) -> Flat:
        """The walk, as `flatten` returned it."""
        nodes = [root, *self._nodes] if isinstance(root, Node) else self._nodes
        return Flat(self.graphdef, self.objects(root), nodes, self._containers)


def plan_of(root: Any) -> Plan:
    """The current plan of a Node, a State or an object of a registered class."""
    if isinstance(root, Node):
        plan: Plan | None = root._graph_plan
        if plan is None or not plan.is_current(root):
            plan = Plan(root)
            _set_plan(root, plan)
        return plan
    if isinstance(root, State):
        kept = _kept(root)
        if kept is not None:
            return kept.of(root)
        plan = Plan(root)
        # What a subclass of State keeps beside the value may change unnoticed.
        root._plan = None if _has_extras(root) else plan.of(None)
        return plan
    return Plan(root)


def read_arrays(leaves: Sequence[Any], only_states: bool) -> list[Any] | None:
    """The values of leaves that are nothing but States with arrays, where nothing is being traced; else None."""
    if not only_states or is_tracing():
        return None
    values = read_cells(leaves)
    return values if set(map(type, values)) <= {ArrayImpl} else None


def serial_of(root: Any) -> int:
    """The serial number of the current plan of a root."""
    kept = _kept(root) if isinstance(root, State) else None
    return plan_of(root).serial if kept is None else kept.serial


def _kept(state: State) -> Plan | None:
    return None if _has_extras(state) else state._plan


def _has_extras(state: State) -> bool:
    return has_extras(type(state)) and bool(state_extras(state))
