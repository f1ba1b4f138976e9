"""Meshes with axes on which everything works."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

import graphstate as gs
from graphstate.errors import AxisError
from graphstate.parallel import make_mesh


@pytest.mark.parametrize(
    ("given", "shape"),
    [
        ({}, {"batch": 8}),
        ({"shape": 4}, {"batch": 4}),
        ({"shape": (2, 4), "names": ("data", "model")}, {"data": 2, "model": 4}),
        ({"names": "x"}, {"x": 8}),
    ],
    ids=str,
)
def test_a_mesh_has_the_shape_and_the_names_that_were_given(given, shape):
    mesh = make_mesh(**given)
    assert dict(mesh.shape) == shape
    assert set(mesh.axis_types) == {AxisType.Auto}


def test_a_mesh_is_made_of_the_devices_that_were_given():
    devices = jax.devices()[3:5]
    assert set(make_mesh(devices=devices).devices.flat) == set(devices)


def test_what_comes_out_of_lanes_there_is_an_array_like_any_other():
    output = gs.pmap(lambda x: x + 1, mesh=make_mesh())(jnp.arange(16.0).reshape(8, 2))
    np.testing.assert_array_equal(output[1:] @ output.T, (np.arange(16.0).reshape(8, 2) + 1)[1:] @ np.array(output).T)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"shape": 16}, r"needs 16 devices for the shape \(16,\), but there are 8"),
        ({"shape": (2, 2)}, r"`names` is \('batch',\), and the shape is \(2, 2\)\. Give as many of both"),
        ({"names": ("a", "b")}, r"the shape is \(8,\) \(all devices along one axis\)"),
        ({"shape": (2, 2), "names": ("a", "a")}, r"needs another name for each axis, but `names` is \('a', 'a'\)"),
        ({"shape": (2, -1), "names": ("a", "b")}, r"at least one device along each axis, but the shape is \(2, -1\)"),
    ],
    ids=str,
)
def test_a_mesh_that_cannot_be_is_an_error(given, text):
    with pytest.raises(AxisError, match=text):
        make_mesh(**given)
