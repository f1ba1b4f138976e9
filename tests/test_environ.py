"""Settings: who sees which value, and what a traced program comes to depend on."""

import subprocess
import sys
import textwrap
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import graphstate
from graphstate import environ
from graphstate._trace import MISSING, Cell, Frame, current_frame
from graphstate.errors import GraphStateError, StaleReadWarning, StateTypeError, TraceContextError
from graphstate.graph import State


@pytest.fixture(autouse=True)
def untouched() -> Iterator[None]:
    yield
    environ.reset()


class Eager(Frame):
    """A transform whose operations are executed, or recorded where it was called."""


class Compiled(Frame):
    """A transform whose operations end up in a program."""

    builds_program = True


def trace(fn: Callable[..., Any], *args: Any, frame_type: type[Frame] = Compiled) -> Frame:
    """The frame of a transform that traces `fn`."""
    frame = frame_type()

    def entered(*args: Any) -> None:
        with frame:
            fn(*args)

    if frame_type is Compiled:
        jax.make_jaxpr(entered)(*args)
    else:
        jax.vmap(entered)(*args)
    return frame


def in_a_thread(fn: Callable[[], Any]) -> Any:
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(fn()))
    thread.start()
    thread.join()
    return results[0]


# Scopes


def test_fit_is_false_unless_somebody_says_otherwise() -> None:
    assert environ.get("fit") is False
    assert environ.lookup("fit") is False
    assert environ.all() == {"fit": False}


def test_a_context_holds_for_its_block() -> None:
    with environ.context(fit=True, depth=3):
        assert environ.get("fit") is True
        assert environ.get("depth") == 3
    assert environ.get("fit") is False
    assert environ.get("depth", default=None) is None


def test_contexts_nest_and_the_innermost_wins() -> None:
    with environ.context(a=1, b=1):
        with environ.context(b=2, c=2):
            assert environ.all() == {"fit": False, "a": 1, "b": 2, "c": 2}
        assert environ.all() == {"fit": False, "a": 1, "b": 1}


def test_set_holds_until_it_is_set_again_or_reset() -> None:
    environ.set(fit=True, depth=3)
    assert environ.all() == {"fit": True, "depth": 3}
    environ.set(depth=4)
    assert environ.all() == {"fit": True, "depth": 4}
    environ.reset()
    assert environ.all() == {"fit": False}


def test_a_context_hides_what_is_set_before_or_during_it() -> None:
    environ.set(depth=1)
    with environ.context(depth=2):
        environ.set(depth=3)
        assert environ.get("depth") == 2
    assert environ.get("depth") == 3


def test_an_exception_ends_a_context() -> None:
    with pytest.raises(ZeroDivisionError), environ.context(fit=True):
        1 / 0  # noqa: B018
    assert environ.get("fit") is False


def test_a_context_decorates_a_function() -> None:
    @environ.context(depth=3)
    def depth(less: int) -> int:
        """Reads the depth."""
        return environ.get("depth") - less if less == 0 else depth(less - 1) + 1

    assert depth(2) == 5
    assert depth.__doc__ == "Reads the depth."
    assert environ.get("depth", default=None) is None


def test_one_context_object_may_be_entered_again_and_inside_of_itself() -> None:
    fitting = environ.context(fit=True)
    with fitting, fitting:
        assert environ.get("fit")
    with fitting:
        assert environ.get("fit")
    assert not environ.get("fit")


def test_one_context_object_may_serve_two_threads_at_once() -> None:
    fitting, entered, left = environ.context(fit=True), threading.Event(), threading.Event()

    def other() -> bool:
        with fitting:
            entered.set()
            left.wait(10)
            return environ.get("fit")

    with fitting:
        results: list[bool] = []
        thread = threading.Thread(target=lambda: results.append(other()))
        thread.start()
        assert entered.wait(10)
    assert environ.get("fit") is False
    left.set()
    thread.join()
    assert results == [True]


def test_a_context_is_seen_by_its_own_thread_only() -> None:
    with environ.context(fit=True):
        assert in_a_thread(lambda: environ.get("fit")) is False


def test_what_is_set_is_seen_by_all_threads() -> None:
    in_a_thread(lambda: environ.set(depth=3))
    assert environ.get("depth") == 3
    assert in_a_thread(lambda: environ.get("depth")) == 3


def test_setting_from_many_threads_loses_nothing() -> None:
    def write(thread: int) -> None:
        for i in range(50):
            environ.set(**{f"name_{thread}_{i}": i})

    threads = [threading.Thread(target=write, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(environ.all()) == 1 + 4 * 50


def test_changing_what_all_returns_changes_no_setting() -> None:
    environ.all()["fit"] = True
    assert environ.get("fit") is False


# Values


@pytest.mark.parametrize("value", [None, 0, 1.5, "high", (1, "a"), jnp.float32, np.dtype("int8"), len, frozenset({1})])
def test_a_hashable_value_comes_back_as_it_is(value: Any) -> None:
    environ.set(a=value)
    assert environ.get("a") is value
    assert environ.lookup("a") is value
    with environ.context(b=value):
        assert environ.get("b", default=0) is value


@pytest.mark.parametrize("make", [lambda: jnp.arange(3), lambda: np.arange(3.0), lambda: jax.random.key(0)])
def test_an_array_comes_back_and_is_kept_in_a_cell(make: Callable[[], Any]) -> None:
    value = make()
    environ.set(a=value)
    assert environ.get("a") is value
    assert isinstance(environ.lookup("a"), Cell)
    with environ.context(b=value):
        assert environ.get("b") is value
        assert environ.all()["b"] is value
        assert isinstance(environ.lookup("b"), Cell)


def test_what_is_set_nowhere_is_missing() -> None:
    assert environ.lookup("depth") is MISSING
    assert environ.depend_on("depth") is MISSING


def test_a_default_stands_in_for_what_is_set_nowhere() -> None:
    assert environ.get("depth", default=3) == 3
    assert environ.get("depth", 3) == 3
    assert environ.get("depth", default=None) is None
    assert environ.get("fit", default=True) is False


# Stamps


def test_a_stamp_stays_equal_while_nothing_changes() -> None:
    before = environ.stamp()
    environ.get("fit")
    environ.all()
    in_a_thread(lambda: environ.context(fit=True).__enter__())
    assert environ.stamp() == before


def test_a_stamp_differs_in_a_context_and_is_the_old_one_after_it() -> None:
    before = environ.stamp()
    with environ.context(fit=True):
        inside = environ.stamp()
        with environ.context():
            assert environ.stamp() not in (before, inside)
        assert environ.stamp() == inside
    assert inside != before
    assert environ.stamp() == before
    with environ.context(fit=True):
        assert environ.stamp() not in (before, inside)


@pytest.mark.parametrize("change", [lambda: environ.set(fit=True), lambda: environ.set(other=1), environ.reset])
def test_a_stamp_differs_after_a_change_for_all(change: Callable[[], None]) -> None:
    before = environ.stamp()
    with environ.context(fit=True):
        inside = environ.stamp()
        in_a_thread(change)
        assert environ.stamp() != inside
    assert environ.stamp() != before


# What a transform depends on


def test_a_transform_depends_on_the_settings_that_it_reads() -> None:
    environ.set(depth=3, unread=0)
    frame = trace(lambda: (environ.get("fit"), environ.get("depth"), environ.get("width", default=7)))
    assert frame.settings == {"fit": False, "depth": 3, "width": MISSING}
    assert not frame.setting_cells


def test_a_transform_depends_on_a_setting_whose_absence_raised() -> None:
    def read() -> None:
        with pytest.raises(environ.SettingError):
            environ.get("depth")

    assert trace(read).settings == {"depth": MISSING}


def test_a_transform_depends_on_the_context_around_it() -> None:
    with environ.context(fit=True):
        assert trace(lambda: environ.get("fit")).settings == {"fit": True}


def test_an_array_is_read_through_the_frame_by_its_cell() -> None:
    environ.set(scale=jnp.ones(2))
    frame = trace(lambda: environ.get("scale"))
    assert frame.setting_cells == {id(environ.lookup("scale")): "scale"}
    assert not frame.settings


def test_a_context_inside_of_a_transform_is_its_own_affair() -> None:
    def read() -> None:
        with environ.context(fit=True, scale=jnp.ones(2)):
            assert environ.get("fit") is True
            environ.get("scale")

    frame = trace(read)
    assert not frame.settings
    assert not frame.setting_cells


def test_a_context_between_two_transforms_is_noted_by_the_inner_one_only() -> None:
    frames = []

    def outer() -> None:
        with environ.context(fit=True, scale=jnp.ones(2)):
            frames.append(trace(lambda: (environ.get("fit"), environ.get("depth", default=0), environ.get("scale"))))

    frame = trace(outer)
    assert frame.settings == {"depth": MISSING}
    assert frames[0].settings == {"fit": True, "depth": MISSING}
    assert list(frames[0].setting_cells.values()) == ["scale"]
    assert not frame.setting_cells


def test_all_transforms_around_a_read_depend_on_it() -> None:
    frames = []
    outer = trace(lambda: frames.append(trace(lambda x: environ.get("fit"), jnp.ones(2), frame_type=Eager)))
    assert outer.settings == frames[0].settings == {"fit": False}


def test_depending_on_a_setting_notes_it_and_looking_it_up_does_not() -> None:
    environ.set(scale=jnp.ones(2))
    frame = trace(lambda: (environ.lookup("fit"), environ.lookup("scale")))
    assert not frame.settings
    assert not frame.setting_cells
    frame = trace(lambda: (environ.depend_on("fit"), environ.depend_on("scale")))
    assert frame.settings == {"fit": False}
    assert list(frame.setting_cells.values()) == ["scale"]


def test_a_read_under_compile_time_evaluation_is_noted_too() -> None:
    def read() -> None:
        with jax.ensure_compile_time_eval():
            environ.get("fit")

    assert trace(read).settings == {"fit": False}


def test_a_context_may_hold_a_tracer() -> None:
    def scaled(i: jax.Array) -> jax.Array:
        with environ.context(i=i):
            return environ.get("i") * 2

    np.testing.assert_array_equal(jax.jit(scaled)(jnp.arange(3)), [0, 2, 4])
    np.testing.assert_array_equal(jax.vmap(scaled)(jnp.arange(3)), [0, 2, 4])
    assert not trace(scaled, jnp.arange(3)).setting_cells
    assert environ.get("i", default=None) is None


# Programs that plain JAX caches


def test_a_read_in_a_program_that_plain_jax_caches_warns() -> None:
    with pytest.warns(
        StaleReadWarning, match=r"(?s)'fit' was read in it: its present value, False, becomes .* `graphstate.jit`"
    ) as caught:
        jax.jit(lambda: environ.get("fit"))()
    assert len(caught) == 1
    assert caught[0].filename == __file__


def test_a_read_of_what_is_absent_warns_too() -> None:
    with pytest.warns(
        StaleReadWarning,
        match=r"'depth' was read in it: its absence becomes a constant .*`environ.context\(depth=\.\.\.\)`",
    ):
        jax.jit(lambda: environ.get("depth", default=0))()


def test_a_read_of_an_array_warns_once() -> None:
    environ.set(scale=jnp.ones(2))
    with pytest.warns(StaleReadWarning, match=r"a Setting, created at test_environ\.py:\d+ was read in it") as caught:
        jax.jit(lambda: environ.get("scale"))()
    assert len(caught) == 1


def test_a_read_in_a_loop_body_of_plain_jax_warns() -> None:
    with pytest.warns(StaleReadWarning, match="'fit' was read"):
        jax.lax.scan(lambda carry, _: (carry, environ.get("fit")), 0, None, length=2)


def test_a_read_under_an_eager_transform_of_plain_jax_does_not_warn() -> None:
    environ.set(scale=jnp.float32(2))

    def scaled(x: jax.Array) -> jax.Array:
        return x if environ.get("fit") else x * environ.get("scale")

    np.testing.assert_array_equal(jax.vmap(jax.grad(scaled))(jnp.ones(2)), [2, 2])


def test_a_context_inside_of_the_program_does_not_warn() -> None:
    @jax.jit
    def program(x: jax.Array) -> Any:
        with environ.context(fit=True, i=x, scale=jnp.float32(2)):
            return environ.get("i") * environ.get("scale") if environ.get("fit") else 0

    assert program(jnp.float32(3)) == 6


def test_a_context_inside_of_one_program_warns_for_another_inside_of_it() -> None:
    def program() -> None:
        with environ.context(fit=True):
            jax.jit(lambda: environ.get("fit"))()

    with pytest.warns(StaleReadWarning, match="'fit' was read"):
        jax.jit(program)()


def test_a_transform_called_by_a_program_that_plain_jax_caches_warns() -> None:
    with pytest.warns(StaleReadWarning, match="'fit' was read"):
        jax.jit(lambda x: [trace(lambda _: environ.get("fit"), x, frame_type=Eager), x][1])(jnp.ones(2))


def test_a_program_of_graphstate_is_not_taken_for_one_of_plain_jax() -> None:
    frames: list[Frame] = []
    jax.jit(lambda: frames.append(trace(lambda: environ.get("fit"))))()
    assert frames[0].settings == {"fit": False}


def test_a_program_of_graphstate_warns_where_plain_jax_calls_it() -> None:
    def call() -> None:
        trace(lambda: environ.get("fit"))
        environ.depend_on("fit")

    with pytest.warns(StaleReadWarning, match="'fit' was read") as caught:
        jax.jit(call)()
    assert len(caught) == 1


def test_a_cached_program_inside_of_an_eager_transform_warns() -> None:
    with pytest.warns(StaleReadWarning, match="'fit' was read"):
        trace(lambda x: jax.jit(lambda x: (environ.get("fit"), x)[1])(x), jnp.ones(2), frame_type=Eager)


@pytest.mark.no_leak_check(reason="without caches nothing could be stale")
def test_a_cached_program_inside_of_a_compiled_transform_follows_the_settings() -> None:
    environ.set(scale=jnp.zeros(()))
    seen: list[tuple[bool, Any]] = []

    @jax.jit
    def inner() -> None:
        seen.append((environ.get("fit"), environ.get("scale") is not None))

    def outer() -> None:
        inner()
        inner()
        with environ.context(fit=True):
            inner()
            inner()
        inner()

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trace(outer)
        assert [fit for fit, _ in seen] == [False, True, False]
        with environ.context(fit=True):
            trace(outer)
    assert [fit for fit, _ in seen] == [False, True, False, True, True, True]


# Errors


def test_an_unknown_setting_is_a_key_error_that_names_it_and_the_way_out() -> None:
    environ.set(depth=3)
    with pytest.raises(KeyError) as caught:
        environ.get("width")
    assert isinstance(caught.value, environ.SettingError)
    assert isinstance(caught.value, GraphStateError)
    assert str(caught.value) == (
        "`environ.get('width')` found no such setting; those set here are: depth, fit. "
        "Set it with `environ.context(width=...)` or `environ.set(width=...)`, "
        "or give a default: `environ.get('width', default=...)`."
    )


@pytest.mark.parametrize("call", ["set", "context"])
@pytest.mark.parametrize("value", [[1, 2], {"a": 1}, {1}, (jnp.ones(2),), ([],)])
def test_a_value_that_is_neither_hashable_nor_an_array_is_refused(call: str, value: Any) -> None:
    came = rf"`environ\.{call}\(sizes=\.\.\.\)` got .*, a {type(value).__name__}"
    with pytest.raises(StateTypeError, match=rf"A setting is a hashable value or an array, but {came}\. Use a tuple"):
        getattr(environ, call)(fit=True, sizes=value)
    assert environ.all() == {"fit": False}


@pytest.mark.parametrize("call", ["set", "context"])
def test_a_state_is_no_setting(call: str) -> None:
    with pytest.raises(
        StateTypeError, match=r"got a State\. Give its `\.value`, or let the function reach the State itself"
    ):
        getattr(environ, call)(rate=State(1.0))


def test_set_is_refused_inside_of_a_transform() -> None:
    def program(x: jax.Array) -> None:
        environ.set(i=x, j=0)

    refused = (
        r"`environ\.set\(i=\.\.\., j=\.\.\.\)` was called inside of a transform"
        r".*`with environ\.context\(\.\.\.\)` there, or call `set` outside"
    )
    for transform in (jax.jit, jax.vmap):
        with pytest.raises(TraceContextError, match=refused):
            transform(program)(jnp.arange(3))
    with pytest.raises(TraceContextError, match=refused):
        trace(program, jnp.arange(3))
    assert environ.all() == {"fit": False}


@pytest.mark.no_leak_check(reason="leaks a tracer")
def test_set_refuses_a_tracer_of_an_ended_trace() -> None:
    leaked: list[jax.Array] = []
    jax.vmap(leaked.append)(jnp.arange(3))
    with pytest.raises(
        TraceContextError, match=r"`environ\.set\(i=\.\.\.\)` was given a tracer of a trace that has ended"
    ):
        environ.set(i=leaked.pop())


def test_all_is_refused_inside_of_a_transform() -> None:
    refused = (
        r"`environ\.all\(\)` was called inside of a transform.* with `environ\.get\(name\)`, or call `all` outside"
    )
    with pytest.raises(TraceContextError, match=refused):
        jax.jit(lambda: environ.all())()
    with pytest.raises(TraceContextError, match=refused):
        trace(lambda: environ.all())


def test_a_context_decorates_no_generator() -> None:
    def steps() -> Iterator[bool]:
        yield environ.get("fit")

    async def step() -> bool:
        return environ.get("fit")

    for function in (steps, step):
        with pytest.raises(
            StateTypeError, match=r"steps? is a generator or coroutine: .* Use `with environ\.context\(\.\.\.\)` inside"
        ):
            environ.context(fit=True)(function)


def test_reading_and_writing_leave_no_frame_behind() -> None:
    trace(lambda: environ.get("fit"))
    assert current_frame() is None


# With `jit`


@pytest.mark.no_leak_check(reason="counts traces")
def test_a_jitted_function_is_traced_anew_for_other_settings_only() -> None:
    seen: list[Any] = []

    @graphstate.jit
    def read() -> None:
        seen.append((environ.get("fit"), environ.get("depth", default=None)))

    read()
    environ.set(unread=1)
    read()
    with environ.context(fit=True):
        read()
        read()
    with environ.context(fit=True):
        read()
    environ.set(depth=1)
    read()
    environ.set(depth=True)
    read()
    environ.reset()
    read()
    assert seen == [(False, None), (True, None), (False, 1), (False, True)]


@pytest.mark.no_leak_check(reason="counts traces")
def test_an_array_is_an_input_of_a_jitted_function() -> None:
    traces: list[None] = []

    @graphstate.jit
    def scaled(x: jax.Array) -> jax.Array:
        traces.append(None)
        return x * environ.get("scale")

    for scale in range(3):
        with environ.context(scale=jnp.float32(scale)):
            assert scaled(jnp.float32(2)) == 2 * scale
    environ.set(scale=jnp.float32(3))
    assert scaled(jnp.float32(2)) == 6
    environ.set(scale=jnp.arange(2, dtype=jnp.float32))
    np.testing.assert_array_equal(scaled(jnp.ones(2)), [0, 1])
    assert len(traces) == 2


@pytest.mark.no_leak_check(reason="counts traces")
def test_a_jitted_function_does_not_depend_on_a_context_that_it_enters_itself() -> None:
    traces: list[str] = []

    @graphstate.jit
    def inner(x: jax.Array) -> jax.Array:
        traces.append("inner")
        return x * environ.get("scale") if environ.get("fit") else x

    @graphstate.jit
    def outer(x: jax.Array) -> jax.Array:
        traces.append("outer")
        with environ.context(fit=True, scale=x):
            return inner(x)

    for x in range(3):
        environ.set(unread=x)
        assert outer(jnp.float32(x)) == x * x
    assert traces == ["outer", "inner"]
    assert inner(jnp.float32(2)) == 2


def test_a_jitted_function_depends_on_what_one_that_it_calls_has_read_before() -> None:
    @graphstate.jit
    def inner(x: jax.Array) -> jax.Array:
        return -x if environ.get("fit") else x * environ.get("scale")

    @graphstate.jit
    def outer(x: jax.Array) -> jax.Array:
        return inner(x)

    environ.set(scale=jnp.float32(2))
    assert inner(jnp.float32(1)) == 2
    assert outer(jnp.float32(1)) == 2
    environ.set(scale=jnp.float32(3))
    assert outer(jnp.float32(1)) == 3
    with environ.context(fit=True):
        assert outer(jnp.float32(1)) == -1


def test_plain_jax_around_a_jitted_function_warns() -> None:
    @graphstate.jit
    def read(x: jax.Array) -> jax.Array:
        return -x if environ.get("fit") else x

    for _ in ("traced by it", "traced before"):
        with pytest.warns(StaleReadWarning, match="'fit' was read"):
            jax.jit(lambda x: read(x))(jnp.ones(2))


@pytest.mark.no_leak_check(reason="without caches nothing could be stale")
def test_a_cached_program_that_a_jitted_function_made_is_not_found_by_others() -> None:
    script = """
        import jax, graphstate
        from graphstate import environ

        inner = jax.jit(lambda x: -x if environ.get("fit") else x)
        assert graphstate.jit(lambda x: inner(x))(1.0) == 1
        with environ.context(fit=True):
            assert inner(1.0) == -1
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "StaleReadWarning" in done.stderr
