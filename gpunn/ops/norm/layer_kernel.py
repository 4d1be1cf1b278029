"""Layer normalisation by ``kernels/batch_norm.cu``: a row is one of its channels, all in one example."""

from __future__ import annotations

from gpunn import cuda
from gpunn.backend import Array, accumulation_dtype, get_array_module
from gpunn.ops.norm.batch import batch_norm_backward, batch_norm_statistics


def takes(rows: Array) -> bool:
    """True where kernels run."""
    return cuda.takes(rows, half=True)


def forward(rows: Array, weight: Array | None, bias: Array | None, eps: float) -> tuple[Array, Array, Array]:
    """y (R, P), and the mean and variance of each row."""
    xp, wide = get_array_module(rows), _wide(rows)
    mean, var = batch_norm_statistics(wide[None])
    y = wide - mean[:, None]
    y *= (1 / xp.sqrt(var + eps))[:, None]
    if weight is not None:
        y *= weight
    if bias is not None:
        y += bias
    return y.astype(rows.dtype, copy=False), mean, var


def backward(
    gy: Array, rows: Array, mean: Array, var: Array, weight: Array | None, eps: float
) -> tuple[Array, Array, Array]:
    """The gradients of the rows, of weight and of bias."""
    xp, wide, wide_gy = get_array_module(rows), _wide(rows), _wide(gy)
    g = wide_gy if weight is None else wide_gy * weight
    gx = batch_norm_backward(g[None], wide[None], mean, var, eps=eps)[0][0]
    xhat = (wide - mean[:, None]) / xp.sqrt(var + eps)[:, None]
    return gx.astype(rows.dtype, copy=False), (wide_gy * xhat).sum(0), wide_gy.sum(0)


def _wide(a: Array) -> Array:
    return a.astype(accumulation_dtype(a.dtype), copy=False)
