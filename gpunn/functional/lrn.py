"""Differentiable local response normalisation; see :mod:`gpunn.ops.lrn` for the formula."""

from __future__ import annotations

from typing import Any

from gpunn.casting import in_float32
from gpunn.functional.record import differentiable, raw
from gpunn.ops import lrn as ops
from gpunn.ops.lrn import AlphaMode


@in_float32
def local_response_norm(
    x: Any, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0, alpha_mode: AlphaMode = "mean"
) -> Any:
    """Divide each element of x (N, C, ...) by ``(k + a * sum of squares over size channels) ** beta``.

    ``alpha_mode="mean"`` takes a = alpha / size, ``"sum"`` (the AlexNet paper) a = alpha.

    >>> import numpy as np
    >>> local_response_norm(np.ones((1, 1, 1, 1)), size=5, alpha=1.0, beta=1.0, k=1.0, alpha_mode="sum").item()
    0.5
    """
    xd, settings = raw(x), (size, alpha, beta, k, alpha_mode)
    y = ops.local_response_norm(xd, *settings)
    return differentiable(y, (x,), lambda gy, _: (ops.local_response_norm_backward(gy, xd, *settings),))
