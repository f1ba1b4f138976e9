"""What `repr` shows."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import graphstate.graph as g
from graphstate.graph import HiddenState, Node, ParamState, State
from tests.graph.graphs import Branch, Leaf, Pair, chain

pytestmark = pytest.mark.no_leak_check("very many eager operations")


def sample():
    node = Leaf()
    node.embed = Branch()
    node.embed.table = ParamState(jnp.ones((7, 3)), tags="frozen", unit="m")
    node.layers = [Branch(), {"w": node.embed.table, 3: (1, jnp.ones(2))}]
    node.layers[0].owner = node
    node.again = node.layers
    node.rate, node.act, node.host = 0.5, jnp.tanh, np.ones(2)
    return node


def test_a_small_node_is_one_line():
    node = Branch()
    node.weight, node.size = ParamState(jnp.ones((2, 3))), 2
    assert repr(node) == "Branch(size=2, weight=ParamState(f32[2,3]))"
    assert repr(Node()) == "Node()"


def test_what_is_shared_is_shown_by_its_path_and_cycles_by_an_arrow_back():
    assert repr(sample()) == (
        "Leaf(  # 25 elements, 108 B\n"
        "  act=tanh,\n"
        "  again=[Branch(owner=↺ (root)), {'w': ParamState(f32[7,3], tags=['frozen'], unit='m'), 3: (1, f32[2])}],\n"
        "  embed=Branch(table=-> again/1/w),\n"
        "  host=f64[2] numpy,\n"
        "  layers=-> again,\n"
        "  rate=0.5,\n"
        ")"
    )


def test_a_graphdef_shows_the_structure_only():
    assert repr(g.graphdef(sample())) == (
        "GraphDef(Leaf(  # 1 states in 3 nodes\n"
        "  act=tanh,\n"
        "  again=[Branch(owner=↺ (root)), {'w': ParamState(tags=['frozen'], unit='m'), 3: (1, array)}],\n"
        "  embed=Branch(table=-> again/1/w),\n"
        "  host=array,\n"
        "  layers=-> again,\n"
        "  rate=0.5,\n"
        "))"
    )


def test_a_graphstate_shows_paths_types_and_shapes():
    assert repr(g.state(sample())) == (
        "GraphState(3 values, 25 elements, 108 B)\n"
        "  again/1/3/1: array(f32[2])\n"
        "  again/1/w: ParamState(f32[7,3], tags=['frozen'], unit='m')\n"
        "  host: array(f64[2] numpy)"
    )
    assert repr(g.state(Node())) == "GraphState(0 values)"
    assert repr(g.state(State(jnp.ones(1)))).splitlines()[1] == "  (root): State(f32[1])"


def test_every_kind_of_part_is_shown():
    node = Branch()
    node.pair = Pair(State(1), None)
    node.one = (1,)
    node.call = node.step
    node.partial = functools.partial(max, 1, key=len)
    node.values = g.state(Pair(State(1), State(2)))
    assert repr(node).splitlines() == [
        "Branch(  # 3 elements, 8 B",
        "  call=method Branch.step,",
        "  one=(1,),",
        "  pair=Pair(left=State(1), right=None),",
        "  partial=partial(max, 1, key=len),",
        "  values=GraphState(left=i32[], right=i32[]),",
        ")",
    ]
    lines = repr(g.graphdef(node)).splitlines()
    assert "  call=method Branch.step," in lines
    assert "  values=GraphState(left=array, right=array)," in lines


def test_breadth_is_capped():
    node = Node()
    node.items = list(range(34))
    node.table = {number: number for number in range(34)}
    lines = repr(node).splitlines()
    assert lines[1] == f"  items=[{', '.join(map(str, range(20)))}, ... 14 more],"
    assert lines[-3] == "    ... 14 more"
    assert len(lines) == 3 + 23


def test_depth_is_capped():
    root = current = Node()
    for _ in range(10):
        current.inner = Node()
        current = current.inner
    assert repr(root) == f"{'Node(inner=' * 6}Node(...){')' * 6}"


def test_length_is_capped():
    node = Node()
    node.rows = [[[State(0, tags=f"{'x' * 70}{i}{j}") for i in range(9)] for j in range(9)] for _ in range(9)]
    lines = repr(node).splitlines()
    assert len(lines) == 200
    assert lines[-1].startswith("... ")
    assert lines[-1].endswith(" more lines")


def test_a_wide_and_deep_graph_is_quick():
    def grow(depth):
        node = Node()
        node.items = [grow(depth - 1) for _ in range(12)] if depth else []
        return node

    assert len(repr(grow(3)).splitlines()) <= 200


def test_large_sizes_have_units():
    node = Node()
    node.first = [State(jax.ShapeDtypeStruct((1024, 1024), jnp.float32)), State(0, tags="x" * 90)]
    node.second = State(jax.ShapeDtypeStruct((2**30, 2**20), jnp.float32), tags="x" * 60)
    assert repr(node).splitlines()[0] == "Node(  # 1,125,899,907,891,201 elements, 4,096.0 TiB"
    del node.second
    assert repr(node).splitlines()[0] == "Node(  # 1,048,577 elements, 4 MiB"


def test_it_never_raises():
    class Rude(Node):
        def __getattribute__(self, name):
            if name == "__dict__":
                raise RuntimeError("no")
            return super().__getattribute__(name)

    class Shouting:
        def __repr__(self):
            raise RuntimeError("no")

        __hash__ = None

    assert repr(Rude()) == "Rude(... no text: RuntimeError)"
    node = Node()
    node.bad, node.sets, node.leaf = Shouting(), {1}, lambda x: node
    node.table = {Shouting: 1, 2.5: [State({"a": 1})]}
    node.table[2.5][0].value["b"] = 2
    assert [line.split("=")[1] for line in repr(node).splitlines()[1:-1]] == [
        "<Shouting>,",
        "test_it_never_raises.<locals>.<lambda>,",
        "<set>,",
        "{test_it_never_raises.<locals>.Shouting: 1, 2.5: [State(changed in place)]},",
    ]


def test_no_value_is_looked_at(monkeypatch):
    node = sample()
    deleted = HiddenState(jnp.ones(2))
    deleted.value.delete()
    node.deleted = deleted
    monkeypatch.setattr(np, "asarray", lambda *_: pytest.fail("a value was looked at"))
    assert "deleted=HiddenState(f32[2] deleted)" in repr(node)
    assert "deleted: HiddenState(f32[2] deleted)" in repr(g.state(node))


def test_in_a_trace_values_are_shown_as_traced():
    seen = []

    @jax.jit
    def show(x):
        node = Node()
        node.state, node.array = State(x), x
        seen.append(repr(node))

    show(jnp.ones(2))
    assert seen == ["Node(array=f32[2] traced, state=State(f32[2] traced))"]


def test_a_chain_is_cut_and_counted():
    root = chain(10_000)
    lines = repr(root).splitlines()
    assert lines[0] == "Leaf(  # 10,002 elements, 8 B"
    assert "Leaf(...)" in repr(root)
    assert len(lines) < 50
    assert "Leaf(...)" in repr(g.graphdef(root))
