"""Differentiable convolution; see :mod:`gpunn.ops.conv` for the formula and the rules.

An x without the axis N of the batch gives a y without it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gpunn.backend import Array
from gpunn.casting import in_half
from gpunn.functional.record import Input, Y, alone, differentiable, kept
from gpunn.ops import conv as ops
from gpunn.ops.conv import transpose as transposed
from gpunn.ops.shared.checks import shapes_of
from gpunn.ops.shared.window import Padding, Pair, Sizes


def conv1d(
    x: Input[Y],
    w: Input[Y],
    b: Input[Y] | None = None,
    stride: Sizes = 1,
    padding: Padding = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> Y:
    """Convolve the signals x (N, C, L) with the filters w (K, C/groups, KL) and add b (K,).

        y[n, k, i] = b[k] + sum over c and s of x[n, c, stride i + dilation s - padding] w[k, c, s]

    x counts as 0 outside; y has ``floor((L + 2 padding - dilation (KL - 1) - 1) / stride) + 1`` elements a channel.

    ``padding`` is an integer, ``((before, after),)``, ``"same"`` or ``"valid"``.

    >>> import numpy as np
    >>> conv1d(np.arange(4.0).reshape(1, 1, 4), np.ones((1, 1, 3)), padding="same").tolist()
    [[[1.0, 3.0, 6.0, 5.0]]]
    """
    return _conv(conv1d, 1, x, w, b, stride, padding, dilation, groups)


def conv2d(
    x: Input[Y],
    w: Input[Y],
    b: Input[Y] | None = None,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: int = 1,
) -> Y:
    """Convolve the images x (N, C, H, W) with the filters w (K, C/groups, KH, KW) and add b (K,).

        y[n, k, i, j] = b[k] + sum over c, r, s of x[n, c, stride i + dilation r - padding, (j, s alike)] w[k, c, r, s]

    x counts as 0 outside; y has ``floor((H + 2 padding - dilation (KH - 1) - 1) / stride) + 1`` rows, columns alike.

    ``padding`` is an integer, a pair, ``((top, bottom), (left, right))``, ``"same"`` or ``"valid"``.

    >>> import numpy as np
    >>> conv2d(np.ones((1, 1, 2, 2)), np.ones((1, 1, 2, 2)), np.array([0.5])).tolist()
    [[[[4.5]]]]
    """
    return _conv(conv2d, 2, x, w, b, stride, padding, dilation, groups)


def conv3d(
    x: Input[Y],
    w: Input[Y],
    b: Input[Y] | None = None,
    stride: Sizes = 1,
    padding: Padding = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> Y:
    """:func:`conv2d` of the volumes x (N, C, D, H, W) with the filters w (K, C/groups, KD, KH, KW) and b (K,).

    ``padding`` is an integer, three of them, three pairs (before, after), ``"same"`` or ``"valid"``.

    >>> import numpy as np
    >>> conv3d(np.ones((1, 1, 2, 2, 2)), np.ones((1, 1, 2, 2, 2)), np.array([0.5])).tolist()
    [[[[[8.5]]]]]
    """
    return _conv(conv3d, 3, x, w, b, stride, padding, dilation, groups)


@in_half
def _conv(itself: Callable[..., Any], rank: int, x: Any, w: Any, b: Any, *settings: Any) -> Any:
    xd, wd, bd = kept(x, w, b)
    shapes = shapes_of(f"conv{rank}d", x=xd, w=wd)
    if len(shapes[0]) == rank + 1:
        return alone(itself, x, w, b, *settings)
    plan = ops.plan(rank, *shapes, *settings)

    def backward(gy: Array, needs: tuple[bool, ...]) -> Sequence[Array | None]:
        return (
            ops.backward_x(plan, gy, wd) if needs[0] else None,
            ops.backward_w(plan, gy, xd) if needs[1] else None,
            ops.backward_b(gy) if needs[2] else None,
        )

    return differentiable(ops.forward(plan, xd, wd, bd), (x, w, b), backward)


def conv_transpose1d(
    x: Input[Y],
    w: Input[Y],
    b: Input[Y] | None = None,
    stride: Sizes = 1,
    padding: Padding = 0,
    output_padding: Sizes = 0,
    groups: int = 1,
    dilation: Sizes = 1,
) -> Y:
    """Spread each element of x (N, C, L) over a window of y by the filters w (C, K/groups, KL), and add b (K,).

    y has ``(L - 1) * stride - 2 * padding + dilation * (KL - 1) + 1 + output_padding`` elements a channel.

    >>> import numpy as np
    >>> conv_transpose1d(np.array([[[1.0, 2.0]]]), np.array([[[1.0, 10.0]]]), stride=2).tolist()
    [[[1.0, 10.0, 2.0, 20.0]]]
    """
    return _conv_transpose(conv_transpose1d, 1, x, w, b, stride, padding, output_padding, groups, dilation)


def conv_transpose2d(
    x: Input[Y],
    w: Input[Y],
    b: Input[Y] | None = None,
    stride: Sizes = 1,
    padding: Padding = 0,
    output_padding: Sizes = 0,
    groups: int = 1,
    dilation: Sizes = 1,
) -> Y:
    """:func:`conv_transpose1d` for images x (N, C, H, W) and filters w (C, K/groups, KH, KW).

    >>> import numpy as np
    >>> conv_transpose2d(np.ones((1, 1, 2, 2)), np.ones((1, 1, 2, 2))).tolist()
    [[[[1.0, 2.0, 1.0], [2.0, 4.0, 2.0], [1.0, 2.0, 1.0]]]]
    """
    return _conv_transpose(conv_transpose2d, 2, x, w, b, stride, padding, output_padding, groups, dilation)


def conv_transpose3d(
    x: Input[Y],
    w: Input[Y],
    b: Input[Y] | None = None,
    stride: Sizes = 1,
    padding: Padding = 0,
    output_padding: Sizes = 0,
    groups: int = 1,
    dilation: Sizes = 1,
) -> Y:
    """:func:`conv_transpose1d` for volumes x (N, C, D, H, W) and filters w (C, K/groups, KD, KH, KW).

    >>> import numpy as np
    >>> conv_transpose3d(np.ones((1, 2, 3, 3, 3)), np.ones((2, 4, 2, 2, 2)), stride=2).shape
    (1, 4, 6, 6, 6)
    """
    return _conv_transpose(conv_transpose3d, 3, x, w, b, stride, padding, output_padding, groups, dilation)


@in_half
def _conv_transpose(itself: Callable[..., Any], rank: int, x: Any, w: Any, b: Any, *settings: Any) -> Any:
    xd, wd, bd = kept(x, w, b)
    shapes = shapes_of(f"conv_transpose{rank}d", x=xd, w=wd)
    if len(shapes[0]) == rank + 1:
        return alone(itself, x, w, b, *settings)
    plan = transposed.plan(rank, *shapes, *settings)

    def backward(gy: Array, needs: tuple[bool, ...]) -> Sequence[Array | None]:
        return (
            transposed.backward_x(plan, gy, wd) if needs[0] else None,
            transposed.backward_w(plan, gy, xd) if needs[1] else None,
            ops.backward_b(gy) if needs[2] else None,
        )

    return differentiable(transposed.forward(plan, xd, wd, bd), (x, w, b), backward)
