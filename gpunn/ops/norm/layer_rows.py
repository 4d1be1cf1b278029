"""Layer normalisation on any array module, by what batch normalisation does: a row is a channel of one example.

CUDA: ``kernels/batch_norm.cu`` computes the statistics and gx.
"""

from __future__ import annotations

from gpunn.backend import Array, get_array_module
from gpunn.ops.norm.batch import batch_norm_backward, batch_norm_statistics


def takes(rows: Array) -> bool:
    """Whatever comes."""
    return True


def forward(rows: Array, weight: Array | None, bias: Array | None, eps: float) -> tuple[Array, Array, Array]:
    """y, and the mean and variance of each row."""
    xp = get_array_module(rows)
    mean, var = batch_norm_statistics(rows[None])
    y = rows - mean[:, None]
    y *= (1 / xp.sqrt(var + eps))[:, None]
    if weight is not None:
        y *= weight.reshape(-1)
    if bias is not None:
        y += bias.reshape(-1)
    return y, mean, var


def backward(
    gy: Array, rows: Array, mean: Array, var: Array, weight: Array | None, eps: float
) -> tuple[Array, Array, Array]:
    """The gradients of the rows, of weight and of bias."""
    g = gy if weight is None else gy * weight.reshape(-1)
    gx = batch_norm_backward(g[None], rows[None], mean, var, eps=eps)[0][0]
    xhat = (rows - mean[:, None]) / get_array_module(rows).sqrt(var + eps)[:, None]
    return gx, (gy * xhat).sum(0), gy.sum(0)
