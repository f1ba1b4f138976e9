"""Where the structure of a Node must stay as it is: in loops and branches, which are traced for all steps at once."""

import re
from collections.abc import Callable
from typing import Any

from graphstate.errors import StructureError, some_of
from graphstate.graph._diff import diff
from graphstate.graph._graphdef import GraphDef
from graphstate.graph._heads import TupleHead

from ._arguments import Arguments, argument_names, function_name
from ._boundary import Departure, Inside

__all__ = ["check_same_structure"]


def check_same_structure(
    departure: Departure,
    arguments: Arguments,
    transform: str,
    function: Callable[..., Any],
    signature: Callable[..., Any] | None = None,
    inside: Inside | None = None,
) -> None:
    """Refuses a change of the structure of Nodes in the arguments.

    Args:
        departure: what came out.
        arguments: what went in.
        transform: the name of the transform, for messages.
        function: the user's function, for messages.
        signature: the function that names the arguments, where it is another one.
        inside: what went in, as it was inside, where that differs.

    Raises:
        StructureError: naming what has changed, by its path.
    """
    if departure.is_same:
        return
    assert departure.restructuring is not None
    graphdef = arguments.graphdef if inside is None else inside.graphdef
    before = graphdef if len(arguments.roots) > 1 else _within_tuple(graphdef)
    differences = diff(before, _without_results(departure.restructuring.graphdef, len(arguments.roots)))
    names = argument_names(arguments.shape.treedef, signature or function)
    labels = [names[spot] for spot in arguments.shape.spots]
    told = [_labelled(line, labels) for line in differences]
    raise StructureError(
        f"The structure of a Node was changed inside of `{transform}` by `{function_name(function)}`:\n"
        + some_of(told)
        + "\nIt is traced once for all steps or branches, so that each must leave the structure that it found. Change "
        "it before or after the call.",
        told,
    )


def _within_tuple(graphdef: GraphDef) -> GraphDef:
    """The graph of a tuple whose one element is the root of this graph."""
    children = [tuple([child + 1 for child in each]) for each in graphdef.children]
    return GraphDef((TupleHead(), *graphdef.heads), ((1,), *children))


def _without_results(graphdef: GraphDef, count: int) -> GraphDef:
    """The graph of the first of the root's children alone."""
    return GraphDef(graphdef.heads, (graphdef.children[0][:count], *graphdef.children[1:]))


def _labelled(line: str, labels: list[str]) -> str:
    """A line of `diff`, whose path begins with the number of an argument, with the name of that in its place."""
    match = re.match(r"(\d+)([/:])(.*)", line)
    if match is None:
        return line
    number, mark, rest = match.groups()
    return f"{labels[int(number)]}{'.' if mark == '/' else mark}{rest}"
