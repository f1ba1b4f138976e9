"""`jit`: arguments, static arguments, kwargs, decorated methods, failures. What retraces it is in tests/lift."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import graphstate as gs
from graphstate.errors import StateTypeError, StructureError, TraceContextError


class Pair(gs.Node):
    def __init__(self, first=1.0, second=2.0):
        self.first = gs.ParamState(jnp.float32(first))
        self.second = gs.ParamState(jnp.float32(second))


def test_a_pure_function_equals_jax_jit():
    def function(x, *, y):
        return {"sum": x["a"] + y, "parts": (x["b"], None)}

    arguments = {"a": jnp.arange(3.0), "b": 2}
    expected = jax.jit(function)(arguments, y=1.0)
    result = gs.jit(function)(arguments, y=1.0)
    assert jax.tree.structure(result) == jax.tree.structure(expected)
    for mine, theirs in zip(jax.tree.leaves(result), jax.tree.leaves(expected), strict=True):
        assert mine.dtype == theirs.dtype
        np.testing.assert_array_equal(mine, theirs)


def test_states_of_an_argument_are_written():
    @gs.jit
    def double(pair, x):
        pair.first.value = pair.first.value * x
        return pair.second.value

    pair = Pair(3.0, 5.0)
    assert double(pair, 2.0) == 5.0
    assert pair.first.value == 6.0
    assert double(pair, 2.0) == 5.0
    assert pair.first.value == 12.0


def test_closed_over_states_are_inputs_and_outputs():
    pair = Pair(3.0, 5.0)

    @gs.jit
    def step():
        pair.first.value = pair.first.value + pair.second.value

    step()
    pair.second.value = jnp.float32(10.0)
    step()
    assert pair.first.value == 18.0


def test_an_argument_that_is_returned_is_the_same_object():
    pair = Pair()
    result = gs.jit(lambda pair: {"pair": pair, "state": pair.first, "sum": pair.first.value})(pair)
    assert result["pair"] is pair
    assert result["state"] is pair.first


def test_a_closed_over_node_that_is_returned_is_the_same_object():
    pair = Pair()
    returned = gs.jit(lambda: pair)
    assert returned() is pair
    assert returned() is pair


def test_each_call_makes_new_nodes():
    make = gs.jit(lambda x: Pair(x, 2 * x))
    first, second = make(1.0), make(2.0)
    assert first is not second
    assert first.first is not second.first
    assert (first.second.value, second.second.value) == (2.0, 4.0)


def test_nodes_share_states_across_arguments():
    @gs.jit
    def add(a, b):
        a.first.value = a.first.value + 10 * b.first.value
        return a.first.value - b.first.value

    a, b = Pair(1.0), Pair(2.0)
    assert add(a, b) == 19.0
    assert add(a, a) == 0.0
    assert (a.first.value, b.first.value) == (231.0, 2.0)
    assert add(b, a) == 2081.0
    assert b.first.value == 2312.0


def test_a_node_and_its_own_state_may_both_be_arguments():
    @gs.jit
    def read_back(pair, state):
        state.value = state.value + 1
        return pair.first.value

    pair = Pair(1.0)
    assert read_back(pair, pair.first) == 2.0
    assert read_back(pair, pair.second) == 2.0
    assert pair.second.value == 3.0


def test_nodes_are_found_anywhere_in_arguments():
    @gs.jit
    def total(models, *, extra):
        return models["a"][0].first.value + models["b"].second.value + extra[0].first.value

    a, b, c = Pair(1.0), Pair(2.0, 20.0), Pair(300.0)
    assert total({"a": [a], "b": b}, extra=(c,)) == 321.0


def test_the_order_of_keyword_arguments_does_not_matter():
    subtract = gs.jit(lambda *, a, b: a - b)
    assert subtract(a=3, b=1) == subtract(b=1, a=3) == 2


@pytest.mark.parametrize("transform", [gs.jit, gs.vmap, gs.grad])
def test_keyword_arguments_may_have_any_name(transform):
    def function(x, *, self, function, args, kwargs):
        return x * self * function * args * kwargs

    factors = dict.fromkeys(["self", "function", "args", "kwargs"], jnp.full(2, 2.0) if transform is gs.vmap else 2.0)
    result = transform(function)(jnp.ones(2) if transform is gs.vmap else 1.0, **factors)
    np.testing.assert_array_equal(result, [16.0, 16.0] if transform is gs.vmap else 16.0)


def test_classes_with_manners_of_their_own():
    """Their `__setattr__`, `__getattr__`, `__eq__` and `frozen` do not get in the way."""

    class Own(gs.Node):
        def __init__(self):
            self.state, self.parts = gs.State(jnp.float32(1.0)), {"part": gs.State(jnp.float32(3.0))}

        def __setattr__(self, name, value):
            super().__setattr__(name, value)

        def __getattr__(self, name):
            if name.startswith("_") or name not in self.parts:
                raise AttributeError(name)
            return self.parts[name]

        def __eq__(self, other):
            return self.state.value == jnp.ones(3)

        __hash__ = None

    @dataclasses.dataclass(frozen=True)
    class Frozen(gs.Node):
        own: Own
        factor: int = 3

    def step(frozen, own):
        own.state.value = own.state.value * frozen.factor + own.part.value
        own.flag = True
        return frozen

    frozen = Frozen(Own())
    assert gs.jit(step)(frozen, frozen.own) is frozen
    assert frozen.own.state.value == 6.0
    assert frozen.own.flag
    assert gs.jit(lambda: frozen.own.part.value)() == 3.0


def test_a_node_can_be_the_function():
    class Scale(gs.Node):
        def __init__(self):
            self.calls = gs.State(jnp.int32(0))

        def __call__(self, x):
            self.calls.value = self.calls.value + 1
            return 2 * x

    scale = Scale()
    compiled = gs.jit(scale)
    assert compiled(3.0) == 6.0
    assert compiled(4.0) == 8.0
    assert scale.calls.value == 2


def test_methods_can_be_decorated():
    class Counter(gs.Node):
        def __init__(self):
            self.total = gs.State(jnp.float32(0))

        @gs.jit
        def add(self, x):
            self.total.value = self.total.value + x
            self.touched = True
            return self

    first, second = Counter(), Counter()
    assert first.add(2.0) is first
    assert first.touched
    second.add(3.0)
    second.add(4.0)
    assert (first.total.value, second.total.value) == (2.0, 7.0)


def test_parameters_come_first_in_a_decorator():
    class Power(gs.Node):
        def __init__(self):
            self.base = gs.State(jnp.float32(3.0))

        @gs.jit(static_argnames="exponent")
        def raised(self, exponent):
            return self.base.value**exponent

    assert Power().raised(2) == 9.0
    assert Power().raised(exponent=3) == 27.0


def test_it_wraps_the_function():
    def described(x):
        """Says something."""
        return x

    compiled = gs.jit(described)
    assert compiled.__name__ == "described"
    assert compiled.__doc__ == "Says something."
    assert compiled.__wrapped__ is described


# Static arguments


@pytest.mark.no_leak_check("counts traces")
def test_static_arguments_are_python_values():
    seen = []

    @gs.jit(static_argnames=("mode", "times"))
    def apply(x, mode="a", *, times=1):
        seen.append((mode, times))
        return x * (2 if mode == "a" else 3) * times

    results = [apply(1), apply(1, "b"), apply(1, mode="b"), apply(1, "b", times=2), apply(2, "b", times=2)]
    assert results == [2, 3, 3, 6, 12]
    assert set(seen) == {("a", 1), ("b", 1), ("b", 2)}


def test_static_argnums_count_from_either_end():
    def digits(a, b, c, d):
        return a * 1000 + b * 100 + c * 10 + d

    for numbers in [(0,), (2, 0), (-1,), (1, -1), 3]:
        assert (
            gs.jit(digits, static_argnums=numbers)(1, 2, 3, 4)
            == jax.jit(digits, static_argnums=numbers)(1, 2, 3, 4)
            == 1234
        )


def test_static_arguments_may_stand_among_varargs():
    assert gs.jit(lambda a, *rest: a + sum(rest), static_argnums=1)(1, 2, 3) == 6


def test_one_and_true_are_different_static_arguments():
    compiled = gs.jit(lambda x, n: x if n is True else 2 * x, static_argnames="n")
    assert [compiled(2, n=1), compiled(2, n=True), compiled(2, n=1)] == [4, 2, 4]


def test_a_static_argument_that_cannot_be_hashed_is_an_error():
    compiled = gs.jit(lambda x, n: x, static_argnames="n")
    with pytest.raises(
        StateTypeError, match=r"must be hashable, but argument 1 of .* is '\[1\]' of type list. Pass a tuple"
    ):
        compiled(1.0, [1])
    with pytest.raises(TypeError, match=r"but argument 'n' of"):
        compiled(1.0, n=[1])


def test_an_unknown_static_name_is_an_error():
    with pytest.raises(
        StateTypeError, match=r"`static_argnames` names \['k'\], but .* has the parameters \['n', 'x'\]"
    ):
        gs.jit(lambda x, n: x, static_argnames="k")


# What cannot be an argument or a result


def test_an_argument_that_is_no_array_is_an_error():
    with pytest.raises(
        StateTypeError,
        match=r"`jit` takes Nodes, States and pytrees of arrays, but argument `mode\['a'\]` of .* is 'text' "
        r"of type str. .*`static_argnames`",
    ):
        gs.jit(lambda x, *, mode: x)(1.0, mode={"a": "text"})


def test_a_plain_self_is_an_error():
    class Plain:
        @gs.jit
        def method(self, x):
            return x

    with pytest.raises(
        TypeError,
        match=r"argument `self` of .*Plain.method.* Make Plain a subclass of `graphstate.Node`, or name it in",
    ):
        Plain().method(1.0)


def test_a_positional_argument_is_named_as_the_function_names_it():
    with pytest.raises(StateTypeError, match=r"argument `rest\[1\]` of"):
        gs.jit(lambda x, *rest: x)(1.0, 2.0, "text")


def test_a_result_that_is_no_array_is_an_error():
    pair = Pair(1.0)

    def function(x):
        pair.first.value = x
        return {"note": ["text"]}

    with pytest.raises(
        StateTypeError,
        match=r"A function transformed by `jit` returns .* but its result at \['note'\]\[0\] is 'text' of type str",
    ):
        gs.jit(function)(3.0)
    assert pair.first.value == 1.0


def test_only_functions_are_transformed():
    with pytest.raises(
        StateTypeError, match=r"`jit` transforms a function, but it was given '3' of type int. As a decorator"
    ):
        gs.jit(3)


def test_a_static_attribute_that_cannot_be_hashed_is_an_error():
    pair = Pair()
    pair.names = {"a", "b"}
    with pytest.raises(StructureError, match=r"A static value must be hashable, but at `names`"):
        gs.jit(lambda pair: pair.first.value)(pair)


# Failures


def test_a_failing_call_changes_nothing():
    pair, key = Pair(1.0), gs.random.DEFAULT.value
    first = pair.first

    @gs.jit
    def fail(pair, x):
        pair.first.value = pair.first.value + x
        pair.second = gs.State(x)
        pair.flag = True
        gs.random.normal()
        raise KeyError("user")

    with pytest.raises(KeyError, match="user"):
        fail(pair, 1.0)
    assert pair.first is first
    assert pair.first.value == 1.0
    assert pair.second.value == 2.0
    assert not hasattr(pair, "flag")
    assert gs.random.DEFAULT.value == key


def test_a_call_after_a_failing_one_is_right():
    state, fails = gs.State(jnp.float32(0.0)), [True]

    @gs.jit
    def step(x):
        state.value = state.value + x
        if fails[0]:
            raise ValueError("not yet")
        return state.value

    with pytest.raises(ValueError, match="not yet"):
        step(1.0)
    fails[0] = False
    assert step(2.0) == 2.0
    assert state.value == 2.0


def test_a_shape_error_leaves_states_alone():
    state = gs.State(jnp.ones(3))

    @gs.jit
    def step(x):
        state.value = state.value * 2
        return state.value @ x

    with pytest.raises(TypeError, match="dot_general"):
        step(jnp.ones(2))
    np.testing.assert_array_equal(state.value, jnp.ones(3))
    assert step(jnp.ones(3)) == 6.0


@pytest.mark.no_leak_check("traces without compiling")
def test_jax_may_be_told_not_to_compile():
    pair, total = Pair(2.0), gs.State(jnp.float32(0.0))

    def step(pair, x):
        pair.first.value = pair.first.value * x
        pair.flag = True
        total.value = total.value + x
        return float(pair.first.value)

    with jax.disable_jit():
        assert gs.jit(step)(pair, 3.0) == 6.0
        assert gs.for_loop(lambda x: total.value * x, jnp.ones(2)).tolist() == [3.0, 3.0]
    assert pair.first.value == 6.0
    assert pair.flag


@pytest.mark.no_leak_check("JAX runs the program again, eagerly")
def test_a_nan_that_jax_looks_for_changes_nothing():
    state = gs.State(jnp.float32(1.0))

    @gs.jit
    def step(x):
        state.value = state.value + 1
        return jnp.log(x - state.value)

    with jax.debug_nans(True), pytest.raises(FloatingPointError):
        step(jnp.float32(1.0))
    assert state.value == 1.0
    assert step(jnp.float32(3.0)) == 0.0


def test_a_function_may_call_itself():
    @gs.jit(static_argnums=1)
    def climb(x, steps):
        return x if steps == 0 else climb(x + 1, steps - 1)

    assert climb(0.0, 4) == 4.0


# The rest of what `jax.jit` offers


def test_lower_changes_nothing():
    pair, key = Pair(1.0), gs.random.DEFAULT.value

    def step(pair, x):
        pair.first.value = pair.first.value + gs.random.normal()
        pair.flag = True
        return pair.second.value * x

    lowered = gs.jit(step).lower(pair, 3.0)
    assert "stablehlo" in lowered.as_text()
    lowered.compile()
    assert pair.first.value == 1.0
    assert not hasattr(pair, "flag")
    assert gs.random.DEFAULT.value == key


@pytest.mark.no_leak_check("counts traces")
def test_lower_and_the_call_share_one_trace():
    runs = []

    @gs.jit
    def step(x):
        runs.append(x)
        return 2 * x

    step.lower(1.0)
    assert step(1.0) == 2.0
    assert len(runs) == 1


@pytest.mark.no_leak_check("counts traces")
def test_clear_cache_forgets_programs():
    runs, pair = [], Pair(2.0)

    @gs.jit
    def step(x):
        runs.append(x)
        return pair.first.value * x

    assert step(1.0) == 2.0
    step.clear_cache()
    assert step(1.0) == 2.0
    assert step(1.0) == 2.0
    assert len(runs) == 2


def test_a_value_of_another_type_may_be_written():
    state = gs.State(jnp.float32(1.0))

    @gs.jit
    def nest():
        state.value = {"inside": state.value}

    nest()
    nest()
    assert state.value["inside"]["inside"] == 1.0


def test_a_state_may_grow_from_call_to_call():
    state = gs.State(jnp.zeros(1))

    @gs.jit
    def append():
        state.value = jnp.concatenate([state.value, jnp.ones(1)])
        return jnp.sum(state.value)

    assert [append(), append(), append()] == [1.0, 2.0, 3.0]
    assert state.value.shape == (4,)


def test_a_state_may_begin_with_nothing():
    state = gs.State(None)

    @gs.jit
    def accumulate(x):
        state.value = x if state.value is None else state.value + x
        return state.value

    assert [accumulate(2.0), accumulate(2.0), accumulate(2.0)] == [2.0, 4.0, 6.0]


def test_two_states_may_exchange_values():
    pair = Pair(1.0, 2.0)

    @gs.jit
    def exchange():
        pair.first.value, pair.second.value = pair.second.value, pair.first.value

    exchange()
    assert (pair.first.value, pair.second.value) == (2.0, 1.0)
    exchange()
    assert (pair.first.value, pair.second.value) == (1.0, 2.0)


def test_a_state_that_is_not_written_keeps_its_value_object():
    pair = Pair()
    value = pair.second.value

    @gs.jit
    def step(pair):
        pair.first.value = pair.first.value + pair.second.value

    step(pair)
    assert pair.second.value is value


def test_a_partial_of_a_function_and_a_node():
    def scaled(pair, factor, x):
        pair.first.value = pair.first.value + x
        return pair.second.value * factor * x

    pair = Pair(0.0, 2.0)
    compiled = gs.jit(functools.partial(scaled, pair, factor=3.0))
    assert compiled(x=5.0) == 30.0
    assert pair.first.value == 5.0


def test_weak_types_of_array_attributes_are_kept():
    class Holder(gs.Node):
        def __init__(self):
            self.weak = jnp.asarray(2.0)
            self.state = gs.State(jnp.asarray(2.0))

    holder = Holder()
    assert jax.typeof(holder.weak).weak_type
    product = gs.jit(lambda holder, x: (holder.weak * x, holder.state.value * x))
    assert {part.dtype for part in product(holder, jnp.ones((), jnp.bfloat16))} == {jnp.dtype(jnp.bfloat16)}


def test_a_closed_over_node_keeps_its_structure():
    pair = Pair()
    pair.items = []

    def set_attribute(x):
        pair.extra = x
        return x

    def change_list(x):
        pair.items.append(x)
        return x

    with pytest.raises(
        TraceContextError,
        match=r"Attribute 'extra' of a Pair was changed inside of a transform, but .* closure. Pass the Node "
        r"as an argument",
    ):
        gs.jit(set_attribute)(1.0)
    with pytest.raises(
        TraceContextError, match=r"`pair.items`, part of a Node .* was changed in place .*; the change was taken back"
    ):
        gs.jit(change_list)(1.0)
    assert pair.items == []
    assert not hasattr(pair, "extra")


def leaf_shapes(function, *args):
    return [leaf.shape for leaf in jax.tree.leaves(function.lower(*args).out_info)]


def test_a_forward_pass_returns_the_prediction_only():
    model = [gs.nn.Linear(2, 3), gs.nn.Linear(3, 4)]
    forward = gs.jit(lambda x: model[1](model[0](x)))
    assert leaf_shapes(forward, jnp.ones((5, 2))) == [(5, 4)]
    as_argument = gs.jit(lambda first, second, x: second(first(x)))
    assert leaf_shapes(as_argument, *model, jnp.ones((5, 2))) == [(5, 4)]
    compiled = as_argument.lower(*model, jnp.ones((5, 2))).compile()
    assert [leaf.shape for leaf in jax.tree.leaves(compiled.out_info)] == [(5, 4)]


def test_a_train_step_returns_the_loss_and_what_is_written():
    frozen, layer = gs.nn.Linear(2, 3), gs.nn.Linear(3, 4)

    @gs.jit
    def step(layer, x):
        loss, grads = gs.value_and_grad(lambda layer: layer(frozen(x)).sum())(layer)
        layer.weight.value = layer.weight.value - grads["weight"]
        return loss

    assert leaf_shapes(step, layer, jnp.ones((5, 2))) == [(), (3, 4)]


@pytest.mark.parametrize("transform", [gs.jit, lambda function: gs.jit(function, donate_states=True)])
def test_a_program_has_the_name_of_the_function(transform):
    def multiply(x):
        return 2 * x

    assert "jit_multiply" in transform(multiply).lower(1.0).as_text()


def test_static_arguments_of_partials_methods_and_nodes():
    class Power(gs.Node):
        def __init__(self):
            self.base = gs.State(jnp.float32(2))

        def raised(self, x, exponent):
            """Raises."""
            return x * self.base.value**exponent

        def __call__(self, x, exponent):
            return self.raised(x, exponent)

    node = Power()
    by_name = gs.jit(node.raised, static_argnames="exponent")
    assert (by_name.__name__, by_name.__doc__) == ("raised", "Raises.")
    assert by_name(1.0, 3) == by_name(1.0, exponent=3) == 8.0
    assert gs.jit(node, static_argnums=1)(1.0, 2) == 4.0
    assert gs.jit(functools.partial(node.raised, exponent=1), static_argnames="exponent")(3.0) == 6.0
    assert gs.jit(functools.partial(Power.raised, node), static_argnums=1)(1.0, 2) == 4.0


def test_compiler_options_reach_the_compiler():
    with pytest.raises(Exception, match="no_such_option"):
        gs.jit(lambda x: x, compiler_options={"no_such_option": True})(1.0)
