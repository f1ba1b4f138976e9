"""Functions of JAX in pickles."""

import copy
import pickle

import cloudpickle
import jax
import jax.numpy as jnp
import pytest

from graphstate.graph import Node, graphdef

FUNCTIONS = [jax.nn.relu, jax.nn.silu, jax.nn.gelu, jnp.tanh, jax.lax.rsqrt, jax.scipy.special.erf]


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_a_public_function_is_itself_in_every_copy(function: object) -> None:
    assert pickle.loads(pickle.dumps(function)) is function
    assert cloudpickle.loads(cloudpickle.dumps(function)) is function
    assert copy.deepcopy(function) is function


def test_a_node_and_a_graphdef_that_hold_one_pickle() -> None:
    node = Node()
    node.activations = [jax.nn.relu, jnp.tanh]
    assert pickle.loads(pickle.dumps(node)).activations == node.activations
    assert pickle.loads(pickle.dumps(graphdef(node))) == graphdef(node)


def test_a_compiled_function_of_your_own_pickles_as_jax_says() -> None:
    with pytest.raises((AttributeError, pickle.PicklingError), match=r"Can't (pickle|get) local object"):
        pickle.dumps(jax.jit(len))
