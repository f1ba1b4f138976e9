"""No check faults a correct module: one or two of each by default; in the sweep all, and lanes with 200 examples."""

import contextlib
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

import graphstate.testing as gst
from graphstate.testing._drawn import draw_lanes
from graphstate.testing._module import Made, lanes_of
from graphstate.testing.checks._table import CHECKS
from tests.testing.correct import CORRECT

pytestmark = pytest.mark.no_leak_check(reason="runs many eager operations")

EVERY = [check.name for check in CHECKS if not check.of_steps]
OFTEN = ("check_vmap",)
SHARE = 16


def run(made, lanes, names):
    """The checks of these names that apply."""
    for form in made.forms(lanes):
        for check in form.checks:
            if check.name in names and form.applies(check):
                form.run(check, None)


@pytest.mark.parametrize(("number", "module"), list(enumerate(CORRECT)), ids=[each.name for each in CORRECT])
def test_a_few_checks_pass(number, module) -> None:
    dtype = module.dtypes[number // 2 % 2]
    with jax.enable_x64(dtype == "float64"):
        names = EVERY[number % SHARE :: SHARE]
        run(Made(lambda: module.make(jnp.dtype(dtype)), False), lanes_of(module.examples(dtype)), names)


def drawn_like(value):
    """A strategy for whole numbers below 4 in the shape of an array; a key, or a single number, is what it is."""
    if not isinstance(value, np.ndarray) or not value.ndim:
        return value
    numbers = st.lists(st.integers(0, 3), min_size=value.size, max_size=value.size)
    return numbers.map(lambda drawn: np.array(drawn, value.dtype).reshape(value.shape))


SWEEP = [(module, dtype) for module, dtype in itertools.product(CORRECT, ("float32", "bfloat16", "float64"))]


# The gradient of attention by the bias of its keys is nothing but rounding: softmax does not see it.
@pytest.mark.sweep
@pytest.mark.filterwarnings("ignore:.*nothing is wider than double precision:graphstate.testing.RoundingWarning")
@pytest.mark.parametrize(
    ("module", "dtype"),
    [(module, dtype) for module, dtype in SWEEP if dtype in module.dtypes],
    ids=lambda each: getattr(each, "name", each),
)
def test_all_checks_pass_in_every_precision(module, dtype) -> None:
    with jax.enable_x64(True) if dtype == "float64" else contextlib.nullcontext():
        made = Made(lambda: module.make(jnp.dtype(dtype)), False)
        run(made, lanes_of(module.examples(dtype)), EVERY)
        draws = [gst.arrays(dtype, shape) for shape in module.shapes]
        draw_lanes([*draws, *map(drawn_like, module.others)], 200, lambda lanes: run(made, lanes, OFTEN))


def test_there_are_at_least_thirty() -> None:
    assert len({module.name for module in CORRECT}) == len(CORRECT) >= 30
    assert np.mean([len(module.dtypes) for module in CORRECT]) > 2
