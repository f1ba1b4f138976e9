"""Many members in one Node: every way to make a stack, and every way to run it, agree with the list of its parts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import graphstate as gs

MEMBERS = 4
X = jnp.linspace(-1.0, 1.0, 3)


class Layer(gs.Node):
    """Parameters, one of them tied, a running statistic, a count, a static number, and draws."""

    def __init__(self, seed):
        self.rng = gs.random.RandomState(seed)
        self.weight = gs.ParamState(self.rng.normal(size=(3, 3)))
        self.tied = [self.weight]
        self.mean = gs.BatchState(jnp.zeros(3))
        self.count = gs.State(jnp.int32(0))
        self.scale = 0.5

    def __call__(self, x):
        self.mean.value = 0.9 * self.mean.value + 0.1 * x
        self.count.value = self.count.value + 1
        noise = 0.1 * self.rng.normal(size=3)
        return jnp.tanh(self.scale * (x @ self.weight.value) + x @ self.tied[0].value.T) + noise


def parts():
    return [Layer(seed) for seed in range(MEMBERS)]


MAKERS = {
    "stack": lambda: gs.stack(parts()),
    "stack again": lambda: gs.stack(gs.unstack(gs.stack(parts()))),
    "vmap of the constructor": lambda: gs.vmap(Layer)(jnp.arange(MEMBERS)),
    "map of the constructor": lambda: gs.map(Layer, jnp.arange(MEMBERS)),
    "map of the constructor in batches": lambda: gs.map(Layer, jnp.arange(MEMBERS), batch_size=3),
    "for_loop over the constructor": lambda: gs.for_loop(Layer, jnp.arange(MEMBERS)),
    "scan over the constructor": lambda: gs.scan(lambda _, seed: (None, Layer(seed)), None, jnp.arange(MEMBERS))[1],
    "jit of vmap": lambda: gs.jit(gs.vmap(Layer))(jnp.arange(MEMBERS)),
    "take": lambda: gs.take(gs.stack([*parts(), Layer(9)]), jnp.arange(MEMBERS)),
}


def assert_alike(stacked, members, tolerance=1e-5):
    assert gs.diff(stacked, gs.stack(members)) == []
    assert stacked.tied[0] is stacked.weight
    for path, value in gs.state(gs.stack(members)).items():
        got, wanted = (_numbers(each) for each in (gs.state(stacked)[path], value))
        np.testing.assert_allclose(got, wanted, rtol=tolerance, atol=tolerance, err_msg=str(path))


def _numbers(value):
    return jax.random.key_data(value) if jnp.issubdtype(value.dtype, jax.dtypes.prng_key) else value


@pytest.mark.parametrize("make", MAKERS)
def test_every_way_to_make_a_stack_gives_the_stack_of_the_parts(make):
    assert_alike(MAKERS[make](), parts())


CALLS = {
    "vmap": lambda layers: gs.vmap(lambda layer: layer(X))(layers),
    "map": lambda layers: gs.map(lambda layer: layer(X), layers),
    "map in batches": lambda layers: gs.map(lambda layer: layer(X), layers, batch_size=3),
    "for_loop": lambda layers: gs.for_loop(lambda layer: layer(X), layers),
    "closed over": lambda layers: gs.vmap(lambda: layers(X), axis_size=MEMBERS, state_in_axes=...)(),
    "members": lambda layers: jnp.stack([layer(X) for layer in _members_of(layers)]),
}


def _members_of(layers):
    """Calls members that were taken apart, and puts them back."""
    members = gs.unstack(layers)
    yield from members
    gs.update(layers, gs.state(gs.stack(members)))


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "jit"])
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.no_leak_check("runs many eager operations")
def test_every_way_to_call_all_members_is_the_loop_over_the_parts(call, compiled):
    stacked, members = gs.stack(parts()), parts()
    run = gs.jit(CALLS[call]) if compiled else CALLS[call]
    for _ in range(2):
        expected = jnp.stack([member(X) for member in members])
        np.testing.assert_allclose(run(stacked), expected, rtol=1e-5, atol=1e-6)
        assert_alike(stacked, members)


SEQUENCES = {
    "scan": lambda layers: gs.scan(lambda x, layer: (layer(x), None), X, layers)[0],
    "scan unrolled": lambda layers: gs.scan(lambda x, layer: (layer(x), None), X, layers, unroll=2)[0],
    "scan of checkpointed layers": lambda layers: gs.scan(
        lambda x, layer: (gs.checkpoint(lambda layer, x: layer(x))(layer, x), None), X, layers
    )[0],
    "jit": lambda layers: gs.jit(lambda layers: gs.scan(lambda x, layer: (layer(x), None), X, layers)[0])(layers),
}


@pytest.mark.parametrize("sequence", SEQUENCES)
@pytest.mark.no_leak_check("runs many eager operations")
def test_a_scan_over_a_stack_of_layers_is_the_loop_over_the_parts(sequence):
    stacked, members = gs.stack(parts()), parts()
    for _ in range(2):
        x = X
        for member in members:
            x = member(x)
        np.testing.assert_allclose(SEQUENCES[sequence](stacked), x, rtol=1e-5, atol=1e-6)
        assert_alike(stacked, members)


@pytest.mark.parametrize("around", ["nothing", "jit", "checkpoint"])
@pytest.mark.no_leak_check("runs many eager operations")
def test_gradients_through_a_scan_over_layers_are_those_of_the_parts(around):
    """Tied parameters add up, once, in each layer."""

    def total(layers):
        apply = lambda layer, x: layer(x)  # noqa: E731
        apply = gs.checkpoint(apply) if around == "checkpoint" else apply
        return gs.scan(lambda x, layer: (apply(layer, x), None), X, layers)[0].sum()

    def total_of_parts(members):
        x = X
        for member in members:
            x = member(x)
        return x.sum()

    differentiate = gs.jit(gs.grad(total)) if around == "jit" else gs.grad(total)
    gradient = differentiate(gs.stack(parts()))
    expected = gs.grad(total_of_parts)(parts())
    assert list(gradient) == [("tied", 0)]
    stacked = jnp.stack([each["tied/0"] for each in expected])
    np.testing.assert_allclose(gradient["tied/0"], stacked, rtol=1e-4, atol=1e-5)


@pytest.mark.no_leak_check("runs many eager operations")
def test_a_stack_of_stacks_is_mapped_twice():
    grid = [[Layer(10 * row + column) for column in range(3)] for row in range(2)]
    stacked = gs.stack([gs.stack(row) for row in grid])
    made = gs.vmap(gs.vmap(Layer))(jnp.array([[0, 1, 2], [10, 11, 12]]))
    assert gs.diff(stacked, made) == []
    expected = jnp.stack([jnp.stack([layer(X) for layer in row]) for row in grid])
    inner = gs.vmap(lambda layer: layer(X))
    np.testing.assert_allclose(gs.vmap(inner)(stacked), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(gs.for_loop(inner, made), expected, rtol=1e-5, atol=1e-6)
