"""The fully connected layer, and Flatten before it."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpunn import functional as F
from gpunn.errors import ArgumentError, check
from gpunn.nn.init import uniform_fan_in
from gpunn.nn.module import Module


class Linear(Module):
    """``y = x W^T + b``, from (..., in_features) to (..., out_features).

    Parameters: ``weight`` (out_features, in_features), ``bias`` (out_features,).

    >>> import numpy as np
    >>> Linear(4, 3)(np.zeros((2, 4), np.float32)).shape
    (2, 3)
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        generator: np.random.Generator | None = None,
        dtype: Any = np.float32,
    ) -> None:
        sizes = (in_features, out_features)
        check(min(sizes) >= 1, ArgumentError, "Linear", "features must be at least 1", features=sizes)
        self.weight = uniform_fan_in((out_features, in_features), in_features, generator, dtype)
        self.bias = uniform_fan_in((out_features,), in_features, generator, dtype) if bias else None

    def forward(self, x: Any) -> Any:
        return F.linear(x, self.weight, self.bias)


class Flatten(Module):
    """(N, ...) to (N, everything else in one axis).

    >>> import numpy as np
    >>> Flatten()(np.zeros((2, 3, 4, 5))).shape
    (2, 60)
    """

    def forward(self, x: Any) -> Any:
        return x.reshape(x.shape[0], int(np.prod(x.shape[1:])))
