"""Layers of max pooling at random steps; see :mod:`gpunn.ops.pool.fractional` for the formula."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gpunn import functional as F
from gpunn.errors import ArgumentError, check
from gpunn.functional.fractional_pool import Ratio
from gpunn.functional.record import raw
from gpunn.nn.calls import Plain
from gpunn.nn.module import Buffer
from gpunn.ops.shared.window import Sizes


class _FractionalMaxPool(Plain):
    _pool: Callable[..., Any]
    _places = (("_random_samples", Buffer),)

    def __init__(
        self,
        kernel_size: Sizes,
        output_size: Sizes | None = None,
        output_ratio: Ratio = None,
        return_indices: bool = False,
        _random_samples: Any = None,
    ) -> None:
        one = (output_size is None) != (output_ratio is None)
        rule = "either output_size or output_ratio must be given"
        check(one, ArgumentError, type(self).__name__, rule, output_size=output_size, output_ratio=output_ratio)
        self.kernel_size, self.output_size, self.output_ratio = kernel_size, output_size, output_ratio
        self.return_indices = return_indices
        self._random_samples = None if _random_samples is None else Buffer(raw(_random_samples))

    def forward(self, x: Any) -> Any:
        sizes = self.kernel_size, self.output_size, self.output_ratio
        return type(self)._pool(x, *sizes, self.return_indices, self._random_samples)


class FractionalMaxPool2d(_FractionalMaxPool):
    """The maxima of windows of (N, C, H, W) or (C, H, W) that begin at random steps, ``output_size`` of them.

    ``output_ratio`` says instead which part of H and W there are. Each call draws other steps, in evaluation too,
    unless ``_random_samples`` (N, C, 2) gives them.

    >>> import numpy as np
    >>> FractionalMaxPool2d(2, output_ratio=0.7)(np.zeros((1, 6, 10, 10), np.float32)).shape
    (1, 6, 7, 7)
    """

    _pool = F.fractional_max_pool2d


class FractionalMaxPool3d(_FractionalMaxPool):
    """:class:`FractionalMaxPool2d` of volumes (N, C, D, H, W) or (C, D, H, W).

    >>> import numpy as np
    >>> FractionalMaxPool3d(2, (3, 4, 5))(np.zeros((1, 6, 8, 8, 8), np.float32)).shape
    (1, 6, 3, 4, 5)
    """

    _pool = F.fractional_max_pool3d
