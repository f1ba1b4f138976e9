"""The one file that may touch `jax._src` or ask for a version; each exception with its reason.

Tested with jax 0.10.2. What is taken from the inside of JAX, and why the public API does not do:

- the current trace, in 35 ns: every read of a State asks for it, and the public way round
  (`take_current_trace`) is a context manager that costs ten times as much;
- the trace that encloses a trace, and whether a trace builds a program that JAX will cache:
  there is no public question for either;
- whether a value is batched by one particular `vmap`: there is no public question for it;
- what its trace caches are keyed by: a program that is kept here must be found under the same conditions;
- replacing the inputs of a jaxpr: `Jaxpr.replace` is public, the debug info that must agree with it is not.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import jax
from jax._src import config as _config  # see above
from jax._src import core as _core  # see above
from jax._src.array import (
    ArrayImpl as ArrayImpl,
)  # the exact type of a concrete array: `type(x) is ArrayImpl` costs 30 ns
from jax._src.interpreters.partial_eval import DynamicJaxprTrace as _DynamicJaxprTrace
from jax.extend import core as _extend

Tracer = jax.core.Tracer
Trace = Any

_trace_state = _core.trace_state_strong_ref
EVAL: Trace = _core.eval_trace


def current_trace() -> Trace:
    """The trace that operations are being recorded in; `EVAL` where they are executed."""
    return _trace_state.value


def set_trace(trace: Trace) -> AbstractContextManager[None]:
    """A block whose operations are recorded in `trace`."""
    return _extend.set_current_trace(trace)


def enclosing_traces(trace: Trace) -> Iterator[Trace]:
    """`trace` and all the traces that it runs inside of, innermost first, without `EVAL`."""
    while trace is not None and trace is not EVAL:
        yield trace
        trace = getattr(trace, "parent_trace", None)


def is_caching(trace: Trace) -> bool:
    """Whether `trace` builds a program that JAX may keep and run again (jit, scan, cond, ...)."""
    return isinstance(trace, _DynamicJaxprTrace)


def is_traced_by(value: Any, trace: Trace) -> bool:
    """Whether `value` is a tracer of `trace`: of a `vmap`, whether it depends on the lane."""
    return isinstance(value, Tracer) and value._trace is trace


# A value of this context enters the key of every trace cache of JAX: under a fresh one, a plain `jax.jit`
# or `lax.scan` inside a graphstate transform is traced anew and cannot hand on a value of another trace.
trace_token: Callable[[int | None], AbstractContextManager[None]] = jax.make_user_context(default_value=None)


input_p = _extend.Primitive("state_input")
"""Stands for an input that was discovered while its program was being traced."""
input_p.def_abstract_eval(lambda *, aval: aval)


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
    return _extend.ClosedJaxpr(jaxpr, closed.consts), len(found)


def run_jaxpr(closed: Any, arguments: Sequence[Any]) -> list[Any]:
    """The outputs of `closed`, recorded in the current trace."""
    return list(_extend.jaxpr_as_fun(closed)(*arguments))


def trace_context() -> Any:
    """What JAX's trace caches are keyed by beside functions and types: its configuration, but not `trace_token`."""
    with trace_token(None):
        return _config.trace_context()
