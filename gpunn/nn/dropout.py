"""The dropout layers; see :mod:`gpunn.ops.dropout` for the formula and for which random bits decide."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpunn import functional as F
from gpunn.nn.module import Module
from gpunn.ops.dropout import check_probability


class _Dropout(Module):
    def __init__(self, p: float = 0.5, generator: np.random.Generator | None = None) -> None:
        check_probability(type(self).__name__, p)
        self.p, self.generator = p, generator


class Dropout(_Dropout):
    """In training zeroes each element with probability ``p`` and divides the others by 1 - p; else the identity.

    >>> x = np.ones((2, 3), np.float32)
    >>> Dropout(0.5).eval()(x) is x
    True
    """

    def forward(self, x: Any) -> Any:
        return F.dropout(x, self.p, self.training, self.generator)


class Dropout2d(_Dropout):
    """:class:`Dropout` of whole channels of images (N, C, H, W): each plane is kept or zeroed as one.

    >>> y = Dropout2d(0.5)(np.ones((2, 8, 3, 3), np.float32))
    >>> set(np.unique(y.mean((2, 3)))) <= {0.0, 2.0}
    True
    """

    def forward(self, x: Any) -> Any:
        return F.dropout2d(x, self.p, self.training, self.generator)


class Dropout1d(_Dropout):
    """:class:`Dropout2d` for sequences (N, C, L).

    >>> Dropout1d(0.5)(np.ones((2, 8, 3), np.float32)).shape
    (2, 8, 3)
    """

    def forward(self, x: Any) -> Any:
        return F.dropout1d(x, self.p, self.training, self.generator)


class Dropout3d(_Dropout):
    """:class:`Dropout2d` for volumes (N, C, D, H, W).

    >>> Dropout3d(0.5)(np.ones((2, 8, 3, 2, 2), np.float32)).shape
    (2, 8, 3, 2, 2)
    """

    def forward(self, x: Any) -> Any:
        return F.dropout3d(x, self.p, self.training, self.generator)
