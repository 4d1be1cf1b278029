"""Differentiable layer normalisation; see :mod:`gpunn.ops.layer_norm` for the formula."""

from __future__ import annotations

from typing import Any

from gpunn.casting import in_float32
from gpunn.functional.record import differentiable, kept
from gpunn.ops import layer_norm as ops
from gpunn.ops.window import Sizes


@in_float32
def layer_norm(x: Any, normalized_shape: Sizes, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Any:
    """``weight (x - mean) / sqrt(var + eps) + bias`` for each row of x (..., *normalized_shape).

    A row is what the last axes hold; weight and bias are of ``normalized_shape``.

    >>> import numpy as np
    >>> layer_norm(np.array([[1.0, 3.0], [7.0, 5.0]]), 2, eps=0.0).tolist()
    [[-1.0, 1.0], [1.0, -1.0]]
    """
    xd, wd, bd = kept(x, weight, bias)
    y, mean, var = ops.layer_norm(xd, normalized_shape, wd, bd, eps)
    settings = (xd, mean, var, normalized_shape, wd, eps)
    return differentiable(y, (x, weight, bias), lambda gy, _: ops.layer_norm_backward(gy, *settings))
