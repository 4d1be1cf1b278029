"""Signals, images and volumes made larger or smaller, forward and backward.

x is (N, C, L), (N, C, H, W) or (N, C, D, H, W), y is (N, C, *size): each axis by itself, by the rules of
:mod:`gpunn.ops.resample.axis`. :func:`plan` says what the settings mean to PyTorch; :func:`resample` and its gradient
take any tables, one for each axis, and so other rules too. float16 is summed in float32.

    mode                           y is                                             where
    nearest                        the element at c, rounded down                   c = o / s
    nearest-exact                  the element nearest to c                         c = (o + 1/2) / s - 1/2
    linear, bilinear, trilinear    a straight line between the two around c         the same, or ``align_corners``
    bicubic                        a cubic through the four around c, a = -0.75     the same, or ``align_corners``

With ``antialias`` the weights of bilinear and bicubic (a = -0.5) spread over as many elements of x as one of y covers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor, inf, isfinite
from typing import Any, Literal

from gpunn.backend import Array, accumulation_dtype, operands
from gpunn.errors import ArgumentError, ShapeError, check, check_number, fail
from gpunn.ops.resample.axis import Coordinates, Kind, Rounding, Table, table
from gpunn.ops.shared.checks import AXES, Size, check_shape, integers
from gpunn.ops.shared.plans import planned

__all__ = [
    "Coordinates",
    "Factors",
    "Kind",
    "Mode",
    "Plan",
    "Rounding",
    "Sizes",
    "Table",
    "output_sizes",
    "plan",
    "resample",
    "resample_backward",
    "table",
]

Mode = Literal["nearest", "nearest-exact", "linear", "bilinear", "bicubic", "trilinear", "area"]
Sizes = int | Sequence[int] | None
Factors = float | Sequence[float] | None

_RANKS = {"linear": 1, "bilinear": 2, "bicubic": 2, "trilinear": 3}
_SMOOTH = tuple(_RANKS)
_MODES = ("nearest", "nearest-exact", *_SMOOTH, "area")


@dataclass(frozen=True, eq=False)
class Plan:
    """From x (N, C, *image) to y (N, C, *size); ``tables`` has one for each axis of the image."""

    x_shape: Size
    y_shape: Size
    tables: tuple[Table, ...]


@planned
def plan(
    x_shape: Size,
    dtype: Any,
    size: Sizes = None,
    scale_factor: Factors = None,
    mode: Mode = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Plan:
    """The plan of :func:`gpunn.functional.interpolate`, for any mode but ``"area"``.

    >>> import numpy as np
    >>> plan((1, 1, 4, 4), np.dtype(np.float32), None, 2.0, "bilinear").y_shape
    (1, 1, 8, 8)
    """
    out, factors = output_sizes(x_shape, size, scale_factor, mode, align_corners, recompute_scale_factor, antialias)
    kind: Kind = "nearest" if mode not in _SMOOTH else "cubic" if mode == "bicubic" else "linear"
    settings: dict[str, Any] = {}
    if mode == "nearest":
        settings = {"coordinates": "asymmetric", "rounding": "floor"}
    elif mode == "nearest-exact":
        settings = {"rounding": "round_prefer_ceil"}
    elif antialias:
        settings = {"antialias": True, "exclude_outside": True, "a": -0.5}
    elif align_corners:
        settings = {"coordinates": "align_corners"}
    tables = []
    for length, count, factor in zip(x_shape[2:], out, factors, strict=True):
        scale = factor
        if count == length and (kind == "linear" or antialias):
            scale = None  # an axis of the same size is left as it is, whatever the factor
        elif align_corners:  # what is smoothed keeps the coordinates of half pixels
            scale = (count - 1) / (length - 1) if antialias and count > 1 < length else inf if antialias else None
        tables.append(table(length, count, kind, accumulation_dtype(dtype), scale=scale, **settings))
    return Plan(x_shape, (*x_shape[:2], *out), tuple(tables))


def output_sizes(
    x_shape: Size,
    size: Sizes,
    scale_factor: Factors,
    mode: Mode,
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> tuple[Size, tuple[float | None, ...]]:
    """Check the settings; the size of y along each axis, and the scale where it is not the ratio of the sizes.

    >>> output_sizes((1, 1, 5), None, 1.5, "nearest")
    ((7,), (1.5,))

    Raises ArgumentError for settings out of range or that do not go together, ShapeError where x has not the dimensions
    that the mode is for, or no element along an axis.
    """
    op = "interpolate"
    check(mode in _MODES, ArgumentError, op, f"mode must be one of {', '.join(_MODES)}", mode=mode)
    rank = len(x_shape) - 2
    wanted = (_RANKS[mode],) if mode in _RANKS else (1, 2, 3)
    names = " or ".join(f"(N, C, {', '.join(AXES[each])})" for each in wanted)
    check(rank in wanted, ShapeError, op, f'x must have the dimensions {names} for mode="{mode}"', shape=x_shape)
    check(0 not in x_shape[1:], ShapeError, op, "x must have channels, and elements along each axis", shape=x_shape)
    rule = f"align_corners belongs to mode={', '.join(_SMOOTH)}"
    check(align_corners is None or mode in _SMOOTH, ArgumentError, op, rule, align_corners=align_corners, mode=mode)
    takes = not antialias or mode in ("bilinear", "bicubic")
    check(takes, ArgumentError, op, "antialias belongs to mode=bilinear, bicubic", antialias=antialias, mode=mode)
    one = (size is None) != (scale_factor is None)
    rule = "either size or scale_factor must be given"
    check(one, ArgumentError, op, rule, size=size, scale_factor=scale_factor)
    if scale_factor is None:
        rule = "recompute_scale_factor belongs to scale_factor, not to size"
        check(not recompute_scale_factor, ArgumentError, op, rule, recompute_scale_factor=recompute_scale_factor)
        return integers(op, "size", size, 1, rank), (None,) * rank
    factors: Any = tuple(scale_factor) if isinstance(scale_factor, tuple | list) else (scale_factor,) * rank
    check(len(factors) == rank, ArgumentError, op, f"scale_factor must be one, or {rank} of them", scale_factor=factors)
    for factor in factors:
        check_number(op, scale_factor=factor)
        if not (isfinite(factor) and factor > 0):
            fail(ArgumentError, op, "scale_factor must be above 0 and finite", scale_factor=factor)
    out = tuple(floor(float(length * factor)) for length, factor in zip(x_shape[2:], factors, strict=True))
    check(min(out) >= 1, ArgumentError, op, "scale_factor must leave an element along each axis", size=out)
    return out, (None,) * rank if recompute_scale_factor else tuple(map(float, factors))


def resample(x: Array, tables: Sequence[Table]) -> Array:
    """y (N, C, *size): each of the last axes of x by its table.

    >>> import numpy as np
    >>> resample(np.array([[[1.0, 3.0]]]), [table(2, 4, "linear", np.dtype(np.float64))]).tolist()
    [[[1.0, 1.5, 2.5, 3.0]]]
    """
    return _apply("resample", x, tables)


def resample_backward(gy: Array, tables: Sequence[Table]) -> Array:
    """The gradient with respect to x: each gy times its weights, added where these came from."""
    return _apply("resample_backward", gy, [each.transposed for each in tables])


def _apply(op: str, x: Array, tables: Sequence[Table]) -> Array:
    operands(op, x=x)
    leading = x.ndim - len(tables)
    check_shape(op, "x", x, (*x.shape[:leading], *(each.length for each in tables)))
    y = x.astype(accumulation_dtype(x.dtype), copy=False)
    axes = sorted(enumerate(tables, leading), key=lambda axis: axis[1].size / max(1, axis[1].length))
    for axis, each in axes:  # those that shrink first
        y = each.apply(y, axis)
    return y.astype(x.dtype, copy=y is x)
