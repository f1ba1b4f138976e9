"""Profiles: how thoroughly properties are tested, chosen for a whole run from outside.

They apply to tests of `graphstate.testing.given` alone; the profiles of hypothesis are the user's own and stay as they
are. The choice stands in the environment, where pytest's options put it, so that other processes know it, too.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import hypothesis
from hypothesis import HealthCheck, Phase, Verbosity

from graphstate.errors import StrategyError

__all__ = ["PROFILES", "Profile", "chosen_profile", "structures_of"]


@dataclass(frozen=True)
class Profile:
    """A choice for all tests of a run.

    Attributes:
        least: no test has fewer examples.
        most: no test has more.
        structures: no test has fewer structures.
        options: settings of hypothesis.
    """

    least: int = 1
    most: int | None = None
    structures: int = 1
    options: Mapping[str, Any] = field(default_factory=dict)

    def settings(self, given: hypothesis.settings, examples: int | None) -> hypothesis.settings:
        """The settings of a test: what it would have, without a deadline, as a first call compiles for seconds.

        Args:
            given: the settings of the user.
            examples: how many the test wants; None for the number in `given`.
        """
        count = max(given.max_examples if examples is None else examples, self.least)
        return hypothesis.settings(
            given,
            **{
                "max_examples": count if self.most is None else min(count, self.most),
                "deadline": None,
                "suppress_health_check": [*given.suppress_health_check, HealthCheck.too_slow],
                **self.options,
            },
        )


PROFILES: Final[Mapping[str | None, Profile]] = {
    None: Profile(),
    "dev": Profile(most=30),
    "ci": Profile(options={"derandomize": True, "database": None, "print_blob": True}),
    "thorough": Profile(least=500, structures=64),
    "debug": Profile(most=1, options={"phases": (Phase.explicit, Phase.generate), "verbosity": Verbosity.verbose}),
}


def chosen_profile() -> Profile:
    """The profile that `GRAPHSTATE_PROFILE` names.

    Raises:
        StrategyError: there is none of that name.
    """
    name = os.environ.get("GRAPHSTATE_PROFILE")
    if name not in PROFILES:
        raise StrategyError(
            f"GRAPHSTATE_PROFILE is one of {', '.join(filter(None, PROFILES))}, but it is {name!r}. "
            "Leave it out for the settings that the tests have."
        )
    return PROFILES[name]


def structures_of(wanted: int) -> int:
    """How many structures a test has that wants so many: `GRAPHSTATE_STRUCTURES`, where it is there."""
    chosen = os.environ.get("GRAPHSTATE_STRUCTURES")
    return max(wanted, chosen_profile().structures) if chosen is None else int(chosen)
