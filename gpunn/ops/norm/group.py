"""Group normalisation, forward and backward; with a group for each channel it is instance normalisation.

    y = weight (x - mean) / sqrt(var + eps) + bias

x is (N, C, ...), weight and bias are (C,). Mean and variance, without Bessel's correction, are those of each group: a
run of C / num_groups channels of one example. The gradient passes through them::

    gx = (g - mean(g) - xhat mean(g xhat)) / sqrt(var + eps)      g = weight gy,  xhat = (x - mean) / sqrt(var + eps)

float16 is computed in float32. Sources: Wu and He 2018, "Group normalization"; Ulyanov, Vedaldi and Lempitsky 2016,
"Instance normalization: the missing ingredient for fast stylization".

The ways to compute are :mod:`gpunn.ops.norm.group_kernel`, :mod:`gpunn.ops.norm.group_onednn` and
:mod:`gpunn.ops.norm.group_rows`.
"""

from __future__ import annotations

from math import prod
from types import ModuleType

from gpunn.backend import Array, accumulation_dtype, operands
from gpunn.errors import ShapeError, check, check_number
from gpunn.ops.norm import group_kernel, group_onednn, group_rows
from gpunn.ops.shared.checks import Size, check_shape, integer
from gpunn.ops.shared.routes import route

ROUTES: tuple[ModuleType, ...] = (group_kernel, group_onednn, group_rows)
"""Each has ``takes(x)``, ``forward`` and ``backward``."""


def group_norm(
    x: Array, num_groups: int, weight: Array | None = None, bias: Array | None = None, eps: float = 1e-5
) -> tuple[Array, Array, Array]:
    """y, and the mean and variance of each group, which the gradient needs: (N, num_groups), float32 for float16.

    >>> import numpy as np
    >>> y, mean, var = group_norm(np.array([[1.0, 3.0, 5.0, 5.0]]), 2, eps=0.01)
    >>> y.round(3).tolist(), mean.tolist(), var.tolist()
    ([[-0.995, 0.995, 0.0, 0.0]], [[2.0, 5.0]], [[1.0, 0.0]])

    Raises ShapeError unless x is (N, C, ...) and ``num_groups`` divides C, ArgumentError for a negative eps.
    """
    op = "group_norm"
    xp = operands(op, {"weight": weight, "bias": bias}, x=x)
    (n, c, _), groups = _checked(op, x.shape, num_groups, eps)
    for name, array in (("weight", weight), ("bias", bias)):
        if array is not None:
            check_shape(op, name, array, (c,))
    acc = accumulation_dtype(x.dtype)
    if x.size == 0:
        return x.copy(), xp.zeros((n, groups), acc), xp.zeros((n, groups), acc)
    result: tuple[Array, Array, Array] = route(ROUTES, x).forward(x, groups, weight, bias, eps)
    return result


def group_norm_backward(
    gy: Array, x: Array, mean: Array, var: Array, num_groups: int, weight: Array | None = None, eps: float = 1e-5
) -> tuple[Array, Array, Array]:
    """The gradients with respect to x, weight and bias, from the ``mean`` and ``var`` of :func:`group_norm`."""
    op = "group_norm_backward"
    xp = operands(op, {"weight": weight}, gy=gy, x=x)
    (_, c, _), _ = _checked(op, x.shape, num_groups, eps)
    check_shape(op, "gy", gy, x.shape)
    if weight is not None:
        check_shape(op, "weight", weight, (c,))
    if x.size == 0:
        return x.copy(), xp.zeros(c, x.dtype), xp.zeros(c, x.dtype)
    gx, gw, gb = route(ROUTES, x).backward(gy, x, mean, var, weight, eps)
    return gx, gw.astype(x.dtype, copy=False), gb.astype(x.dtype, copy=False)


def _checked(op: str, x_shape: Size, num_groups: int, eps: float) -> tuple[tuple[int, int, int], int]:
    """N, C, the pixels of a channel, and the number of groups."""
    check(len(x_shape) >= 2, ShapeError, op, "x must have at least the 2 dimensions (N, C)", shape=x_shape)
    groups = integer(op, "num_groups", num_groups, 1)
    rule = "num_groups must divide the channels"
    check(x_shape[1] % groups == 0, ShapeError, op, rule, num_groups=groups, channels=x_shape[1])
    check_number(op, eps=eps)
    return (x_shape[0], x_shape[1], prod(x_shape[2:])), groups
