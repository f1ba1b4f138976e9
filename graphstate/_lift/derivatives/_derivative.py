"""One call of a function that is differentiated, as a pure function for JAX.

Every derivative is the same call: the user's function, once, at the values of a `Selection`. What differs is which
function of JAX gets it, and what is made of the answer.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import jax
import jax.numpy as jnp

from graphstate._lift.call._arguments import function_name, gather, is_array_like, shown
from graphstate._lift.call._lifted import Lifted
from graphstate._lift.call._streams import Hold
from graphstate._lift.call._traced import TracedCall
from graphstate.errors import StateTypeError
from graphstate.filters import Filter
from graphstate.graph._attributes import is_graph_object

from ._gradient import Selection, Wanted
from ._tangent import LIKE_VALUES, Form, TangentSpace, form_of, types_of

__all__ = ["ARRAYS", "FLOATS", "SCALAR", "VECTOR", "Derivative", "Wanted", "derived", "differentiated"]


_LIKE_OUTPUT: Final = "It takes one argument, the cotangent of the output, with the structure of that."


class Output(NamedTuple):
    """What a transform can differentiate.

    Attributes:
        word: what messages call it.
        check: raises for anything else; it gets the output, and the names of the transform and the function.
    """

    word: str
    check: Callable[[Any, str, str], None]


class Derivative:
    """One call of a differentiated function.

    Called with values in place of its own, it returns those of the output, and what must leave through JAX.

    Args:
        lifted: the user's function.
        arguments: `(args, kwargs)`.
        wanted: what is differentiated.
        output: what the transform can differentiate.
        has_aux: whether the function returns the pair (output, aux).
        hold: the lock of the random streams, for this call.

    Attributes:
        name: what messages call the user's function.
        values: the values that the derivative is taken of.
        form: where derivatives by them go.
        output: the form of the output, once the function has run.
    """

    output: Form
    _outputs: Any

    def __init__(
        self,
        lifted: Lifted,
        arguments: tuple[tuple[Any, ...], dict[str, Any]],
        wanted: Wanted,
        output: Output,
        has_aux: bool,
        hold: Hold,
    ) -> None:
        self.name = function_name(lifted.function)
        self._transform = lifted.transform
        self._kind = output
        self._has_aux = has_aux
        gathered = gather(*arguments, lifted.transform, lifted.function)
        self._call = TracedCall(lifted.function, gathered, lifted.watch(), lifted.transform, hold)
        self._selection = Selection(lifted.function, gathered, wanted, lifted.transform)
        self.values = self._selection.values
        self.form = self._selection.form

    def __call__(self, values: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        """Runs the user's function."""
        targets, arrays = self._selection.place(values)
        result, leaving = self._call.run(
            targets, arrays, lambda frame: self._selection.install(frame, values), self._check
        )
        output = result[0] if self._has_aux else result
        self.output = form_of(output, "output")
        outputs = self.output.values(output)
        self._outputs = jax.tree.structure(outputs)
        return outputs, leaving

    def scalar(self, values: Sequence[Any]) -> tuple[Any, list[Any]]:
        """As a call, for an output that is one array."""
        (output,), leaving = self(values)
        return output, leaving

    # What the user gives

    def tangents(self, owner: str) -> TangentSpace:
        """The tangents of what is differentiated; `owner` takes them."""
        return TangentSpace(self.form, types_of(self.values), "tangent", owner, LIKE_VALUES)

    def cotangents(self, outputs: Sequence[Any], owner: str) -> TangentSpace:
        """The cotangents of the output, as the one argument of `owner`."""
        form = self.output._replace(treedef=jax.tree_util.treedef_tuple((self.output.treedef,)))
        return TangentSpace(form, types_of(outputs), "cotangent", owner, _LIKE_OUTPUT)

    # What the user gets

    def jacobian(self, rows: Any) -> Any:
        """The whole, from the values of the output with a list of derivatives in place of each leaf."""
        return self.output.build(self._built(self._outputs, rows))

    def hessian(self, rows: Any) -> Any:
        """As `jacobian`, but in each derivative there is a list of second ones in place of each leaf."""
        treedef = jax.tree.structure(self.values)
        blocks = [self._built(treedef, each) for each in self._outputs.flatten_up_to(rows)]
        return self.jacobian(jax.tree.unflatten(self._outputs, blocks))

    def _built(self, treedef: Any, rows: Any) -> Any:
        """`rows`, of this structure, with the whole derivative for each list of derivatives."""
        return jax.tree.unflatten(treedef, [self.form.build(row) for row in treedef.flatten_up_to(rows)])

    def finish(self, leaving: list[Any]) -> Any:
        """Writes back what was written, and returns the result of the user's function."""
        return self._call.finish(leaving)

    def answer(self, leaving: list[Any], *parts: Any) -> Any:
        """Writes back what was written, and returns `parts` and aux, as a tuple where there are several."""
        result = self.finish(leaving)
        answer = (*parts, result[1]) if self._has_aux else parts
        return answer if len(answer) > 1 else answer[0]

    def _check(self, result: Any) -> None:
        if not self._has_aux:
            self._kind.check(result, self._transform, self.name)
        elif isinstance(result, tuple) and len(result) == 2:
            self._kind.check(result[0], self._transform, self.name)
        else:
            raise StateTypeError(
                f"With has_aux=True `{self.name}` returns the pair ({self._kind.word}, aux), but it returned "
                f"{shown(result)}."
            )


@contextmanager
def differentiated(
    function: Callable[..., Any], primals: Sequence[Any], transform: str, wrt: Filter, states: Any, has_aux: bool
) -> Iterator[Derivative]:
    """One call that is differentiated in all its arguments."""
    with Hold() as hold:
        lifted, wanted = Lifted(function, transform), Wanted(..., wrt, states)
        yield Derivative(lifted, (tuple(primals), {}), wanted, ARRAYS, has_aux, hold)


class DerivedFunction(Lifted):
    """What the transforms return that make of a function the one that returns its derivative.

    Args:
        function: the user's function.
        transform: the name of the transform.
        differentiate: the answer of one call; a function of a module, so that two that do the same are equal.
        wanted: what is differentiated.
        output: what can be differentiated.
        has_aux: whether the function returns the pair (output, aux).
        **options: further parameters of `differentiate`.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        transform: str,
        differentiate: Callable[..., Any],
        wanted: Wanted,
        output: Output,
        has_aux: bool,
        **options: Any,
    ) -> None:
        super().__init__(function, transform)
        self._differentiate = functools.partial(differentiate, **options)
        self._wanted = wanted
        self._output = output
        self._has_aux = has_aux

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Calls the function, and differentiates it there."""
        with Hold() as hold:
            return self._differentiate(
                Derivative(self, (args, kwargs), self._wanted, self._output, self._has_aux, hold)
            )


def derived(
    function: Callable[..., Any] | None,
    transform: str,
    differentiate: Callable[..., Any],
    wanted: Wanted,
    output: Output,
    has_aux: bool,
    **options: Any,
) -> Any:
    """The function that returns the derivative; without a function the decorator that makes one."""

    def derive(function: Callable[..., Any]) -> DerivedFunction:
        return DerivedFunction(function, transform, differentiate, wanted, output, has_aux, **options)

    return derive if function is None else derive(function)


# What can be differentiated


def _check_scalar(output: Any, transform: str, name: str) -> None:
    if not is_array_like(output):
        raise StateTypeError(
            f"`{transform}` differentiates a scalar, but `{name}` returned {shown(output)}. "
            "Return the loss alone, or (loss, aux) with has_aux=True."
        )
    if jnp.ndim(output) != 0:
        raise StateTypeError(
            f"`{transform}` differentiates a scalar, but `{name}` returned an array of shape {jnp.shape(output)}. "
            "Reduce it (`jnp.mean`), or map the gradient over examples with `vmap`."
        )


def _check_vector(output: Any, transform: str, name: str) -> None:
    if not is_array_like(output) or jnp.ndim(output) != 1:
        came = f"an array of shape {jnp.shape(output)}" if is_array_like(output) else shown(output)
        raise StateTypeError(
            f"`{transform}` differentiates a vector of floats, but `{name}` returned {came}. Flatten it (`jnp.ravel`), "
            "differentiate a scalar with `grad`, or a pytree of arrays with `jacrev`."
        )
    if not jnp.issubdtype(dtype := jnp.result_type(output), jnp.floating):
        raise StateTypeError(
            f"`{transform}` differentiates a vector of floats, but `{name}` returned one of dtype {dtype}. Convert it; "
            "for complex outputs there is `jacrev` with holomorphic=True."
        )


def _check_arrays(output: Any, transform: str, name: str) -> None:
    for path, leaf in jax.tree_util.tree_leaves_with_path(output):
        if is_graph_object(leaf):
            raise StateTypeError(
                f"`{transform}` differentiates a pytree of arrays, but `{name}` returned a {type(leaf).__name__}"
                f"{_at(path)}. Return its values (`graphstate.state(node)`, `state.value`), or the object itself in "
                "aux, with has_aux=True."
            )


def _check_floats(output: Any, transform: str, name: str) -> None:
    _check_arrays(output, transform, name)
    if not jax.tree.leaves(output):
        raise StateTypeError(
            f"`{transform}` differentiates a pytree of arrays, but there is none in what `{name}` returned. Return one."
        )
    for path, leaf in jax.tree_util.tree_leaves_with_path(output):
        if is_array_like(leaf) and not jnp.issubdtype(dtype := jnp.result_type(leaf), jnp.inexact):
            raise StateTypeError(
                f"`{transform}` differentiates real and complex arrays, but `{name}` returned one of dtype {dtype}"
                f"{_at(path)}. Return it in aux, with has_aux=True."
            )


def _at(path: Any) -> str:
    where = jax.tree_util.keystr(path)
    return where and f" at {where}"


SCALAR = Output("loss", _check_scalar)
VECTOR = Output("output", _check_vector)
ARRAYS = Output("output", _check_arrays)
FLOATS = Output("output", _check_floats)
