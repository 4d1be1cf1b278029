"""The local response normalisation layer; see :mod:`gpunn.ops.lrn` for the formula."""

from __future__ import annotations

from typing import Any

from gpunn import functional as F
from gpunn.nn.module import Module
from gpunn.ops.lrn import AlphaMode


class LocalResponseNorm(Module):
    """Normalises each element by its ``size`` neighbours across channels; the shape stays.

    The layer of the AlexNet paper is ``LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=2.0, alpha_mode="sum")``.

    >>> import numpy as np
    >>> LocalResponseNorm(5)(np.zeros((1, 96, 27, 27), np.float32)).shape
    (1, 96, 27, 27)
    """

    def __init__(
        self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0, alpha_mode: AlphaMode = "mean"
    ) -> None:
        self.size, self.alpha, self.beta, self.k = size, alpha, beta, k
        self.alpha_mode: AlphaMode = alpha_mode

    def forward(self, x: Any) -> Any:
        return F.local_response_norm(x, self.size, self.alpha, self.beta, self.k, self.alpha_mode)
