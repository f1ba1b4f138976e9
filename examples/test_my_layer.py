"""A layer of one's own, its bug, and the test that finds it: `pytest examples/test_my_layer.py`.

`Centred` shall take the mean of each example from it. `axis=0` takes that of the batch, so that each example depends on
those that happen to be beside it: shapes are right, training works, and predictions change with the batch. The message:

    check_vmap: `Centred`: all lanes at once differ from one after another
      output: lane 0 of 2, index (2,): the batch -0.5, batches of one 0.0; off by 0.5 of the largest element = ...
      note: in double precision the difference is 0.5 of the largest: no rounding
      case: BatchCase(axis_size=2, args=(np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 1.0]], 'float32'),))
"""

import jax.numpy as jnp
import pytest

import graphstate as gs
import graphstate.testing as gst

BATCHES = gst.batched(gst.arrays(shape=3), in_axes=0)  # 1 to 3 examples with 3 features


class Centred(gs.Node):
    def __init__(self, features: int, axis: int) -> None:
        self.scale = gs.ParamState(jnp.ones(features))
        self.axis = axis

    def __call__(self, x):
        return (x - x.mean(self.axis, keepdims=True)) * self.scale.value


wrong, right = Centred(3, axis=0), Centred(3, axis=-1)


@gst.given(case=BATCHES, examples=50)
def test_examples_do_not_depend_on_each_other(case):
    gst.check_vmap(right, case, batched=True)


@gst.given(case=BATCHES, examples=50)
def find_the_bug(case):
    gst.check_vmap(wrong, case, batched=True)


def test_the_bug_is_found():
    with pytest.raises(gs.errors.PropertyError, match="all lanes at once differ from one after another") as found:
        find_the_bug()
    print(found.value)
