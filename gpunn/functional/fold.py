"""Differentiable windows as columns; see :mod:`gpunn.ops.image.fold`."""

from __future__ import annotations

from typing import Any

from gpunn.backend import check_array
from gpunn.errors import ShapeError, check
from gpunn.functional.record import X, differentiable, raw
from gpunn.ops import image as ops
from gpunn.ops.shared.checks import integers
from gpunn.ops.shared.window import Pair, window


def unfold(x: X, kernel_size: Pair, dilation: Pair = 1, padding: Pair = 0, stride: Pair = 1) -> X:
    """The windows of the images x (N, C, H, W) as columns (N, C kh kw, L), or of one image (C, H, W) as (C kh kw, L).

    A convolution is the product of its filters with these: ``w.reshape(K, -1) @ unfold(x, ...)``. The elements of a
    window are in row-major order, so are the L windows; there are as many as :func:`conv2d` makes pixels.

    >>> import numpy as np
    >>> unfold(np.arange(4.0).reshape(1, 1, 2, 2), (2, 1)).tolist()
    [[[0.0, 1.0], [2.0, 3.0]]]
    """
    xd: Any = raw(x)
    check_array("unfold", x=xd)
    batched = xd.ndim == 4
    rule = "x must have the dimensions (N, C, H, W) or (C, H, W), with elements"
    check(batched or xd.ndim == 3, ShapeError, "unfold", rule, shape=xd.shape)
    check(0 not in xd.shape[-3:], ShapeError, "unfold", rule, shape=xd.shape)
    win, image = window("unfold", kernel_size, stride, padding, dilation), xd.shape[-2:]

    def backward(gy: Any, _: Any) -> Any:
        return (ops.fold(gy if batched else gy[None], win, image, "unfold_backward").reshape(xd.shape),)

    y = ops.unfold(xd if batched else xd[None], win)
    return differentiable(y if batched else y[0], (x,), backward)


def fold(x: X, output_size: Pair, kernel_size: Pair, dilation: Pair = 1, padding: Pair = 0, stride: Pair = 1) -> X:
    """The columns x (N, C kh kw, L) added up to images (N, C, *output_size): what overlaps is summed.

    One image is (C kh kw, L). It is the gradient of :func:`unfold`, not its inverse: ``fold(unfold(x))`` counts each
    pixel as often as windows have it.

    >>> import numpy as np
    >>> fold(np.array([[[0.0, 1.0], [2.0, 3.0]]]), (2, 2), (2, 1)).tolist()
    [[[[0.0, 1.0], [2.0, 3.0]]]]
    """
    xd: Any = raw(x)
    check_array("fold", x=xd)
    batched = xd.ndim == 3
    rule = "x must have the dimensions (N, C kh kw, L) or (C kh kw, L)"
    check(batched or xd.ndim == 2, ShapeError, "fold", rule, shape=xd.shape)
    image = integers("fold", "output_size", output_size, 1, 2)
    win = window("fold", kernel_size, stride, padding, dilation)

    def backward(gy: Any, _: Any) -> Any:
        return (ops.unfold(gy if batched else gy[None], win, "fold_backward").reshape(xd.shape),)

    y = ops.fold(xd if batched else xd[None], win, image)
    return differentiable(y if batched else y[0], (x,), backward)
