"""A function with a rule for its tangent.

The rule computes the result again, so it writes what the function writes. What is written has no tangent in the rule:
its tangent is that of the function as it stands.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax import lax

from graphstate._lift.call._arguments import shown
from graphstate._lift.call._captured import Outputs
from graphstate.errors import RuleError

from ._rule_inputs import Others, RoutedProgram
from ._rules import RuleCall
from ._tangent import TangentSpace, form_of, types_of
from ._zeros import SymbolicZero, float0, instantiated, is_float0, is_inexact

__all__ = ["JvpCall"]

_LIKE_RESULT = "The tangent of a result is like the result; that of integers and keys has the dtype float0."


class JvpCall(RuleCall):
    """One call of a function with a rule for its tangent."""

    transform = "custom_jvp"
    _rule: RoutedProgram
    _order: list[int]
    _result_treedef: Any

    def programs(self) -> Sequence[RoutedProgram]:
        """The program of the rule, once it is traced."""
        return (self._rule,) if hasattr(self, "_rule") else ()

    def trace_rules(self) -> None:
        """Traces the rule."""
        tangents = [aval for aval in jax.tree.leaves(self.avals) if is_inexact(aval)]
        rule = self._capture(self._with_tangents(), extra=tangents)
        self.check_writes(rule, "rule")
        self.check_alike(rule, self._result_treedef, "rule")
        self._order = self.order(rule.note)
        self._rule = self.moving_part(rule)

    def _with_tangents(self) -> Callable[..., Any]:
        (rule,) = self.ruled.rules
        owner = f"The rule of `{self.name}`"

        @functools.wraps(self.ruled.function)
        def run(inexact: list[Any], /, *args: Any) -> Any:
            primals = tuple(arg for number, arg in enumerate(args) if number not in self.ruled.static)
            pair = rule(primals, self._tangents(inexact))
            if not isinstance(pair, tuple) or len(pair) != 2:
                raise RuleError(f"{owner} returns the pair (result, tangent), but it returned {shown(pair)}.")
            result, tangent = pair
            self._check_result(result)
            leaves, self._result_treedef = jax.tree.flatten(result)
            taken = TangentSpace(form_of(result, "result"), types_of(leaves), "tangent", owner, _LIKE_RESULT).take(
                tangent
            )
            return result, [each for each, leaf in zip(taken, leaves, strict=True) if is_inexact(jax.typeof(leaf))]

        return run

    def _tangents(self, inexact: list[Any]) -> Any:
        """The tangents, as the rule gets them."""
        leaves, treedef = jax.tree.flatten(self.avals)
        following = iter(inexact)
        given = [next(following) if is_inexact(aval) else float0(aval) for aval in leaves]
        tangents = self.form.build(jax.tree.unflatten(treedef, given))
        states, args = (None, tangents) if self.ruled.states is None else tangents
        args = tuple(each for number, each in enumerate(args) if number not in self.ruled.static)
        return args if self.ruled.states is None else (states, args)

    # What JAX gets

    def rule(self, primal: Callable[..., Outputs]) -> Callable[..., Outputs]:
        """The function of JAX with the rule."""
        applied = jax.custom_jvp(primal)
        applied.defjvp(self._run_rule, symbolic_zeros=True)
        return applied

    def _run_rule(self, primals: tuple[Any, Others], tangents: tuple[Any, Others]) -> tuple[Outputs, Outputs]:
        self.complete()
        (values, others), (given, further) = primals, tangents
        self.check_declared(jax.tree.map(lambda each: not (isinstance(each, SymbolicZero) or is_float0(each)), further))
        leaves = [instantiated(each) for each in jax.tree.leaves(given)]
        *inputs, captured = self.inputs.of(self._rule, values, others)
        returned: Outputs = self._rule.program.run(
            (*inputs, [each for each in leaves if not is_float0(each)]), captured
        )
        outputs = self.like_primal(self._order, returned)
        following = iter(returned.results[len(outputs.results) :])
        results = [
            lax.convert_element_type(next(following), aval.dtype) if is_inexact(aval) else float0(aval)
            for aval in map(jax.typeof, outputs.results)
        ]
        moved = jax.tree.unflatten(jax.tree.structure(values), leaves), jax.tree.map(instantiated, further)
        written, closed = self._written_tangents(primals, moved)
        return outputs, Outputs(results, written, [], closed)

    def _written_tangents(self, primals: tuple[Any, Others], tangents: tuple[Any, Others]) -> tuple[Any, Any]:
        """The tangents of what the function writes, by its own operations."""

        def writes(values: Any, others: Others) -> tuple[Any, Any]:
            outputs = self.run_program(self.moving, values, others)
            return outputs.written, outputs.closed

        written: tuple[Any, Any]
        _, written = jax.jvp(writes, primals, tangents)
        return written
