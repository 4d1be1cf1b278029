"""Differentiable exchanges of channels and pixels: reshapes and transpositions."""

from __future__ import annotations

from math import prod
from typing import Any

from gpunn.backend import check_array
from gpunn.errors import ShapeError, check
from gpunn.functional.record import X, raw
from gpunn.ops.shared.checks import integer
from gpunn.tensor import Tensor


def pixel_shuffle(x: X, upscale_factor: int) -> X:
    """Channels become pixels: (..., C r r, H, W) to (..., C, H r, W r), for r = ``upscale_factor``.

        y[..., c, h r + i, w r + j] = x[..., (c r + i) r + j, h, w]

    Source: Shi et al. 2016, "Real-time single image and video super-resolution using an efficient sub-pixel
    convolutional neural network".

    >>> import numpy as np
    >>> pixel_shuffle(np.arange(4.0).reshape(1, 4, 1, 1), 2).tolist()
    [[[[0.0, 1.0], [2.0, 3.0]]]]
    """
    op, image = "pixel_shuffle", _images("pixel_shuffle", x)
    r = integer(op, "upscale_factor", upscale_factor, 1)
    *_, channels, height, width = image.shape
    rule = "upscale_factor**2 must divide the channels"
    check(channels % r**2 == 0, ShapeError, op, rule, upscale_factor=r, channels=channels)
    y = image.reshape(prod(image.shape[:-3]), channels // r**2, r, r, height, width).transpose((0, 1, 4, 2, 5, 3))
    return y.reshape(*image.shape[:-3], channels // r**2, height * r, width * r)


def pixel_unshuffle(x: X, downscale_factor: int) -> X:
    """Pixels become channels, the inverse of :func:`pixel_shuffle`: (..., C, H r, W r) to (..., C r r, H, W).

    >>> import numpy as np
    >>> pixel_unshuffle(np.arange(4.0).reshape(1, 1, 2, 2), 2).tolist()
    [[[[0.0]], [[1.0]], [[2.0]], [[3.0]]]]
    """
    op, image = "pixel_unshuffle", _images("pixel_unshuffle", x)
    r = integer(op, "downscale_factor", downscale_factor, 1)
    *_, channels, height, width = image.shape
    whole = height % r == width % r == 0
    check(whole, ShapeError, op, "downscale_factor must divide H and W", downscale_factor=r, shape=image.shape)
    y = image.reshape(prod(image.shape[:-3]), channels, height // r, r, width // r, r).transpose((0, 1, 3, 5, 2, 4))
    return y.reshape(*image.shape[:-3], channels * r**2, height // r, width // r)


def channel_shuffle(x: X, groups: int) -> X:
    """The channels of x (N, C, ...) in another order: the first of each of ``groups`` groups, then the second ...

    Source: Zhang et al. 2018, "ShuffleNet: an extremely efficient convolutional neural network for mobile devices".

    >>> import numpy as np
    >>> channel_shuffle(np.arange(4.0).reshape(1, 4, 1), 2).tolist()
    [[[0.0], [2.0], [1.0], [3.0]]]
    """
    op, batch = "channel_shuffle", _checked("channel_shuffle", x, 3, "(N, C, ...)")
    groups = integer(op, "groups", groups, 1)
    examples, channels, *rest = batch.shape
    check(channels % groups == 0, ShapeError, op, "groups must divide the channels", groups=groups, channels=channels)
    y = batch.reshape(examples, groups, channels // groups, *rest)
    return y.swapaxes(1, 2).reshape(examples, channels, *rest)


def _images(op: str, x: Any) -> Any:
    return _checked(op, x, 3, "(..., C, H, W)")


def _checked(op: str, x: Any, least: int, axes: str) -> Any:
    """x, an array or a Tensor with dimensions enough."""
    check_array(op, x=raw(x))
    check(x.ndim >= least, ShapeError, op, f"x must have the dimensions {axes}", shape=x.shape)
    return x if isinstance(x, Tensor) else raw(x)
