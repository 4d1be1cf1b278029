"""Targets that name one class of C for each row, shared by the losses that take them."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np

from gpunn import cuda
from gpunn.backend import Array, accumulation_dtype, check_array, device_of
from gpunn.errors import ArgumentError, DeviceError, DtypeError, ShapeError, check, fail
from gpunn.ops.shared.checks import are_below, check_shape


def check_scores(op: str, name: str, x: Array, weight: Array | None) -> None:
    """Check that ``x`` is (N, C) or (N, C, ...) with a class at least, and ``weight`` (C,)."""
    if x.ndim < 2:
        fail(ShapeError, op, f"{name} must have the dimensions (N, C) or (N, C, ...)", shape=x.shape)
    if x.shape[1] < 1:
        fail(ShapeError, op, f"{name} must have at least one class", shape=x.shape)
    if weight is not None:
        check_shape(op, "weight", weight, (x.shape[1],))


def check_ignore_index(op: str, ignore_index: object) -> None:
    """Check that ``ignore_index`` is an integer."""
    if type(ignore_index) is not int and not isinstance(ignore_index, Integral):
        fail(ArgumentError, op, "ignore_index must be an integer", ignore_index=ignore_index)


def check_target(op: str, name: str, x: Array, target: Array) -> None:
    """Check that ``target`` is an array where ``x`` is."""
    check_array(op, target=target)
    if type(x) is type(target) is np.ndarray:
        return
    places = device_of(x), device_of(target)
    if places[0] != places[1]:
        rule = f"{name} and target must be on one device"
        fail(DeviceError, op, rule, **{name: places[0]}, target=places[1])


def _kept_rows(op: str, name: str, x: Array, target: Array, ignore_index: int | None) -> Array | None:
    """Which of the rows of ``x``, in the order of :func:`as_rows`, have a target; None if all have, as the CPU knows.

    Checks the dtype, shape and values of a target that is where x is.

    In a captured step a wrong target counts as ignored until the step is over, and is told then.
    """
    if target.dtype.kind not in "iu":
        fail(DtypeError, op, "target must hold integer classes", dtype=str(target.dtype))
    if target.shape != (*x.shape[:1], *x.shape[2:]):
        rule = f"target must hold one class for each row of {name}"
        fail(ShapeError, op, rule, target=target.shape, **{name: x.shape})
    flat = target.reshape(-1)
    none_is_ignored = ignore_index is None or not 0 <= ignore_index < x.shape[1]
    if none_is_ignored and are_below(flat, x.shape[1]):
        return None
    kept = flat == flat if ignore_index is None else flat != ignore_index
    wrong = kept & ((flat < 0) | (flat >= x.shape[1]))
    classes = x.shape[1]

    def report() -> None:
        place = int(wrong.argmax())
        ignored = "" if ignore_index is None else f" (or be ignore_index={ignore_index})"
        rule = f"target must lie in 0 to {classes - 1}{ignored}"
        check(False, ArgumentError, op, rule, target=int(flat[place]), row=place)

    cuda.alarm(wrong.any(), report)
    return kept & ~wrong if cuda.capturing() else kept


def known_classes(
    op: str, name: str, xp: Any, x: Array, target: Array, weight: Array | None, ignore_index: int | None = None
) -> tuple[Array, Array | None]:
    """As :func:`class_weights`, of a target that was checked; the weights may be None where all are 1."""
    kept, dtype = _kept_rows(op, name, x, target, ignore_index), accumulation_dtype(x.dtype)
    if kept is None:
        classes = target.reshape(-1).astype(np.int64, copy=False)
        return classes, None if weight is None else weight[classes].astype(dtype)
    classes = xp.where(kept, target.reshape(-1).astype(np.int64), 0)
    return classes, kept.astype(dtype) if weight is None else xp.where(kept, weight[classes].astype(dtype), 0)


def class_weights(
    op: str, name: str, xp: Any, x: Array, target: Array, weight: Array | None, ignore_index: int | None = None
) -> tuple[Array, Array]:
    """The class of each row, and the weight of that class, wide; both 0 in a row that is ignored."""
    check_target(op, name, x, target)
    classes, scale = known_classes(op, name, xp, x, target, weight, ignore_index)
    return classes, xp.ones(classes.shape, accumulation_dtype(x.dtype)) if scale is None else scale


def as_rows(xp: Any, x: Array) -> Array:
    """(N, C, d1, ...) as rows of C, in the order of the targets (N, d1, ...).

    >>> import numpy as np
    >>> as_rows(np, np.array([[[1, 2, 3], [4, 5, 6]]])).tolist()
    [[1, 4], [2, 5], [3, 6]]
    """
    return x if x.ndim == 2 else xp.moveaxis(x, 1, -1).reshape(-1, x.shape[1])


def from_rows(xp: Any, rows: Array, shape: tuple[int, ...]) -> Array:
    """What :func:`as_rows` made rows, in its ``shape`` (N, C, d1, ...) again."""
    if len(shape) == 2:
        return rows
    return xp.ascontiguousarray(xp.moveaxis(rows.reshape(shape[0], *shape[2:], shape[1]), -1, 1))
