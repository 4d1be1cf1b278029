"""The windows of signals, images or volumes as columns, and columns added up to images, forward and backward.

    unfold   y[n, (c, k), l] = x[n, c, place of element k of window l]                  0 in the padding
    fold     y[n, c, p] = sum of x[n, (c, k), l] over the elements k of windows l that lie at p

x is (N, C, *image), the columns are (N, C K, L): channels and elements of a window, both in row-major order, by the
number of the window. Each is the gradient of the other. float16 is summed in float32. Source: Chellapilla, Puri and
Simard 2006, "High performance convolutional neural networks for document processing".
"""

from __future__ import annotations

from math import prod

from gpunn.backend import Array, accumulation_dtype, operands
from gpunn.errors import ShapeError, check
from gpunn.ops.shared.checks import Size, check_shape
from gpunn.ops.shared.window import Window, output_size


def unfold(x: Array, window: Window, op: str = "unfold") -> Array:
    """The windows of x (N, C, *image) as columns (N, C K, L).

    >>> import numpy as np
    >>> unfold(np.array([[[1.0, 2.0, 3.0]]]), Window((2,), (1,), ((0, 0),), (1,))).tolist()
    [[[1.0, 2.0], [2.0, 3.0]]]
    """
    xp, image = operands(op, x=x), x.shape[2:]
    out, taps = output_size(op, image, window), prod(window.kernel)
    padded = xp.zeros((*x.shape[:2], *window.reach(image, out)), x.dtype)
    window.crop(padded, image)[...] = x
    y = xp.empty((*x.shape[:2], taps, *out), x.dtype)
    for tap, view in enumerate(window.views(padded, out)):
        y[:, :, tap] = view
    return y.reshape(x.shape[0], x.shape[1] * taps, prod(out))


def fold(x: Array, window: Window, image: Size, op: str = "fold") -> Array:
    """The columns x (N, C K, L) added up to (N, C, *image), each element where its window has it.

    >>> import numpy as np
    >>> fold(np.array([[[1.0, 2.0], [2.0, 3.0]]]), Window((2,), (1,), ((0, 0),), (1,)), (3,)).tolist()
    [[[1.0, 4.0, 3.0]]]

    Raises ShapeError unless x has channels in whole windows, and as many columns as the image has windows.
    """
    xp, out, taps = operands(op, x=x), output_size(op, image, window), prod(window.kernel)
    whole = x.ndim == 3 and x.shape[1] % taps == 0
    check(whole, ShapeError, op, f"x must be (N, C K, L) with K = {taps} elements a window", shape=x.shape)
    channels = x.shape[1] // taps
    check_shape(op, "x", x, (len(x), channels * taps, prod(out)))
    columns = x.reshape(len(x), channels, taps, *out)
    padded = xp.zeros((len(x), channels, *window.reach(image, out)), accumulation_dtype(x.dtype))
    for tap, view in enumerate(window.views(padded, out)):
        view += columns[:, :, tap]
    return xp.ascontiguousarray(window.crop(padded, image)).astype(x.dtype, copy=False)
