"""Layer normalisation of float32 by oneDNN, on the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpunn import cuda
from gpunn.backend import Array
from gpunn.cpu import onednn

_SCALE_AND_SHIFT = 6
_NANOSECONDS = 0.4  # of an element, about
_LONGEST = 1 << 14  # elements of a row; the rounding of its sums grows with their number, NumPy's with the logarithm
_X, _Y, _MEAN, _VAR, _SCALE, _SHIFT = 1, 17, 49, 50, 51, 52
_GX, _GY, _GSCALE, _GSHIFT = 129, 145, 255, 256


def takes(rows: Array) -> bool:
    """True for rows of float32 on the CPU where the library is, not too long, unless kernels are emulated."""
    return rows.shape[1] <= _LONGEST and onednn.takes(rows) and not cuda.takes(rows)


def forward(rows: Array, weight: Array | None, bias: Array | None, eps: float) -> tuple[Array, Array, Array]:
    """y, and the mean and variance of each row."""
    count, size = rows.shape
    y, mean, var = np.empty(rows.shape, rows.dtype), np.empty(count, rows.dtype), np.empty(count, rows.dtype)
    if weight is None and bias is None:
        _run(_normalised, rows, eps, rows, mean, var, y)
    else:
        _run(_forward, rows, eps, rows, mean, var, _given(weight, size, 1.0), _given(bias, size, 0.0), y)
    return y, mean, var


def backward(
    gy: Array, rows: Array, mean: Array, var: Array, weight: Array | None, eps: float
) -> tuple[Array, Array, Array]:
    """The gradients of the rows, of weight and of bias."""
    gx, (gw, gb) = np.empty(rows.shape, rows.dtype), np.empty((2, rows.shape[1]), rows.dtype)
    scale = _given(weight, rows.shape[1], 1.0)
    given = (np.ascontiguousarray(a, np.float32) for a in (rows, mean, var, gy))
    _run(_backward, rows, eps, *given, scale, scale, gx, gw, gb)
    return gx, gw, gb


def _given(parameter: Array | None, size: int, otherwise: float) -> Array:
    if parameter is None:
        return np.full(size, otherwise, np.float32)
    return np.ascontiguousarray(parameter, np.float32).reshape(size)


def _run(make: Any, rows: Array, eps: float, *arrays: Array) -> None:
    onednn.run(rows.size * _NANOSECONDS, make, (*rows.shape, float(eps)), *arrays)


def _normalised(count: int, size: int, eps: float) -> onednn.Job:
    x, rows, _, own = _described(count, size, eps, flags=0)
    return onednn.Job(own, [(_X, x, False), (_MEAN, rows, True), (_VAR, rows, True), (_Y, x, True)])


def _forward(*settings: Any) -> onednn.Job:
    x, rows, columns, own = _described(*settings)
    arguments = [(_X, x, False), (_MEAN, rows, True), (_VAR, rows, True)]
    arguments += [(_SCALE, columns, False), (_SHIFT, columns, False), (_Y, x, True)]
    return onednn.Job(own, arguments)


def _backward(*settings: Any) -> onednn.Job:
    x, rows, columns, hint = _described(*settings)
    eps = settings[2]
    own = onednn.Description(
        "layer_normalization_backward", onednn.BACKWARD, x, x, x, rows, eps, _SCALE_AND_SHIFT, hint
    )
    arguments = [(_X, x, False), (_MEAN, rows, False), (_VAR, rows, False), (_GY, x, False)]
    arguments += [(_SCALE, columns, False), (_SHIFT, columns, False)]
    return onednn.Job(own, [*arguments, (_GX, x, True), (_GSCALE, columns, True), (_GSHIFT, columns, True)])


def _described(
    count: int, size: int, eps: float, flags: int = _SCALE_AND_SHIFT
) -> tuple[Any, Any, Any, onednn.Description]:
    """The layouts of the rows, of a number for each row, and for each column; the forward pass."""
    x, rows, columns = (onednn.Layout(shape) for shape in ((count, size), (count,), (size,)))
    return x, rows, columns, onednn.Description("layer_normalization_forward", onednn.FORWARD, x, x, rows, eps, flags)
