"""The dropout layers; see :mod:`gpunn.ops.dropout` for the formula and for which random bits decide.

``inplace`` is taken because PyTorch has it, and changes nothing: the input stays as it is.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gpunn import functional as F
from gpunn.nn.calls import Plain
from gpunn.ops.dropout import check_flag, check_probability


class _Dropout(Plain):
    def __init__(self, p: float = 0.5, inplace: bool = False, *, generator: np.random.Generator | None = None) -> None:
        check_probability(type(self).__name__, p)
        check_flag(type(self).__name__, inplace)
        self.p, self.inplace, self.generator = p, inplace, generator


class Dropout(_Dropout):
    """In training zeroes each element with probability ``p`` and divides the others by 1 - p; else the identity.

    >>> x = np.ones((2, 3), np.float32)
    >>> Dropout(0.5).eval()(x) is x
    True
    """

    def forward(self, x: Any) -> Any:
        return F.dropout(x, self.p, self.training, generator=self.generator)


class Dropout2d(_Dropout):
    """:class:`Dropout` of whole channels of images (N, C, H, W): each plane is kept or zeroed as one.

    An input of 3 dimensions is (N, C, L), as in PyTorch, and not one image.

    >>> y = Dropout2d(0.5)(np.ones((2, 8, 3, 3), np.float32))
    >>> set(np.unique(y.mean((2, 3)))) <= {0.0, 2.0}
    True
    """

    def forward(self, x: Any) -> Any:
        return F.dropout2d(x, self.p, self.training, generator=self.generator)


class Dropout1d(_Dropout):
    """:class:`Dropout2d` for sequences (N, C, L), or one (C, L).

    >>> Dropout1d(0.5)(np.ones((2, 8, 3), np.float32)).shape
    (2, 8, 3)
    """

    def forward(self, x: Any) -> Any:
        return F.dropout1d(x, self.p, self.training, generator=self.generator)


class Dropout3d(_Dropout):
    """:class:`Dropout2d` for volumes (N, C, D, H, W), or one (C, D, H, W).

    >>> Dropout3d(0.5)(np.ones((2, 8, 3, 2, 2), np.float32)).shape
    (2, 8, 3, 2, 2)
    """

    def forward(self, x: Any) -> Any:
        return F.dropout3d(x, self.p, self.training, generator=self.generator)
