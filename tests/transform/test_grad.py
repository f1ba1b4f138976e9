"""`grad` and `value_and_grad`: what is differentiated, where the gradient goes, what is kept."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import graphstate as gs
from graphstate.errors import AliasError, AxisError, FilterError, StateTypeError, TraceContextError


class Affine(gs.Node):
    def __init__(self, weight=3.0, bias=1.0):
        self.weight = gs.ParamState(jnp.float32(weight))
        self.bias = gs.ParamState(jnp.float32(bias))
        self.calls = gs.BatchState(jnp.int32(0))

    def __call__(self, x):
        self.calls.value = self.calls.value + 1
        return self.weight.value * x + self.bias.value


def loss(affine, x):
    return affine(x) ** 2


# What is differentiated


def test_the_gradient_of_a_node_is_a_graph_state_of_its_parameters():
    affine = Affine()
    gradient = gs.grad(loss)(affine, 2.0)
    expected = jax.grad(lambda values: (values["weight"] * 2.0 + values["bias"]) ** 2)({"weight": 3.0, "bias": 1.0})
    assert isinstance(gradient, gs.GraphState)
    assert jax.tree.structure(gradient) == jax.tree.structure(gs.state(affine, gs.ParamState))
    assert gradient["weight"] == expected["weight"] == 28.0
    assert gradient["bias"] == expected["bias"]
    assert affine.calls.value == 1


def test_parameters_that_the_loss_does_not_use_have_zero_gradient():
    gradient = gs.grad(lambda affine: affine.weight.value**2)(Affine())
    assert (gradient["weight"], gradient["bias"]) == (6.0, 0.0)


def test_wrt_selects_other_states():
    affine = Affine()
    gradient = gs.grad(loss, wrt=lambda path, state: path == ("bias",))(affine, 2.0)
    assert list(gradient) == [("bias",)]
    assert gradient["bias"] == 14.0
    affine.frozen = gs.State(jnp.float32(5.0), tags="extra")
    assert gs.grad(lambda affine: affine.frozen.value**2, wrt="extra")(affine)["frozen"] == 10.0


@pytest.mark.parametrize("argnums", [0, 1, -1, (0,), (1, 0), [0, 1], (-1, -2)])
def test_argnums_are_those_of_jax(argnums):
    def function(a, b):
        return jnp.sum(a["x"] ** 2 * b)

    arguments = {"x": jnp.arange(3.0)}, jnp.ones(3)
    expected = jax.grad(function, argnums)(*arguments)
    gradient = gs.grad(function, argnums)(*arguments)
    assert jax.tree.structure(gradient) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, gradient, expected)


def test_nodes_states_and_arrays_may_stand_in_one_argument():
    def function(parts):
        return parts["node"].weight.value * parts["state"].value["a"] * parts["array"]

    parts = {"node": Affine(3.0), "state": gs.State({"a": jnp.float32(5.0)}), "array": 7.0}
    gradient = gs.grad(function)(parts)
    assert gradient["node"]["weight"] == 35.0
    assert gradient["state"]["a"] == 21.0
    assert gradient["array"] == 15.0


def test_two_node_arguments():
    def function(a, x, b):
        return a(x) * b(x)

    first, second = gs.grad(function, argnums=(0, 2))(Affine(3.0, 0.0), 1.0, Affine(5.0, 0.0))
    assert (first["weight"], second["weight"]) == (5.0, 3.0)


def test_nodes_in_keyword_arguments_are_written_too():
    affine = Affine()
    gradient = gs.grad(lambda x, *, affine: affine(x))(2.0, affine=affine)
    assert gradient == 3.0
    assert affine.calls.value == 1


def test_closed_over_states_are_differentiated_by_name():
    affine = Affine()
    states = affine.states(gs.ParamState)
    gradient = gs.grad(lambda x: loss(affine, x), states=states)(2.0)
    assert isinstance(gradient, gs.GraphState)
    assert gradient["weight"] == 28.0
    assert gs.grad(lambda x: loss(affine, x), states=affine.weight)(2.0) == 28.0
    pair = gs.grad(lambda x: loss(affine, x), states=(affine.weight, {"b": affine.bias}))(2.0)
    assert pair == (28.0, {"b": 14.0})
    assert affine.calls.value == 3


def test_states_and_arguments_give_a_pair():
    affine = Affine()
    by_states, by_arguments = gs.grad(lambda x: loss(affine, x), argnums=0, states=affine.states(gs.ParamState))(2.0)
    assert by_states["weight"] == 28.0
    assert by_arguments == 42.0


def test_a_state_that_is_also_reached_through_an_argument():
    affine = Affine()

    def function(argument, x):
        return argument.weight.value * affine.weight.value * x

    assert gs.grad(function, states=affine.weight)(affine, 2.0) == 12.0
    assert gs.grad(function)(affine, 2.0)["weight"] == 12.0


def test_shared_states_have_one_gradient():
    class Tied(gs.Node):
        def __init__(self):
            self.first = gs.ParamState(jnp.float32(3.0))
            self.second = self.first

    gradient = gs.grad(lambda tied: tied.first.value * tied.second.value)(Tied())
    assert list(gradient) == [("first",)]
    assert gradient["first"] == 6.0


# Values, aux, writes


def test_the_value_comes_first():
    affine = Affine()
    value, gradient = gs.value_and_grad(loss)(affine, 2.0)
    assert value == 49.0
    assert gradient["bias"] == 14.0


def test_aux_may_hold_nodes_and_arrays():
    affine = Affine()

    def function(affine, x):
        return affine(x), {"node": affine, "new": gs.State(affine.weight.value * 2), "x": x}

    (value, aux), gradient = gs.value_and_grad(function, has_aux=True)(affine, 2.0)
    assert value == 7.0
    assert gradient["weight"] == 2.0
    assert aux["node"] is affine
    assert aux["new"].value == 6.0
    assert aux["x"] == 2.0
    assert gs.grad(function, has_aux=True)(affine, 2.0)[1]["node"] is affine


def test_written_states_keep_their_values_and_are_differentiated_at_the_old_ones():
    affine = Affine(3.0, 0.0)

    def function(affine, x):
        before = affine.weight.value
        affine.weight.value = before * 10
        return before * affine.weight.value * x

    assert gs.grad(function)(affine, 1.0)["weight"] == 60.0
    assert affine.weight.value == 30.0
    assert gs.grad(lambda x: function(affine, x), states=affine.weight)(1.0) == 600.0
    assert affine.weight.value == 300.0


def test_a_loss_may_go_through_a_state_that_was_written():
    weight, carried = gs.ParamState(jnp.float32(3.0)), gs.State(jnp.float32(0.0))

    def function():
        carried.value = weight.value**3
        return carried.value

    assert gs.grad(function, states=weight)() == 27.0
    assert carried.value == 27.0
    assert gs.grad(lambda: gs.grad(function, states=weight)(), states=weight)() == 18.0
    assert carried.value == 27.0


def test_structural_changes_come_out():
    affine = Affine()

    def function(affine, x):
        affine.last = 2 * x
        affine.extra = gs.State(affine.weight.value * 2)
        affine.count = 1
        return affine.weight.value * x

    assert gs.grad(function)(affine, 3.0)["weight"] == 3.0
    assert affine.last == 6.0
    assert affine.extra.value == 6.0
    assert affine.count == 1


def test_random_draws_advance_the_stream():
    rng, expected = gs.random.RandomState(0), gs.random.RandomState(0)
    gradient = gs.grad(lambda x: x * rng.normal())(2.0)
    assert gradient == expected.normal()
    assert rng.value == expected.value


def test_second_derivatives():
    affine = Affine()

    def slope(affine, x):
        return gs.grad(lambda affine: affine.weight.value**3 * x)(affine)["weight"]

    assert gs.grad(slope)(affine, 2.0)["weight"] == 36.0


def test_the_gradient_of_an_outer_write_flows_through_an_inner_jit():
    weight, carried = gs.ParamState(jnp.float32(3.0)), gs.State(jnp.float32(0.0))
    product = gs.jit(lambda: carried.value * weight.value)

    def function():
        carried.value = weight.value**2
        return product()

    assert gs.grad(function, states=weight)() == 27.0
    assert carried.value == 9.0


def test_holomorphic_functions():
    expected = jax.grad(lambda z: z**2, holomorphic=True)(1.0 + 2.0j)
    assert gs.grad(lambda z: z**2, holomorphic=True)(1.0 + 2.0j) == expected
    state = gs.State(jnp.complex64(1.0 + 2.0j))
    assert gs.grad(lambda: state.value**2, states=state, holomorphic=True)() == expected


def test_a_python_number_in_a_state_is_differentiated():
    state = gs.State(3.0)
    assert gs.grad(lambda state: state.value**2)(state) == 6.0
    assert state.value == 3.0


def test_decorated_methods():
    class Model(gs.Node):
        def __init__(self):
            self.weight = gs.ParamState(jnp.float32(3.0))

        @gs.value_and_grad(has_aux=True)
        def loss(self, x):
            return self.weight.value**2 * x, x

    (value, aux), gradient = Model().loss(2.0)
    assert (value, aux, gradient["weight"]) == (18.0, 2.0, 12.0)


# Errors


def test_wrt_that_selects_nothing_is_an_error():
    with pytest.raises(
        FilterError,
        match=r"`grad` differentiates the States that `wrt` selects, but wrt=HiddenState selects none in "
        r"argument 1 of `loss`",
    ):
        gs.grad(_swapped_loss, argnums=1, wrt=gs.HiddenState)(1.0, Affine())
    with pytest.raises(FilterError, match="Pass another `wrt`, or other `argnums`"):
        gs.value_and_grad(loss, wrt="absent")(Affine(), 1.0)


def _swapped_loss(x, affine):
    return affine(x)


_swapped_loss.__qualname__ = "loss"


def test_no_states_are_an_error():
    with pytest.raises(
        FilterError, match=r"`states` of `grad` holds no State. Select some, as with `model.states\(gs.ParamState\)`"
    ):
        gs.grad(lambda: 1.0, states={})()


def test_states_that_are_no_states_are_an_error():
    with pytest.raises(
        StateTypeError,
        match=r"`states` of `grad` is a State, .* but a leaf of it is .* of type Affine. For a Node write "
        r"`states=gs.states\(",
    ):
        gs.grad(lambda: 1.0, states=Affine())()


def test_a_state_in_two_differentiated_places_is_an_error():
    affine = Affine()
    with pytest.raises(
        AliasError, match=r"A State is differentiated once, but `a.bias` and `b.bias` are the same State"
    ):
        gs.grad(lambda a, b: 1.0, argnums=(0, 1))(affine, affine)
    with pytest.raises(
        AliasError, match=r"`states` and `affine.weight` are the same State: .*Leave it out of one of them"
    ):
        gs.grad(loss, argnums=0, states=affine.weight)(affine, 1.0)
    with pytest.raises(AliasError, match=r"`states\['bias'\]` and `states` are the same State"):
        gs.grad(lambda: 1.0, states=(affine.states(gs.ParamState), affine.bias))()


def test_integers_and_keys_are_not_differentiated():
    affine = Affine()
    affine.rng = gs.random.RandomState(0)
    with pytest.raises(
        StateTypeError,
        match=r"`grad` differentiates real and complex arrays, but `x` has dtype int32. Select other States with `wrt`",
    ):
        gs.grad(lambda x: x)(3)
    with pytest.raises(StateTypeError, match=r"but `affine.calls` has dtype int32"):
        gs.grad(loss, wrt=gs.BatchState)(affine, 1.0)
    with pytest.raises(StateTypeError, match=r"but `affine.rng` has dtype key<"):
        gs.grad(loss, wrt=gs.random.RandomState)(affine, 1.0)
    with pytest.raises(StateTypeError, match=r"but `states\['calls'\]` has dtype int32"):
        gs.grad(lambda: 1.0, states=affine.states(gs.BatchState))()


def test_argnums_that_do_not_exist_are_an_error():
    with pytest.raises(
        AxisError,
        match=r"`argnums` is 2, but `loss` was called with 2 positional arguments. Differentiate States of the closure",
    ):
        gs.grad(loss, argnums=2)(Affine(), 1.0)
    with pytest.raises(AxisError, match=r"`argnums` is 0, but .* was called with 0 positional arguments"):
        gs.grad(lambda: 1.0)()


def test_a_loss_that_is_no_scalar_is_an_error():
    with pytest.raises(
        StateTypeError,
        match=r"`grad` differentiates a scalar, but .* returned an array of shape \(3,\). Reduce it \(`jnp.mean`\)",
    ):
        gs.grad(lambda x: x)(jnp.ones(3))
    with pytest.raises(
        StateTypeError, match=r"returned a tuple of 2. Return the loss alone, or \(loss, aux\) with has_aux=True"
    ):
        gs.grad(lambda x: (x, x))(1.0)
    with pytest.raises(StateTypeError, match=r"returned a NoneType"):
        gs.value_and_grad(lambda x: None)(1.0)
    with pytest.raises(
        StateTypeError, match=r"With has_aux=True .* returns the pair \(loss, aux\), but it returned a tuple of 3"
    ):
        gs.grad(lambda x: (x, x, x), has_aux=True)(1.0)
    with pytest.raises(StateTypeError, match=r"but it returned an array"):
        gs.grad(lambda x: x, has_aux=True)(1.0)


def test_a_loss_that_is_no_float_is_an_error():
    with pytest.raises(TypeError, match=r"real-valued outputs|real and complex|float"):
        gs.grad(lambda x: jnp.int32(3))(1.0)


def test_an_argument_that_is_no_array_is_an_error():
    with pytest.raises(
        StateTypeError,
        match=r"`grad` takes Nodes, States and pytrees of arrays, but argument `f` of .* of type "
        r"builtin_function_or_method",
    ):
        gs.grad(lambda f, x: x)(abs, 1.0)


def test_only_functions_are_differentiated():
    with pytest.raises(StateTypeError, match="`grad` transforms a function"):
        gs.grad("text")
    with pytest.raises(StateTypeError, match="`value_and_grad` transforms a function"):
        gs.value_and_grad(3)


# Failures


def test_a_failing_call_changes_nothing():
    affine, key = Affine(), gs.random.DEFAULT.value
    value = affine.weight.value

    def fail(affine, x):
        affine.weight.value = x
        affine.calls.value = affine.calls.value + 1
        affine.flag = True
        gs.random.normal()
        raise KeyError("user")

    with pytest.raises(KeyError, match="user"):
        gs.grad(fail)(affine, 1.0)
    assert affine.weight.value is value
    assert affine.calls.value == 0
    assert not hasattr(affine, "flag")
    assert gs.random.DEFAULT.value == key


def test_a_loss_of_another_shape_changes_nothing():
    affine = Affine()
    with pytest.raises(StateTypeError, match="differentiates a scalar"):
        gs.grad(lambda affine, x: affine(x))(affine, jnp.ones(3))
    assert affine.calls.value == 0


def test_a_dict_of_the_caller_is_not_changed_in_place():
    state = gs.State({"a": jnp.float32(1.0)})

    def function(x):
        state.value["a"] = x
        return x

    with pytest.raises(TraceContextError, match="changed in place"):
        gs.grad(function)(2.0)
    assert state.value["a"] == 1.0


def test_a_closed_over_node_keeps_its_structure():
    affine = Affine()
    affine.items = []

    def set_attribute(x):
        affine.extra = x
        return x

    def change_list(x):
        affine.items.append(x)
        return x

    with pytest.raises(TraceContextError, match=r"Attribute 'extra' of a Affine was changed inside"):
        gs.grad(set_attribute)(1.0)
    with pytest.raises(TraceContextError, match=r"`affine.items`, part of a Node .* was changed in place"):
        gs.grad(change_list)(1.0)
    assert affine.items == []


def test_a_state_of_the_closure_that_came_in_as_an_argument_is_the_same_state():
    state = gs.ParamState(3.0)
    derivative = gs.jit(lambda inside: gs.grad(lambda x: x * state.value, 0, states=state)(2.0))
    assert derivative(state) == (2.0, 3.0)


def test_wrt_may_look_at_values():
    layer = gs.nn.Linear(2, 3)
    gradient = gs.grad(lambda layer: layer(jnp.ones(2)).sum(), wrt=lambda path, record: record.value.ndim == 2)(layer)
    assert list(gradient) == [("weight",)]
