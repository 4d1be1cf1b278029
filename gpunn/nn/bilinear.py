"""The bilinear layer; see :mod:`gpunn.ops.bilinear`."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpunn import functional as F
from gpunn.errors import check_sizes
from gpunn.nn.init import uniform_fan_in
from gpunn.nn.module import Module, Parameter


class Bilinear(Module):
    """``y[n, k] = sum_ij x1[n, i] w[k, i, j] x2[n, j] + b[k]``, from (..., I) and (..., J) to (..., K).

    Parameters: ``weight`` (out_features, in1_features, in2_features), ``bias`` (out_features,).

    >>> Bilinear(4, 3, 2)(np.zeros((5, 4), np.float32), np.zeros((5, 3), np.float32)).shape
    (5, 2)
    """

    _places = (("bias", Parameter),)

    def __init__(
        self,
        in1_features: int,
        in2_features: int,
        out_features: int,
        bias: bool = True,
        *,
        generator: np.random.Generator | None = None,
        dtype: Any = np.float32,
    ) -> None:
        check_sizes("Bilinear", in1_features=in1_features, in2_features=in2_features, out_features=out_features)
        shape = (out_features, in1_features, in2_features)
        self.weight = uniform_fan_in(shape, in1_features, generator, dtype)
        self.bias = uniform_fan_in((out_features,), in1_features, generator, dtype) if bias else None

    def forward(self, x1: Any, x2: Any) -> Any:
        return F.bilinear(x1, x2, self.weight, self.bias)
