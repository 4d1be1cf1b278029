"""The layers of alpha dropout; see :mod:`gpunn.ops.dropout.alpha` for the formula."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpunn import functional as F
from gpunn.nn.calls import Plain
from gpunn.ops.dropout import check_probability


class AlphaDropout(Plain):
    """In training drops each element with probability ``p``, so that mean 0 and variance 1 stay; else the identity.

    It is for networks with :class:`gpunn.nn.SELU`. ``inplace`` has no effect.

    >>> x = np.ones((2, 3), np.float32)
    >>> AlphaDropout(0.5).eval()(x) is x
    True
    """

    def __init__(self, p: float = 0.5, inplace: bool = False, *, generator: np.random.Generator | None = None) -> None:
        check_probability(type(self).__name__, p)
        self.p, self.generator = p, generator

    def forward(self, x: Any) -> Any:
        return F.alpha_dropout(x, self.p, self.training, generator=self.generator)


class FeatureAlphaDropout(AlphaDropout):
    """:class:`AlphaDropout` of whole channels of (N, C, ...): each is kept or dropped as one.

    >>> y = FeatureAlphaDropout(0.5)(np.ones((2, 8, 3), np.float32))
    >>> np.ptp(y, 2).any()
    np.False_
    """

    def forward(self, x: Any) -> Any:
        return F.feature_alpha_dropout(x, self.p, self.training, generator=self.generator)
