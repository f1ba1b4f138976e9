"""Names of operations, against `jax.named_scope` in plain JAX."""

import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import graphstate as gs


def names(jaxpr):
    """What each operation of a program and of those in it is called, with its own name."""
    found = set()
    for eqn in jaxpr.eqns:
        found.add((str(eqn.source_info.name_stack), eqn.primitive.name))
        for param in eqn.params.values():
            for part in param if isinstance(param, tuple | list) else [param]:
                inner = getattr(part, "jaxpr", part)
                if hasattr(inner, "eqns"):
                    found |= names(inner)
    return found


def traced(function, *args):
    return names(gs.jit(function).trace(*args).jaxpr.jaxpr)


def scopes_of(found, primitive):
    return {scope for scope, name in found if name == primitive}


def test_a_block_names_the_operations_in_it():
    def function(x):
        with gs.named_scope("first"):
            x = jnp.sin(x)
            with gs.named_scope("second"):
                x = jnp.cos(x)
        return jnp.exp(x)

    found = traced(function, 1.0)
    assert scopes_of(found, "sin") == {"first"}
    assert scopes_of(found, "cos") == {"first/second"}
    assert scopes_of(found, "exp") == {""}


def test_a_decorator_names_functions_methods_and_nodes():
    class Model(gs.Node):
        def __init__(self):
            self.weight = gs.ParamState(jnp.ones(()))

        @gs.named_scope("method")
        def sine(self, x):
            """Documented."""
            return jnp.sin(self.weight.value * x)

        def __call__(self, x):
            return jnp.cos(self.weight.value * x)

    @gs.named_scope("function")
    def function(x, *, model):
        return jnp.exp(model.sine(x)), gs.named_scope("node")(model)(x)

    found = traced(lambda x, model: function(x, model=model), 1.0, Model())
    assert scopes_of(found, "exp") == {"function"}
    assert scopes_of(found, "sin") == {"function/method"}
    assert scopes_of(found, "cos") == {"function/node"}
    assert function.__name__ == "function"
    assert (Model.sine.__name__, Model.sine.__doc__) == ("sine", "Documented.")
    assert not vars(gs.named_scope("node")(Model())).keys() - {"__wrapped__"}


TRANSFORMS = {
    "vmap": lambda f: gs.vmap(f, in_axes=(None, 0)),
    "grad": lambda f: lambda model, xs: gs.grad(lambda model: jnp.sum(f(model, xs)))(model)["weight"],
    "grad inside": lambda f: lambda model, xs: gs.value_and_grad(f)(model, xs[0])[0],
    "scan": lambda f: lambda model, xs: gs.for_loop(lambda x: f(model, x), xs),
    "vmap of grad": lambda f: lambda model, xs: gs.vmap(lambda x: gs.grad(f)(model, x)["weight"])(xs),
    "cond": lambda f: lambda model, xs: gs.cond(xs[0] > 0, lambda: f(model, xs[0]), lambda: 0.0),
    "checkpoint": lambda f: (
        lambda model, xs: gs.grad(lambda model: jnp.sum(gs.checkpoint(f)(model, xs)))(model)["weight"]
    ),
    "jit": lambda f: lambda model, xs: gs.jit(f)(model, xs),
}


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_names_reach_the_captured_programs(transform):
    class Model(gs.Node):
        def __init__(self):
            self.weight = gs.ParamState(jnp.float32(2.0))

    def function(model, x):
        with gs.named_scope("block"):
            y = jnp.sin(model.weight.value * x)
            model.weight.value = model.weight.value + 0  # written, so that it leaves the program
        return y

    call = TRANSFORMS[transform](function)
    model = Model()
    found = traced(call, model, jnp.arange(1.0, 3.0))
    assert all("block" in scope for scope in scopes_of(found, "sin") | scopes_of(found, "cos"))
    assert scopes_of(found, "sin") | scopes_of(found, "cos")
    text = gs.jit(call).lower(model, jnp.arange(1.0, 3.0)).as_text(debug_info=True)
    assert "block" in text


def test_program_texts_hold_the_names_of_plain_jax():
    def plain(weight, x):
        with jax.named_scope("outer"):
            return jax.grad(lambda weight: jnp.sin(weight * x))(weight)

    model = gs.Node()
    model.weight = gs.ParamState(jnp.float32(2.0))

    @gs.jit
    def function(model, x):
        with gs.named_scope("outer"):
            return gs.grad(lambda model: jnp.sin(model.weight.value * x))(model)["weight"]

    def paths(lowered):
        lines = lowered.as_text(debug_info=True).splitlines()
        return {line.split('"')[1].split("/", 1)[1] for line in lines if '"jit(' in line and "/" in line.split('"')[1]}

    assert paths(function.lower(model, 1.0)) == paths(jax.jit(plain).lower(jnp.float32(2.0), 1.0))


def test_what_is_referred_to_through_a_scope_is_seen():
    model = gs.nn.Linear(2, 2)
    compiled = gs.jit(gs.named_scope("a")(lambda x: model(x)))
    np.testing.assert_allclose(compiled(jnp.ones(2)), model(jnp.ones(2)), rtol=1e-6)
    model.bias.value = model.bias.value + 1
    np.testing.assert_allclose(compiled(jnp.ones(2)), model(jnp.ones(2)), rtol=1e-6)
    model.bias = gs.ParamState(jnp.full(2, 5.0))
    np.testing.assert_allclose(compiled(jnp.ones(2)), model(jnp.ones(2)), rtol=1e-6)


@pytest.mark.no_leak_check("leak checks of several threads see each other's tracers")
def test_a_scope_may_be_entered_again_inside_of_itself_and_by_threads():
    scope = gs.named_scope("again")

    @scope
    def count(n, x):
        with scope:
            return jnp.sin(x) if n == 0 else count(n - 1, x)

    found = []
    threads = [threading.Thread(target=lambda: found.append(traced(lambda x: count(2, x), 1.0))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [scopes_of(each, "sin") for each in found] == [{"/".join(["again"] * 6)}] * 4


def test_an_error_inside_ends_the_scope():
    def function(x):
        try:
            with gs.named_scope("broken"):
                raise ValueError
        except ValueError:
            return jnp.sin(x)

    assert scopes_of(traced(function, 1.0), "sin") == {""}


def test_a_name_is_a_string():
    with pytest.raises(TypeError, match="must be a string"):
        gs.named_scope(3)
