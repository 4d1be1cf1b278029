"""Differentiable convolution; see :mod:`gpunn.ops.conv` for the formula and the rules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gpunn.backend import Array
from gpunn.functional.record import differentiable, raw
from gpunn.ops import conv as ops
from gpunn.ops.window import Padding, Pair


def conv2d(
    x: Any, w: Any, b: Any = None, stride: Pair = 1, padding: Padding = 0, dilation: Pair = 1, groups: int = 1
) -> Any:
    """Convolve the images x (N, C, H, W) with the filters w (K, C/groups, KH, KW) and add b (K,).

    ``padding`` is an integer, a pair, ``((top, bottom), (left, right))``, ``"same"`` or ``"valid"``.

    >>> import numpy as np
    >>> conv2d(np.ones((1, 1, 2, 2)), np.ones((1, 1, 2, 2)), np.array([0.5])).tolist()
    [[[[4.5]]]]
    """
    xd, wd, bd = raw(x), raw(w), raw(b)
    settings = (stride, padding, dilation, groups)

    def backward(gy: Array, needs: tuple[bool, ...]) -> Sequence[Array | None]:
        return (
            ops.conv2d_backward_x(gy, wd, xd.shape, *settings) if needs[0] else None,
            ops.conv2d_backward_w(gy, xd, wd.shape, *settings) if needs[1] else None,
            ops.conv2d_backward_b(gy) if needs[2] else None,
        )

    return differentiable(ops.conv2d(xd, wd, bd, *settings), (x, w, b), backward)
