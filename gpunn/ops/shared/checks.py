"""Checks that operations of several families share."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral
from typing import Any

import numpy as np

from gpunn.backend import Array, check_array, operands
from gpunn.errors import ArgumentError, ShapeError, check, fail

Size = tuple[int, ...]

AXES = {1: "L", 2: "HW", 3: "DHW"}
"""The letters of the axes of signals, images and volumes, by rank."""


def shapes_of(op: str, **arrays: Array) -> list[Size]:
    """The shapes of what is checked to be arrays of numbers: what plans are made of.

    >>> import numpy as np
    >>> shapes_of("conv", x=np.ones((2, 3)))
    [(2, 3)]
    """
    check_array(op, **arrays)
    return [x.shape for x in arrays.values()]


def _is_integer(value: object, least: int) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least


def integer(op: str, name: str, value: object, least: int) -> int:
    """``value`` as a Python integer, if it is an integer (NumPy's too) of at least ``least``."""
    valid = _is_integer(value, least)
    check(valid, ArgumentError, op, f"{name} must be an integer of at least {least}", **{name: value})
    return int(value)  # type: ignore[call-overload,no-any-return]


def integers(op: str, name: str, value: object, least: int, rank: int) -> Size:
    """``value`` as ``rank`` integers of at least ``least``; one integer, or a tuple of one, stands for all.

    >>> integers("conv3d", "stride", 2, 1, rank=3)
    (2, 2, 2)
    """
    each: tuple[Any, ...] = tuple(value) if isinstance(value, tuple | list) else (value,) * rank
    each = each * rank if len(each) == 1 else each
    if len(each) != rank or not all(_is_integer(v, least) for v in each):
        several = {1: "a tuple of one", 2: "a pair of them", 3: "three of them"}[rank]
        fail(ArgumentError, op, f"{name} must be an integer of at least {least}, or {several}", **{name: value})
    return tuple(map(int, each))


def are_below(integers: Array, limit: int) -> bool:
    """True if all lie in 0 to ``limit`` - 1; False also where one comparison on the CPU does not tell.

    >>> import numpy as np
    >>> are_below(np.array([0, 2]), 3), are_below(np.array([-1, 2]), 3)
    (True, False)
    """
    if type(integers) is not np.ndarray or not integers.size or limit > _LEAST_NEGATIVE[integers.itemsize]:
        return False
    return bool(np.maximum.reduce(integers.view(_UNSIGNED[integers.itemsize]), None) < limit)


_UNSIGNED = {size: np.dtype(f"u{size}") for size in (1, 2, 4, 8)}
_LEAST_NEGATIVE = {size: 1 << (8 * size - 1) for size in _UNSIGNED}  # which a negative number is at least, seen so


def check_rank(op: str, name: str, shape: Size, rank: int, leading: str = "N, C", prefix: str = "") -> None:
    """Check that ``shape`` is (N, C, ...) with ``rank`` axes more; ``leading`` and ``prefix`` name others."""
    if len(shape) != rank + 2:
        axes = ", ".join([leading, *(prefix + letter for letter in AXES[rank])])
        fail(ShapeError, op, f"{name} must have the {rank + 2} dimensions ({axes})", shape=shape)


def check_image(op: str, name: str, x: Array) -> None:
    """Check that ``x`` is a batch of images (N, C, H, W)."""
    check_array(op, **{name: x})
    check_rank(op, name, x.shape, rank=2)


def check_shape(op: str, name: str, x: Array, shape: Size) -> None:
    """Check that ``x`` has exactly ``shape``."""
    if x.shape != shape:
        fail(ShapeError, op, f"{name} must have shape {shape}", shape=x.shape)


def check_operands(
    op: str, optional: Mapping[str, tuple[Array | None, Size]] | None = None, /, **arrays: tuple[Array, Size]
) -> None:
    """Check arrays as :func:`gpunn.backend.operands` does, and the shape that is given beside each.

    In ``optional`` None stands for one left out.

    >>> import numpy as np
    >>> check_operands("conv1d", {"b": (None, (3,))}, x=(np.ones((1, 2, 5)), (1, 2, 4)))
    Traceback (most recent call last):
    gpunn.errors.ShapeError: conv1d: x must have shape (1, 2, 4), got shape=(1, 2, 5)
    """
    given = arrays if optional is None else arrays | {name: own for name, own in optional.items() if own[0] is not None}
    operands(op, **{name: x for name, (x, _) in given.items()})
    for name, (x, shape) in given.items():
        check_shape(op, name, x, shape)
