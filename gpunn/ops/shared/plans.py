"""Plans: what settings and shapes mean, worked out and checked once, and looked up from then on."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, lru_cache, wraps
from typing import Any, TypeVar

from gpunn.ops.shared.checks import Size
from gpunn.ops.shared.phases import Phases
from gpunn.ops.shared.window import Window

P = TypeVar("P")

_KEPT = 4096  # plans of one kind: networks have tens, in every step the same


def planned(make: Callable[..., P]) -> Callable[..., P]:
    """``make``, which gives the same plan for the same arguments, and looks up those that it gave lately.

    >>> @planned
    ... def plan(shape, stride):
    ...     return [shape, stride]
    >>> plan((2, 3), 1) is plan((2, 3), 1), plan((2, 3), 1) is plan((2, 3), True)
    (True, False)
    """
    looked_up = lru_cache(_KEPT, typed=True)(make)

    @wraps(make)
    def plan(*arguments: Any, **named: Any) -> P:
        for argument in (*arguments, *named.values()) if named else arguments:
            kind = type(argument)
            if (kind is tuple and not _settled(argument)) or kind.__hash__ is None:
                return make(*arguments, **named)
        return looked_up(*arguments, **named)

    return plan


def _settled(values: tuple[Any, ...]) -> bool:
    """Whether tuples that are equal to this one mean the same: True and 1.0 are equal to 1, and not integers."""
    for value in values:
        kind = type(value)
        if kind is not int and (kind is not tuple or not _settled(value)):
            return False
    return True


class OverWindows:
    """The base of plans that go from x (N, C, *image) to y (N, K, *out) by windows."""

    x_shape: Size
    y_shape: Size
    window: Window

    @property
    def image(self) -> Size:
        return self.x_shape[2:]

    @property
    def out(self) -> Size:
        return self.y_shape[2:]

    @cached_property
    def rank(self) -> int:
        """The number of axes: 1 for signals, 2 for images, 3 for volumes."""
        return len(self.x_shape) - 2

    @cached_property
    def phases(self) -> Phases:
        """How planes are split for those ways that have no kernel."""
        return Phases(self.window, self.image, self.out)
