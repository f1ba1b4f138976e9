"""`check_module` and `BatchingSuite`: every check that applies, in one line or as tests."""

import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import graphstate as gs
import graphstate.testing as gst
from graphstate.errors import PropertyError, StateTypeError
from graphstate.testing._module import Made, lanes_of

pytestmark = pytest.mark.no_leak_check(reason="counts traces, and runs many eager operations")
ROOT = Path(__file__).parents[2]
X = np.float32([1, 2, 3])


class Norm(gs.Node):
    """Normalises by what it has seen, and, if told to, by the batch it sees."""

    def __init__(self, mixing=False):
        self.mean = gs.BatchState(jnp.zeros(3))
        self.mixing = mixing

    def __call__(self, x):
        if self.mixing:
            return x - x.mean(0, keepdims=True)
        self.mean.value = 0.9 * self.mean.value + 0.1 * x
        return x - self.mean.value


def names_of(make, *examples, **options):
    """The checks that run, by form."""
    made = Made(make, options.pop("batched", False))
    return {
        form.name: [check.name for check in form.checks if form.applies(check)]
        for form in made.forms(lanes_of(examples))
    }


def mlp():
    return gs.nn.Sequential(gs.nn.Linear(3, 4), jnp.tanh, gs.nn.Dropout(0.5), gs.nn.Linear(4, 2))


def test_it_passes_a_network_with_dropout_and_says_what_it_runs() -> None:
    gs.random.seed(0)
    gst.check_module(mlp, X)
    forms = names_of(mlp, X)
    assert list(forms) == ["shared", "shared, fit", "members"]
    assert len(forms["shared"]) == 17
    assert forms["shared, fit"] == ["check_vmap", "check_rng"]


def test_a_module_that_keeps_something_of_each_lane_is_checked_as_members() -> None:
    gst.check_module(Norm, X)
    assert list(names_of(Norm, X)) == ["members"]


def test_it_finds_a_layer_that_mixes_its_batch() -> None:
    gst.check_module(lambda: gs.nn.Linear(3, 2), X, batched=True)
    with pytest.raises(PropertyError, match=r"check_vmap: `Norm`: all lanes at once differ"):
        gst.check_module(lambda: Norm(mixing=True), X, batched=True)


def test_functions_and_pytrees_and_integers_and_keys_will_do() -> None:
    gst.check_module(lambda: lambda tree, index: tree["x"][index], {"x": X}, np.int32(1))
    gst.check_module(lambda: lambda key, x: x + jax.random.normal(key, x.shape), jax.random.key(0), X)


def test_random_numbers_are_checked_where_they_show() -> None:
    def make():
        return gs.nn.Dropout(0.5, fit=True)

    assert "check_rng" in names_of(make, X)["shared"]
    assert "check_rng" not in names_of(make, 0 * X, batched=True)["shared"]


def test_without_examples_only_graphs_are_checked() -> None:
    gst.check_module(lambda: gs.nn.Linear(3, 2))
    with pytest.raises(StateTypeError, match="calls the module with the examples, but Node has no `__call__`"):
        gst.check_module(gs.Node, X)


def test_strategies_draw_the_lanes() -> None:
    seen = []

    def note(x):
        seen.append(x.shape)
        return 2 * x

    gst.check_module(lambda: note, gst.arrays("float32", (3,)), max_examples=3)
    assert (3,) in seen
    with pytest.raises(PropertyError, match="axis_size=2"):
        gst.check_module(lambda: lambda x: x - x.mean(), gst.arrays("float32", (3,)), batched=True)


def test_concrete_examples_need_no_hypothesis() -> None:
    code = (
        "import sys; sys.modules.update(hypothesis=None, pytest=None); import graphstate.testing as gst, numpy as np; "
        "gst.check_module(lambda: lambda x: 2 * x, np.ones(2)); print('passed')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "passed\n"), done.stderr


def test_lanes_are_like_the_example_and_differ() -> None:
    floats, integers = lanes_of((X, np.arange(3)), 3)
    assert floats.shape == integers.shape == (3, 3)
    np.testing.assert_array_equal(floats[0], X)
    assert len({tuple(lane) for lane in floats.tolist()}) == len({tuple(lane) for lane in integers.tolist()}) == 3


def test_user_code_is_traced_a_few_times_only() -> None:
    traces = [0]

    class Counted(gs.Node):
        def __call__(self, x):
            traces[0] += isinstance(x, jax.core.Tracer)
            return 2 * x

    gst.check_module(Counted, gst.arrays("float32", (3,)), max_examples=20)
    assert 0 < traces[0] < 48


SUITE = """
import numpy as np, graphstate as gs, graphstate.testing as gst
class TestLinear(gst.BatchingSuite):
    examples = (np.float32([1, 2, 3]),)
    def make(self):
        return gs.nn.Linear(3, 2)
class TestMixing(gst.BatchingSuite):
    examples = (np.float32([1, 2, 3]),)
    batched = True
    def make(self):
        return lambda x: x - x.mean()
class TestNothing(gst.BatchingSuite):
    pass
"""


def test_a_suite_has_an_item_for_each_check(tmp_path) -> None:
    (tmp_path / "test_suite.py").write_text(SUITE)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-rA",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(tmp_path),
        str(tmp_path),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    passed = [line for line in lines if line.startswith("PASSED") and "TestLinear" in line]
    assert len(passed) == 17, done.stdout
    assert any(line.startswith("FAILED") and "TestMixing::test_lane_isolation" in line for line in lines)
    assert any(line.startswith("FAILED") and "TestNothing::test_vmap" in line for line in lines)
    assert "`TestNothing` needs a method `make` that builds the module to check" in done.stdout
    assert any(line.startswith("SKIPPED") and "`check_rng` does not apply to this module" in line for line in lines)
