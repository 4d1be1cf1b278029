"""Max unpooling over one, two or three axes, forward and backward: maxima put back where they were.

    y[n,c,index[n,c,o]] = x[n,c,o], and 0 elsewhere                 gx[n,c,o] = gy[n,c,index[n,c,o]]

x and index are (N, C, *image), y is (N, C, *out), and index counts the elements of its flattened image, as
:func:`gpunn.ops.pool.max_pool_indices` gives them. Where several elements of x have one index, the last one stays (in
row-major order); all of them get its gradient, as in PyTorch. ``out`` is what pooling came from, if it left no rest::

    out = (image - 1) * stride - 2 * padding + kernel_size

or ``output_size``, which differs from that by less than the stride. Source: Zeiler and Fergus 2014, "Visualizing and
understanding convolutional networks", section 2.1.

Elements are sorted by index, and each element of y looks for the last of its own among them: no write meets another.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import NamedTuple

import numpy as np

from gpunn import cuda
from gpunn.backend import Array, check_array, device_of, get_array_module, operands
from gpunn.errors import ArgumentError, DeviceError, DtypeError, ShapeError, check, fail
from gpunn.ops.pool.geometry import Stride
from gpunn.ops.shared.checks import Size, are_below, check_rank, check_shape, integers
from gpunn.ops.shared.plans import planned
from gpunn.ops.shared.window import Sizes


class Plan(NamedTuple):
    """Unpooling of x (N, C, *image) to y (N, C, *out), checked; ``op`` is what it is called in errors."""

    op: str
    x_shape: Size
    y_shape: Size


@planned
def plan(
    rank: int,
    x_shape: Size,
    kernel_size: Sizes,
    stride: Stride = None,
    padding: Sizes = 0,
    output_size: Sequence[int] | None = None,
) -> Plan:
    """The plan of max unpooling over ``rank`` axes; ``output_size`` may also be all of the shape of y.

    >>> plan(2, (8, 3, 27, 27), 3, 2).y_shape, plan(1, (8, 3, 27), 2, output_size=(55,)).y_shape
    ((8, 3, 55, 55), (8, 3, 55))

    Raises ShapeError where x has another rank, ArgumentError for settings out of range.
    """
    op = f"max_unpool{rank}d"
    check_rank(op, "x", x_shape, rank)
    kernel = integers(op, "kernel_size", kernel_size, 1, rank)
    step = kernel if stride is None or stride == () else integers(op, "stride", stride, 1, rank)
    pads = integers(op, "padding", padding, 0, rank)
    spans = zip(x_shape[2:], kernel, step, pads, strict=True)
    natural = tuple((n - 1) * apart - 2 * pad + extent for n, extent, apart, pad in spans)
    out = natural
    if output_size is not None:
        several = isinstance(output_size, tuple | list) and len(output_size) in (rank, rank + 2)
        rule = f"output_size must have {rank} sizes, or all {rank + 2} of y"
        check(several, ArgumentError, op, rule, output_size=output_size)
        out = integers(op, "output_size", tuple(output_size[-rank:]), 1, rank)
        near = all(abs(asked - n) < apart for asked, n, apart in zip(out, natural, step, strict=True))
        rule = "output_size must differ by less than the stride from what image, window and padding give"
        check(near, ArgumentError, op, rule, output_size=out, given=natural, stride=step)
    check(min(out) >= 1, ShapeError, op, "the padding must leave something of the output", output=out, padding=pads)
    return Plan(op, x_shape, (*x_shape[:2], *out))


def max_unpool(plan: Plan, x: Array, index: Array) -> Array:
    """x put at ``index`` in zeros.

    >>> x, index = np.array([[[5.0, 7.0, 8.0]]]), np.array([[[1, 4, 1]]])
    >>> max_unpool(plan(1, x.shape, 2), x, index).tolist()
    [[[0.0, 8.0, 0.0, 0.0, 7.0, 0.0]]]

    Raises ArgumentError for an index outside of the flattened image, DtypeError for indices that are no integers.
    """
    xp = operands(plan.op, x=x)
    check_shape(plan.op, "x", x, plan.x_shape)
    places = _places(plan, plan.op, x, index).reshape(-1)
    y = xp.zeros(plan.y_shape, x.dtype)
    if x.size == 0:
        return y
    order = xp.argsort(places, kind="stable")
    places = places[order]
    own = xp.arange(y.size)
    last = xp.maximum(xp.searchsorted(places, own, side="right") - 1, 0)
    found = xp.where(places[last] == own, x.reshape(-1)[order[last]], 0)
    return found.reshape(plan.y_shape).astype(x.dtype, copy=False)


def max_unpool_backward(plan: Plan, gy: Array, index: Array) -> Array:
    """The gradient with respect to x: gy at ``index``."""
    op = f"{plan.op}_backward"
    operands(op, gy=gy)
    check_shape(op, "gy", gy, plan.y_shape)
    return gy.reshape(-1).take(_places(plan, op, gy, index))


def _places(plan: Plan, op: str, x: Array, index: Array) -> Array:
    """``index`` as places in all of y, flattened."""
    check_array(op, index=index)
    if index.dtype.kind not in "iu":
        fail(DtypeError, op, "index must hold integers", dtype=str(index.dtype))
    check_shape(op, "index", index, plan.x_shape)
    devices = device_of(x), device_of(index)
    rule = "index must be on the device of the array"
    check(devices[0] == devices[1], DeviceError, op, rule, array=devices[0], index=devices[1])
    size = prod(plan.y_shape[2:])
    wide, xp = index.astype(np.int64, copy=False), get_array_module(index)
    if not are_below(wide, size):
        wrong = (wide < 0) | (wide >= size)

        def report() -> None:
            first = int(wide.reshape(-1)[int(wrong.argmax())])
            check(False, ArgumentError, op, f"index must lie in 0 to {size - 1}, a plane of y", index=first)

        cuda.alarm(wrong.any(), report)
    planes = xp.arange(prod(plan.x_shape[:2])).reshape(*plan.x_shape[:2], *(1,) * (len(plan.x_shape) - 2))
    return wide + planes * size
