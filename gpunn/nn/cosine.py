"""The cosine similarity layer; see :mod:`gpunn.ops.cosine` for the formula."""

from __future__ import annotations

from typing import Any

from gpunn import functional as F
from gpunn.nn.module import Module


class CosineSimilarity(Module):
    """The cosines of the angles between the vectors of two arrays along ``axis``.

    >>> import numpy as np
    >>> CosineSimilarity()(np.array([[3.0, 0.0]]), np.array([[5.0, 0.0]])).tolist()
    [1.0]
    """

    def __init__(self, axis: int = 1, eps: float = 1e-8) -> None:
        self.axis, self.eps = axis, eps

    def forward(self, x1: Any, x2: Any) -> Any:
        return F.cosine_similarity(x1, x2, self.axis, self.eps)
