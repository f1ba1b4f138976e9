"""A law of the names of axes: through any maps, one in the other, an array's axes are called what they are."""

import functools

import jax
import jax.numpy as jnp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphstate as gs

pytestmark = pytest.mark.no_leak_check("very many traces")

NAMES = {2: "embed", 3: "mlp", 5: "five", 7: "seven", 11: "eleven"}
"""An axis of each size, and its name: an array tells by its shape how its axes must be called."""
ONE = jax.devices()[:1]
FRONT = ("map", "for_loop")


class Layer(gs.Node):
    """Two States that differ in rank, and so in where an axis that is counted from the end lies."""

    def __init__(self):
        self.weight = gs.ParamState(jnp.zeros((2, 3)), axes=("embed", "mlp"))
        self.bias = gs.State(jnp.zeros(3), axes=("mlp",))


class Map:
    """One map: how it stacks what is built in its lanes, and how it is taken apart again."""

    def __init__(self, draw, size, around, unnamed):
        self.size, self.inner = size, unnamed
        self.adds = draw(st.sampled_from(["vmap", "pmap", "stack", *FRONT]))
        axes = [0 if self.adds in FRONT else draw(st.integers(-rank - around, rank + around - 1)) for rank in (3, 2)]
        self.spec = gs.StateAxes({gs.ParamState: axes[0], ...: axes[1]})
        self.outer = unnamed if self.adds in ("vmap", "pmap") else {*unnamed, size}
        steps = ["scan"] if axes == [0, 0] else []
        self.takes = draw(st.sampled_from(["vmap", "pmap", "closed over", "take", "unstack", *steps]))

    def stacked(self, build):
        def make(*_):
            made = build()
            check(made, self.inner)
            return gs.clone(made) if self.size == 7 else made

        given = {"axis_size": self.size, "out_axes": self.spec, "axis_name": NAMES[self.size]}
        return {
            "vmap": lambda: gs.vmap(make, **given)(),
            "pmap": lambda: gs.pmap(make, devices=ONE, **given)(),
            "stack": lambda: gs.stack([make() for _ in range(self.size)], self.spec),
            "map": lambda: gs.map(make, jnp.arange(self.size), batch_size=2),
            "for_loop": lambda: gs.for_loop(make, jnp.arange(self.size)),
        }[self.adds]

    def taken_apart(self, node, inside):
        def lane(member):
            for each in (member, gs.clone(member), gs.merge(*gs.split(member))):
                check(each, self.inner)
            inside(member)
            member.bias.value = member.bias.value + 1

        check(node, self.outer)
        {
            "vmap": lambda: gs.vmap(lane, in_axes=(self.spec,))(node),
            "pmap": lambda: gs.pmap(lane, in_axes=(self.spec,), devices=ONE)(node),
            "closed over": lambda: gs.vmap(lambda: lane(node), axis_size=self.size, state_in_axes=self.spec)(),
            "take": lambda: lane(gs.take(node, 1, self.spec)),
            "unstack": lambda: lane(gs.unstack(node, self.spec)[-1]),
            "scan": lambda: gs.scan(lambda carry, member: (carry, lane(member)), 0, node),
        }[self.takes]()
        check(node, self.outer)


def check(node, unnamed):
    for state in gs.states(node).values():
        sizes = jnp.shape(state.value)
        assert state.metadata["axes"] == tuple(None if size in unnamed else NAMES[size] for size in sizes)


@settings(max_examples=60)
@given(st.data())
def test_the_axes_of_arrays_are_called_what_they_are(data):
    sizes = data.draw(st.lists(st.sampled_from([5, 7, 11]), min_size=1, max_size=3, unique=True))
    maps, build, inside = [], Layer, lambda member: check(member, ())
    for around, size in enumerate(sizes):
        maps.append(Map(data.draw, size, around, maps[-1].outer if maps else set()))
        build = maps[-1].stacked(build)
    for each in maps:
        inside = functools.partial(each.taken_apart, inside=inside)

    def program():
        node = build()
        inside(node)
        return node

    check(gs.abstract(program), maps[-1].outer)
