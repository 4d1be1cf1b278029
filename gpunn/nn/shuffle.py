"""Layers that exchange channels and pixels; see :mod:`gpunn.functional.shuffle`."""

from __future__ import annotations

from typing import Any

from gpunn import functional as F
from gpunn.nn.calls import Plain


class PixelShuffle(Plain):
    """Channels become pixels: (..., C r r, H, W) to (..., C, H r, W r), for r = ``upscale_factor``.

    >>> import numpy as np
    >>> PixelShuffle(2)(np.zeros((1, 8, 3, 4), np.float32)).shape
    (1, 2, 6, 8)
    """

    def __init__(self, upscale_factor: int) -> None:
        self.upscale_factor = upscale_factor

    def forward(self, x: Any) -> Any:
        return F.pixel_shuffle(x, self.upscale_factor)


class PixelUnshuffle(Plain):
    """Pixels become channels: (..., C, H r, W r) to (..., C r r, H, W), for r = ``downscale_factor``.

    >>> import numpy as np
    >>> PixelUnshuffle(2)(np.zeros((1, 2, 6, 8), np.float32)).shape
    (1, 8, 3, 4)
    """

    def __init__(self, downscale_factor: int) -> None:
        self.downscale_factor = downscale_factor

    def forward(self, x: Any) -> Any:
        return F.pixel_unshuffle(x, self.downscale_factor)


class ChannelShuffle(Plain):
    """The channels of (N, C, ...) in another order: the first of each of ``groups`` groups, then the second ...

    >>> import numpy as np
    >>> ChannelShuffle(2)(np.arange(4.0).reshape(1, 4, 1)).tolist()
    [[[0.0], [2.0], [1.0], [3.0]]]
    """

    def __init__(self, groups: int) -> None:
        self.groups = groups

    def forward(self, x: Any) -> Any:
        return F.channel_shuffle(x, self.groups)
