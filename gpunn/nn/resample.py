"""Layers that make images larger or smaller; see :func:`gpunn.functional.interpolate`."""

from __future__ import annotations

from typing import Any

from gpunn import functional as F
from gpunn.nn.calls import Plain
from gpunn.ops.resample import Factors, Mode, Sizes


class Upsample(Plain):
    """Signals, images or volumes (N, C, ...) with another ``size``, or ``scale_factor`` times as large.

    ``mode``, ``align_corners`` and ``recompute_scale_factor`` are those of :func:`gpunn.functional.interpolate`.

    >>> import numpy as np
    >>> Upsample(scale_factor=2, mode="bilinear")(np.zeros((1, 3, 4, 5), np.float32)).shape
    (1, 3, 8, 10)
    """

    def __init__(
        self,
        size: Sizes = None,
        scale_factor: Factors = None,
        mode: Mode = "nearest",
        align_corners: bool | None = None,
        recompute_scale_factor: bool | None = None,
    ) -> None:
        self.size, self.scale_factor, self.mode = size, scale_factor, mode
        self.align_corners, self.recompute_scale_factor = align_corners, recompute_scale_factor

    def forward(self, x: Any) -> Any:
        return F.interpolate(
            x, self.size, self.scale_factor, self.mode, self.align_corners, self.recompute_scale_factor
        )


class UpsamplingNearest2d(Upsample):
    """Images (N, C, H, W) enlarged by repeating pixels.

    >>> import numpy as np
    >>> UpsamplingNearest2d(scale_factor=2)(np.array([[[[1.0, 2.0]]]])).tolist()
    [[[[1.0, 1.0, 2.0, 2.0], [1.0, 1.0, 2.0, 2.0]]]]
    """

    def __init__(self, size: Sizes = None, scale_factor: Factors = None) -> None:
        super().__init__(size, scale_factor, "nearest")


class UpsamplingBilinear2d(Upsample):
    """Images (N, C, H, W) enlarged by straight lines between the pixels, the outermost on the outermost.

    >>> import numpy as np
    >>> UpsamplingBilinear2d((1, 3))(np.array([[[[1.0, 2.0]]]])).tolist()
    [[[[1.0, 1.5, 2.0]]]]
    """

    def __init__(self, size: Sizes = None, scale_factor: Factors = None) -> None:
        super().__init__(size, scale_factor, "bilinear", align_corners=True)
