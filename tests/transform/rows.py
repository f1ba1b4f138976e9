"""Every transform as a row of one table, which the tests of laws and of nests run through.

A row turns a function of a Node and a scalar into a function of a Node and a scalar, once with graphstate, where the
Node is an argument of the transform or closed over, and once with plain JAX for functions of the scalar alone, where
the same value comes out. A new transform is tested by adding its row.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

import graphstate as gs

MESH = jax.make_mesh((2,), ("device",), axis_types=(jax.sharding.AxisType.Auto,))
SPLIT = PartitionSpec("device")
LANES = np.float32([1.0, 2.0])


@dataclass(frozen=True)
class Row:
    """A transform.

    Attributes:
        name: its name.
        closed: takes f, a function of a scalar, and returns the function with graphstate.
        passed: takes f, a function of a Node and a scalar, and returns the function with graphstate, which has the Node
            as an argument; None where the transform takes no such argument.
        plain: as `closed`, with plain JAX.
        steps: how often the function runs, as a Python loop would run it; lanes count once.
        runs: how often JAX runs it to trace it.
        kinds: what the row is: "loop", "branch", "lanes", "derivative", "rule"; "forward" and "reverse", the modes of
            differentiation that it uses; "no forward" and "no reverse", those that JAX has not for it; "manual", over
            devices; "itself", the function itself where nothing is traced; "transparent", the function itself always.
    """

    name: str
    closed: Callable = field(repr=False)
    passed: Callable | None = field(repr=False)
    plain: Callable = field(repr=False)
    steps: int = 1
    runs: int = 1
    kinds: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return self.name

    def wrap(self, f, access="closed"):
        """The function of a Node and a scalar with the transform around it."""
        if access == "passed" and self.passed is not None:
            return self.passed(f)
        held = []
        transformed = self.closed(lambda x: f(held[0], x))

        def function(node, x):
            held[:] = [node]
            return transformed(x)

        return function


def _same(f):
    return f


def _twice(f):
    """Two lanes or steps, one at x and one at 2x."""
    return lambda x: f(x) + f(2 * x)


def _value_and_slope(f):
    return lambda x: f(x) + jax.grad(f)(x)


# Derivatives


def _vjp(f):
    def function(x):
        y, pull_back = gs.vjp(f, x)
        return y + pull_back(jnp.ones_like(y))[0]

    return function


def _vjp_passed(f):
    def function(node, x):
        y, pull_back = gs.vjp(f, node, x)
        return y + pull_back(jnp.ones_like(y))[1]

    return function


def _tangents(node, x):
    return jax.tree.map(jnp.zeros_like, gs.state(node, gs.ParamState)), jnp.ones_like(x)


def _linearize(f):
    def function(x):
        y, push_forward = gs.linearize(f, x)
        return y + push_forward(jnp.ones_like(x))

    return function


def _linearize_passed(f):
    def function(node, x):
        y, push_forward = gs.linearize(f, node, x)
        return y + push_forward(*_tangents(node, x))

    return function


def _custom_jvp(f):
    ruled = gs.custom_jvp(lambda *args: f(*args))
    ruled.defjvp(lambda primals, tangents: gs.jvp(f, primals, tangents))
    return ruled


def _custom_vjp(f):
    ruled = gs.custom_vjp(lambda *args: f(*args))
    ruled.defvjp(lambda *args: gs.vjp(f, *args), lambda pull_back, cotangent: pull_back(cotangent))
    return ruled


# Lanes


def _map(f):
    return lambda x: gs.map(f, x * LANES).sum()


def _map_in_batches(f):
    return lambda x: gs.map(f, jnp.append(x * LANES, 0 * x), batch_size=2).sum()


def _pmap(f):
    mapped = gs.pmap(f, mesh=MESH)
    return lambda x: mapped(x * LANES).sum()


def _pmap_passed(f):
    mapped = gs.pmap(f, in_axes=(None, 0), mesh=MESH)
    return lambda node, x: mapped(node, x * LANES).sum()


def _shard_map(f):
    mapped = gs.shard_map(lambda y: f(y[0])[None], mesh=MESH, in_specs=SPLIT, out_specs=SPLIT)
    return lambda x: mapped(x * LANES).sum()


def _shard_map_passed(f):
    specs = (PartitionSpec(), SPLIT)
    mapped = gs.shard_map(lambda node, y: f(node, y[0])[None], mesh=MESH, in_specs=specs, out_specs=SPLIT)
    return lambda node, x: mapped(node, x * LANES).sum()


# Control flow: the functions that loops and branches are given are made once, so that they are met again.


def _scan(f):
    step = lambda total, y: (total + f(y), None)  # noqa: E731
    return lambda x: gs.scan(step, 0 * x, x * LANES)[0]


def _scan_passed(f):
    step = lambda carry, y: ((carry[0], carry[1] + f(carry[0], y)), None)  # noqa: E731
    return lambda node, x: gs.scan(step, (node, 0 * x), x * LANES)[0][1]


def _is_first(carry):
    return carry[0] < 1


def _while_loop(f):
    step = lambda carry: (carry[0] + 1, f(carry[1]))  # noqa: E731
    return lambda x: gs.while_loop(_is_first, step, (0, x))[1]


def _while_loop_passed(f):
    step = lambda carry: (carry[0] + 1, carry[1], f(carry[1], carry[2]))  # noqa: E731
    return lambda node, x: gs.while_loop(_is_first, step, (0, node, x))[2]


def _fori_loop(f):
    step = lambda i, carry: (carry[0] + f(carry[1]), carry[1])  # noqa: E731
    return lambda x: gs.fori_loop(0, 2, step, (0 * x, x))[0]


def _fori_loop_passed(f):
    step = lambda i, carry: (carry[0], carry[1] + f(carry[0], carry[2]), carry[2])  # noqa: E731
    return lambda node, x: gs.fori_loop(0, 2, step, (node, 0 * x, x))[1]


def _zero(*args):
    return 0 * args[-1]


def _row(name, closed, passed, plain=_same, *, kinds="", **counts):
    return Row(name, closed, passed, plain, kinds=frozenset(kinds.split(", ")) - {""}, **counts)


ROWS = (
    _row("jit", lambda f: gs.jit(f), lambda f: gs.jit(f)),
    _row(
        "vmap",
        lambda f: lambda x: gs.vmap(f)(x * LANES).sum(),
        lambda f: lambda node, x: gs.vmap(f, in_axes=(None, 0))(node, x * LANES).sum(),
        _twice,
        kinds="lanes",
    ),
    _row("pmap", _pmap, _pmap_passed, _twice, kinds="lanes"),
    _row("map", _map, None, _twice, kinds="lanes"),
    _row("map in batches", _map_in_batches, None, lambda f: lambda x: f(x) + f(2 * x) + f(0 * x), kinds="lanes"),
    _row("shard_map", _shard_map, _shard_map_passed, _twice, kinds="lanes, manual"),
    _row("grad", lambda f: gs.grad(f), lambda f: gs.grad(f, 1), lambda f: jax.grad(f), kinds="derivative, reverse"),
    _row(
        "value_and_grad",
        lambda f: lambda x: sum(gs.value_and_grad(f)(x)),
        lambda f: lambda node, x: sum(gs.value_and_grad(f, 1)(node, x)),
        _value_and_slope,
        kinds="derivative, reverse",
    ),
    _row(
        "vector_grad",
        lambda f: lambda x: gs.vector_grad(lambda x: f(x) * LANES)(x).sum(),
        lambda f: lambda node, x: gs.vector_grad(lambda node, x: f(node, x) * LANES, 1)(node, x).sum(),
        lambda f: lambda x: 3 * jax.grad(f)(x),
        kinds="derivative, reverse",
    ),
    _row(
        "jacrev", lambda f: gs.jacrev(f), lambda f: gs.jacrev(f, 1), lambda f: jax.grad(f), kinds="derivative, reverse"
    ),
    _row(
        "jacfwd",
        lambda f: gs.jacfwd(f),
        lambda f: gs.jacfwd(f, 1),
        lambda f: jax.jacfwd(f),
        kinds="derivative, forward",
    ),
    _row(
        "hessian",
        lambda f: gs.hessian(f),
        lambda f: gs.hessian(f, 1),
        lambda f: jax.grad(jax.grad(f)),
        kinds="derivative, forward, reverse",
    ),
    _row(
        "jvp",
        lambda f: lambda x: sum(gs.jvp(f, (x,), (jnp.ones_like(x),))),
        lambda f: lambda node, x: sum(gs.jvp(f, (node, x), _tangents(node, x))),
        _value_and_slope,
        kinds="derivative, forward",
    ),
    _row("vjp", _vjp, _vjp_passed, _value_and_slope, kinds="derivative, reverse"),
    _row("linearize", _linearize, _linearize_passed, _value_and_slope, kinds="derivative, forward"),
    _row("custom_jvp", _custom_jvp, _custom_jvp, runs=2, kinds="rule, itself, forward"),
    _row("custom_vjp", _custom_vjp, _custom_vjp, runs=2, kinds="rule, itself, reverse, no forward"),
    _row("checkpoint", lambda f: gs.checkpoint(f), lambda f: gs.checkpoint(f), kinds="itself"),
    _row("scan", _scan, _scan_passed, _twice, steps=2, kinds="loop"),
    _row("for_loop", lambda f: lambda x: gs.for_loop(f, x * LANES).sum(), None, _twice, steps=2, kinds="loop"),
    _row("while_loop", _while_loop, _while_loop_passed, kinds="loop, no reverse"),
    _row("fori_loop", _fori_loop, _fori_loop_passed, lambda f: lambda x: 2 * f(x), steps=2, kinds="loop"),
    _row(
        "cond",
        lambda f: lambda x: gs.cond(True, f, _zero, x),
        lambda f: lambda node, x: gs.cond(True, f, _zero, node, x),
        kinds="branch",
    ),
    _row(
        "switch",
        lambda f: lambda x: gs.switch(1, [_zero, f, _zero], x),
        lambda f: lambda node, x: gs.switch(1, [_zero, f, _zero], node, x),
        kinds="branch",
    ),
    _row(
        "checkify",
        lambda f: lambda x: gs.checkify(f)(x)[1],
        lambda f: lambda node, x: gs.checkify(f)(node, x)[1],
    ),
    _row(
        "named_scope",
        lambda f: gs.named_scope("scope")(f),
        lambda f: gs.named_scope("scope")(f),
        kinds="transparent",
    ),
    _row(
        "assert_max_traces",
        lambda f: gs.assert_max_traces(f, 100),
        lambda f: gs.assert_max_traces(f, 100),
        kinds="transparent",
    ),
)
BY_NAME = {row.name: row for row in ROWS}

# Its function may only read: the laws of what is written have no meaning for it.
ASSOCIATIVE_SCAN = _row(
    "associative_scan",
    lambda f: lambda x: gs.associative_scan(lambda a, b: a + b + f(x), x * LANES)[-1],
    None,
    lambda f: lambda x: 3 * x + f(x),
)


def is_meaningful(outer: Row, inner: Row) -> bool:
    """Whether JAX has the composition of two transforms at all."""
    modes = outer.kinds & {"forward", "reverse"}
    if any(f"no {mode}" in inner.kinds for mode in modes):
        return False
    return not ("manual" in outer.kinds and "manual" in inner.kinds)
