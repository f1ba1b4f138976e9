"""What a function refers to besides its arguments, changed between two calls: the next call sees it.

Each row of the table is a generator: it yields a linear function and what it gives for 1.0, changes something that the
function refers to, and yields again. Every row is run through every transform that keeps programs. What was replaced
is kept alive, so that nothing is right only because the old object has gone.
"""

import collections
import dataclasses
import functools
import gc
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import graphstate as gs
from graphstate.errors import TraceContextError


class Leaf(gs.Node):
    def __init__(self, weight=2.0, scale=1.0):
        self.weight = gs.ParamState(jnp.float32(weight))
        self.scale = scale

    def __call__(self, x):
        return self.weight.value * self.scale * x


class Tree(gs.Node):
    def __init__(self):
        self.leaf = Leaf(2.0)
        self.leaves = [Leaf(1.0)]
        self.named = {"a": Leaf(1.0)}
        self.buffer = jnp.float32(1.0)
        self.numpy = np.ones((), np.float32)

    def __call__(self, x):
        for leaf in [self.leaf, *self.leaves, *self.named.values()]:
            x = leaf(x)
        return x * self.buffer * self.numpy


GLOBAL_NUMBER = 2.0
GLOBAL_LEAF = Leaf()


def global_helper(x):
    return second_helper(x) + 0.0


def second_helper(x):
    return (lambda: GLOBAL_NUMBER * x)()


def scaled_by(x, *, factor):
    return factor * x


def uses_global_leaf(factor, x):
    return factor * GLOBAL_LEAF(x)


def fields(**values):
    return types.SimpleNamespace(**values)


# Numbers and other static values


def a_number_in_a_closure():
    factor = 2.0
    f = lambda x: factor * x  # noqa: E731
    yield f, 2.0
    factor = 5.0
    yield f, 5.0


def an_equal_number_of_another_type():
    factor = 1
    f = lambda x: x * (2.0 if factor is True else 3.0)  # noqa: E731
    yield f, 3.0
    factor = True
    yield f, 2.0


def a_number_in_a_closure_of_a_closure():
    factor = 2.0

    def inner(x):
        return factor * x

    def middle(x):
        return 2.0 * inner(x)

    f = lambda x: middle(x)  # noqa: E731
    yield f, 4.0
    factor = 5.0
    yield f, 10.0


def a_helper_that_is_replaced():
    helper = lambda x: x  # noqa: E731
    f = lambda x: helper(x)  # noqa: E731
    yield f, 1.0
    helper = lambda x: 3.0 * x  # noqa: E731
    yield f, 3.0


def a_global_of_a_global_helper():
    global GLOBAL_NUMBER
    GLOBAL_NUMBER = 2.0
    yield global_helper, 2.0
    GLOBAL_NUMBER = 5.0
    yield global_helper, 5.0


def a_global_named_in_nested_code():
    global GLOBAL_NUMBER
    GLOBAL_NUMBER = 2.0

    def f(x):
        def nested(y):
            return sum(GLOBAL_NUMBER * z for z in (y,))

        return nested(x)

    yield f, 2.0
    GLOBAL_NUMBER = 5.0
    yield f, 5.0


def a_default():
    def f(x, factor=2.0, *, gain=1.0):
        return factor * gain * x

    yield f, 2.0
    f.__defaults__ = (5.0,)
    yield f, 5.0
    f.__kwdefaults__["gain"] = 2.0
    yield f, 10.0
    f.__kwdefaults__ = {"gain": 3.0}
    yield f, 15.0


def code_that_was_loaded_again():
    def f(x):
        return x

    def changed(x):
        return 3.0 * x

    yield f, 1.0
    f.__code__ = changed.__code__
    yield f, 3.0


def a_wrapped_function():
    factor = 2.0

    def f(x):
        return factor * x

    @functools.wraps(f)
    def wrapper(*args):
        return 2.0 * f(*args)

    yield wrapper, 4.0
    factor = 5.0
    yield wrapper, 10.0


def a_partial():
    def f(x, *, factor, leaf, gain=1.0):
        return gain * factor * leaf(x)

    first, second = Leaf(2.0), Leaf(7.0)
    partial = functools.partial(f, factor=3.0, leaf=first)
    yield partial, 6.0
    partial.keywords["factor"] = 4.0
    yield partial, 8.0
    partial.keywords["leaf"] = second
    yield partial, 28.0
    partial.keywords["gain"] = 2.0
    yield partial, 56.0
    del partial.keywords["gain"]
    yield partial, 28.0


def a_partial_that_a_node_holds():
    class Model(gs.Node):
        def __init__(self):
            self.act = functools.partial(scaled, factor=3.0)

        def __call__(self, x):
            return self.act(x)

    def scaled(x, *, factor=2.0, leaf=None):
        return factor * x if leaf is None else factor * leaf(x)

    model = Model()
    yield model, 3.0
    model.act.keywords["factor"] = 4.0
    yield model, 4.0
    model.act.keywords["leaf"] = Leaf(5.0)
    yield model, 20.0
    model.act.keywords["leaf"].weight.value = jnp.float32(7.0)
    yield model, 28.0
    del model.act.keywords["factor"]
    yield model, 14.0


def a_partial_of_a_global_function():
    global GLOBAL_LEAF
    GLOBAL_LEAF = Leaf(2.0)
    partial = functools.partial(uses_global_leaf, 3.0)
    yield partial, 6.0
    old, GLOBAL_LEAF = GLOBAL_LEAF, Leaf(5.0)
    yield partial, 15.0
    GLOBAL_LEAF.scale = 2.0
    yield partial, 30.0
    del old


# Containers and plain objects


def a_dict():
    config = {"factor": 2.0, "deep": {"list": [1.0]}}
    f = lambda x: config["factor"] * config["deep"]["list"][0] * x  # noqa: E731
    yield f, 2.0
    config["factor"] = 5.0
    yield f, 5.0
    config["deep"]["list"][0] = 3.0
    yield f, 15.0


def a_list():
    factors = [2.0]

    def f(x):
        for factor in factors:
            x = factor * x
        return x

    yield f, 2.0
    factors.append(3.0)
    yield f, 6.0
    factors[0] = 1.0
    yield f, 3.0


def other_containers_that_change_in_place():
    ordered = collections.OrderedDict(a=2.0)
    counted = collections.defaultdict(float, a=1.0)
    queue = collections.deque([1.0])
    names = {"a"}
    f = lambda x: x * ordered["a"] * counted["a"] * queue[0] * len(names)  # noqa: E731
    yield f, 2.0
    ordered["a"] = 3.0
    yield f, 3.0
    counted["a"] = 2.0
    yield f, 6.0
    queue[0] = 2.0
    yield f, 12.0
    names.add("b")
    yield f, 24.0


def an_instance():
    class Config:
        def __init__(self):
            self.factor, self.sizes = 2.0, [1.0]

    config = Config()
    f = lambda x: config.factor * config.sizes[0] * x  # noqa: E731
    yield f, 2.0
    config.factor = 5.0
    yield f, 5.0
    config.sizes[0] = 3.0
    yield f, 15.0


def other_instances():
    @dataclasses.dataclass(slots=True)
    class Slots:
        factor: float

    slots, space = Slots(2.0), types.SimpleNamespace(factor=1.0)
    f = lambda x: slots.factor * space.factor * x  # noqa: E731
    yield f, 2.0
    slots.factor = 3.0
    yield f, 3.0
    space.factor = 2.0
    yield f, 6.0


def a_function_in_a_container():
    factor = 2.0

    class Config:
        pass

    config = Config()
    config.activation = lambda x: factor * x
    table = {"f": lambda x: factor * x}
    f = lambda x: table["f"](x) + config.activation(x)  # noqa: E731
    yield f, 4.0
    factor = 5.0
    yield f, 10.0


def an_array_in_a_closure():
    factor = jnp.float32(2.0)
    f = lambda x: factor * x  # noqa: E731
    yield f, 2.0
    old, factor = factor, jnp.float32(5.0)
    yield f, 5.0
    del old


# Nodes and States


def a_node_that_is_rebound_to_an_equal_one():
    leaf = Leaf(2.0)
    f = lambda x: leaf(x)  # noqa: E731
    yield f, 2.0
    first, leaf = leaf, Leaf(5.0)
    yield f, 5.0
    leaf, second = first, leaf
    yield f, 2.0
    leaf.weight.value = jnp.float32(3.0)
    yield f, 3.0
    leaf = second
    yield f, 5.0


def a_node_in_containers():
    models = {"a": Leaf(2.0), "b": [Leaf(1.0)], "c": (Leaf(1.0),)}
    f = lambda x: models["a"](x) * models["b"][0].weight.value * models["c"][0].weight.value  # noqa: E731
    yield f, 2.0
    old = dict(models), list(models["b"])
    models["a"] = Leaf(3.0)
    yield f, 3.0
    models["b"][0] = Leaf(5.0)
    yield f, 15.0
    models["c"] = (Leaf(2.0),)
    yield f, 30.0
    del old


def a_node_in_an_instance():
    class Trainer:
        def __init__(self):
            self.model, self.models = Leaf(2.0), [Leaf(1.0)]

        def step(self, x):
            return self.model(x) * self.models[0].weight.value

    trainer = Trainer()
    f = trainer.step
    yield f, 2.0
    old = trainer.model, trainer.models[0]
    trainer.model = Leaf(3.0)
    yield f, 3.0
    trainer.models[0] = Leaf(5.0)
    yield f, 15.0
    del old


def a_node_as_default():
    first, second = Leaf(2.0), Leaf(5.0)

    def f(x, leaf=first):
        return leaf(x)

    yield f, 2.0
    f.__defaults__ = (second,)
    yield f, 5.0
    second.weight.value = jnp.float32(7.0)
    yield f, 7.0


def a_static_attribute():
    leaf = Leaf(2.0)
    f = lambda x: leaf(x)  # noqa: E731
    yield f, 2.0
    leaf.scale = 3.0
    yield f, 6.0
    leaf.scale = 3
    yield f, 6.0
    object.__setattr__(leaf, "scale", 5.0)
    gs.graph.touch(leaf)
    yield f, 10.0
    del leaf.weight
    leaf.weight = gs.State(jnp.float32(1.0))
    yield f, 5.0


def a_submodule():
    tree = Tree()
    f = lambda x: tree(x)  # noqa: E731
    yield f, 2.0
    old = tree.leaf, tree.leaves[0], tree.named["a"]
    tree.leaf = Leaf(3.0)
    yield f, 3.0
    tree.leaves[0] = Leaf(5.0)
    yield f, 15.0
    tree.leaves.append(Leaf(2.0))
    yield f, 30.0
    tree.named["a"] = Leaf(3.0)
    yield f, 90.0
    tree.named["b"] = Leaf(2.0)
    yield f, 180.0
    tree.leaf, tree.leaves[0] = tree.leaves[0], tree.leaf
    yield f, 180.0
    del old


def attributes_that_the_code_does_not_name():
    """Read by special methods, properties under other names, helpers of other modules."""

    class Base:
        def __init__(self, factor):
            self.hidden = factor

    class Item(Base):
        def __getitem__(self, key):
            return self.hidden

    class Product(Base):
        def __mul__(self, other):
            return self.hidden * other

    class Called(Base):
        def __call__(self, x):
            return self.hidden * x

    class Iterated(Base):
        def __iter__(self):
            return iter([self.hidden])

    class Forwarded(Base):
        def __getattr__(self, name):
            return vars(self)["hidden"]

    def read(self):
        return self.hidden

    class Property(Base):
        factor = property(read)

    class Method(Base):
        apply = lambda self, x: self.hidden * x  # noqa: E731

    items = Item(2.0), Product(1.0), Called(1.0), Iterated(1.0), Forwarded(1.0), Property(1.0), Method(1.0)

    def f(x):
        item, product, called, iterated, forwarded, with_property, with_method = items
        x = (product * x) * item["any"]
        x = called(x) * sum(iterated) * forwarded.factor * with_property.factor
        return with_method.apply(x)

    yield f, 2.0
    expected = 2.0
    for item in items:
        item.hidden = 2 * item.hidden
        expected *= 2
        yield f, expected


def attributes_that_a_helper_of_another_module_names():
    class Config:
        def __init__(self):
            self.hidden, self.secret = 2.0, 1.0

    config = Config()
    f = lambda x: FOREIGN.read_hidden(config) * read_secret(config) * x  # noqa: E731
    yield f, 2.0
    config.hidden = 5.0
    yield f, 5.0
    config.secret = 2.0
    yield f, 10.0


FOREIGN = types.ModuleType("foreign")
exec("def read_hidden(config): return config.hidden\ndef read_secret(config): return config.secret", vars(FOREIGN))
read_secret = FOREIGN.read_secret


def one_object_in_several_places():
    """It is in two cells, in a container, and an attribute of a Node whose class closes over it."""

    class Config:
        pass

    config = Config()
    config.factor = 2.0

    def scaling(config):
        return lambda x: config.factor * x

    class Model(gs.Node):
        def __init__(self):
            self.config, self.partial = config, functools.partial(scaling, config)

        def __call__(self, x):
            return self.config.factor * self.partial()(x)

    first, second, model, table = scaling(config), scaling(config), Model(), {"config": config}
    f = lambda x: first(x) + second(x) + model(x) + table["config"].factor * x  # noqa: E731
    yield f, 10.0
    config.factor = 3.0
    yield f, 18.0


def attributes_by_names_that_are_computed():
    class Config:
        def __init__(self):
            self.factor, self.other, self.third = 2.0, 1.0, 1.0

    config, end, get = Config(), "r", getattr
    f = lambda x: getattr(config, "facto" + end) * getattr(config, f"othe{end}", 0.0) * get(config, "thi" + "rd") * x  # noqa: E731
    yield f, 2.0
    config.factor = 3.0
    yield f, 3.0
    config.other = 2.0
    yield f, 6.0
    config.third = 2.0
    yield f, 12.0


class Annotated(gs.State):
    """A State with a static attribute of its own."""

    def __init__(self, value):
        super().__init__(value)
        self.note = 2.0


def an_attribute_of_a_state():
    state = Annotated(jnp.float32(1.0))
    f = lambda x: state.note * state.value * x  # noqa: E731
    yield f, 2.0
    state.note = 5.0
    yield f, 5.0


def two_states_that_change_places():
    pair = Leaf(2.0)
    pair.other = gs.State(jnp.float32(3.0))
    f = lambda x: (pair.weight.value - 2 * pair.other.value) * x  # noqa: E731
    yield f, -4.0
    pair.weight, pair.other = pair.other, pair.weight
    yield f, -1.0


def two_nodes_that_become_one():
    tree = Tree()
    f = lambda x: tree.leaf(x) + tree.leaves[0](x)  # noqa: E731
    yield f, 3.0
    old = tree.leaves[0]
    tree.leaves[0] = tree.leaf
    yield f, 4.0
    tree.leaf.weight.value = jnp.float32(5.0)
    yield f, 10.0
    tree.leaves[0] = old
    yield f, 6.0


def an_array_attribute():
    tree = Tree()
    f = lambda x: tree(x)  # noqa: E731
    yield f, 2.0
    old = tree.buffer
    tree.buffer = jnp.float32(3.0)
    yield f, 6.0
    tree.numpy = np.full((), 2.0, np.float32)
    yield f, 12.0
    tree.numpy[...] = 5.0
    yield f, 30.0
    del old


def a_node_that_is_the_function():
    tree = Tree()
    yield tree, 2.0
    old = tree.leaf
    tree.leaf = Leaf(3.0)
    yield tree, 3.0
    tree.leaves.append(Leaf(2.0))
    yield tree, 6.0
    tree.buffer = jnp.float32(2.0)
    yield tree, 12.0
    del old


def a_bound_method_of_a_node():
    tree = Tree()
    method = tree.__call__
    yield method, 2.0
    tree.leaf.scale = 3.0
    yield method, 6.0


def a_global_of_a_method():
    global GLOBAL_NUMBER
    GLOBAL_NUMBER = 2.0

    class Model(gs.Node):
        def scaled(self, x):
            return GLOBAL_NUMBER * x

        def __call__(self, x):
            return self.scaled(x)

    model = Model()
    f = lambda x: model(x)  # noqa: E731
    yield f, 2.0
    GLOBAL_NUMBER = 5.0
    yield f, 5.0


def a_node_named_by_a_method():
    global GLOBAL_LEAF
    GLOBAL_LEAF = Leaf(2.0)

    class Model(gs.Node):
        def scaled(self, x):
            return GLOBAL_LEAF(x)

        def __call__(self, x):
            return self.scaled(x)

    model = Model()
    yield model, 2.0
    GLOBAL_LEAF.scale = 3.0
    yield model, 6.0
    GLOBAL_LEAF.weight.value = jnp.float32(5.0)
    yield model, 15.0


ROWS = [
    a_number_in_a_closure,
    an_equal_number_of_another_type,
    a_number_in_a_closure_of_a_closure,
    a_helper_that_is_replaced,
    a_global_of_a_global_helper,
    a_global_named_in_nested_code,
    a_default,
    code_that_was_loaded_again,
    a_wrapped_function,
    a_partial,
    a_partial_of_a_global_function,
    a_partial_that_a_node_holds,
    a_dict,
    a_list,
    other_containers_that_change_in_place,
    an_instance,
    other_instances,
    a_function_in_a_container,
    an_array_in_a_closure,
    a_node_that_is_rebound_to_an_equal_one,
    a_node_in_containers,
    a_node_in_an_instance,
    a_node_as_default,
    a_static_attribute,
    a_submodule,
    one_object_in_several_places,
    attributes_by_names_that_are_computed,
    attributes_that_the_code_does_not_name,
    attributes_that_a_helper_of_another_module_names,
    an_attribute_of_a_state,
    two_states_that_change_places,
    two_nodes_that_become_one,
    an_array_attribute,
    a_node_that_is_the_function,
    a_bound_method_of_a_node,
    a_global_of_a_method,
    a_node_named_by_a_method,
]


def jit_of(inner):
    return gs.jit(lambda x: inner(x))


def first_of(mapped):
    return lambda x: mapped(x[None])[0]


TRANSFORMS = {
    "jit": gs.jit,
    "for_loop": lambda f: lambda x: gs.for_loop(f, x[None])[0],
    "jit of jit": lambda f: jit_of(gs.jit(f)),
    "jit of loop of vmap": lambda f: gs.jit(lambda x: gs.for_loop(gs.vmap(f), x[None, None])[0, 0]),
    "vmap": lambda f: first_of(gs.vmap(f)),
    "grad": gs.grad,
}


@pytest.mark.no_leak_check("looks at the caches of warm calls")
@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.__name__)
def test_a_change_is_seen_by_the_next_call(row, transform):
    x, called = jnp.float32(1.0), None
    for function, expected in row():
        called = called or TRANSFORMS[transform](function)
        assert called(x) == expected
        assert called(x) == expected


# Writes go to what is referred to now


def test_writes_go_to_the_node_that_the_closure_holds_now():
    first, second = Leaf(2.0), Leaf(5.0)
    leaf = first

    @gs.jit
    def step():
        leaf.weight.value = jnp.float32(9.0)

    step()
    assert (first.weight.value, second.weight.value) == (9.0, 5.0)
    first.weight.value = jnp.float32(1.0)
    leaf = second
    step()
    assert (first.weight.value, second.weight.value) == (1.0, 9.0)
    gs.jit(lambda: step())()
    assert first.weight.value == 1.0


def test_what_is_returned_or_attached_is_what_the_closure_holds_now():
    leaf, target = Leaf(2.0), Tree()

    @gs.jit
    def attach(target):
        target.attached = leaf
        return leaf.weight

    for _ in range(3):
        returned = attach(target)
        assert returned is leaf.weight
        assert target.attached is leaf
        leaf = Leaf(2.0)


@pytest.mark.no_leak_check("makes many programs")
def test_many_closures_over_equal_nodes_come_and_go():
    leaf = None
    compiled = gs.jit(lambda x: leaf(x))
    for number in range(10):
        leaf = None
        leaf = Leaf(number)
        assert compiled(1.0) == number
        if number % 5 == 0:
            gc.collect()


def test_many_equal_arguments_come_and_go():
    compiled = gs.jit(lambda leaf, x: leaf(x))
    for number in range(50):
        assert compiled(Leaf(number), 1.0) == number


def test_a_dropped_node_is_freed_at_once():
    """Nothing that is remembered of a call keeps the Node or its arrays, not even until the garbage is collected."""
    import weakref

    compiled = gs.jit(lambda leaf, x: leaf(x))

    def use():
        leaf = Leaf()
        compiled(leaf, 1.0)
        gs.vmap(lambda leaf, x: leaf(x), in_axes=(None, 0))(leaf, jnp.ones(2))
        return weakref.ref(leaf), weakref.ref(leaf.weight)

    gc.disable()
    try:
        assert [ref() for ref in use()] == [None, None]
    finally:
        gc.enable()


# What a function changes itself


@pytest.mark.no_leak_check("counts traces")
def test_a_function_that_counts_its_runs_is_not_traced_for_ever():
    global GLOBAL_NUMBER
    GLOBAL_NUMBER, runs, count, log, leaf = 0, [], 0, {"n": 0}, Leaf()

    @gs.jit
    def step(x):
        nonlocal count
        global GLOBAL_NUMBER
        count += 1
        GLOBAL_NUMBER += 1
        log["n"] += 1
        runs.append(x)
        return leaf(x)

    for _ in range(5):
        assert step(1.0) == 2.0
    assert len(runs) == count == GLOBAL_NUMBER == log["n"] == 1
    leaf.scale = 3.0
    assert step(1.0) == 6.0
    assert len(runs) == 2


class Trainer:
    """Counts its runs in the object that holds all else."""

    def __init__(self):
        self.runs, self.scale, self.model, self.history = 0, 2.0, Leaf(1.0), []

    def step(self, x):
        self.runs += 1
        self.history.append(self.runs)
        return self.scale * self.model(x)


@pytest.mark.no_leak_check("counts traces")
def test_counting_does_not_hide_other_attributes_of_the_object():
    trainer = Trainer()
    step = gs.jit(trainer.step)
    assert [step(1.0), step(1.0)] == [2.0, 2.0]
    assert trainer.runs == 1
    trainer.scale = 5.0
    assert [step(1.0), step(1.0)] == [5.0, 5.0]
    old, trainer.model = trainer.model, Leaf(3.0)
    assert [step(1.0), step(1.0)] == [15.0, 15.0]
    assert old.weight.value == 1.0
    trainer.model.scale = 2.0
    assert step(1.0) == 30.0
    assert trainer.runs == len(trainer.history) == 4


@pytest.mark.no_leak_check("counts traces")
def test_logging_into_a_dict_does_not_hide_its_other_entries():
    config = {"runs": 0, "factor": 2.0}

    @gs.jit
    def step(x):
        config["runs"] += 1
        return config["factor"] * x

    assert [step(1.0), step(1.0)] == [2.0, 2.0]
    config["factor"] = 5.0
    assert [step(1.0), step(1.0)] == [5.0, 5.0]
    assert config["runs"] == 2


# The structure of what is only referred to


def change_list(tree):
    tree.leaves.append(Leaf())


def change_dict(tree):
    tree.named["new"] = Leaf()


def reorder_list(tree):
    tree.leaves[:] = [tree.leaf]


CALLS = {
    "jit": lambda f: gs.jit(f)(1.0),
    "vmap": lambda f: gs.vmap(f)(jnp.ones(2)),
    "grad": lambda f: gs.grad(f)(1.0),
    "for_loop": lambda f: gs.for_loop(f, jnp.ones(2)),
    "scan": lambda f: gs.scan(lambda c, x: (c, f(x)), 0.0, jnp.ones(2)),
    "eval_shape": lambda f: gs.eval_shape(f, 1.0),
}


@pytest.mark.parametrize("change", [change_list, change_dict, reorder_list])
@pytest.mark.parametrize("transform", CALLS)
def test_a_container_changed_inside_is_put_back_and_raises(transform, change):
    tree = Tree()
    leaves, named = list(tree.leaves), dict(tree.named)

    def function(x):
        change(tree)
        return x

    with pytest.raises(
        TraceContextError,
        match=r"`tree.(leaves|named)`, part of a Node that the function reached through its closure, was "
        r"changed in place",
    ):
        CALLS[transform](function)
    assert tree.leaves == leaves
    assert tree.named == named


@pytest.mark.parametrize("transform", CALLS)
def test_a_container_changed_by_a_failing_call_is_put_back(transform):
    tree = Tree()
    leaves = list(tree.leaves)

    def function(x):
        change_list(tree)
        raise KeyError("user")

    with pytest.raises(KeyError, match="user"):
        CALLS[transform](function)
    assert tree.leaves == leaves


@pytest.mark.parametrize("transform", CALLS)
def test_an_attribute_set_inside_raises(transform):
    tree = Tree()

    def function(x):
        tree.leaf.scale = 7.0
        return x

    with pytest.raises(
        TraceContextError,
        match=r"Attribute 'scale' of a Leaf was changed inside of a transform, .* Pass the Node as an argument",
    ):
        CALLS[transform](function)
    assert tree.leaf.scale == 1.0

    def deleting(x):
        del tree.leaf
        return x

    with pytest.raises(TraceContextError, match=r"Attribute 'leaf' of a Tree was changed"):
        CALLS[transform](deleting)


def test_a_container_of_a_node_that_only_a_method_names_is_guarded_too():
    global GLOBAL_LEAF
    GLOBAL_LEAF = Leaf()
    GLOBAL_LEAF.log = []

    class Model(gs.Node):
        def note(self, x):
            GLOBAL_LEAF.log.append(x)
            return x

        def __call__(self, x):
            return self.note(x)

    with pytest.raises(TraceContextError, match="was changed in place"):
        gs.jit(lambda model, x: model(x))(Model(), 1.0)
    assert GLOBAL_LEAF.log == []


@pytest.mark.parametrize("wrapped", [lambda partial: partial, gs.jit])
def test_keywords_of_a_partial_that_a_node_holds_are_guarded_too(wrapped):
    keywords = {"factor": 2.0}
    model = Leaf()
    model.act = wrapped(functools.partial(scaled_by, **keywords))
    partial = getattr(model.act, "__wrapped__", model.act)

    def change(x):
        partial.keywords["factor"] = x
        return model(x)

    with pytest.raises(TraceContextError, match=r"`model.act`, part of a Node .* was changed in place"):
        gs.jit(change)(1.0)
    assert partial.keywords == keywords


def test_keywords_of_a_partial_in_an_argument_may_be_changed_inside():
    model = Leaf()
    model.act = functools.partial(scaled_by, factor=2.0)

    @gs.jit
    def change(model, x):
        model.act.keywords["factor"] += 1.0
        return model.act(x)

    assert [change(model, 1.0).item() for _ in range(2)] == [3.0, 4.0]
    assert model.act.keywords == {"factor": 4.0}


@pytest.mark.parametrize("transform", ["jit", "vmap", "grad"])
def test_a_cached_property_filled_inside_raises(transform):
    class Model(gs.Node):
        def __init__(self):
            self.weight = gs.ParamState(jnp.float32(2.0))

        @functools.cached_property
        def double(self):
            return 2 * self.weight.value

    model = Model()
    with pytest.raises(TraceContextError, match="double"):
        CALLS[transform](lambda x: model.double * x)
    assert "double" not in vars(model)
    assert model.double == 4.0
    with pytest.raises(TraceContextError, match="double"):
        gs.jit(lambda model: model.double)(Model())


def test_jax_arrays_and_large_objects_are_not_kept_alive():
    import weakref

    array = jnp.ones(3)
    compiled = gs.jit(lambda x: jnp.sum(array) * x)
    compiled(1.0)
    compiled.clear_cache()
    jax.clear_caches()
    gone, array = weakref.ref(array), jnp.zeros(3)
    assert compiled(1.0) == 0.0
    gc.collect()
    assert gone() is None
