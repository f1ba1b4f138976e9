"""The progress bar of a loop: what its compiled program tells the host from time to time.

A run of the loop gets a number when it begins, counts its steps beside the carry, and reports about every twentieth
part of them. Each report is handed the number by the one before, which keeps them in order; the number tells the runs
of one program apart; and it is where lanes fall silent: under a map it is none. Carry and outputs never meet it.
"""

import importlib
import itertools
import threading
import weakref
from collections.abc import Callable, Generator
from typing import Any, Final

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from graphstate.errors import MissingPackageError, StateTypeError

__all__ = ["Bar", "NoBar", "check_progress", "close_failed", "loop_bar", "quiet"]

REPORTS: Final = 20
"""The most that a loop of whatever length reports, its beginning and its end among them."""

_SILENT: Final = -1
_NUMBER: Final = jax.ShapeDtypeStruct((), jnp.int32)

quiet: Final = jax.make_user_context(default_value=False)
"""`with quiet(True)`: no bars for the loops in this block. JAX's trace caches know of it."""

_bars: Final[weakref.WeakSet["Bar"]] = weakref.WeakSet()
"""Those that were opened; `close_failed` closes what is still open."""
_opening: Final = threading.Lock()


class NoBar:
    """A loop that shows nothing."""

    def scan(self, body: Callable[..., Any], init: Any, xs: Any, reads: Any, **options: Any) -> tuple[Any, Any]:
        """`jax.lax.scan`."""
        return lax.scan(body, init, xs, **options)

    def follow(self, order: range) -> Generator[int]:
        """The steps of a loop in Python."""
        yield from order


class Bar:
    """The bar of a loop.

    Args:
        description: what stands before it.
        steps: how many there are; at least one.
    """

    def __init__(self, description: str | None, steps: int) -> None:
        self.description = description
        self.steps = steps
        self._every = -(-steps // (REPORTS - 1))
        self._numbers = itertools.count()
        self._open: dict[int, Any] = {}

    # What the program does

    def scan(self, body: Callable[..., Any], init: Any, xs: Any, reads: Any, **options: Any) -> tuple[Any, Any]:
        """`jax.lax.scan`, with the bar.

        Args:
            body: as there.
            init: as there.
            xs: as there.
            reads: what `body` reads besides.
            **options: as there.
        """
        try:
            run = self._begin((init, xs, reads))

            def counted(state: tuple[Any, Any, Any], x: Any) -> tuple[tuple[Any, Any, Any], Any]:
                run, done, carry = state
                carry, output = body(carry, x)
                done = done + 1
                run = lax.cond((run != _SILENT) & self._is_due(done), self._tell, _tell_nothing, run, done)
                return (run, done, carry), output

            (run, _, last), outputs = lax.scan(counted, (run, jnp.int32(0), init), xs, **options)
            # Only this one has an effect, and keeps those before it: JAX does not like effects in loops that it
            # differentiates.
            lax.cond(run != _SILENT, lambda run: jax.debug.callback(self._finish, run), lambda run: None, run)
        except BaseException:
            self.close()
            raise
        return last, outputs

    def follow(self, order: range) -> Generator[int]:
        """The steps of a loop in Python, with the bar."""
        run = self._opened()
        try:
            for done, index in enumerate(order, 1):
                yield index
                if self._is_due(done):
                    self._report(run, done)
            self._finish(run)
        finally:
            self.close()

    def _begin(self, operands: Any) -> jax.Array:
        """The number of this run; `_SILENT` where one of `operands` depends on the lane of a map."""

        @jax.custom_batching.custom_vmap
        def begin(_: Any) -> Any:
            return jax.pure_callback(self._opened, _NUMBER)

        @begin.def_vmap
        def begin_lanes(*_: Any) -> tuple[Any, bool]:
            return jnp.int32(_SILENT), False

        run: jax.Array = begin(lax.stop_gradient(operands))
        return run

    def _is_due(self, done: Any) -> Any:
        return (done % self._every == 0) & (done < self.steps)

    def _tell(self, run: Any, done: Any) -> Any:
        return jax.pure_callback(self._report, _NUMBER, run, done)

    # What the host does

    def _opened(self) -> np.int32:
        number = next(self._numbers)
        self._open[number] = self._draw(0)
        with _opening:
            _bars.add(self)
        return np.int32(number)

    def _draw(self, done: int) -> Any:
        # Reports are rare: each is drawn at once.
        return _tqdm()(desc=self.description, total=self.steps, initial=done, mininterval=0, miniters=1)

    def _report(self, run: Any, done: Any) -> Any:
        number, count = int(run), int(done)
        bar = self._open.get(number)
        if bar is None:  # closed meanwhile, when another loop had failed
            bar = self._open[number] = self._draw(count)
        try:
            bar.update(count - bar.n)
        except BaseException:  # an interrupt arrives here, where the main thread runs Python
            self.close()
            raise
        return np.int32(number)

    def _finish(self, run: Any) -> None:
        self._report(run, self.steps)
        self._close(int(run))

    def close(self) -> None:
        """Closes what is still open: a loop has failed."""
        for number in tuple(self._open):
            self._close(number)

    def _close(self, number: int) -> None:
        bar = self._open.pop(number, None)
        if bar is not None:
            bar.close()


def _tell_nothing(run: Any, _: Any) -> Any:
    return run


def close_failed() -> None:
    """Closes all bars, after a program has failed; one that goes on is drawn again at its next report."""
    with _opening:
        bars = tuple(_bars)
    for bar in bars:
        bar.close()


def check_progress(progress: bool | str, transform: str) -> None:
    """Refuses what cannot be shown, before anything is traced.

    Raises:
        StateTypeError: `progress` is neither a bool nor a description.
        MissingPackageError: tqdm is not installed.
    """
    if not isinstance(progress, bool | str):
        raise StateTypeError(
            f"`progress` of `{transform}` is True, or what stands before the bar, but it is {str(progress)[:60]!r} of "
            f"type {type(progress).__name__}."
        )
    if progress is False:
        return
    try:
        _tqdm()
    except ImportError as error:
        raise MissingPackageError(
            f"`progress` of `{transform}` shows its bar with tqdm, which cannot be imported here ({error}). Install it "
            'with `pip install "graphstate[progress]"`, or leave `progress` out.'
        ) from error


def loop_bar(progress: bool | str, steps: int) -> Bar | NoBar:
    """The bar of a loop that is traced now.

    Nothing is shown without a step, in a block that is `quiet`, and on one of several devices that each run the loop.
    """
    if progress is False or steps == 0 or quiet.value or jax.sharding.get_abstract_mesh().manual_axes:
        return NoBar()
    return Bar(None if progress is True else progress, steps)


def _tqdm() -> Any:
    return importlib.import_module("tqdm.auto").tqdm
