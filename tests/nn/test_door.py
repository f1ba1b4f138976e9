"""What `graphstate.nn` shows."""

import ast
import inspect
import re
import textwrap

import jax.nn
import pytest

from graphstate import nn
from graphstate.graph import Node

LAYERS = [layer for layer in vars(nn).values() if isinstance(layer, type) and issubclass(layer, Node)]
OF_ANYTHING = (nn.Identity, nn.Sequential, nn.Repeat, nn.Ensemble, nn.WeightNorm, nn.SpectralNorm)


def test_all_is_sorted_and_there() -> None:
    assert nn.__all__ == sorted(nn.__all__, key=lambda name: (not name.isupper(), name))
    assert all(hasattr(nn, name) for name in nn.__all__)


def test_activations_and_initialisers_are_those_of_jax() -> None:
    own = {"add_lora", "merge_lora", "reset_state", "with_axes"}
    functions = {name for name in nn.__all__ if name[0].islower()} - own
    assert {"relu", "gelu", "tanh", "initializers"} <= functions
    assert all(getattr(nn, name) is getattr(jax.nn, name) for name in functions)


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.__name__)
def test_every_layer_tells_its_shapes_and_its_source_and_shows_a_call(layer: type[Node]) -> None:
    text = f"{layer.__doc__}{getattr(layer.__call__, '__doc__', '')}"
    assert re.search(r"Example:\n(.*\n)*? +>>> import graphstate as gs", text)
    assert re.search(r"Source: \S", text)
    assert issubclass(layer, OF_ANYTHING) or re.search(r"\[(\.\.\.|\*|[a-z])", text)


def lines_of_code(layer: type[Node]) -> int:
    """The lines of a class that are neither empty nor part of a docstring or a comment."""
    source = textwrap.dedent(inspect.getsource(layer))
    documented = {
        line
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None
        for line in range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1)
    }
    lines = enumerate(source.splitlines(), 1)
    return sum(bool(line.strip()) and line.strip()[0] != "#" and number not in documented for number, line in lines)


def test_no_layer_has_more_than_eighty_lines_of_code() -> None:
    for layer in LAYERS:
        for part in layer.__mro__:
            if part.__module__.startswith(nn.__name__):
                assert lines_of_code(part) <= 80, part
