"""A function with a rule for its backward pass.

The forward rule may hand Nodes and States on to the backward rule: they are taken apart there, and built again here.
What the function writes has no rule: where a loss depends on it, the gradient would be lost, and is refused.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import jax
import jax.numpy as jnp

from graphstate._compat import Tracer
from graphstate._lift.call._arguments import shown
from graphstate._lift.call._capture import CaptureFrame, Program, trace_program
from graphstate._lift.call._captured import Outputs
from graphstate._trace import describe, pack
from graphstate.errors import RuleError
from graphstate.graph._attributes import is_graph_object
from graphstate.graph._flatten import flatten, unflatten
from graphstate.graph._graphdef import GraphDef
from graphstate.graph._graphstate import GraphState
from graphstate.graph._heads import StateHead
from graphstate.graph._split import leaf_value

from ._rule_inputs import RoutedProgram
from ._rules import RuleCall
from ._tangent import LIKE_VALUES, TangentSpace
from ._zeros import SymbolicZero, float0, instantiated, is_float0, is_inexact, zero_like

__all__ = ["VjpCall"]


class _Mark:
    """Stands for residuals of a kind."""


_OBJECT: Final = _Mark()
_ARRAY: Final = _Mark()


class _Residuals(NamedTuple):
    """How the residuals are built again from arrays.

    Attributes:
        treedef: their structure, graph objects as leaves.
        kept: each leaf that is a Python number; the others are one of the marks `_OBJECT` and `_ARRAY`.
        graphdef: the graph that these make together; its root is the tuple of them.
        parts: the structure of the arrays and the values of that graph.
        result_treedef: the structure of the result that came with them.
    """

    treedef: Any
    kept: tuple[Any, ...]
    graphdef: GraphDef
    parts: Any
    result_treedef: Any


class _Kept(NamedTuple):
    """What a backward pass needs.

    Attributes:
        residuals: the arrays of the residuals.
        captured: what the backward rule captures.
    """

    residuals: list[Any]
    captured: list[Any]


class VjpCall(RuleCall):
    """One call of a function with a forward and a backward rule."""

    transform = "custom_vjp"

    _forward: RoutedProgram
    _backward: RoutedProgram
    _order: list[int]
    _residuals: _Residuals

    def programs(self) -> Sequence[RoutedProgram]:
        """The program of the forward rule, once it is traced: the backward rule takes residuals, and no arguments."""
        return (self._forward,) if hasattr(self, "_forward") else ()

    def trace_rules(self) -> None:
        """Traces the forward rule, then the backward rule for the residuals of that."""
        forward = self._capture(self._forward_rule())
        self.check_writes(forward, "forward rule")
        self.check_alike(forward, self._residuals.result_treedef, "forward rule")
        outputs: Outputs = jax.tree.unflatten(forward.treedef, forward.jaxpr.out_avals)
        count = self._residuals.result_treedef.num_leaves
        cotangents = [aval for aval in outputs.results[:count] if is_inexact(aval)]
        self._order = self.order(forward.note)
        self._forward = self.moving_part(forward)
        self._backward = self.routed(self._trace_backward(outputs.results[count:], cotangents))

    def _forward_rule(self) -> Callable[..., Any]:
        rule, _ = self.ruled.rules

        @functools.wraps(rule)
        def forward(*args: Any) -> Any:
            pair = rule(*args)
            if not isinstance(pair, tuple) or len(pair) != 2:
                raise RuleError(
                    f"The forward rule of `{self.name}` returns the pair (result, residuals), "
                    f"but it returned {shown(pair)}."
                )
            result, residuals = pair
            self._check_result(result)
            leaves, treedef = jax.tree.flatten(residuals)
            objects = tuple(leaf for leaf in leaves if is_graph_object(leaf))
            flat = flatten(objects)
            kept = tuple(map(_kept, leaves))
            arrays = [leaf for leaf, mark in zip(leaves, kept, strict=True) if mark is _ARRAY]
            parts = arrays, [leaf_value(leaf) for leaf in flat.leaves]
            self._residuals = _Residuals(
                treedef, kept, flat.graphdef, jax.tree.structure(parts), jax.tree.structure(result)
            )
            return result, parts

        return forward

    def _trace_backward(self, residuals: list[Any], cotangents: list[Any]) -> Program:
        _, rule = self.ruled.rules
        frame = CaptureFrame()
        frame.find_name = self.ruled.watch.name_of

        def body(residuals: list[Any], cotangents: list[Any]) -> tuple[list[Any], None]:
            with self.ruled.watch.guarded():
                given = rule(self._rebuilt(residuals), self._cotangent(cotangents))
            written = frame.written()
            if written:
                raise RuleError(
                    f"The backward rule of `{self.name}` wrote {describe(written[0].cell)} "
                    "(drawing writes, too): how often it runs, and when, is up to JAX. Write in the function and its "
                    "forward rule, and hand on what is needed as a residual."
                )
            return self._taken(given), None

        return trace_program(frame, body, residuals, cotangents)

    def _rebuilt(self, leaves: list[Any]) -> Any:
        """The residuals, as the backward rule gets them."""
        kept = self._residuals
        arrays, values = jax.tree.unflatten(kept.parts, leaves)
        heads = [kept.graphdef.heads[place] for place in kept.graphdef.leaves]
        packed = [
            pack(value) if isinstance(head, StateHead) else value for head, value in zip(heads, values, strict=True)
        ]
        following = {_OBJECT: iter(unflatten(kept.graphdef, packed)[0]), _ARRAY: iter(arrays)}
        built = [next(following[leaf]) if isinstance(leaf, _Mark) else leaf for leaf in kept.kept]
        return jax.tree.unflatten(kept.treedef, built)

    def _cotangent(self, inexact: list[Any]) -> Any:
        """The cotangent of the result, as the backward rule gets it; that of integers and keys is float0."""
        following = iter(inexact)
        leaves = [next(following) if is_inexact(aval) else float0(aval) for aval in self.outputs.results]
        return jax.tree.unflatten(self.note.departure.treedef, leaves)

    def _taken(self, given: Any) -> list[Any]:
        """The cotangents that the backward rule has returned, but for those of integers and keys."""
        owner = f"The backward rule of `{self.name}`: `custom_vjp`"
        cotangents = TangentSpace(self.form, self.types, "cotangent", owner, LIKE_VALUES).take(
            self._completed(given, owner)
        )
        pairs = zip(jax.tree.leaves(cotangents), jax.tree.leaves(self.avals), strict=True)
        return [cotangent for cotangent, aval in pairs if is_inexact(aval)]

    def _completed(self, given: Any, owner: str) -> Any:
        """What was returned, with None for static arguments, and zeros where the user has written None."""
        zeros = self.form.build(jax.tree.map(zero_like, self.avals))
        owner = owner.partition(":")[0]
        has_states, wanted = self.ruled.states is not None, zeros
        if has_states:
            if not isinstance(given, tuple) or len(given) != 2:
                raise RuleError(
                    f"{owner} returns the pair (cotangents of `states`, tuple of those of the arguments), but it "
                    f"returned {shown(given)}."
                )
            states, given = given
            wanted = zeros[1]
        count = len(wanted) - len(self.ruled.static)
        if not isinstance(given, tuple | list) or len(given) != count:
            raise RuleError(
                f"{owner} returns a tuple with a cotangent (or None, for zero) for each of the {count} arguments, but "
                f"it returned {shown(given)}."
            )
        following = iter(given)
        completed = tuple(
            None if number in self.ruled.static else _or_zeros(next(following), zero)
            for number, zero in enumerate(wanted)
        )
        return (_or_zeros(states, zeros[0]), completed) if has_states else completed

    # What JAX gets

    def rule(self, primal: Callable[..., Outputs]) -> Callable[..., Outputs]:
        """The function of JAX with both rules."""
        applied = jax.custom_vjp(primal)
        applied.defvjp(self._run_forward, self._run_backward, symbolic_zeros=True)
        return applied

    def _run_forward(self, values: Any, others: Any) -> tuple[Outputs, _Kept]:
        self.complete()
        self.check_declared(jax.tree.map(lambda primal: primal.perturbed, others))
        values, others = jax.tree.map(lambda primal: primal.value, (values, others))
        *given, captured = self.inputs.of(self._forward, values, others)
        outputs: Outputs = self._forward.program.run(given, captured)
        count = self._residuals.result_treedef.num_leaves
        *_, kept = self.inputs.of(self._backward, values, others)
        return self.like_primal(self._order, outputs), _Kept(outputs.results[count:], kept)

    def _run_backward(self, kept: _Kept, cotangents: Outputs) -> tuple[list[Any], None]:
        results = [instantiated(each) for each in cotangents.results if not is_float0(each)]
        found = iter(self._backward.program.run((kept.residuals, results), kept.captured))
        spoilt = self._spoilt([*cotangents.written, *cotangents.closed])
        leaves, treedef = jax.tree.flatten(self.avals)
        given = [spoilt(next(found)) if is_inexact(aval) else float0(aval) for aval in leaves]
        return jax.tree.unflatten(treedef, given), None

    def _spoilt(self, cotangents: Sequence[Any]) -> Callable[[Any], Any]:
        """Makes a gradient NaN if a loss depends on what was written: the rule cannot know its part.

        Raises:
            RuleError: that is known already.
        """
        spoils: list[Any] = []
        for name, cotangent in zip(self.written.values(), cotangents, strict=True):
            for leaf in jax.tree.leaves(cotangent, is_leaf=lambda leaf: isinstance(leaf, SymbolicZero)):
                if isinstance(leaf, SymbolicZero) or is_float0(leaf):
                    continue
                is_lost = jnp.any(leaf != 0)
                if isinstance(is_lost, Tracer):
                    spoils.append(is_lost)
                elif is_lost:
                    raise RuleError(
                        f"A loss depends on {name}, which `{self.name}` wrote: its rules say "
                        "the derivative of its result only. Return the value as a result, or write it outside."
                    )
        if not spoils:
            return lambda gradient: gradient
        spoil = jnp.where(functools.reduce(jnp.logical_or, spoils), jnp.nan, 0.0)
        return lambda gradient: gradient + spoil.astype(gradient.dtype)


def _kept(residual: Any) -> Any:
    """A Python number, which may be a size that the backward rule needs to know; a mark for everything else."""
    if type(residual) in (bool, int, float, complex):
        return residual
    return _OBJECT if is_graph_object(residual) else _ARRAY


def _or_zeros(given: Any, zeros: Any) -> Any:
    """`given`, with zeros for None, of all of it or of a leaf."""
    if given is None:
        return zeros
    try:
        treedef: Any
        leaves, treedef = jax.tree.flatten(zeros, is_leaf=lambda part: isinstance(part, GraphState))
        filled = [
            zero if leaf is None else leaf for leaf, zero in zip(treedef.flatten_up_to(given), leaves, strict=True)
        ]
    except ValueError:
        return given
    return jax.tree.unflatten(treedef, filled)
