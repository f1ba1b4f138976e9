"""Where the peers are silently wrong or of no help: here the result is right, or an error says what to do.

The table of `test_pains.py` says which peer, and what goes wrong there.
"""

import copy
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import graphstate as gs
from graphstate.errors import AliasError, BatchAxisError, StaleReadWarning, UpdateError


class Leaf(gs.Node):
    def __init__(self, weight=2.0):
        self.weight = gs.ParamState(jnp.asarray(weight, jnp.float32))
        self.scale = 1.0

    def __call__(self, x):
        return self.scale * self.weight.value * x


class Noisy(gs.Node):
    """Draws a mask, from the default stream or its own."""

    def __init__(self, rng=None):
        self.weight = gs.ParamState(jnp.ones(8))
        self.dropout = gs.nn.Dropout(0.5, rng=rng)

    def __call__(self, x):
        return self.dropout(self.weight.value * x, fit=True)


# Flax NNX, lists and attributes


def test_a_list_that_is_filled_later_counts():
    node = gs.Node()
    node.layers = []
    read = gs.jit(lambda node: sum(layer(1.0) for layer in node.layers))
    node.layers.append(Leaf(2.0))
    assert list(gs.states(node)) == [("layers", 0, "weight")]
    assert read(node) == 2.0
    node.layers.append(Leaf(3.0))
    assert read(node) == 5.0
    gradient = gs.grad(lambda node: sum(layer(1.0) for layer in node.layers))(node)
    assert list(gradient) == [("layers", 0, "weight"), ("layers", 1, "weight")]


def test_an_array_over_a_parameter_is_no_parameter():
    leaf = Leaf()
    leaf.weight = jnp.float32(5.0)
    with pytest.raises(gs.errors.FilterError, match="selects none"):
        gs.grad(lambda leaf: leaf.weight**2)(leaf)
    assert gs.state(leaf)["weight"] == 5.0


def test_plain_attributes_changed_inside_come_out():
    node = gs.Node()
    node.array, node.number, node.values = jnp.zeros(()), 0, {"a": jnp.zeros(())}

    def step(node):
        node.array = node.array + 1
        node.number += 1
        node.values["a"] = node.values["a"] + 2

    compiled = gs.jit(step)
    for expected in (1, 2, 3):
        compiled(node)
        assert (node.array, node.number, node.values["a"]) == (expected, expected, 2 * expected)


def test_new_states_come_out():
    leaf = Leaf()
    gs.jit(lambda leaf, x: setattr(leaf, "cache", gs.State(x)))(leaf, 3.0)
    assert leaf.cache.value == 3.0
    gs.vmap(lambda leaf: setattr(leaf, "cache", gs.State(4.0)), in_axes=None, axis_size=2, out_axes=None)(leaf)
    assert leaf.cache.value == 4.0


def test_a_node_may_have_any_attribute():
    node = gs.Node()
    node.states, node.nodes, node.items, node.value = [gs.State(1.0)], {"a": Leaf()}, Leaf(3.0), 5
    assert len(gs.states(node)) == 3

    def step(node):
        node.states[0].value = node.states[0].value + node.items(1.0)
        return node.value

    assert gs.jit(step)(node) == 5
    assert node.states[0].value == 4.0


def test_dicts_may_have_any_keys():
    node = gs.Node()
    node.layers = {f"l{i}": Leaf(i) for i in range(12)} | {i: Leaf(10.0 * i) for i in range(12)}
    expected = list(node.layers)
    total = gs.jit(lambda node: [layer.weight.value for layer in node.layers.values()])(node)
    assert [float(part) for part in total] == [*range(12), *(10.0 * i for i in range(12))]
    gs.jit(lambda node: node.layers.update(new=Leaf()))(node)
    assert list(node.layers) == [*expected, "new"]
    # A list keeps its numeric order however long it is.
    node.list = [Leaf(i) for i in range(12)]
    assert [path[1] for path in gs.states(node) if path[0] == "list"] == list(range(12))


# Flax NNX, lost or stale


def test_a_node_is_no_pytree_that_plain_jax_copies():
    leaf = Leaf()
    with pytest.raises(TypeError, match=r"as an abstract array|not a valid JAX type"):
        jax.jit(lambda leaf: leaf.weight.value)(leaf)
    with pytest.raises(gs.errors.TraceContextError, match="written inside of a transform of plain JAX"):
        jax.jit(lambda x: setattr(leaf.weight, "value", x))(1.0)


def test_tied_states_have_one_gradient():
    leaf = Leaf(3.0)
    leaf.tied = leaf.weight
    gradient = gs.grad(lambda leaf: leaf.weight.value * leaf.tied.value)(leaf)
    assert dict(gradient.items()) == {("tied",): 6.0}
    graphdef, state = gs.split(leaf)
    plain = jax.grad(lambda state: (lambda leaf: leaf.weight.value * leaf.tied.value)(gs.merge(graphdef, state)))(state)
    assert jax.tree.leaves(plain) == [6.0]


def test_a_closed_over_node_is_no_constant():
    leaf = Leaf(2.0)
    read = gs.jit(lambda x: leaf(x))
    assert read(1.0) == 2.0
    gs.update(leaf, {"weight": jnp.float32(5.0)})
    assert read(1.0) == 5.0
    gs.jit(lambda: setattr(leaf.weight, "value", leaf.weight.value + 1))()
    assert read(1.0) == 6.0


def test_metadata_cannot_be_set_and_lost():
    state = gs.State(1.0, note=1)

    def change(state):
        with pytest.raises(TypeError):
            state.metadata["note"] = 2
        with pytest.raises(AttributeError):
            state.metadata = {}

    gs.jit(change)(state)
    assert state.metadata["note"] == 1


@pytest.mark.no_leak_check("runs many eager operations")
@pytest.mark.parametrize("rng", ["default", "own"])
@pytest.mark.parametrize("compiled", [False, True])
def test_masks_differ_in_every_lane(rng, compiled):
    gs.random.seed(0)
    noisy = Noisy(gs.random.RandomState(0) if rng == "own" else None)
    per_example = gs.vmap(lambda noisy, x: noisy(x), in_axes=(None, 0))
    closed = gs.vmap(lambda x: noisy(x))
    gradients = gs.vmap(gs.grad(lambda noisy, x: jnp.sum(noisy(x))), in_axes=(None, 0))
    wrap = gs.jit if compiled else lambda f: f
    rows = [
        *wrap(per_example)(noisy, jnp.ones((6, 8))),
        *wrap(closed)(jnp.ones((6, 8))),
        *wrap(per_example)(noisy, jnp.ones((6, 8))),
        *wrap(gradients)(noisy, jnp.ones((6, 8)))["weight"],
    ]
    assert len({tuple(row.tolist()) for row in rows}) > 20  # of 24 draws of 256 masks


@pytest.mark.no_leak_check("runs many eager operations")
def test_members_and_samples_differ():
    members = gs.vmap(lambda: gs.nn.Linear(4, 4), axis_size=5)()
    assert len({tuple(weight.ravel().tolist()) for weight in members.weight.value}) == 5
    seeded = gs.vmap(lambda seed: gs.nn.Linear(4, 4, rng=gs.random.RandomState(seed)))(jnp.arange(5))
    assert len({tuple(weight.ravel().tolist()) for weight in seeded.weight.value}) == 5
    noisy = Noisy()
    samples = gs.vmap(noisy, in_axes=None, axis_size=10)(jnp.ones(8))
    assert len({tuple(sample.tolist()) for sample in samples}) > 7
    steps = gs.for_loop(lambda: noisy(jnp.ones(8)), length=10)
    assert len({tuple(sample.tolist()) for sample in steps}) > 7
    again = gs.jit(lambda: noisy(jnp.ones(8)))
    assert len({tuple(again().tolist()) for _ in range(10)}) > 7


def test_one_state_under_two_axes_in_one_node_is_an_error():
    leaf = gs.vmap(Leaf)(jnp.arange(3.0))
    leaf.other = leaf.weight
    axes = gs.StateAxes({gs.filters.PathContains("other"): 0, ...: None})
    with pytest.raises(AliasError, match=r"`leaf.other` and `leaf.weight` are the same State"):
        gs.vmap(lambda leaf: leaf(1.0), in_axes=axes)(leaf)


# Flax NNX, update and filters


@pytest.mark.parametrize("inside", [False, True])
def test_update_takes_what_fits_and_names_the_rest(inside):
    leaf = Leaf(2.0)
    leaf.hidden = gs.HiddenState(jnp.zeros(3))

    def call(values):
        if inside:
            gs.jit(lambda leaf: gs.update(leaf, values))(leaf)
        else:
            gs.update(leaf, values)

    with pytest.raises(UpdateError, match="wieght"):
        call({"wieght": jnp.float32(1.0)})
    with pytest.raises(UpdateError, match=r"(?s)hidden.*\(?7"):
        call({"hidden": jnp.zeros(7), "weight": jnp.float32(5.0)})
    assert leaf.weight.value == 2.0
    assert sorted(vars(leaf)) == ["hidden", "scale", "weight"]
    call({"hidden": jnp.ones(3)})
    assert leaf.hidden.value.tolist() == [1.0, 1.0, 1.0]


def test_a_shared_state_is_found_by_each_of_its_paths():
    tree = gs.Node()
    tree.enc = tree.dec = Leaf()
    for name in ("enc", "dec"):
        assert len(gs.states(tree, gs.filters.PathContains(name))) == 1
        gradient = gs.grad(lambda tree: tree.enc(1.0), wrt=gs.filters.PathContains(name))(tree)
        assert jax.tree.leaves(gradient) == [1.0]


def test_a_state_is_itself_and_no_number():
    a, b = gs.State(jnp.ones(2)), gs.State(jnp.ones(2))
    assert a in [b, a]
    assert a not in [b]
    assert len({a, b}) == 2
    with pytest.raises(TypeError):
        a + 1
    with pytest.raises(TypeError):
        jnp.sin(a)


# BrainState


def test_jit_sees_the_environment():
    drop = gs.nn.Dropout(0.5)
    for first in (False, True):
        compiled = gs.jit(lambda x: drop(x))
        for fit in (first, not first, first):
            with gs.environ.context(fit=fit):
                assert bool((compiled(jnp.ones(32)) == 1.0).all()) is not fit
        assert (compiled(jnp.ones(32)) == 1.0).all()
    step = gs.jit(lambda x: x * gs.environ.get("dt"))
    for dt in (0.1, 1.0, 0.1):
        with gs.environ.context(dt=dt):
            np.testing.assert_allclose(step(1.0), dt)


def test_jit_sees_every_edit():
    tree = gs.Node()
    tree.layer, tree.layers = Leaf(2.0), [Leaf(1.0)]

    def forward(x):
        for layer in [tree.layer, *tree.layers]:
            x = layer(x)
        return x

    compiled = gs.jit(forward)
    assert compiled(1.0) == 2.0
    tree.layer.scale = 0.0
    assert compiled(1.0) == 0.0
    old, tree.layer = tree.layer, Leaf(3.0)
    assert compiled(1.0) == 3.0
    tree.layers.append(Leaf(5.0))
    assert compiled(1.0) == 15.0
    del tree.layers[:]
    assert compiled(1.0) == 3.0
    assert old.scale == 0.0


def test_a_plain_jit_around_a_map_of_states_warns():
    leaf = Leaf(2.0)
    with pytest.warns(StaleReadWarning, match="its present value becomes a constant of that program"):
        assert jax.jit(gs.vmap(leaf))(jnp.ones(2)).tolist() == [2.0, 2.0]
    compiled = gs.jit(gs.vmap(leaf))
    assert compiled(jnp.ones(2)).tolist() == [2.0, 2.0]
    leaf.weight.value = jnp.float32(0.0)
    assert compiled(jnp.ones(2)).tolist() == [0.0, 0.0]
    pure = jax.jit(gs.vmap(lambda x: 2 * x))
    assert pure(jnp.ones(2)).tolist() == [2.0, 2.0]


@pytest.mark.parametrize("size", [3, 4])
def test_an_axis_is_not_guessed_from_a_size(size):
    buffer, counter = gs.State(jnp.arange(4.0)), gs.State(jnp.int32(0))

    def step(x):
        counter.value = counter.value + 1
        return buffer.value * x

    for expected in (1, 2):
        assert gs.vmap(step)(jnp.ones(size)).shape == (size, 4)
        assert counter.value == expected
    assert buffer.value.shape == (4,)

    def write(x):
        buffer.value = buffer.value * x

    with pytest.raises(BatchAxisError, match=r"`buffer`.* is not mapped"):
        gs.vmap(write)(jnp.ones(size))


def test_a_state_does_not_grow():
    hidden = gs.HiddenState(jnp.zeros(5))

    def cell(x):
        hidden.value = hidden.value + x
        return hidden.value

    xs = jnp.ones((16, 5))
    with pytest.raises(BatchAxisError, match="each call would give it a further axis"):
        gs.vmap(cell, state_out_axes=gs.HiddenState)(xs)
    assert hidden.value.shape == (5,)
    hidden.value = jnp.zeros((16, 5))
    mapped = gs.vmap(cell, state_in_axes=gs.HiddenState)
    for _ in range(2):
        assert mapped(xs).shape == (16, 5)
        assert hidden.value.shape == (16, 5)


def test_a_mapped_constructor_batches_everything():
    layer = gs.vmap(lambda: gs.nn.Linear(3, 2), axis_size=4)()
    assert layer.weight.value.shape == (4, 3, 2)
    assert layer.bias.value.shape == (4, 2)


def test_an_array_kept_on_a_node_is_no_tracer():
    leaf = Leaf()

    def step(leaf, x):
        leaf.last = leaf(x)
        return leaf.last

    assert gs.jit(step)(leaf, 3.0) == leaf.last == 6.0
    _, state = gs.split(leaf)
    assert state["last"] == 6.0
    with pytest.raises(gs.errors.TraceContextError, match="Pass the Node as an argument"):
        gs.jit(lambda x: setattr(leaf, "last", x))(1.0)
    assert leaf.last == 6.0


def test_an_array_attribute_is_a_leaf():
    leaf = Leaf()
    leaf.buffer = jnp.ones(2)
    graphdef, state = gs.split(leaf)
    hash(graphdef)
    total = jax.jit(lambda state: jnp.sum(gs.merge(graphdef, state).buffer))
    assert total(state) == 2.0
    leaf.buffer = 2 * jnp.ones(2)
    assert total(gs.split(leaf)[1]) == 4.0
    assert gs.jit(lambda leaf: jnp.sum(leaf.buffer))(leaf) == 4.0


@pytest.mark.no_leak_check("counts runs")
@pytest.mark.parametrize("transform", ["jit", "vmap", "grad", "for_loop", "jit of vmap"])
def test_user_code_runs_once_and_never_on_made_up_values(transform):
    seen, state = [], gs.State(jnp.ones(3))
    axes = {"state_in_axes": gs.State}

    def function(x):
        seen.append(state.value)
        if not isinstance(state.value, jax.core.Tracer):
            assert (state.value == 1.0).all()
        state.value = state.value * 2
        return jnp.sum(state.value) * x

    {
        "jit": lambda: gs.jit(function)(1.0),
        "vmap": lambda: gs.vmap(function, **axes)(jnp.ones(3)),
        "grad": lambda: gs.grad(function)(1.0),
        "for_loop": lambda: gs.for_loop(function, jnp.ones(2)),
        "jit of vmap": lambda: gs.jit(gs.vmap(function, **axes))(jnp.ones(3)),
    }[transform]()
    assert len(seen) == 1
    assert state.value.tolist() == [4.0 if transform == "for_loop" else 2.0] * 3


# Flax NNX, what it leaves to the user


def test_an_ensemble_takes_the_code_of_one_member():
    def step(leaf, x):
        grads = gs.grad(lambda leaf: (leaf(x) - 1.0) ** 2)(leaf)
        gs.update(leaf, jax.tree.map(lambda old, grad: old - 0.1 * grad, gs.state(leaf, gs.ParamState), grads))
        return leaf(x)

    members = gs.vmap(Leaf)(jnp.arange(1.0, 4.0))
    singles = [Leaf(weight) for weight in (1.0, 2.0, 3.0)]
    results = gs.jit(gs.vmap(step, in_axes=(0, None)))(members, 0.5)
    np.testing.assert_allclose(results, [step(leaf, 0.5) for leaf in singles], rtol=1e-6)
    assert gs.take(members, 1).weight.value == singles[1].weight.value


def test_plain_jax_differentiates_a_merged_model_that_draws_and_counts():
    class Counting(gs.Node):
        def __init__(self):
            self.weight = gs.ParamState(jnp.ones(8))
            self.count = gs.State(jnp.int32(0))
            self.dropout = gs.nn.Dropout(0.5, rng=gs.random.RandomState(0))

        def __call__(self, x):
            self.count.value = self.count.value + 1
            return self.dropout(self.weight.value * x, fit=True)

    graphdef, params, rest = gs.split(Counting(), gs.ParamState, ...)

    def loss(params, rest, x):
        model = gs.merge(graphdef, params, rest)
        return jnp.sum(model(x)), gs.state(model, ~gs.filters.OfType(gs.ParamState))

    for wrap in (lambda f: f, jax.jit):
        gradient, after = wrap(jax.grad(loss, has_aux=True))(params, rest, jnp.ones(8))
        assert sorted(set(gradient["weight"].tolist())) == [0.0, 2.0]
        assert after["count"] == 1
        again, _ = wrap(jax.grad(loss, has_aux=True))(params, after, jnp.ones(8))
        assert gradient["weight"].tolist() != again["weight"].tolist()


def test_saved_values_come_back_checked():
    tree = gs.Node()
    tree.layers = [Leaf(1.0), Leaf(2.0)]
    tree.rng = gs.random.RandomState(7)
    expected = copy.deepcopy(tree).rng.uniform()
    text = {"layers": {"0": {"weight": jnp.float32(5.0)}, "1": {"weight": jnp.float32(6.0)}}}
    gs.update(tree, text)
    assert [leaf.weight.value for leaf in tree.layers] == [5.0, 6.0]
    restored = pickle.loads(pickle.dumps(tree))
    assert restored.rng.uniform() == expected
    assert restored.layers[1].weight.value == 6.0
    with pytest.raises(UpdateError, match="layers/2"):
        gs.update(tree, {"layers": {"2": {"weight": jnp.float32(5.0)}}})
    plain = gs.GraphState.from_dict(text, like=gs.state(tree, gs.ParamState))
    assert list(plain) == [("layers", 0, "weight"), ("layers", 1, "weight")]


def test_a_cyclic_node_is_a_leaf_to_plain_jax():
    node = gs.Node()
    node.me, node.weight = node, gs.ParamState(jnp.ones(2))
    assert jax.tree.leaves(node) == [node]
    assert gs.jit(lambda node: jnp.sum(node.me.me.weight.value))(node) == 2.0
    assert "me" in repr(node)


# Equinox


def test_running_statistics_are_written_in_place():
    class Statistics(gs.Node):
        def __init__(self):
            self.mean = gs.BatchState(jnp.float32(0.0))

        def __call__(self, x):
            self.mean.value = 0.5 * self.mean.value + 0.5 * jax.lax.pmean(x, "batch")
            return x - self.mean.value

    layer = Statistics()
    step = gs.jit(gs.vmap(lambda layer, x: layer(x), in_axes=(None, 0), axis_name="batch"))
    for expected in (1.0, 1.5):
        assert step(layer, jnp.array([1.0, 3.0])).shape == (2,)
        assert layer.mean.value == expected
    members = gs.vmap(Statistics, axis_size=3)()  # of members, over examples
    gs.vmap(lambda layer: gs.vmap(layer, axis_name="batch")(jnp.array([1.0, 3.0])))(members)
    assert members.mean.value.tolist() == [1.0] * 3


def test_functions_and_strings_of_a_node_are_no_lanes():
    class Layer(gs.Node):
        def __init__(self, weight):
            self.weight = gs.ParamState(weight)
            self.activation, self.name, self.size = jax.nn.relu, "layer", 3

        def __call__(self, x):
            return self.activation(self.weight.value * x)

    layers = gs.vmap(Layer)(jnp.arange(-1.0, 2.0))
    assert gs.vmap(lambda layer, x: layer(x), in_axes=(0, None))(layers, 2.0).tolist() == [0.0, 0.0, 2.0]
    assert (layers.activation, layers.name, layers.size) == (jax.nn.relu, "layer", 3)


def test_a_layer_used_twice_is_trained_as_one():
    tree = gs.Node()
    tree.layers = [Leaf(3.0)] * 2
    optimizer = gs.optim.Optimizer(tree, optax.sgd(0.1))
    optimizer.update(tree, gs.grad(lambda tree: tree.layers[0](1.0) * tree.layers[1](1.0))(tree))
    assert tree.layers[0] is tree.layers[1]
    np.testing.assert_allclose(tree.layers[0].weight.value, 3.0 - 0.1 * 6.0, rtol=1e-6)


@pytest.mark.parametrize("compiled", [False, True])
def test_nodes_go_through_every_loop_and_branch(compiled):
    def count(leaf):
        leaf.weight.value = leaf.weight.value + 1
        return leaf

    def everything(leaf):
        leaf, _ = gs.scan(lambda leaf, _: (count(leaf), None), leaf, length=2)
        leaf = gs.fori_loop(0, 2, lambda _, leaf: count(leaf), leaf)
        leaf = gs.while_loop(lambda leaf: leaf.weight.value < 10.0, count, leaf)
        leaf = gs.cond(leaf.weight.value > 0, count, lambda leaf: leaf, leaf)
        return gs.switch(1, [lambda leaf: leaf, count], leaf)

    leaf = Leaf(1.0)
    assert (gs.jit(everything) if compiled else everything)(leaf) is leaf
    assert leaf.weight.value == 12.0


def test_buffers_do_not_decay_and_a_filter_freezes():
    tree = gs.Node()
    tree.encoder, tree.head = Leaf(2.0), Leaf(3.0)
    tree.buffer, tree.array = gs.BatchState(jnp.float32(4.0)), jnp.float32(5.0)
    only_head = gs.filters.OfType(gs.ParamState) & gs.filters.PathContains("head")
    for wrt, encoder in ((gs.ParamState, 1.8), (only_head, 1.8)):
        optimizer = gs.optim.Optimizer(tree, optax.chain(optax.add_decayed_weights(1.0), optax.sgd(0.1)), wrt=wrt)
        optimizer.update(tree, jax.tree.map(jnp.zeros_like, gs.state(tree, wrt)))
        np.testing.assert_allclose(tree.encoder.weight.value, encoder, rtol=1e-6)
    np.testing.assert_allclose(tree.head.weight.value, 3.0 * 0.9**2, rtol=1e-6)
    assert (tree.buffer.value, tree.array) == (4.0, 5.0)


@pytest.mark.parametrize("out_axis", [0, 1, 2, -1, -2, -3])
def test_every_out_axis_is_the_loop_stacked_there(out_axis):
    xs = jnp.arange(24.0).reshape(4, 3, 2)
    expected = np.stack([2 * x for x in np.asarray(xs)], axis=out_axis)
    np.testing.assert_array_equal(gs.vmap(lambda x: 2 * x, out_axes=out_axis)(xs), expected)
    node = gs.vmap(Leaf, out_axes=out_axis)(xs)
    np.testing.assert_array_equal(node.weight.value, expected / 2)


def test_optax_takes_gradients_and_labels_as_they_are():
    tree = gs.Node()
    tree.a, tree.b = Leaf(1.0), Leaf(2.0)
    params = gs.state(tree, gs.ParamState)
    assert not callable(params)
    labels = params.map(lambda _: "frozen") | params.filter(gs.filters.PathContains("b")).map(lambda _: "trained")
    tx = optax.multi_transform({"frozen": optax.set_to_zero(), "trained": optax.sgd(0.5)}, labels)
    grads = gs.grad(lambda tree: tree.a(1.0) * tree.b(1.0))(tree)
    updates, _ = tx.update(grads, tx.init(params), params)
    gs.update(tree, optax.apply_updates(params, updates))
    assert (tree.a.weight.value, tree.b.weight.value) == (1.0, 1.5)
