"""Differentiable transposed convolution; see :mod:`gpunn.ops.conv_transpose` for the formula and the rules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gpunn.backend import Array
from gpunn.casting import in_half
from gpunn.functional.record import differentiable, kept
from gpunn.ops import conv_transpose as ops
from gpunn.ops.conv_nd import conv_backward_b
from gpunn.ops.window import Padding, Sizes


def conv_transpose1d(
    x: Any,
    w: Any,
    b: Any = None,
    stride: Sizes = 1,
    padding: Padding = 0,
    output_padding: Sizes = 0,
    groups: int = 1,
    dilation: Sizes = 1,
) -> Any:
    """Spread each element of x (N, C, L) over a window of y by the filters w (C, K/groups, KL), and add b (K,).

    y has ``(L - 1) * stride - 2 * padding + dilation * (KL - 1) + 1 + output_padding`` elements a channel.

    >>> import numpy as np
    >>> conv_transpose1d(np.array([[[1.0, 2.0]]]), np.array([[[1.0, 10.0]]]), stride=2).tolist()
    [[[1.0, 10.0, 2.0, 20.0]]]
    """
    return _conv_transpose(1, x, w, b, stride, padding, output_padding, groups, dilation)


def conv_transpose2d(
    x: Any,
    w: Any,
    b: Any = None,
    stride: Sizes = 1,
    padding: Padding = 0,
    output_padding: Sizes = 0,
    groups: int = 1,
    dilation: Sizes = 1,
) -> Any:
    """:func:`conv_transpose1d` for images x (N, C, H, W) and filters w (C, K/groups, KH, KW).

    >>> import numpy as np
    >>> conv_transpose2d(np.ones((1, 1, 2, 2)), np.ones((1, 1, 2, 2))).tolist()
    [[[[1.0, 2.0, 1.0], [2.0, 4.0, 2.0], [1.0, 2.0, 1.0]]]]
    """
    return _conv_transpose(2, x, w, b, stride, padding, output_padding, groups, dilation)


def conv_transpose3d(
    x: Any,
    w: Any,
    b: Any = None,
    stride: Sizes = 1,
    padding: Padding = 0,
    output_padding: Sizes = 0,
    groups: int = 1,
    dilation: Sizes = 1,
) -> Any:
    """:func:`conv_transpose1d` for volumes x (N, C, D, H, W) and filters w (C, K/groups, KD, KH, KW).

    >>> import numpy as np
    >>> conv_transpose3d(np.ones((1, 2, 3, 3, 3)), np.ones((2, 4, 2, 2, 2)), stride=2).shape
    (1, 4, 6, 6, 6)
    """
    return _conv_transpose(3, x, w, b, stride, padding, output_padding, groups, dilation)


@in_half
def _conv_transpose(rank: int, x: Any, w: Any, b: Any, *settings: Any) -> Any:
    xd, wd, bd = kept(x, w, b)

    def backward(gy: Array, needs: tuple[bool, ...]) -> Sequence[Array | None]:
        return (
            ops.conv_transpose_backward_x(rank, gy, wd, xd.shape, *settings) if needs[0] else None,
            ops.conv_transpose_backward_w(rank, gy, xd, wd.shape, *settings) if needs[1] else None,
            conv_backward_b(gy) if needs[2] else None,
        )

    return differentiable(ops.conv_transpose(rank, xd, wd, bd, *settings), (x, w, b), backward)
