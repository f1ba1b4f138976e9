"""The calls that are compared: a step of the MLP in pure JAX, in graphstate, and in each peer that is installed.

A call is built anew by whoever measures it. What can be compared is checked first: all of them compute the same.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np
from _mlp import BASE, FLAT, OURS, STEPS, Build, Call, Single
from _peers import installed_peers
from _report import Limit, at_most

__all__ = ["builds", "calls", "limits"]

HIGHEST: Final[Mapping[int, float]] = {2: 1.5, 20: 1.15, 200: 1.1, 1000: 1.1}
"""The ratio to pure JAX that a warm call is to have at most, by the number of layers."""


def builds(step: str, *, flat: bool = False, peers: bool = True) -> dict[str, Build]:
    """How each library builds this step, pure JAX first."""
    names = (BASE, FLAT, *OURS) if flat else (BASE, *OURS)
    ours = {name: STEPS[step][name] for name in names}
    theirs = installed_peers() if peers else {}
    return ours | {name: steps[step] for name, steps in theirs.items() if step in steps}


def calls(builds: Mapping[str, Build], layers: int, scale: Single) -> dict[str, Call]:
    """The calls, warm; refuses those that compute different things."""
    built = {name: build(layers, scale) for name, build in builds.items()}
    results = {name: [np.asarray(call()) for _ in range(2)] for name, call in built.items()}
    for name, result in results.items():
        np.testing.assert_allclose(result, results[BASE], rtol=1e-4, atol=1e-6, err_msg=name)
    return built


def limits(layers: int) -> dict[str, Limit]:
    """Those of a warm call, by way."""
    return {way: at_most(HIGHEST[layers]) for way in OURS} if layers in HIGHEST else {}
