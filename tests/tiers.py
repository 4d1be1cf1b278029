"""What the quick tier has of tests with many cases."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def first_is_quick(names: Iterable[str]) -> list[Any]:
    """The names of cases, all but the first marked ``slow``."""
    first, *others = names
    return [first, *(pytest.param(name, marks=pytest.mark.slow) for name in others)]
