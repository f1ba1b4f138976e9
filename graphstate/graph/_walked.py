"""A graph as the calls on graphs see it: its structure and its objects, without a walk where nothing has changed.

The graph of a tuple of Nodes and States, as `(model, optimizer)`, is put together from their plans. What it takes for
that is kept on the plan of the first of them, for as long as all the plans are the same.
"""

from collections.abc import Sequence
from typing import Any

from graphstate._trace import Frame, current_frame

from ._axis_names import seen_in
from ._flatten import Flat, flatten
from ._graphdef import GraphDef
from ._node import Node
from ._picker import picker
from ._plan import Plan, plan_of
from ._state import State

__all__ = ["Walked", "walk"]


class Walked:
    """A graph that was walked.

    Attributes:
        graphdef: the structure.
        objects: the object at each place.
        leaves: the States and arrays, in order.
    """

    __slots__ = ("graphdef", "leaves", "objects")

    def __init__(self, graphdef: GraphDef, objects: Sequence[Any], leaves: Sequence[Any]) -> None:
        self.graphdef = graphdef
        self.objects = objects
        self.leaves = leaves


def walk(root: Any) -> Walked:
    """The graph that starts at `root`: a Node, a State, or any pytree of these."""
    found = _walk(root)
    frame = current_frame()
    return found if frame is None else _seen_in(frame, found)


def _seen_in(frame: Frame, found: Walked) -> Walked:
    """A graph as it is in lanes that have their slices of its States."""
    graphdef = seen_in(frame, found.graphdef, found.objects)
    return found if graphdef is found.graphdef else Walked(graphdef, found.objects, found.leaves)


def _walk(root: Any) -> Walked:
    if isinstance(root, Node):
        plan = plan_of(root)
        return Walked(plan.graphdef, plan.objects(root), plan.leaves)
    if type(root) is tuple and root and all(isinstance(each, Node | State) for each in root):
        return _walk_tuple(root)
    return walked(flatten(root))


def walked(flat: Flat) -> Walked:
    """What a walk has found, as this module has it."""
    return Walked(flat.graphdef, flat.objects, flat.leaves)


def _walk_tuple(root: tuple[Any, ...]) -> Walked:
    plans = [plan_of(each) for each in root]
    serials = tuple([plan.serial for plan in plans])
    joint: _Joint = plans[0].kept.get((_Joint, serials), lambda: _Joint(root, plans))
    return walked(flatten(root)) if joint.pick is None else joint.walked(root, plans)


class _Joint:
    """How the graph of a tuple is put together from the plans of its elements; it holds none of their objects.

    Attributes:
        graphdef: the structure.
        pick: picks the objects of its places from those of the plans, one after the other; None where a walk is needed
            each time, since it meets objects that are made when they are looked at.
    """

    __slots__ = ("graphdef", "pick", "pick_leaves")

    def __init__(self, root: tuple[Any, ...], plans: Sequence[Plan]) -> None:
        flat = flatten(root)
        numbers: dict[int, int] = {}
        for number, item in enumerate(_objects(root, plans)):
            numbers.setdefault(id(item), number)
        found = [numbers.get(id(item), -1) for item in flat.objects]
        # Another thread may have changed something between the two looks.
        is_same = all(plan_of(each).serial == plan.serial for each, plan in zip(root, plans, strict=True))
        self.graphdef = flat.graphdef
        self.pick = None if -1 in found or not is_same else picker(found)
        self.pick_leaves = picker(flat.graphdef.leaves)

    def walked(self, root: tuple[Any, ...], plans: Sequence[Plan]) -> Walked:
        """The graph of a tuple whose elements have these plans."""
        assert self.pick is not None
        objects = self.pick(_objects(root, plans))
        return Walked(self.graphdef, objects, self.pick_leaves(objects))


def _objects(root: tuple[Any, ...], plans: Sequence[Plan]) -> list[Any]:
    found = [root]
    for each, plan in zip(root, plans, strict=True):
        found += plan.objects(each)
    return found
