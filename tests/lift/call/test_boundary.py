"""What happens to Nodes of arguments inside of a transform comes out, on every call, and nothing else does.

The oracle is the same function called eagerly on a copy: afterwards both graphs have the same structure and values,
and the objects that survived are the ones that were there before.
"""

import functools
from collections import namedtuple
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import graphstate as gs

Pair = namedtuple("Pair", ["a", "b"])


class Leaf(gs.Node):
    def __init__(self, weight=1.0):
        self.weight = gs.ParamState(jnp.float32(weight))

    def __call__(self, x):
        return self.weight.value * x


class Tree(gs.Node):
    """One of everything."""

    def __init__(self):
        self.leaf = Leaf(2.0)
        self.twin = self.leaf
        self.leaves = [Leaf(3.0), Leaf(4.0)]
        self.same_leaves = self.leaves
        self.named = {"a": Leaf(5.0), 3: gs.State(jnp.float32(6.0))}
        self.parts = (gs.State(jnp.float32(7.0)), jnp.asarray(np.arange(2.0, dtype=np.float32)))
        self.pair = Pair(Leaf(8.0), jnp.float32(9.0))
        self.array = jnp.asarray(np.arange(3.0, dtype=np.float32))
        self.numpy = np.arange(2.0, dtype=np.float32)
        self.number, self.flag, self.name, self.nothing = 1, True, "name", None
        self.function = jnp.tanh
        self.bound = self.leaf.__call__
        self.partial = functools.partial(Leaf.__call__, self.leaf)
        self.itself = self
        self.state = gs.State(
            {"x": jnp.float32(1.0), "y": [jnp.asarray(np.ones(2, np.float32))]}, tags="tagged", unit="m"
        )


# Changes, each with what it tests in its name; `x` is a traced number.


def write_states(tree, x):
    tree.leaf.weight.value = tree.leaf.weight.value * x
    tree.named[3].value = x
    tree.state.value = {**tree.state.value, "z": x}


def add_attributes(tree, x):
    tree.new_number, tree.new_array, tree.new_state, tree.new_node = 5, 2 * x, gs.State(x, tags="new"), Leaf(x)
    tree.new_list, tree.new_dict = [Leaf(x), x], {"deep": {"er": (gs.State(x),)}}


def remove_attributes(tree, x):
    del tree.leaf, tree.array, tree.number


def replace_node(tree, x):
    tree.leaf = Leaf(x)


def replace_state(tree, x):
    tree.leaf.weight = gs.BatchState(x)


def swap(tree, x):
    tree.leaf, tree.leaves[0] = tree.leaves[0], tree.leaf
    tree.leaf.weight, tree.leaves[1].weight = tree.leaves[1].weight, tree.leaf.weight


def change_statics(tree, x):
    tree.number, tree.flag, tree.name, tree.nothing, tree.function = 2.0, 1, None, "something", jnp.sin


def append_to_list(tree, x):
    tree.leaves.append(Leaf(x))
    tree.leaves.insert(0, gs.State(x))


def shorten_list(tree, x):
    tree.leaves.pop(0)


def reorder_list(tree, x):
    tree.leaves.reverse()


def replace_list(tree, x):
    tree.leaves = [*tree.leaves, Leaf(x)]


def edit_dict(tree, x):
    tree.named["b"] = tree.named.pop("a")
    tree.named["c"], tree.named[3] = tree.named[3], gs.State(x)
    tree.named["static"] = "text"


def replace_tuple(tree, x):
    tree.parts = (tree.parts[0], 2 * tree.parts[1], x)


def replace_namedtuple(tree, x):
    tree.pair = tree.pair._replace(b=x)


def replace_arrays(tree, x):
    tree.array = tree.array * x
    tree.numpy = tree.numpy * x


def move_arrays(tree, x):
    tree.array, tree.other = jnp.ones(2) * x, tree.array


def share(tree, x):
    tree.third = tree.leaf
    tree.leaves[1] = tree.leaves[0]
    tree.weight = tree.leaf.weight


def unshare(tree, x):
    tree.twin = Leaf(x)
    tree.same_leaves = list(tree.leaves)


def make_cycle(tree, x):
    tree.leaf.parent = tree
    tree.leaves.append(tree)


def cut_cycle(tree, x):
    tree.itself = None


def rebind_method(tree, x):
    tree.bound = tree.leaves[0].__call__
    tree.partial = functools.partial(Leaf.__call__, tree.pair.a)


def change_type(tree, x):
    tree.number = gs.State(x)
    tree.array = "text"
    tree.named = [1, 2]


def change_back(tree, x):
    leaf, tree.leaf = tree.leaf, Leaf(x)
    tree.leaf = leaf
    tree.temporary = x
    del tree.temporary


CHANGES = [
    write_states,
    add_attributes,
    remove_attributes,
    replace_node,
    replace_state,
    swap,
    change_statics,
    append_to_list,
    shorten_list,
    reorder_list,
    replace_list,
    edit_dict,
    replace_tuple,
    replace_namedtuple,
    replace_arrays,
    move_arrays,
    share,
    unshare,
    make_cycle,
    cut_cycle,
    rebind_method,
    change_type,
    change_back,
]

RUNS = {
    "jit": lambda change: gs.jit(change),
    "vmap": lambda change: lambda tree, x: gs.vmap(change, in_axes=(None, None), axis_size=2, out_axes=None)(tree, x),
    "grad": lambda change: lambda tree, x: gs.grad(lambda x, tree: (change(tree, x), x * 1.0)[1])(x, tree),
    "jit of grad of vmap": lambda change: gs.jit(
        lambda tree, x: gs.grad(
            lambda x, tree: (gs.vmap(change, in_axes=(None, None), axis_size=2, out_axes=None)(tree, x), x * 1.0)[1]
        )(x, tree)
    ),
}


def describe(root: Any) -> list[Any]:
    """The graph below `root`: for each object in the order of paths what it is and where it was met first."""
    met: dict[int, int] = {}
    lines: list[Any] = []
    pending: list[tuple[str, Any]] = [("", root)]
    while pending:
        path, item = pending.pop()
        if isinstance(item, gs.Node | gs.State | list | dict):
            if id(item) in met:
                lines.append((path, "as", met[id(item)]))
                continue
            met[id(item)] = len(met)
        if isinstance(item, gs.State):
            lines.append((path, type(item), item.tags, dict(item.metadata), plain(item.value)))
            continue
        if isinstance(item, gs.Node):
            children = sorted(vars(item).items())
        elif isinstance(item, dict):
            children = [(str(key), value) for key, value in item.items()]
        elif isinstance(item, list | tuple):
            children = [(str(index), value) for index, value in enumerate(item)]
        elif isinstance(item, functools.partial):
            children = [("args", item.args)]
        elif hasattr(item, "__self__") and hasattr(item, "__func__"):
            children = [("self", item.__self__)]
        else:
            lines.append((path, plain(item)))
            continue
        lines.append((path, type(item), [name for name, _ in children]))
        pending += [(f"{path}/{name}", value) for name, value in reversed(children)]
    return lines


def plain(value: Any) -> Any:
    """Arrays as nested lists, all else as it is."""
    if isinstance(value, jax.Array | np.ndarray):
        return (str(value.dtype), value.tolist())
    return (
        jax.tree.map(
            lambda leaf: plain(leaf) if isinstance(leaf, jax.Array | np.ndarray) else (type(leaf), leaf), value
        )
        if isinstance(value, dict | list)
        else (type(value), value)
    )


def survivors(root: Any) -> dict[int, Any]:
    """Every Node, State, list and dict that is reached, by id."""
    found: dict[int, Any] = {}
    pending = [root]
    while pending:
        item = pending.pop()
        if isinstance(item, gs.Node | gs.State | list | dict):
            if id(item) in found:
                continue
            found[id(item)] = item
        if isinstance(item, gs.Node):
            pending += vars(item).values()
        elif isinstance(item, dict):
            pending += item.values()
        elif isinstance(item, list | tuple):
            pending += item
    return found


@pytest.mark.no_leak_check("runs many transforms")
@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_change_comes_out_as_if_it_were_made_eagerly(change, run):
    x = jnp.float32(3.0)
    called = RUNS[run](change)
    for _ in range(2):  # the second Tree finds the program of the first
        eager, tree = Tree(), Tree()
        objects, counterparts = survivors(tree), survivors(eager)
        change(eager, x)
        called(tree, x)
        assert describe(tree) == describe(eager)
        # Objects that were there before are there after in one exactly where they are in the other.
        order = dict(zip(objects, counterparts, strict=True))
        kept = [order.get(identity) for identity in survivors(tree)]
        assert kept == [identity if identity in counterparts else None for identity in survivors(eager)]


@pytest.mark.no_leak_check("runs many transforms")
@pytest.mark.parametrize(
    "change", [add_attributes, append_to_list, shorten_list, edit_dict, change_statics, swap, replace_arrays, share]
)
def test_changes_come_out_on_every_call_with_the_same_objects(change):
    compiled, eager, tree = gs.jit(change), Tree(), Tree()
    for number in range(2):
        x = jnp.float32(number)
        if change is edit_dict and number:
            eager.named["a"], tree.named["a"] = Leaf(1.0), Leaf(1.0)
        change(eager, x)
        compiled(tree, x)
        assert describe(tree) == describe(eager)


@pytest.mark.no_leak_check("runs many transforms")
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_failing_function_leaves_the_structure_alone(change):
    tree, untouched = Tree(), Tree()
    objects = survivors(tree)

    def failing(tree, x):
        change(tree, x)
        raise KeyError("user")

    for run in ("jit", "vmap", "grad"):
        with pytest.raises(KeyError, match="user"):
            RUNS[run](failing)(tree, jnp.float32(3.0))
    assert describe(tree) == describe(untouched)
    assert list(survivors(tree)) == list(objects)


# Results


def test_objects_of_arguments_come_back_as_themselves():
    def parts(tree):
        return {"tree": tree, "list": tree.leaves, "leaf": tree.leaves[1], "state": tree.parts[0], "pair": tree.pair}

    tree = Tree()
    result = gs.jit(parts)(tree)
    assert result["tree"] is tree
    assert result["list"][0] is tree.leaves[0]
    assert result["leaf"] is tree.leaves[1]
    assert result["state"] is tree.parts[0]
    assert result["pair"].a is tree.pair.a


def test_new_objects_are_shared_between_arguments_and_results():
    def build(tree, x):
        leaf = Leaf(x)
        tree.new, tree.leaves[0] = leaf, leaf
        return {"a": leaf, "b": [leaf.weight], "tree": tree}

    tree = Tree()
    for _ in range(2):
        result = gs.jit(build)(tree, 3.0)
        assert result["a"] is tree.new is tree.leaves[0]
        assert result["b"][0] is tree.new.weight
        assert tree.new.weight.value == 3.0


def test_objects_move_between_arguments():
    def move(a, b):
        b.moved, b.list = a.leaf, a.leaves
        del a.leaf, a.twin, a.bound, a.partial

    a, b = Tree(), Tree()
    leaf, leaves = a.leaf, a.leaves
    gs.jit(move)(a, b)
    assert b.moved is leaf
    assert b.list is leaves is a.leaves
    assert not hasattr(a, "leaf")


def test_arguments_may_be_joined_and_parted():
    a, b = Leaf(1.0), Leaf(2.0)

    def join(a, b):
        a.weight = b.weight

    def part(a, b):
        a.weight = gs.ParamState(a.weight.value + 10)

    join, part = gs.jit(join), gs.jit(part)
    for _ in range(2):
        join(a, b)
        assert a.weight is b.weight
        part(a, b)
        assert a.weight is not b.weight
        assert (a.weight.value, b.weight.value) == (12.0, 2.0)


def test_closed_over_objects_may_be_attached_to_arguments():
    outer, state = Leaf(5.0), gs.State(jnp.float32(6.0))

    def attach(tree):
        tree.outer, tree.leaves[0] = outer, state
        state.value = state.value + 1
        return outer.weight.value

    tree = Tree()
    assert gs.jit(attach)(tree) == 5.0
    assert tree.outer is outer
    assert tree.leaves[0] is state
    assert state.value == 7.0


def test_an_argument_may_not_be_attached_to_a_closed_over_object():
    outer = Leaf()

    def attach(leaf):
        outer.inner = leaf

    with pytest.raises(gs.errors.TraceContextError, match="Pass the Node as an argument"):
        gs.jit(attach)(Leaf())
    assert not hasattr(outer, "inner")


def test_metadata_and_tags_survive():
    tree = gs.jit(lambda tree: tree)(Tree())
    assert tree.state.tags == {"tagged"}
    assert tree.state.metadata["unit"] == "m"
    made = gs.jit(lambda x: gs.BatchState(x, tags=("a", "b"), note=(1, 2)))(1.0)
    assert type(made) is gs.BatchState
    assert made.tags == {"a", "b"}
    assert made.metadata["note"] == (1, 2)


def test_numpy_attributes_that_are_not_replaced_stay_the_same_array():
    tree = Tree()
    array = tree.numpy

    def change(tree):
        tree.number = 7
        return jnp.sum(tree.numpy)

    assert gs.jit(change)(tree) == 1.0
    assert tree.numpy is array


def test_an_array_set_inside_is_concrete_outside():
    tree = Tree()
    gs.jit(lambda tree, x: setattr(tree, "last", 2 * x))(tree, 3.0)
    assert not isinstance(tree.last, jax.core.Tracer)
    assert tree.last == 6.0
    graphdef, state = gs.split(tree)
    assert state["last"] == 6.0
    assert jax.jit(lambda state: gs.merge(graphdef, state).last)(state) == 6.0


def test_a_node_subclass_with_slots_and_dataclass_fields():
    import dataclasses

    @dataclasses.dataclass
    class Fields(gs.Node):
        weight: gs.State
        scale: float = 2.0

    class Slots(gs.Node):
        __slots__ = ("inner",)

        def __init__(self):
            self.inner = Fields(gs.State(jnp.float32(1.0)))

    def change(node, x):
        node.inner.weight.value = node.inner.weight.value + x
        node.inner.scale = 3.0
        node.inner = Fields(node.inner.weight)

    node = Slots()
    state = node.inner.weight
    gs.jit(change)(node, 2.0)
    assert node.inner.weight is state
    assert state.value == 3.0
    assert node.inner.scale == 2.0


def test_a_registered_class_is_a_node_too():
    class Foreign:
        pass

    gs.graph.register_node_type(Foreign, attributes=vars, set_attribute=setattr, create=lambda cls: cls())
    foreign = Foreign()
    foreign.leaf, foreign.count = Leaf(1.0), 0

    def change(foreign, x):
        foreign.leaf.weight.value = x
        foreign.count += 1
        foreign.new = gs.State(2 * x)
        return foreign

    compiled = gs.jit(change)
    for expected in (1, 2):
        assert compiled(foreign, 3.0) is foreign
        assert foreign.count == expected
        assert foreign.new.value == 6.0


class Annotated(gs.State):
    """A State with a static attribute of its own."""

    def __init__(self, value):
        super().__init__(value)
        self.note = "outside"


@pytest.mark.parametrize("holds", ["state", "node"])
def test_an_attribute_of_a_state_is_structure(holds):
    state = Annotated(jnp.float32(1.0))
    argument = state if holds == "state" else gs.Node()
    if holds == "node":
        argument.state = state

    def change(argument, x):
        inside = argument if holds == "state" else argument.state
        result = x if inside.note == "outside" else -x
        inside.note = "inside"
        return result

    compiled = gs.jit(change)
    assert [compiled(argument, 1.0), compiled(argument, 1.0)] == [1.0, -1.0]
    assert state.note == "inside"
    assert (argument if holds == "state" else argument.state) is state


def test_an_attribute_of_a_closed_over_state_stays():
    state = Annotated(jnp.float32(1.0))

    def change(x):
        state.note = x
        return x

    with pytest.raises(gs.errors.GraphStateError, match="note"):
        gs.jit(change)(1.0)
    assert state.note == "outside"


def appended(leaves):
    leaves.append(Leaf(2.0))


def popped(leaves):
    leaves.pop()


def swapped(leaves):
    leaves.reverse()


@pytest.mark.parametrize(
    ("change", "what"),
    [(appended, "a Leaf is new at "), (popped, "1 instead of 2"), (swapped, "they stand elsewhere")],
)
@pytest.mark.parametrize(
    "transform",
    [
        gs.jit,
        lambda f: gs.vmap(f, in_axes=None, axis_size=2),
        lambda f: gs.grad(lambda leaves: (f(leaves), leaves[0](1.0))[1]),
        lambda f: lambda leaves: gs.cond(True, f, f, leaves),
        lambda f: lambda leaves: gs.fori_loop(0, 2, lambda i, leaves: (f(leaves), leaves)[1], leaves),
    ],
    ids=["jit", "vmap", "grad", "cond", "fori_loop"],
)
def test_a_list_of_nodes_that_is_changed_in_place_is_an_error(transform, change, what):
    leaves = [Leaf(), Leaf()]
    kept = list(leaves)
    with pytest.raises(gs.errors.TraceContextError, match=what):
        transform(change)(leaves)
    assert leaves == kept


def test_a_dict_of_nodes_that_is_changed_in_place_is_an_error_that_names_it():
    def rename(named):
        named["b"] = named.pop("a")
        named["c"] = Leaf()

    with pytest.raises(gs.errors.TraceContextError, match=r"a Leaf is new at `named\['c'\]`.* `\[\*layers, layer\]`"):
        gs.jit(rename)(named={"a": Leaf()})


def test_a_dict_of_arrays_may_be_changed_and_returned():
    def step(params, leaf):
        params["w"] = leaf(params["w"])
        return params

    params = {"w": jnp.ones(2)}
    np.testing.assert_array_equal(gs.jit(step)(params, Leaf(3.0))["w"], [3.0, 3.0])
    np.testing.assert_array_equal(params["w"], [1.0, 1.0])
