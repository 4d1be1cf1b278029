"""Local response normalisation across channels, forward and backward.

    s[c] = k + a * sum_{j=c-size//2}^{c+(size-1)//2} x[j]^2        y[c] = x[c] / s[c]^beta

over the channels 0..C-1 that exist; x and y are (N, C, ...). ``alpha_mode="mean"`` takes a = alpha / size (PyTorch,
Caffe, ONNX), ``"sum"`` takes a = alpha. Source: Krizhevsky et al. 2012, "ImageNet classification with deep
convolutional neural networks", section 3.3 (k=2, size=5, alpha=1e-4, beta=0.75, "sum").

CUDA: ``kernels/lrn.cu``. Without it: the squares are added over shifted views of the channels.
"""

from __future__ import annotations

from math import prod
from typing import Any, Literal

import numpy as np

from gpunn import cuda
from gpunn.backend import Array, accumulation_dtype, operands
from gpunn.errors import ArgumentError, ShapeError, check, check_number
from gpunn.ops.vector import vector
from gpunn.ops.window import check_shape, integer

AlphaMode = Literal["mean", "sum"]


def local_response_norm(
    x: Array, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0, alpha_mode: AlphaMode = "mean"
) -> Array:
    """Normalise each element by the squares of its ``size`` neighbours across channels.

    >>> x = np.ones((1, 3, 1, 1))
    >>> local_response_norm(x, size=3, alpha=1.0, beta=1.0, k=0.0, alpha_mode="sum").ravel().round(4).tolist()
    [0.5, 0.3333, 0.5]
    """
    xp = operands("local_response_norm", x=x)
    a = effective_alpha("local_response_norm", x, size, alpha, beta, k, alpha_mode)
    if cuda.takes(x):
        y = xp.empty(x.shape, x.dtype)
        _launch("lrn_forward", size, [xp.ascontiguousarray(x), y], a, beta, k)
        return y
    wide = x.astype(accumulation_dtype(x.dtype), copy=False)
    return (wide * _scale(xp, wide, size, a, k) ** -beta).astype(x.dtype, copy=False)


def local_response_norm_backward(
    gy: Array,
    x: Array,
    size: int,
    alpha: float = 1e-4,
    beta: float = 0.75,
    k: float = 1.0,
    alpha_mode: AlphaMode = "mean",
) -> Array:
    """The gradient with respect to x:

    gx[i] = gy[i] s[i]^-beta - 2 a beta x[i] * sum over the c whose window holds i of gy[c] x[c] s[c]^(-beta-1)
    """
    op = "local_response_norm_backward"
    xp = operands(op, gy=gy, x=x)
    a = effective_alpha(op, x, size, alpha, beta, k, alpha_mode)
    check_shape(op, "gy", gy, x.shape)
    if cuda.takes(x):
        gx = xp.empty(x.shape, x.dtype)
        _launch("lrn_backward", size, [xp.ascontiguousarray(gy), xp.ascontiguousarray(x), gx], a, beta, k)
        return gx
    wide = x.astype(accumulation_dtype(x.dtype), copy=False)
    s = _scale(xp, wide, size, a, k)
    direct = gy * s**-beta
    # Channel i lies in the windows of the channels i - right ... i + left: the mirrored window.
    shared = _channel_sum(xp, direct * wide / s, before=(size - 1) // 2, after=size // 2)
    return (direct - 2 * a * beta * wide * shared).astype(x.dtype, copy=False)


def effective_alpha(op: str, x: Array, size: int, alpha: float, beta: float, k: float, alpha_mode: str) -> float:
    """The factor a of the squares; checks the arguments of both directions."""
    check(x.ndim >= 2, ShapeError, op, "x must have at least the 2 dimensions (N, C)", shape=x.shape)
    integer(op, "size", size, 1)
    check_number(op, alpha=alpha, beta=beta, k=k)
    check(alpha >= 0 and k >= 0, ArgumentError, op, "alpha and k must be at least 0", alpha=alpha, k=k)
    check(alpha_mode in ("mean", "sum"), ArgumentError, op, 'alpha_mode must be "mean" or "sum"', alpha_mode=alpha_mode)
    return alpha / size if alpha_mode == "mean" else alpha


# ---- without the kernel ---------------------------------------------------------------------------------------------


def _scale(xp: Any, x: Array, size: int, a: float, k: float) -> Array:
    return k + a * _channel_sum(xp, x * x, before=size // 2, after=(size - 1) // 2)


def _channel_sum(xp: Any, v: Array, before: int, after: int) -> Array:
    """The sum over channels c - before ... c + after, at each channel c."""
    channels = v.shape[1]
    total = v.copy()
    for shift in range(1, min(before, channels - 1) + 1):
        total[:, shift:] += v[:, :-shift]
    for shift in range(1, min(after, channels - 1) + 1):
        total[:, :-shift] += v[:, shift:]
    return total


# ---- with the kernel ------------------------------------------------------------------------------------------------

_THREADS = 128
_ENOUGH_THREADS = 1 << 17  # with 16 bytes a thread under way, what it takes to fill the memory of a large GPU
_WIDEST_VECTOR_SIZE = 7  # three windows of more than 7 vectors leave the registers
ROOTS = {0.75: 75, 0.5: 50}  # the macro BETA of exponents that need roots alone


def _launch(kernel: str, size: int, arrays: list[Array], a: float, beta: float, k: float) -> None:
    x = arrays[0]
    (n, c), pixels = x.shape[:2], prod(x.shape[2:])
    if x.size == 0:
        return
    index = cuda.index_type(x.size)
    together = vector(pixels, *arrays) if size <= _WIDEST_VECTOR_SIZE else 1
    macros: dict[str, str | int] = {
        "DTYPE": cuda.c_type(x),
        "INDEX": index,
        "SIZE": size,
        "BETA": ROOTS.get(beta, 0),
        "VECTOR": together,
    }
    threads = n * pixels // together
    per_part = channels_per_part(threads, c, size)
    image = np.int32(pixels) if index == "int" else np.int64(pixels)
    scalars = [*map(np.int32, (n, c, per_part)), image, *map(x.dtype.type, (a, beta, k))]
    grid = (-(-threads // _THREADS), -(-c // per_part))
    cuda.launch("lrn.cu", kernel, macros, grid, (_THREADS,), [*arrays, *scalars])


def channels_per_part(threads: int, channels: int, size: int) -> int:
    """The channels that a thread walks over: all, unless there are too few threads at one for each vector of pixels.

    At least 4 windows: what a part reads beyond its own channels stays a quarter of them.

    >>> channels_per_part(1 << 20, 96, 5), channels_per_part(1 << 16, 96, 5), channels_per_part(64, 96, 5)
    (96, 48, 24)
    """
    parts = min(-(-_ENOUGH_THREADS // threads), channels // (4 * size), 65535)  # 65535: the most that a grid takes
    return -(-channels // max(parts, 1))
