"""Batch normalisation, forward and backward.

    y = weight (x - mean) / sqrt(var + eps) + bias, then max(., 0) with ``relu``

x is (N, C, ...); mean, var, weight and bias are (C,). In training mean and var are those of each channel over all
other axes, var without Bessel's correction, and the gradient passes through them::

    gx = weight / sqrt(var + eps) (gy - mean(gy) - xhat mean(gy xhat))      xhat = (x - mean) / sqrt(var + eps)

float16 is computed in float32. Sources: Ioffe and Szegedy 2015, "Batch normalization: accelerating deep network
training by reducing internal covariate shift"; the variance: Welford 1962, and Chan, Golub and LeVeque 1979.

The ways to compute are :mod:`gpunn.ops.norm.batch_kernel`, :mod:`gpunn.ops.norm.batch_rows`,
:mod:`gpunn.ops.norm.batch_onednn`, :mod:`gpunn.ops.norm.batch_images` and :mod:`gpunn.ops.norm.batch_sums`.
"""

from __future__ import annotations

from types import ModuleType

from gpunn.backend import Array, accumulation_dtype, operands
from gpunn.errors import ArgumentError, ShapeError, check, check_number, fail
from gpunn.ops.norm import batch_images, batch_kernel, batch_onednn, batch_rows, batch_sums
from gpunn.ops.norm.affine import Affine, Part
from gpunn.ops.shared.checks import check_shape
from gpunn.ops.shared.routes import route

ROUTES: tuple[ModuleType, ...] = (batch_kernel, batch_rows, batch_onednn, batch_images, batch_sums)
"""Each has ``takes(x)``, ``statistics``, ``apply`` and ``backward``."""


def batch_norm_statistics(x: Array) -> tuple[Array, Array]:
    """Mean and biased variance of each channel, (C,); float32 for float16.

    >>> import numpy as np
    >>> batch_norm_statistics(np.array([[1.0, 5.0], [3.0, 5.0]]))
    (array([2., 5.]), array([1., 0.]))
    """
    op = "batch_norm_statistics"
    operands(op, x=x)
    _check_channels(op, x)
    check(x.size > 0, ShapeError, op, "x must hold at least one element for each channel", shape=x.shape)
    both: tuple[Array, Array] = route(ROUTES, x).statistics(x)
    return both


def batch_norm(
    x: Array,
    mean: Array,
    var: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    eps: float = 1e-5,
    relu: bool = False,
) -> Array:
    """Normalise x by ``mean`` and ``var``, then scale, shift and cut off at 0 as asked.

    >>> import numpy as np
    >>> batch_norm(np.array([[1.0], [3.0]]), np.array([2.0]), np.array([1.0]), eps=0.0).tolist()
    [[-1.0], [1.0]]
    """
    return batch_norm_kept(x, mean, var, weight, bias, eps, relu)[0]


def batch_norm_kept(
    x: Array,
    mean: Array,
    var: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    eps: float = 1e-5,
    relu: bool = False,
) -> tuple[Array, Affine]:
    """What :func:`batch_norm` gives, and what spares :func:`batch_norm_backward` work."""
    affine = _affine("batch_norm", x, mean, var, weight, bias, eps)
    return route(ROUTES, x).apply(x, affine, relu), affine


def batch_norm_backward(
    gy: Array,
    x: Array,
    mean: Array,
    var: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    eps: float = 1e-5,
    relu: bool = False,
    training: bool = True,
    kept: Affine | None = None,
) -> tuple[Array, Array, Array]:
    """The gradients with respect to x, weight and bias; ``kept`` is what :func:`batch_norm_kept` gave.

    ``training``: mean and var are the statistics of x, and pass the gradient on; otherwise they are constants.
    """
    op = "batch_norm_backward"
    affine = _affine(op, x, mean, var, weight, bias, eps) if kept is None else kept
    xp = operands(op, gy=gy, x=x)
    check_shape(op, "gy", gy, x.shape)
    if x.size == 0:
        zeros = xp.zeros_like(affine.root)
        if isinstance(affine, Part):
            affine.through(zeros, zeros, 0, training)
        return x.copy(), zeros.astype(x.dtype), zeros.astype(x.dtype)
    gx, sum_g, sum_gx = route(ROUTES, x).backward(gy, x, affine, relu, training)
    return gx, (sum_gx / affine.root).astype(x.dtype, copy=False), sum_g.astype(x.dtype, copy=False)


def _check_channels(op: str, x: Array) -> None:
    if x.ndim < 2:
        fail(ShapeError, op, "x must have at least the 2 dimensions (N, C)", shape=x.shape)


def _affine(op: str, x: Array, mean: Array, var: Array, weight: Array | None, bias: Array | None, eps: float) -> Affine:
    """What y is of x, checked."""
    xp = operands(op, {"weight": weight, "bias": bias}, x=x)
    operands(op, mean=mean, var=var)
    _check_channels(op, x)
    for name, array in (("mean", mean), ("var", var), ("weight", weight), ("bias", bias)):
        if array is not None:
            check_shape(op, name, array, x.shape[1:2])
    check_number(op, eps=eps)
    if eps < 0:
        fail(ArgumentError, op, "eps must be at least 0", eps=eps)
    dtype = accumulation_dtype(x.dtype)
    mean, var = mean.astype(dtype, copy=False), var.astype(dtype, copy=False)
    root = xp.sqrt(var + eps)
    scale = xp.reciprocal(root)
    shift = xp.zeros_like(scale) if bias is None else bias.astype(dtype, copy=False)
    return Affine(mean, scale if weight is None else scale * weight, shift, root)
