"""What comes out where state is easily lost, stale or shared: the right result, an error, or a wrong result in silence?

Each row is one thing that users do, written for each library in its own terms; a library is left out of a row where
what the row does cannot be written in it. The extra `bench` installs the libraries.

    python benchmarks/silent.py
    python benchmarks/silent.py --json
"""

import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import brainstate
import equinox as eqx
import jax
import jax.numpy as jnp
from _report import Row, Table, main
from flax import nnx

import graphstate as gs

ONES: Final = jnp.ones(64)

ROWS: dict[str, dict[str, Callable[[], Any]]] = {}
"""By what is done and by library: a function that does it, and returns whether the result is right."""


class Ours(gs.Node):
    def __init__(self) -> None:
        self.scale, self.weight = 1.0, gs.ParamState(jnp.float32(2))

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.scale * self.weight.value * x


class Flax(nnx.Module):
    def __init__(self) -> None:
        self.scale, self.weight = 1.0, nnx.Param(jnp.float32(2))

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.scale * self.weight[...] * x


class Brain(brainstate.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale, self.weight = 1.0, brainstate.ParamState(jnp.float32(2))

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.scale * self.weight.value * x


class Twice(eqx.Module):
    """One weight in two places."""

    first: jax.Array
    second: jax.Array


def row(title: str, **cases: Callable[[], Any]) -> None:
    ROWS[title] = cases


def differ(arrays: Iterable[jax.Array]) -> bool:
    rows = [tuple(array.ravel().tolist()) for array in arrays]
    return len(set(rows)) == len(rows)


def is_dropping(y: jax.Array) -> bool:
    return bool((y == 0).any())


# A compiled function that reaches its model through the closure


def _closed(model: Any, jit: Callable[..., Any], change: Callable[[Any], Any], expected: float) -> bool:
    compiled = jit(lambda x: model(x))
    assert compiled(jnp.float32(1)) == 2
    change(model)
    return bool(compiled(jnp.float32(1)) == expected)


def _replaced(holder: Any, part: Callable[[], Any], jit: Callable[..., Any]) -> bool:
    holder.part = part()
    compiled = jit(lambda x: holder.part(x))
    assert compiled(jnp.float32(1)) == 2
    holder.part = part()
    holder.part.scale = 3.0
    return bool(compiled(jnp.float32(1)) == 6)


def _fit(drop: Any, jit: Callable[..., Any], context: Callable[..., Any]) -> bool:
    compiled = jit(lambda x: drop(x))
    with context(fit=False):
        assert not is_dropping(compiled(ONES))
    with context(fit=True):
        return is_dropping(compiled(ONES))


def _fit_flax() -> bool:
    drop = nnx.Dropout(0.5, rngs=nnx.Rngs(0))
    compiled = nnx.jit(lambda drop, x: drop(x))
    drop.eval()
    assert not is_dropping(compiled(drop, ONES))
    drop.train()
    return is_dropping(compiled(drop, ONES))


row(
    "jit, then new weights in a model that it closes over",
    graphstate=lambda: _closed(Ours(), gs.jit, lambda m: setattr(m.weight, "value", jnp.float32(5)), 5),
    flax=lambda: _closed(Flax(), nnx.jit, lambda m: m.weight.set_value(jnp.float32(5)), 5),
    brainstate=lambda: _closed(
        Brain(), brainstate.transform.jit, lambda m: setattr(m.weight, "value", jnp.float32(5)), 5
    ),
)
row(
    "jit, then a number set on that model",
    graphstate=lambda: _closed(Ours(), gs.jit, lambda m: setattr(m, "scale", 0.0), 0),
    flax=lambda: _closed(Flax(), nnx.jit, lambda m: setattr(m, "scale", 0.0), 0),
    brainstate=lambda: _closed(Brain(), brainstate.transform.jit, lambda m: setattr(m, "scale", 0.0), 0),
)
row(
    "jit, then a part of that model replaced",
    graphstate=lambda: _replaced(gs.Node(), Ours, gs.jit),
    flax=lambda: _replaced(nnx.Module(), Flax, nnx.jit),
    brainstate=lambda: _replaced(brainstate.nn.Module(), Brain, brainstate.transform.jit),
)
row(
    "jit with dropout off, then dropout switched on",
    graphstate=lambda: _fit(gs.nn.Dropout(0.5), gs.jit, gs.environ.context),
    flax=_fit_flax,
    brainstate=lambda: _fit(brainstate.nn.Dropout(0.5), brainstate.transform.jit, brainstate.environ.context),
)


# Plain JAX around objects


def _plain_read(model: Any, vmap: Callable[..., Any]) -> bool:
    compiled = jax.jit(vmap(model))
    assert compiled(jnp.ones(2)).tolist() == [2, 2]
    model.weight.value = jnp.float32(0)
    return compiled(jnp.ones(2)).tolist() == [0, 0]


def _plain_write(model: Any, write: Callable[[Any], Any], read: Callable[[Any], Any]) -> bool:
    jax.jit(write)(model)
    return bool(read(model) == 3)


row(
    "plain `jax.jit` around a map of it, then new weights",
    graphstate=lambda: _plain_read(Ours(), gs.vmap),
    brainstate=lambda: _plain_read(Brain(), brainstate.transform.vmap),
)
row(
    "plain `jax.jit` of a function that writes to a model",
    graphstate=lambda: _plain_write(
        Ours(), lambda m: setattr(m.weight, "value", m.weight.value + 1), lambda m: m.weight.value
    ),
    flax=lambda: _plain_write(Flax(), lambda m: m.weight.set_value(m.weight[...] + 1), lambda m: m.weight[...]),
    brainstate=lambda: _plain_write(
        Brain(), lambda m: setattr(m.weight, "value", m.weight.value + 1), lambda m: m.weight.value
    ),
)


# One weight in two places: its gradient, and that both places still agree after a step


def _tied() -> bool:
    model = Ours()
    model.twin = model.weight
    gradient = gs.grad(lambda m: m.weight.value * m.twin.value)(model)
    return jax.tree.leaves(gradient) == [4]


def _tied_flax() -> bool:
    model = Flax()
    model.twin = model.weight
    gradient = nnx.grad(lambda m: m.weight[...] * m.twin[...])(model)
    return jax.tree.leaves(gradient) == [4]


def _tied_brainstate() -> bool:
    model = Brain()
    model.twin = model.weight
    params = model.states(brainstate.ParamState)
    gradient = brainstate.transform.grad(lambda: model.weight.value * model.twin.value, params)()
    return jax.tree.leaves(gradient) == [4]


def _tied_equinox() -> bool:
    weight = jnp.float32(2)
    gradient = eqx.filter_grad(lambda m: m.first * m.second**2)(Twice(weight, weight))
    stepped = eqx.apply_updates(Twice(weight, weight), gradient)
    return bool(stepped.first == stepped.second)


row(
    "a weight in two places, and a step of descent",
    graphstate=_tied,
    flax=_tied_flax,
    brainstate=_tied_brainstate,
    equinox=_tied_equinox,
)


# Maps: masks, members, and a state that is read and written in lanes


def _grow(state: Any, vmap: Callable[..., Any], **axes: Any) -> bool:
    def cell(x: jax.Array) -> jax.Array:
        state.value = state.value + x
        return state.value

    for _ in range(2):
        vmap(cell, **axes)(jnp.ones((16, 5)))
    return bool(state.value.shape == (16, 5))


def _masks() -> bool:
    drop = gs.nn.Dropout(0.5, fit=True, rng=gs.random.RandomState(0))
    return differ(gs.vmap(lambda drop, x: drop(x), in_axes=(None, 0))(drop, jnp.ones((8, 64))))


def _masks_flax() -> bool:
    drop = nnx.Dropout(0.5, rngs=nnx.Rngs(0))
    return differ(nnx.vmap(lambda drop, x: drop(x), in_axes=(None, 0))(drop, jnp.ones((8, 64))))


def _masks_brainstate() -> bool:
    with brainstate.environ.context(fit=True):
        return differ(brainstate.transform.vmap(brainstate.nn.Dropout(0.5))(jnp.ones((8, 64))))


def _members() -> bool:
    return differ(gs.vmap(lambda: gs.nn.Linear(2, 3), axis_size=4)().weight.value)


def _members_flax() -> bool:
    make = nnx.vmap(lambda rngs: nnx.Linear(2, 3, rngs=rngs), in_axes=None, axis_size=4)
    return differ(make(nnx.Rngs(0)).kernel[...])


def _members_brainstate() -> bool:
    members = brainstate.nn.Map(brainstate.nn.Linear(2, 3), init_map_size=4)
    members.init_all_states()
    (param,) = members.states(brainstate.ParamState).values()
    return bool(param.value["weight"].shape == (4, 2, 3))


row(
    "dropout in the lanes of a map, the model not mapped",
    graphstate=_masks,
    flax=_masks_flax,
    brainstate=_masks_brainstate,
)
row("members of an ensemble, made in a map", graphstate=_members, flax=_members_flax, brainstate=_members_brainstate)
row(
    "a state that lanes read, mapped as output only",
    graphstate=lambda: _grow(gs.HiddenState(jnp.zeros(5)), gs.vmap, state_out_axes={gs.HiddenState: 0}),
    brainstate=lambda: _grow(
        brainstate.HiddenState(jnp.zeros(5)),
        brainstate.transform.vmap2,
        state_out_axes={0: brainstate.HiddenState},
    ),
)


# Objects


def _leak(model: Any, jit: Callable[..., Any]) -> bool:
    jit(lambda x: setattr(model, "last", x) or x)(jnp.float32(1))
    return not isinstance(model.last, jax.core.Tracer)


def _list(model: Any, layer: Any, count: Callable[[Any], int]) -> bool:
    model.layers = []
    model.layers.append(layer)
    return count(model) == 1


def _shape(model: Any, update: Callable[[Any], None]) -> bool:
    update(model)
    return False  # a scalar weight has taken seven by seven values


def _shape_brainstate(model: Brain) -> None:
    _, values = brainstate.graph.treefy_split(model)
    brainstate.graph.update_states(model, jax.tree.map(lambda _: jnp.ones((7, 7)), values))


row(
    "a traced value kept on a model that jit closes over",
    graphstate=lambda: _leak(Ours(), gs.jit),
    flax=lambda: _leak(Flax(), nnx.jit),
    brainstate=lambda: _leak(Brain(), brainstate.transform.jit),
)
row(
    "an empty list of layers, filled later",
    graphstate=lambda: _list(gs.Node(), Ours(), lambda m: len(gs.states(m))),
    flax=lambda: _list(nnx.Module(), Flax(), lambda m: len(jax.tree.leaves(nnx.state(m)))),
    brainstate=lambda: _list(brainstate.nn.Module(), Brain(), lambda m: len(m.states())),
)
row(
    "values of another shape loaded into a model",
    graphstate=lambda: _shape(Ours(), lambda m: gs.update(m, {"weight": jnp.ones((7, 7))})),
    flax=lambda: _shape(Flax(), lambda m: nnx.update(m, {"weight": jnp.ones((7, 7))})),
    brainstate=lambda: _shape(Brain(), _shape_brainstate),
)


def outcome(case: Callable[[], Any]) -> str:
    """What came: "right", the error or the warning, or "wrong"."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            if case():
                return "right"
        except Exception as error:
            return type(error).__name__
    said = {each.category.__name__ for each in caught if not issubclass(each.category, DeprecationWarning)}
    return ", ".join(sorted(said)) or "wrong"


LIBRARIES: Final = ("graphstate", "flax", "brainstate", "equinox")


@dataclass(frozen=True, slots=True)
class Sizes:
    """Everything is done once."""


def measure(sizes: Sizes) -> list[Table]:
    rows = [{"what is done": title} | _outcomes(cases) for title, cases in ROWS.items()]
    return [Table("What came", [Row(row) for row in rows])]


def _outcomes(cases: Mapping[str, Callable[[], Any]]) -> dict[str, str]:
    return {library: outcome(cases[library]) if library in cases else "-" for library in LIBRARIES}


if __name__ == "__main__":
    main(__doc__, measure, Sizes(), Sizes())
