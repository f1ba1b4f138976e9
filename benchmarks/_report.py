"""What a benchmark prints: tables of figures beside their limits, for people or as JSON.

A benchmark is a question (the first line of its docstring), sizes (a dataclass, each field an option of the command
line) and a function from sizes to tables. `main` does the rest, and is the same for all:

    python benchmarks/dispatch.py            as Markdown
    python benchmarks/dispatch.py --json     as JSON, with the machine, the versions and the date
    python benchmarks/dispatch.py --quick    few rounds and small sizes: does it run? The figures mean nothing
    python benchmarks/dispatch.py --help     the sizes
"""

import argparse
import dataclasses
import datetime
import importlib.metadata
import importlib.util
import json
import math
import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

import jax
from _timing import Comparison, Spread

__all__ = ["LEGEND", "Limit", "Row", "Table", "at_least", "at_most", "figures_of", "main"]

Sizes = TypeVar("Sizes")

LEGEND: Final = (
    "Median (quartiles) over the rounds. Met or missed: both quartiles are on that side of the limit; by median: only "
    "the median is, and the spread does not settle it."
)
PACKAGES: Final = ("jax", "jaxlib", "numpy", "optax", "brainstate", "equinox", "flax")


@dataclass(frozen=True, slots=True)
class Limit:
    """Where a figure is to lie, both ends included."""

    low: float
    high: float

    def verdict(self, spread: Spread) -> str:
        """Whether a figure lies there, as far as its spread tells."""
        inside = [self.low <= figure <= self.high for figure in (spread.low, spread.median, spread.high)]
        said = "met" if inside[1] else "missed"
        return said if inside[0] == inside[1] == inside[2] else f"{said} by median"

    def __str__(self) -> str:
        return f"at least {self.low:g}" if math.isinf(self.high) else f"at most {self.high:g}"


def at_most(figure: float) -> Limit:
    return Limit(-math.inf, figure)


def at_least(figure: float) -> Limit:
    return Limit(figure, math.inf)


def figures_of(found: Comparison, unit: str, base: str = "pure JAX") -> dict[str, Spread]:
    """The columns of a comparison: the base in a unit of time, then the ratios to it."""
    return {f"{base}, {unit}": Spread.of(found.base * {"ms": 1e3, "us": 1e6, "ns": 1e9}[unit]), **found.ratios}


@dataclass(frozen=True, slots=True)
class Row:
    """What was measured, the figures that came by column, and the limits that some of them have."""

    labels: Mapping[str, Any]
    figures: Mapping[str, Spread] = field(default_factory=dict)
    limits: Mapping[str, Limit] = field(default_factory=dict)

    def cells(self) -> dict[str, str]:
        """What stands in the row by column: one limit has a column of its own, several stand beside their figures."""
        cells = {name: str(label) for name, label in self.labels.items()}
        cells |= {name: self._cell(name, spread) for name, spread in self.figures.items()}
        return cells | ({"limit": str(self._limits()[0])} if len(self._limits()) == 1 else {})

    def _cell(self, name: str, spread: Spread) -> str:
        if name not in self.limits:
            return str(spread)
        limit = self.limits[name]
        said = limit.verdict(spread)
        return f"{spread}, {said}" if len(self._limits()) == 1 else f"{spread}, {limit}: {said}"

    def _limits(self) -> list[Limit]:
        return list(dict.fromkeys(self.limits.values()))

    def as_json(self) -> dict[str, Any]:
        verdicts = {name: limit.verdict(self.figures[name]) for name, limit in self.limits.items()}
        limits = {name: {"limit": str(limit), "verdict": verdicts[name]} for name, limit in self.limits.items()}
        figures = {name: dataclasses.asdict(spread) for name, spread in self.figures.items()}
        return {"labels": dict(self.labels), "figures": figures, "limits": limits}


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under a title that says what the figures are."""

    title: str
    rows: Sequence[Row]

    def __str__(self) -> str:
        return f"**{self.title}**\n\n{_markdown([row.cells() for row in self.rows])}"

    def as_json(self) -> dict[str, Any]:
        return {"title": self.title, "text": str(self), "rows": [row.as_json() for row in self.rows]}


def _markdown(rows: Sequence[Mapping[str, str]]) -> str:
    """Rows as aligned columns, a dash where a row has no such column, and the limit last."""
    heads = list(dict.fromkeys(head for row in rows for head in row))
    heads.sort(key=lambda head: head == "limit")
    lines = [heads, *([row.get(head, "-") for head in heads] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = ["| " + " | ".join(map(str.ljust, line, widths)) + " |" for line in lines]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([padded[0], rule, *padded[1:]])


def main(doc: str | None, measure: Callable[[Sizes], Sequence[Table]], sizes: Sizes, quick: Sizes) -> None:
    """Measures what the command line asks for, and prints what came.

    Args:
        doc: the docstring of the benchmark; its first line is the question.
        measure: answers it.
        sizes: a dataclass of what can be chosen, with what is taken unless something else is said.
        quick: what is taken with `--quick`.
    """
    question = (doc or "").split("\n")[0]
    as_json, chosen = _chosen(question, sizes, quick)
    tables = measure(chosen)
    print(_as_json(question, tables) if as_json else _as_text(question, tables))


def _chosen(question: str, sizes: Sizes, quick: Sizes) -> tuple[bool, Sizes]:
    parser = argparse.ArgumentParser(description=question)
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument("--quick", action="store_true", help="few rounds and small sizes, to see that it runs")
    default = _values(quick if "--quick" in sys.argv else sizes)
    for name, value in _values(sizes).items():
        parser.add_argument(f"--{name.replace('_', '-')}", default=default[name], **_kind(value))
    options = vars(parser.parse_args())
    return options["json"], type(sizes)(**{name: options[name] for name in default})


def _values(sizes: Any) -> dict[str, Any]:
    return {each.name: getattr(sizes, each.name) for each in dataclasses.fields(sizes)}


def _kind(value: Any) -> dict[str, Any]:
    """How `argparse` reads an option like this one; names are to be among those given."""
    if not isinstance(value, tuple):
        return {"type": type(value), "help": f"default: {value}"}
    choices = value if isinstance(value[0], str) else None
    return {"type": type(value[0]), "nargs": "+", "choices": choices, "help": f"default: {' '.join(map(str, value))}"}


def _as_text(question: str, tables: Sequence[Table]) -> str:
    measured = any(row.figures for table in tables for row in table.rows)
    return "\n\n".join([question, f"{_machine()}; {_versions()}", *map(str, tables), *([LEGEND] if measured else [])])


def _as_json(question: str, tables: Sequence[Table]) -> str:
    date = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d")
    head = {"question": question, "machine": _machine(), "versions": _versions(), "date": date}
    return json.dumps({**head, "tables": [table.as_json() for table in tables]}, indent=2)


def _versions() -> str:
    installed = [name for name in PACKAGES if importlib.util.find_spec(name)]
    listed = [f"{name} {importlib.metadata.version(name)}" for name in installed]
    return ", ".join([f"Python {platform.python_version()}", *listed])


def _machine() -> str:
    devices = jax.devices()
    return f"{_processor()}, {os.cpu_count()} cores, {platform.system()}, {len(devices)} x {devices[0].device_kind}"


def _processor() -> str:
    listed = Path("/proc/cpuinfo")
    lines = listed.read_text().splitlines() if listed.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
