"""The one file that may touch `jax._src` or ask for a version; each exception with its reason.

Tested with jax 0.10.1 and 0.10.2. What is taken from the inside of JAX, and why the public API does not do:

- the current trace, in 35 ns: every read of a State asks for it, and the public way round
  (`take_current_trace`) is a context manager that costs ten times as much;
- the trace that encloses a trace, and whether a trace builds a program that JAX will cache:
  there is no public question for either;
- whether a value is batched by one particular `vmap`: there is no public question for it;
- what its trace caches are keyed by: a program that is kept here must be found under the same conditions;
- the names that the collectives of a program take, which are effects of a type that is not public;
- the type of an array without its mesh: there is no public way to change a type;
- the jaxprs in the parameters of equations: `jax.extend.core` does not find them;
- giving an array a weak type: there is no public way to make one that is no scalar;
- replacing the inputs of a jaxpr: `Jaxpr.replace` is public, the debug info that must agree with it is not;
- the store of words that the processes of one program share: `jax.distributed` starts it, and keeps it to itself;
- whether JAX knows the cluster that it runs on, and so would find the other processes by itself;
- what `jax.extend.core` makes public: importing it imports all of Pallas, 15 ms.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import jax
import jax.numpy as jnp
from jax._src import config as _config  # see above
from jax._src import core as _core  # see above
from jax._src import distributed as _distributed  # see above
from jax._src.array import (
    ArrayImpl as ArrayImpl,
)  # the exact type of a concrete array: `type(x) is ArrayImpl` costs 30 ns
from jax._src.clusters import ClusterEnv as _ClusterEnv
from jax._src.interpreters.partial_eval import DynamicJaxprTrace as _DynamicJaxprTrace
from jax._src.lax.lax import _convert_element_type  # see above
from jax.interpreters.partial_eval import dce_jaxpr as _dce_jaxpr

Tracer = jax.core.Tracer
Trace = Any

trace_state = _core.trace_state_strong_ref
"""Its `value` is the current trace: for places where even the call of `current_trace` would count."""

EVAL: Trace = _core.eval_trace


def current_trace() -> Trace:
    """The trace that operations are being recorded in; `EVAL` where they are executed."""
    return trace_state.value


def set_trace(trace: Trace) -> AbstractContextManager[None]:
    """A block whose operations are recorded in `trace`."""
    return _core.set_current_trace(trace)


def enclosing_traces(trace: Trace) -> Iterator[Trace]:
    """`trace` and all the traces that it runs inside of, innermost first, without `EVAL`."""
    while trace is not None and trace is not EVAL:
        yield trace
        trace = getattr(trace, "parent_trace", None)


def is_caching(trace: Trace) -> bool:
    """Whether `trace` builds a program that JAX may keep and run again (jit, scan, cond, ...)."""
    return isinstance(trace, _DynamicJaxprTrace)


def is_traced_by(value: Any, trace: Trace) -> bool:
    """Whether `value` is a tracer of `trace`."""
    return isinstance(value, Tracer) and value._trace is trace


def is_batched_by(value: Any, trace: Trace) -> bool:
    """Whether `value` depends on the lane of `trace`: all that `custom_jvp` returns there is a tracer of it."""
    return is_traced_by(value, trace) and getattr(value, "batch_dim", trace) is not None


def varying_axes(value: Any) -> frozenset[Any]:
    """The mesh axes over which `value` varies, inside of a `jax.shard_map` that keeps account of it."""
    manual: Any = getattr(jax.typeof(value), "manual_axis_type", None)
    return frozenset() if manual is None else frozenset(manual.varying)


def named_axes(closed: Any) -> frozenset[Any]:
    """The names of the axes that a program's collectives take; not all of these say so by an effect."""
    found = {effect.name for effect in closed.jaxpr.effects if isinstance(effect, _core.NamedAxisEffect)}
    for jaxpr in iter_jaxprs(closed):
        for eqn in jaxpr.eqns:
            for given in (eqn.params.get("axis_name"), eqn.params.get("axes")):
                found.update(given if isinstance(given, tuple) else () if given is None else (given,))
    return frozenset(found)


def bare_type(value: Any) -> Any:
    """The type of `value` without the mesh that it lies on, where JAX places all by itself (Auto axes).

    A program is the same wherever its inputs lie, and a program of one lane is run inside of other meshes.
    """
    aval: Any = jax.typeof(value)
    mesh = getattr(getattr(aval, "sharding", None), "mesh", None)
    if mesh is None or mesh.empty or not mesh.are_all_axes_auto:
        return aval
    return aval.update(sharding=None)


# A value of this context enters the key of every trace cache of JAX: under a fresh one, a plain `jax.jit`
# or `lax.scan` inside a graphstate transform is traced anew and cannot hand on a value of another trace.
trace_token: Callable[[int | None], AbstractContextManager[None]] = jax.make_user_context(default_value=None)


input_p = _core.Primitive("state_input")
"""Stands for an input that was discovered while its program was being traced."""
input_p.def_abstract_eval(lambda *, aval: aval)


def weakly_typed(array: Any) -> Any:
    """`array` as JAX has what comes of Python numbers: with a dtype that gives way to those of others."""
    return _convert_element_type(array, array.dtype, weak_type=True)


def bind_input(aval: Any, trace: Trace) -> Any:
    """A tracer of `trace` that `with_inputs` turns into an input later on."""
    with set_trace(trace):
        return input_p.bind(aval=aval)


def with_inputs(closed: Any) -> tuple[Any, int]:
    """The jaxpr with every placeholder of `bind_input` as a further input, in order, and their number."""
    jaxpr = closed.jaxpr
    found = [eqn.outvars[0] for eqn in jaxpr.eqns if eqn.primitive is input_p]
    if not found:
        return closed, 0
    jaxpr = jaxpr.replace(
        invars=[*jaxpr.invars, *found],
        eqns=[eqn for eqn in jaxpr.eqns if eqn.primitive is not input_p],
        debug_info=jaxpr.debug_info.with_unknown_names(),
    )
    return _core.ClosedJaxpr(jaxpr, closed.consts), len(found)


def run_jaxpr(closed: Any, arguments: Sequence[Any]) -> list[Any]:
    """The outputs of `closed`, recorded in the current trace."""
    return list(_core.jaxpr_as_fun(closed)(*arguments))


def iter_jaxprs(jaxpr: Any) -> Iterator[Any]:
    """A jaxpr, and all those in the parameters of its equations."""
    pending = [getattr(jaxpr, "jaxpr", jaxpr)]
    while pending:
        current = pending.pop()
        yield current
        pending += _core.subjaxprs(current)


def trace_context() -> Any:
    """What JAX's trace caches are keyed by beside functions and types: its configuration, but not `trace_token`."""
    with trace_token(None):
        return _config.trace_context()


def part_of(closed: Any, used: Sequence[bool]) -> tuple[Any, list[bool]]:
    """The jaxpr with some of its outputs and all of its inputs, and which inputs these outputs depend on."""
    jaxpr, _ = _dce_jaxpr(closed.jaxpr, list(used), instantiate=True)
    _, needed = _dce_jaxpr(closed.jaxpr, list(used))
    return _core.ClosedJaxpr(jaxpr, closed.consts), needed


def bare_part_of(closed: Any, used: Sequence[bool]) -> tuple[Any, bool]:
    """The jaxpr with some of its outputs and all inputs, without effects that those do not need; is any left?"""
    jaxpr = closed.jaxpr
    outvars = [var for var, wanted in zip(jaxpr.outvars, used, strict=True) if wanted]
    needed, eqns = set(map(id, outvars)), []
    for eqn in reversed(jaxpr.eqns):
        if any(id(var) in needed for var in eqn.outvars):
            eqns.append(eqn)
            needed.update(map(id, eqn.invars))
    effects = frozenset().union(*(eqn.effects for eqn in eqns))
    part = jaxpr.replace(
        eqns=eqns[::-1], outvars=outvars, effects=effects, debug_info=jaxpr.debug_info.with_unknown_names()
    )
    return _core.ClosedJaxpr(part, closed.consts), bool(effects)


def differentiable_outputs(closed: Any, inputs: Sequence[bool]) -> list[bool]:
    """Which outputs have a derivative by some of the inputs, as far as its operations tell one by one."""
    jaxpr = closed.jaxpr
    found = {id(var) for var, given in zip(jaxpr.invars, inputs, strict=True) if given}
    for eqn in jaxpr.eqns:
        if eqn.primitive.name != "stop_gradient" and any(id(var) in found for var in eqn.invars):
            found.update(id(var) for var in eqn.outvars if jnp.issubdtype(var.aval.dtype, jnp.inexact))
    return [id(var) in found for var in jaxpr.outvars]


def shared_words() -> Any:
    """The words that the processes of one program share: each may set a key once, and wait for that of another.

    None where `jax.distributed` was not initialized.
    """
    return _distributed.global_state.client


def is_in_cluster() -> bool:
    """Whether JAX knows the cluster that this process is part of, as it does for Slurm or the hosts of a TPU."""
    return any(each.is_env_present() for each in _ClusterEnv._cluster_types if not each.opt_in_only_method)
