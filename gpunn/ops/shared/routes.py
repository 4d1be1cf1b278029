"""The seam between an operation and the ways to compute it.

A way is a module, named after what it does, with ``takes(...)`` and the functions of its operation. An operation has
one table of its ways, tried in order: a new engine is a file and a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any


def route(ways: Sequence[ModuleType], *job: Any) -> Any:
    """The first of ``ways`` whose ``takes(*job)`` holds; the last of them takes everything."""
    for way in ways[:-1]:
        if way.takes(*job):
            return way
    return ways[-1]
