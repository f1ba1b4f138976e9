"""The plots of the report, drawn from what the benchmarks gave as JSON.

All share one style, the palette of Okabe and Ito, which colour-blind readers can tell apart, and a marker for each
library or program, so that they can be told apart in grey, too. Bars reach from quartile to quartile.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

__all__ = ["PLOTS", "draw"]

Result = Mapping[str, Any]
Rows = Sequence[Mapping[str, Any]]

PURE: Final = "pure JAX"
LOOKS: Final[Mapping[str, tuple[str, str]]] = {
    PURE: ("#000000", "x"),
    "flat leaves": ("#999999", "+"),
    "graphstate": ("#0072B2", "o"),
    "graphstate, closed over": ("#56B4E9", "D"),
    "equinox": ("#009E73", "s"),
    "brainstate": ("#E69F00", "^"),
    "flax.nnx": ("#D55E00", "v"),
    "flax.nnx, cached_partial": ("#CC79A7", "<"),
    "ensemble": ("#0072B2", "o"),
    "solver": ("#E69F00", "^"),
    "data parallel": ("#009E73", "s"),
}
STEPS: Final = {"forward": "forward pass", "descent": "train step, gradient descent", "adam": "train step, adam"}
STYLE: Final = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": "medium",
    "figure.dpi": 130,
    "font.size": 9,
    "grid.color": "#E5E5E5",
    "legend.frameon": False,
    "lines.linewidth": 1.5,
    "lines.markersize": 5,
}


def _dispatch(result: Result) -> Figure:
    return _ratios_by_layers(result["tables"][0]["rows"], "warm call: times pure JAX")


def _ensemble(result: Result) -> Figure:
    return _ratios_by_layers(result["tables"][0]["rows"], "warm call for all members: times pure JAX")


def _first_call(result: Result) -> Figure:
    return _ratios_by_layers(result["tables"][1]["rows"], "first call, CPU time: times pure JAX")


def _ratios_by_layers(rows: Rows, label: str) -> Figure:
    steps = [step for step in STEPS if any(row["labels"]["step"] == step for row in rows)]
    figure, panels = _panels(len(steps), sharey=True)
    for step, axes in zip(steps, panels, strict=True):
        _lines(axes, [row for row in rows if row["labels"]["step"] == step], "layers")
        axes.set(title=STEPS[step], xlabel="layers", yscale="log")
        _ticks(axes, rows, "layers")
    panels[0].set_ylabel(label)
    _legend(figure, panels)
    return figure


def _linear(result: Result) -> Figure:
    """Time by the number of States, and ratios by what they are not to depend on."""
    states, calls, models = (table["rows"] for table in result["tables"])
    figure, panels = _panels(3)
    _times(panels[0], states)
    panels[0].set(
        title="in proportion to States", xlabel="States", ylabel="warm call, us", xlim=(0, None), ylim=(0, None)
    )
    for axes, rows, label in zip(panels[1:], (calls, models), ("calls before", "models alive"), strict=True):
        _lines(axes, rows, label)
        axes.set(title=f"flat in {label}", xlabel=label, ylim=(0, 2), ylabel="warm call: times pure JAX")
        _ticks(axes, rows, label)
    _legend(figure, panels)
    return figure


def _scaling(result: Result) -> Figure:
    """What one device has by the number of devices, and how many collectives its program holds."""
    rows = [row for table in result["tables"] for row in table["rows"]]
    figure, panels = _panels(3)
    for axes, name in zip(panels, ("operations", "temporary memory", "collectives"), strict=True):
        shares = name != "collectives"
        for program in dict.fromkeys(row["labels"]["program"] for row in rows):
            shown = [row for row in rows if row["labels"]["program"] == program]
            devices = [row["labels"]["devices"] for row in shown]
            medians = [row["figures"][name]["median"] for row in shown]
            _line(axes, program, devices, np.divide(medians, devices if shares else 1))
        if shares:
            axes.plot(devices, np.divide(1, devices), "k--", linewidth=1, label="a fair share")
            axes.set(ylabel="of what one device alone has", yscale="log")
        else:
            axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set(title=f"{name} of one device" if shares else f"{name} in its program", xlabel="devices")
        _ticks(axes, rows, "devices")
    _legend(figure, panels)
    return figure


def _times(axes: Axes, rows: Rows) -> None:
    """Microseconds of a call in each way, of which the rows give the base and the ratios to it."""
    states = [row["labels"]["States"] for row in rows]
    base = [row["figures"][f"{PURE}, us"]["median"] for row in rows]
    _line(axes, PURE, states, base)
    for name in _names(rows):
        _line(axes, name, states, [us * row["figures"][name]["median"] for us, row in zip(base, rows, strict=True)])


def _lines(axes: Axes, rows: Rows, label: str) -> None:
    """The ratios of each library by one of the labels, where it has any."""
    axes.axhline(1, color=LOOKS[PURE][0], linewidth=1, linestyle="--", label=PURE)
    for name in _names(rows):
        shown = [row for row in rows if name in row["figures"]]
        spreads = [row["figures"][name] for row in shown]
        medians = [spread["median"] for spread in spreads]
        below = [spread["median"] - spread["low"] for spread in spreads]
        above = [spread["high"] - spread["median"] for spread in spreads]
        _line(axes, name, [row["labels"][label] for row in shown], medians, (below, above))


def _names(rows: Rows) -> list[str]:
    return [name for name in LOOKS if any(name in row["figures"] for row in rows)]


def _line(axes: Axes, name: str, x: Sequence[float], y: Sequence[float], spread: Any = None) -> None:
    colour, marker = LOOKS[name]
    axes.errorbar(x, y, spread, label=name, color=colour, marker=marker, capsize=2)


def _panels(count: int, **options: Any) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(3.4 * count, 3.6), layout="constrained")
    return figure, list(figure.subplots(1, count, squeeze=False, **options)[0])


def _ticks(axes: Axes, rows: Rows, label: str) -> None:
    """What was measured along a logarithmic axis below, and numbers as they are read aloud on one to the left."""
    measured = sorted({row["labels"][label] for row in rows})
    axes.set_xscale("log")
    axes.set_xticks(measured, [f"{number:,}" for number in measured])
    axes.xaxis.set_minor_locator(NullLocator())
    if axes.get_yscale() == "log":
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:,g}")
        axes.yaxis.set_minor_locator(NullLocator())


def _legend(figure: Figure, panels: Sequence[Axes]) -> None:
    entries = {name: handle for axes in panels for handle, name in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=4)


PLOTS: Final[Mapping[str, tuple[str, Callable[[Result], Figure]]]] = {
    "dispatch": (
        "A warm call by the number of layers, as a multiple of pure JAX; both axes are logarithmic.",
        _dispatch,
    ),
    "first_call": ("The first call by the number of layers, as a multiple of pure JAX.", _first_call),
    "ensemble": ("A warm call for all members by the number of layers, as a multiple of pure JAX.", _ensemble),
    "linear": ("The cost of a call by States, by calls made before, and by models alive.", _linear),
    "scaling": ("What one device computes and keeps by the number of devices, and the collectives.", _scaling),
}
"""What each plot shows, and how it is drawn, by benchmark."""


def draw(results: Mapping[str, Result], folder: Path) -> None:
    """Draws the plots of those benchmarks that have one, each into a file of its name."""
    folder.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(STYLE):
        for name, (_, plot) in PLOTS.items():
            if name in results:
                plot(results[name]).savefig(folder / f"{name}.png", metadata={"Software": None})
