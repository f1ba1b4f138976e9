"""What a test of a property has cost: examples, structures, traces and seconds."""

import functools
import time
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import jax

__all__ = ["Tally"]

_TRACE_EVENT = "/jax/core/compile/jaxpr_trace_duration"


@dataclass
class Tally:
    """What a test has cost so far.

    Attributes:
        examples: how often it ran.
        structures: the different structures that it ran with.
        traces: how often JAX traced something meanwhile.
        seconds: how long it took.
    """

    examples: int = 0
    structures: set[Hashable] = field(default_factory=set)
    traces: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        return (
            f"{self.examples} examples, {len(self.structures)} structures, {self.traces} traces, {self.seconds:.1f} s"
        )

    @contextmanager
    def running(self) -> Iterator[None]:
        """A block whose traces and seconds are counted."""
        traces, start = _traces(), time.perf_counter()
        before = traces.count
        try:
            yield
        finally:
            self.traces += traces.count - before
            self.seconds += time.perf_counter() - start


class _Traces:
    count = 0

    def listen(self, event: str, duration_secs: float, **kwargs: str | int) -> None:
        self.count += event == _TRACE_EVENT


@functools.cache
def _traces() -> _Traces:
    """What JAX has traced since this was first asked for: its listeners stay for good."""
    traces = _Traces()
    jax.monitoring.register_event_duration_secs_listener(traces.listen)
    return traces
