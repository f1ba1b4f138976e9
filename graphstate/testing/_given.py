"""`given`: few structures, many values.

A test of a compiled function pays for each new shape, dtype, axis or graph with a compilation, and for values with
nothing. Therefore its examples share a few structures, the simplest first. The price is that a counter-example shrinks
to the simplest of these only; so when a test fails, hypothesis looks once more, with structures as it likes.
"""

import functools
import inspect
from collections.abc import Callable, Hashable
from typing import Any

import hypothesis
from hypothesis import Phase
from hypothesis import strategies as st
from hypothesis.errors import HypothesisException

from graphstate.errors import StrategyError

from ._profiles import chosen_profile, structures_of
from ._structure import noting, pooled
from ._tally import Tally

__all__ = ["given"]

Test = Callable[..., Any]
# Where hypothesis keeps what `@settings` says: there is no public way to read it from a test.
_SETTINGS = "_hypothesis_internal_use_settings"
_ARE_SET = "_hypothesis_internal_settings_applied"


def given(*, structures: int = 8, examples: int | None = None, **strategies: st.SearchStrategy[Any]) -> Any:
    """Tests a property with many values of few structures.

    As `hypothesis.given`, with `example`, `seed`, `settings` and pytest's marks and fixtures as usual, and without a
    deadline. What the strategies of this package choose for structure (dtypes, shapes, axes, graphs, layers) comes from
    a pool; what other strategies draw is free. After a run the test's `gst_tally` tells what it cost.

    Args:
        structures: how many structures there are; the first is the simplest, the others are the same on every run.
        examples: how many examples are tried; None for as many as the settings of hypothesis say.
        **strategies: a strategy for each argument of the test that is drawn.

    Raises:
        StrategyError: there are no strategies, or no structures.

    Example:
        >>> import graphstate.testing as gst, jax.numpy as jnp
        >>> @gst.given(x=gst.arrays(shape=gst.shapes()), examples=20)
        ... def test_doubling(x):
        ...     assert jnp.array_equal(jnp.asarray(x) * 2, jnp.asarray(x) + x)
        >>> test_doubling()
        >>> test_doubling.gst_tally.examples
        20
    """
    if not strategies or structures < 1:
        raise StrategyError(
            "`given` needs a strategy for an argument of the test, by its name, and at least one structure, but "
            f"{len(strategies)} strategies and structures={structures} came. Write `@gst.given(case=gst.batched(...))`."
        )

    def decorate(test: Test) -> Test:
        return _Property(test, strategies, structures, examples).as_test()

    return decorate


class _Property:
    """A test, and what it draws."""

    def __init__(
        self, test: Test, strategies: dict[str, st.SearchStrategy[Any]], structures: int, examples: int | None
    ) -> None:
        self.test = test
        self.strategies = strategies
        self.structures = structures
        self.examples = examples
        self.name = f"{test.__module__}.{test.__qualname__}"
        self.tally = Tally()
        self.drawn: dict[str, Hashable] = {}
        self.number = 0

    def as_test(self) -> Test:
        """The function that pytest, or a person, calls."""
        pool = st.deferred(lambda: st.integers(0, structures_of(self.structures) - 1))
        number = st.shared(pool, key=f"structure of {self.name}")
        inner = hypothesis.given(
            **{name: self._from_pool(name, each, number) for name, each in self.strategies.items()}
        )(self._counted())

        @functools.wraps(inner)
        def run(*args: Any, **kwargs: Any) -> None:
            __tracebackhide__ = True
            self.tally = run.gst_tally = Tally()  # type: ignore[attr-defined]  # a function has no such attribute
            settings = self._settings(run)
            decorated = {name: each for name, each in vars(run).items() if name.lstrip("_").startswith("hypothesis_")}
            vars(inner).update(decorated)
            setattr(inner, _SETTINGS, settings)
            with self.tally.running():
                self._run(inner, settings, args, kwargs)

        run.__signature__ = inspect.signature(inner)  # type: ignore[attr-defined]  # as above
        return run

    def _settings(self, run: Test) -> hypothesis.settings:
        own = getattr(run, _SETTINGS) if getattr(run, _ARE_SET, False) else None
        examples = None if own is not None and self.examples is None else self.examples
        return chosen_profile().settings(own or hypothesis.settings(), examples)

    def _run(self, inner: Test, settings: hypothesis.settings, args: Any, kwargs: Any) -> None:
        __tracebackhide__ = True
        try:
            inner(*args, **kwargs)
        except (HypothesisException, ExceptionGroup):
            raise
        except Exception as error:
            simpler = self._search_freely(error, settings, args, kwargs)
            if simpler is None:
                raise
            simpler.add_note("Its structure was found in a second search, which was not bound to a few structures.")
            raise simpler from None

    def _search_freely(
        self, error: Exception, settings: hypothesis.settings, args: Any, kwargs: Any
    ) -> Exception | None:
        """The same failure where hypothesis shrinks the structure too; None where it is simple, or is not found."""
        if self.number == 0 or Phase.shrink not in settings.phases:
            return None
        free = hypothesis.settings(
            settings, database=None, phases=(Phase.generate, Phase.shrink), report_multiple_bugs=False, print_blob=False
        )
        try:
            free(hypothesis.given(**self.strategies)(self._counted()))(*args, **kwargs)
        except Exception as found:
            return found if type(found) is type(error) else None
        return None

    def _from_pool(
        self, name: str, strategy: st.SearchStrategy[Any], number: st.SearchStrategy[int]
    ) -> st.SearchStrategy[Any]:
        """What `strategy` draws in one of the structures."""

        @st.composite
        def argument(draw: st.DrawFn) -> Any:
            self.number = draw(number)
            with pooled(self.number, f"{self.name} {name}"), noting() as notes:
                value = draw(strategy)
            self.drawn[name] = tuple(notes)
            return value

        return argument()

    def _counted(self) -> Test:
        @functools.wraps(self.test)
        def counted(*args: Any, **kwargs: Any) -> Any:
            __tracebackhide__ = True
            self.tally.examples += 1
            self.tally.structures.add(tuple(sorted(self.drawn.items())))
            return self.test(*args, **kwargs)

        return counted
