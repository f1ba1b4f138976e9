"""The bars of loops: a stand-in for tqdm notes all that it is told, and tqdm itself writes text."""

import io
import math
import sys
import threading
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import graphstate as gs
from graphstate.errors import MissingPackageError, StateTypeError

LOOPS = {
    "scan": lambda xs, **options: gs.scan(
        lambda carry, x: (jnp.sin(carry + x), carry), jnp.float32(0.5), xs, **options
    ),
    "for_loop": lambda xs, **options: gs.for_loop(lambda x: jnp.sin(x), xs, **options),
}


class Shown:
    """One bar that was opened."""

    def __init__(self, desc, total, initial, **_):
        self.description, self.total, self.n = desc, total, initial
        self.seen, self.closed = [initial], 0

    def update(self, count):
        assert not self.closed
        assert count >= 0
        self.n += count
        self.seen.append(self.n)

    def close(self):
        self.closed += 1


@pytest.fixture
def bars(monkeypatch):
    """All bars that are opened in a test, which closes every one of them once."""
    opened = []

    def tqdm(**options):
        opened.append(Shown(**options))
        return opened[-1]

    monkeypatch.setitem(sys.modules, "tqdm.auto", SimpleNamespace(tqdm=tqdm))
    yield opened
    jax.effects_barrier()
    assert [bar.closed for bar in opened] == [1] * len(opened)


def complete(bars, *totals):
    """That bars of these lengths were opened and have reached their ends."""
    jax.effects_barrier()
    assert [bar.total for bar in bars] == list(totals)
    assert [bar.n for bar in bars] == list(totals)
    return True


# What is shown


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("wrap", [lambda f: f, gs.jit, jax.jit], ids=["eager", "gs.jit", "jax.jit"])
def test_each_run_of_a_loop_shows_a_bar_also_a_warm_one(bars, loop, wrap):
    call = wrap(lambda xs: LOOPS[loop](xs, progress="training"))
    for runs in (1, 2, 3):
        call(jnp.arange(3.0))
        assert complete(bars, *[3] * runs)
    assert {bar.description for bar in bars} == {"training"}
    assert bars[0].seen == [0, 1, 2, 3]


def test_true_is_a_bar_without_a_description(bars):
    LOOPS["for_loop"](jnp.ones(2), progress=True)
    assert complete(bars, 2)
    assert bars[0].description is None


@pytest.mark.parametrize("loop", LOOPS)
def test_false_shows_nothing(bars, loop):
    LOOPS[loop](jnp.ones(2), progress=False)
    LOOPS[loop](jnp.ones(2))
    assert bars == []


@pytest.mark.parametrize("length", [1, 2, 18, 19, 20, 21, 37, 38, 39, 400, 10_001])
def test_twenty_reports_are_the_most_whatever_the_length(bars, length):
    gs.for_loop(lambda: None, length=length, progress=True)
    assert complete(bars, length)
    seen = bars[0].seen
    assert len(seen) <= 20
    assert max(np.diff(seen)) <= math.ceil(length / 19)
    assert seen == sorted(set(seen))


@pytest.mark.parametrize("loop", LOOPS)
def test_a_loop_without_steps_shows_nothing(bars, loop):
    LOOPS[loop](jnp.ones(0), progress=True)
    gs.jit(lambda xs: LOOPS[loop](xs, progress=True))(jnp.ones(0))
    assert bars == []


@pytest.mark.parametrize(
    "options", [{"reverse": True}, {"unroll": 3}, {"unroll": True}, {"reverse": True, "unroll": 2}]
)
def test_the_order_of_the_steps_makes_no_difference_to_the_bar(bars, options):
    LOOPS["scan"](jnp.arange(7.0), progress=True, **options)
    assert complete(bars, 7)
    assert bars[0].seen == list(range(8))


def test_a_loop_in_a_loop_has_a_bar_for_each_run(bars):
    def outer(x):
        return gs.for_loop(lambda y: x * y, jnp.ones(2), progress="inner")

    gs.for_loop(outer, jnp.ones(3), progress="outer")
    jax.effects_barrier()
    assert sorted((bar.description, bar.n) for bar in bars) == [("inner", 2)] * 3 + [("outer", 3)]


def test_bars_are_shown_where_jax_does_not_compile(bars):
    with jax.disable_jit():
        LOOPS["scan"](jnp.arange(3.0), progress=True)
        layers = gs.vmap(lambda x: gs.State(x))(jnp.ones(2))
        gs.scan(lambda carry, state: (carry + state.value, None), jnp.float32(0), layers, progress=True)
    assert complete(bars, 3, 2)


def test_two_descriptions_of_one_function_are_two_programs(bars):
    def step(x):
        return 2 * x

    for progress in ("a", "b", True, "a"):
        gs.for_loop(step, jnp.ones(2), progress=progress)
    gs.for_loop(step, jnp.ones(2))
    assert [bar.description for bar in bars] == ["a", "b", None, "a"]


# What the bar leaves alone


def carried(carry, x, state):
    state.value = jnp.cos(state.value) * 1.1 + x
    return {"a": jnp.tanh(carry["a"] @ carry["a"].T + x), "n": carry["n"] + 1}, (state.value, gs.random.normal())


@pytest.mark.parametrize("options", [{}, {"reverse": True}, {"unroll": 4}])
@pytest.mark.parametrize("wrap", [lambda f: f, gs.jit], ids=["eager", "jit"])
def test_results_are_the_same_bit_for_bit(bars, wrap, options):
    def run(progress):
        gs.random.seed(0)
        state = gs.State(jnp.float32(0.3))
        init = {"a": jnp.linspace(-1.0, 1.0, 9).reshape(3, 3), "n": jnp.int32(0)}
        loop = wrap(
            lambda init, xs: gs.scan(lambda carry, x: carried(carry, x, state), init, xs, progress=progress, **options)
        )
        result = loop(init, jnp.linspace(0.0, 1.0, 50))
        return result, state.value, jax.random.key_data(gs.random.DEFAULT.value)

    jax.tree.map(np.testing.assert_array_equal, run(True), run(False))
    assert complete(bars, 50)


@pytest.mark.parametrize("wrap", [lambda f: f, gs.jit], ids=["eager", "jit"])
def test_gradients_are_the_same_and_only_the_first_pass_is_shown(bars, wrap):
    def loss(x, progress):
        last, _ = gs.scan(lambda carry, x: (jnp.sin(carry * x), None), x, jnp.linspace(1.0, 2.0, 30), progress=progress)
        return last

    def derivatives(progress):
        return [
            wrap(gs.grad(lambda x: loss(x, progress)))(0.7),
            jax.jit(jax.grad(lambda x: loss(x, progress)))(0.7),
            jax.hessian(lambda x: loss(x, progress))(0.7),
            jax.jacfwd(lambda x: loss(x, progress))(0.7),
            jax.vjp(lambda x: loss(x, progress), 0.7)[1](1.0)[0],
        ]

    with jax.numpy_dtype_promotion("standard"):
        np.testing.assert_array_equal(derivatives(True), derivatives(False))
    assert complete(bars, *[30] * 5)


@pytest.mark.no_leak_check("counts runs of user code")
def test_user_code_runs_once_as_without_a_bar(bars):
    runs = []

    def step(x):
        runs.append(x)
        return x

    for _ in range(3):
        gs.for_loop(step, jnp.ones(4), progress=True)
    assert len(runs) == 1
    compiled = gs.jit(lambda xs: gs.for_loop(step, xs, progress=True))
    for _ in range(3):
        compiled(jnp.ones(4))
    assert len(runs) == 2
    assert complete(bars, *[4] * 6)


def test_states_that_hold_pytrees_and_keys_may_be_carried(bars):
    state, stream = gs.State({"a": jnp.ones(2), "b": 1}), gs.random.RandomState(3)

    def step(x):
        state.value = {"a": state.value["a"] + x, "b": state.value["b"] + 1}
        return stream.uniform()

    drawn = gs.for_loop(step, jnp.ones(5), progress=True)
    assert len(set(drawn.tolist())) == 5
    assert state.value["b"] == 6
    assert complete(bars, 5)


def test_the_values_of_a_loop_may_be_sharded_over_devices(bars):
    mesh = jax.make_mesh((4,), ("i",), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()[:4])
    xs = jax.device_put(jnp.arange(12.0).reshape(3, 4), jax.NamedSharding(mesh, jax.P(None, "i")))
    result = gs.for_loop(lambda x: 2 * x, xs, progress=True)
    np.testing.assert_array_equal(result, 2 * np.arange(12.0).reshape(3, 4))
    assert complete(bars, 3)


# Lanes


def loop(x):
    return gs.for_loop(lambda y: x * y, jnp.ones(3), progress=True)


class Layer(gs.Node):
    def __init__(self):
        self.weight = gs.State(jnp.ones(()))

    def __call__(self):
        return gs.for_loop(lambda y: self.weight.value * y, jnp.ones(3), progress=True)


def stream_of_lanes():
    return gs.for_loop(lambda: gs.random.normal(), length=3, progress=True)


@pytest.mark.parametrize(
    "call",
    [
        lambda: gs.vmap(loop)(jnp.ones(2)),
        lambda: gs.jit(gs.vmap(loop))(jnp.ones(2)),
        lambda: gs.vmap(gs.jit(loop))(jnp.ones(2)),
        lambda: gs.vmap(gs.grad(lambda x: jnp.sum(loop(x))))(jnp.ones(2)),
        lambda: gs.grad(lambda x: jnp.sum(gs.vmap(loop)(x)))(jnp.ones(2)),
        lambda: gs.vmap(gs.vmap(loop))(jnp.ones((2, 2))),
        lambda: gs.vmap(stream_of_lanes, axis_size=2)(),
        lambda: gs.vmap(lambda layer: layer())(gs.vmap(Layer, axis_size=2)()),
        lambda: gs.for_loop(gs.vmap(loop), jnp.ones((2, 2))),
        lambda: gs.vmap(lambda xs: gs.for_loop(loop, xs))(jnp.ones((2, 2))),
        lambda: gs.map(loop, jnp.ones(3)),
        lambda: gs.map(loop, jnp.ones(3), batch_size=2),
        lambda: gs.map(gs.jit(loop), jnp.ones(3)),
        lambda: gs.jit(lambda xs: gs.map(loop, xs))(jnp.ones(3)),
        lambda: jax.vmap(loop)(jnp.ones(2)),
        lambda: jax.vmap(jax.jit(loop))(jnp.ones(2)),
        lambda: jax.jit(jax.vmap(loop))(jnp.ones(2)),
        lambda: jax.vmap(jax.grad(lambda x: jnp.sum(loop(x))))(jnp.ones(2)),
    ],
)
def test_lanes_show_nothing(bars, call):
    call()
    jax.effects_barrier()
    assert bars == []


@pytest.mark.parametrize("jit", [gs.jit, jax.jit])
@pytest.mark.parametrize("vmap", [gs.vmap, jax.vmap])
def test_a_compiled_loop_is_silent_in_lanes_and_shown_elsewhere(bars, jit, vmap):
    compiled = jit(loop)
    for _ in range(2):
        vmap(compiled)(jnp.ones(2))
        assert bars == []
    for runs in (1, 2):
        compiled(1.0)
        assert complete(bars, *[3] * runs)
    vmap(compiled)(jnp.ones(2))
    assert complete(bars, 3, 3)


def test_devices_that_each_run_the_loop_show_nothing(bars):
    mesh = jax.make_mesh((2,), ("i",), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()[:2])
    mapped = jax.shard_map(loop, mesh=mesh, in_specs=jax.P(), out_specs=jax.P(), check_vma=False)
    assert jax.jit(mapped)(1.0).tolist() == [1.0] * 3
    assert bars == []


def test_what_checkpoint_computes_twice_shows_nothing(bars):
    compiled = gs.jit(loop)
    for function in (loop, compiled):
        gs.jit(gs.grad(lambda x, function=function: jnp.sum(jnp.sin(gs.checkpoint(function)(x)))))(1.0)
    assert bars == []
    gs.checkpoint(loop)(1.0)  # the function itself
    compiled(1.0)
    assert complete(bars, 3, 3)


# What goes wrong


def fail_at(step, error):
    def check(x):
        if x == step:
            raise error
        return x

    return lambda x: jax.pure_callback(check, jax.ShapeDtypeStruct((), jnp.float32), x)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    "wrap",
    [
        lambda f: f,
        gs.jit,
        lambda f: lambda xs: gs.value_and_grad(lambda y: jnp.sum(f(xs)) * y)(1.0),
        lambda f: gs.jit(lambda xs: gs.value_and_grad(lambda y: jnp.sum(f(xs)) * y)(1.0)),
    ],
    ids=["eager", "jit", "grad", "jit of grad"],
)
def test_a_loop_that_fails_leaves_no_open_bar(bars, wrap):
    call = wrap(lambda xs: gs.for_loop(fail_at(3.0, ValueError("broken")), xs, progress=True))
    for runs in (1, 2):
        with pytest.raises(Exception, match="broken"):
            jax.block_until_ready(call(jnp.arange(6.0)))
        assert [bar.closed for bar in bars] == [1] * runs
    call(jnp.ones(6))
    jax.effects_barrier()
    assert bars[-1].n == 6


def test_a_loop_that_fails_where_jax_does_not_compile_leaves_no_open_bar(bars):
    def step(x):
        if x == 2:
            raise ValueError("broken")
        return x

    with jax.disable_jit(), pytest.raises(ValueError, match="broken"):
        gs.for_loop(step, jnp.arange(4.0), progress=True)
    assert [(bar.n, bar.closed) for bar in bars] == [(2, 1)]


def test_a_loop_that_cannot_be_traced_opens_no_bar(bars):
    state = gs.State(jnp.zeros(2))

    def grow():
        state.value = jnp.concatenate([state.value, state.value])

    with pytest.raises(gs.errors.CarryError, match="must keep its shape"):
        gs.for_loop(grow, length=3, progress=True)
    assert bars == []


def test_an_interrupt_closes_the_bar(bars, monkeypatch):
    def interrupted(self, count):
        raise KeyboardInterrupt

    compiled = gs.jit(lambda xs: gs.for_loop(lambda x: x, xs, progress=True))
    monkeypatch.setattr(Shown, "update", interrupted)
    with pytest.raises((KeyboardInterrupt, jax.errors.JaxRuntimeError), match="KeyboardInterrupt"):
        jax.block_until_ready(compiled(jnp.ones(3)))
    assert [bar.closed for bar in bars] == [1]


@pytest.mark.no_leak_check("leak checks of several threads see each other's tracers")
def test_threads_that_run_one_program_have_a_bar_each(bars):
    compiled = gs.jit(lambda xs: gs.for_loop(lambda x: jnp.sin(x), xs, progress=True))
    compiled(jnp.ones(50))
    threads = [threading.Thread(target=lambda: compiled(jnp.ones(50)).block_until_ready()) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert complete(bars, *[50] * 5)


@pytest.mark.parametrize("progress", [1, None, 0.5, ["a"]])
def test_progress_is_a_bool_or_a_description(progress):
    with pytest.raises(StateTypeError, match=r"`progress` of `for_loop` is True, or what stands before the bar, but"):
        gs.for_loop(lambda: None, length=1, progress=progress)


def test_without_tqdm_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    runs = []
    for call in (gs.scan, gs.for_loop):
        with pytest.raises(
            MissingPackageError, match=r"pip install \"graphstate\[progress\]\"`, or leave `progress` out"
        ):
            call(lambda *args: runs.append(args), jnp.ones(2), progress=True)
    with pytest.raises(ImportError):
        gs.for_loop(lambda: None, length=1, progress="a")
    assert runs == []
    assert gs.for_loop(lambda: None, length=1) is None


# With tqdm itself


def test_tqdm_draws_the_bar(monkeypatch):
    import tqdm.auto

    written = io.StringIO()

    class Written(tqdm.tqdm):
        def __init__(self, **options):
            super().__init__(file=written, ascii=True, ncols=60, **options)

    monkeypatch.setattr(tqdm.auto, "tqdm", Written)
    compiled = gs.jit(lambda xs: gs.for_loop(lambda x: x, xs, progress="epochs"))
    for _ in range(2):
        compiled(jnp.ones(200)).block_until_ready()
    jax.effects_barrier()
    lines = written.getvalue().split("\n")
    assert len(lines) == 3
    for line in lines[:2]:
        drawn = [each for each in line.split("\r") if each.strip()]
        assert drawn[0].startswith("epochs:   0%|")
        assert drawn[-1].startswith("epochs: 100%|")
        assert " 200/200 " in drawn[-1]
        assert len(drawn) <= 22
    assert lines[2] == ""
    assert not Written._instances
