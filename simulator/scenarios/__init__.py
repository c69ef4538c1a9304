"""One file per scenario; a file put here is found by itself.

A scenario is a module with ``NAME``, ``SUMMARY`` (one line) and ``build(request: Request) -> Run``.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from typing import Protocol, cast

from simulator.plan import Request
from simulator.run import Run
from streamer.errors import SettingsError


class Scenario(Protocol):
    """What a module of this package offers."""

    NAME: str
    SUMMARY: str

    def build(self, request: Request) -> Run:
        """Plan the run and draw its specimen."""


def catalogue() -> dict[str, Scenario]:
    """Return every scenario by its name, in alphabetical order."""
    modules = (importlib.import_module(f"{__name__}.{entry.name}") for entry in pkgutil.iter_modules(__path__))
    found = [cast(Scenario, module) for module in modules]
    return {scenario.NAME: scenario for scenario in sorted(found, key=lambda scenario: scenario.NAME)}


def find(name: str) -> Scenario:
    """Return the scenario of that name.

    Raises
    ------
    SettingsError
        If there is none; the text names the nearest one.
    """
    known = catalogue()
    if name in known:
        return known[name]
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    hint = f"did you mean {nearest[0]!r}?" if nearest else f"known are {', '.join(known)}"
    raise SettingsError(f"there is no scenario {name!r}; {hint} (see 'txm-simulator list')")
