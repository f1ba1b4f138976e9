"""What goes wrong without a word in the systems before this one (flax.nnx, brainstate), and what happens here."""

import jax
import jax.numpy as jnp
import pytest

import graphstate.graph as g
from graphstate.errors import UpdateError
from graphstate.filters import PathContains
from graphstate.graph import Node, ParamState, State

pytestmark = pytest.mark.no_leak_check("very many eager operations")


class Linear(Node):
    def __init__(self, size=2):
        self.kernel = ParamState(jnp.ones((size, size)))
        self.bias = ParamState(jnp.zeros(size))


def test_a_list_of_layers_needs_no_wrapper():
    class Model(Node):
        def __init__(self):
            self.layers = [Linear(), Linear()]
            self.pair = (Linear(), {"x": Linear()})

    assert len(g.states(Model())) == 8


def test_layers_appended_after_init_are_seen():
    model = Node()
    model.layers = []
    model.layers.append(Linear())
    assert [g.write_path(path) for path in g.state(model)] == ["layers/0/bias", "layers/0/kernel"]


def test_an_array_put_over_a_parameter_is_a_difference_and_a_value():
    model = Linear()
    before = g.graphdef(model)
    model.kernel = jnp.zeros((2, 2))
    assert g.diff(before, g.graphdef(model)) == ["kernel: ParamState -> array"]
    assert [g.write_path(path) for path in g.state(model)] == ["bias", "kernel"]


def test_a_dict_may_have_a_key_that_is_a_method_of_dicts():
    model = Node()
    model.table = {"items": Linear(), "keys": Linear()}
    merged = g.merge(*g.split(model))
    assert sorted(merged.table) == ["items", "keys"]
    assert len(list(merged.table.items())) == 2


def test_keys_may_be_ints_and_of_mixed_types():
    model = Node()
    model.table = {10: Linear(), "a": Linear(), 2: Linear(), (1, 2): State(0), None: State(1)}
    assert [g.write_path(path) for path in g.nodes(model)] == ["", "table/2", "table/10", "table/a"]
    assert g.merge(*g.split(model)).table[None].value == 1


def test_an_update_of_another_shape_is_refused():
    model = Linear()
    with pytest.raises(UpdateError, match=r"kernel: needs f32\[2,2\], got f32\[7,7\]"):
        g.update(model, {"kernel": jnp.ones((7, 7))})
    assert model.kernel.value.shape == (2, 2)


def test_an_update_with_a_typing_error_is_refused():
    model = Linear()
    with pytest.raises(UpdateError, match="kernle: unknown"):
        g.update(model, {"kernle": jnp.ones((2, 2))})
    with pytest.raises(UpdateError, match="deep/kernel: unknown"):
        g.update(model, {"deep": {"kernel": jnp.ones((2, 2))}})
    assert vars(model).keys() == {"kernel", "bias"}


@pytest.mark.parametrize("name", ["enc", "dec"])
def test_a_shared_module_is_found_by_each_of_its_names(name):
    model = Node()
    model.enc = model.dec = Linear()
    assert len(g.states(model, PathContains(name))) == 2
    assert len(g.state(model, PathContains(name))) == 2


def test_states_may_be_looked_for_in_lists_and_sets():
    one, two = State(jnp.ones(2)), State(jnp.ones(2))
    assert one not in [two]
    assert one in {one}


def test_a_number_is_a_value_like_any_other():
    state = State(3)
    state.value += 1
    assert state.value == 4


def test_numbers_from_a_file_fit_a_list():
    model = Node()
    model.layers = [Linear()]
    g.update(model, {"layers": {"0": {"bias": jnp.ones(2)}}})
    assert model.layers[0].bias.value.all()


def test_a_plain_array_is_a_leaf_and_not_a_constant():
    model = Linear()
    model.table = jnp.ones(2)
    graphdef, state = g.split(model)
    traced = []

    @jax.jit
    def total(state):
        traced.append(1)
        return g.merge(graphdef, state).table.sum()

    assert total(state) == 2
    model.table = jnp.zeros(2)
    changed, state = g.split(model)
    assert changed == graphdef
    assert hash(changed) == hash(graphdef)
    assert total(state) == 0
    assert traced == [1]


def test_a_merge_with_something_missing_names_it():
    graphdef, state = g.split(Linear())
    with pytest.raises(UpdateError, match="missing: bias"):
        g.merge(graphdef, state.filter(PathContains("kernel")))


def test_the_copies_of_a_clone_and_of_its_original_are_apart():
    model = Linear()
    other = g.clone(model)
    other.kernel.value = other.kernel.value * 0
    assert model.kernel.value.all()
