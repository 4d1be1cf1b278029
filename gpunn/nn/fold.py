"""Layers of windows as columns; see :func:`gpunn.functional.unfold` and :func:`gpunn.functional.fold`."""

from __future__ import annotations

from typing import Any

from gpunn import functional as F
from gpunn.nn.calls import Plain
from gpunn.ops.shared.window import Pair


class Unfold(Plain):
    """The windows of images (N, C, H, W) as columns (N, C kh kw, L).

    >>> import numpy as np
    >>> Unfold(3, padding=1)(np.zeros((1, 2, 4, 5), np.float32)).shape
    (1, 18, 20)
    """

    def __init__(self, kernel_size: Pair, dilation: Pair = 1, padding: Pair = 0, stride: Pair = 1) -> None:
        self.kernel_size, self.dilation, self.padding, self.stride = kernel_size, dilation, padding, stride

    def forward(self, x: Any) -> Any:
        return F.unfold(x, self.kernel_size, self.dilation, self.padding, self.stride)


class Fold(Plain):
    """Columns (N, C kh kw, L) added up to images (N, C, *output_size).

    >>> import numpy as np
    >>> Fold((4, 5), 3, padding=1)(np.zeros((1, 18, 20), np.float32)).shape
    (1, 2, 4, 5)
    """

    def __init__(
        self, output_size: Pair, kernel_size: Pair, dilation: Pair = 1, padding: Pair = 0, stride: Pair = 1
    ) -> None:
        self.output_size, self.kernel_size = output_size, kernel_size
        self.dilation, self.padding, self.stride = dilation, padding, stride

    def forward(self, x: Any) -> Any:
        return F.fold(x, self.output_size, self.kernel_size, self.dilation, self.padding, self.stride)
