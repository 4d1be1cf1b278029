"""The layer normalisation layer; see :mod:`gpunn.ops.layer_norm` for the formula."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpunn import functional as F
from gpunn.nn.module import Module, Parameter
from gpunn.ops.window import Sizes, integer


class LayerNorm(Module):
    """Normalises each row of (..., *normalized_shape) by its own mean and variance; the shape stays.

    Parameters, of ``normalized_shape``: ``weight``, unless ``elementwise_affine=False``, and ``bias``, unless that or
    ``bias=False``.

    >>> LayerNorm(2, eps=0.0)(np.float32([[1, 3], [7, 5]])).data.tolist()
    [[-1.0, 1.0], [1.0, -1.0]]
    """

    _places = (("weight", Parameter), ("bias", Parameter))

    def __init__(
        self,
        normalized_shape: Sizes,
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        *,
        dtype: Any = np.float32,
    ) -> None:
        given = normalized_shape if isinstance(normalized_shape, tuple | list) else (normalized_shape,)
        self.normalized_shape = tuple(integer("LayerNorm", "normalized_shape", size, 1) for size in given)
        self.eps = eps
        self.weight = Parameter(np.ones(self.normalized_shape, dtype)) if elementwise_affine else None
        self.bias = Parameter(np.zeros(self.normalized_shape, dtype)) if elementwise_affine and bias else None

    def forward(self, x: Any) -> Any:
        return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)
