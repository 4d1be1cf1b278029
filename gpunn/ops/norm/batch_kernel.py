"""Batch normalisation by ``kernels/batch_norm.cu``."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from gpunn import cuda
from gpunn.backend import Array, get_array_module
from gpunn.ops.norm.affine import Affine
from gpunn.ops.shared.vector import vector


def takes(x: Array) -> bool:
    """True where kernels run, for arrays that hold something."""
    return x.size > 0 and cuda.takes(x)


def statistics(x: Array) -> tuple[Array, Array]:
    """Mean and biased variance of each channel."""
    return _reduce("batch_norm_statistics", [get_array_module(x).ascontiguousarray(x)], [])


def apply(x: Array, affine: Affine, relu: bool) -> Array:
    """``scale (x - mean) + shift``, cut off at 0 if ``relu``."""
    xp = get_array_module(x)
    y = xp.empty(x.shape, x.dtype)
    _launch("batch_norm_apply", [xp.ascontiguousarray(x), y], list(affine[:3]), relu)
    return y


def backward(gy: Array, x: Array, affine: Affine, relu: bool, training: bool) -> tuple[Array, Array, Array]:
    """gx and the sums, as :func:`gpunn.ops.norm.batch_sums.backward` has them."""
    xp = get_array_module(x)
    gy, x = xp.ascontiguousarray(gy), xp.ascontiguousarray(x)
    sum_g, sum_gx = _reduce("batch_norm_sums", [gy, x], list(affine[:3]), relu)
    gx = xp.empty(x.shape, x.dtype)
    passed = affine.through(sum_g, sum_gx, x.size // x.shape[1], training)
    _launch("batch_norm_backward_x", [gy, x, gx], [*affine[:3], *passed], relu)
    return gx, sum_g, sum_gx


_THREADS = 256
_BLOCKS = 1024  # enough for the largest GPUs at 8 blocks a multiprocessor
_PACKS = 8  # the least that is worth a thread: below it, starting and merging the threads costs more


def _launch(kernel: str, arrays: list[Array], per_channel: list[Array], relu: bool) -> None:
    macros, sizes, (blocks, slices) = _specialised(arrays, relu)
    cuda.launch("batch_norm.cu", kernel, macros, (blocks, slices), (_THREADS,), [*arrays, *per_channel, *sizes])


def _reduce(kernel: str, arrays: list[Array], per_channel: list[Array], relu: bool = False) -> tuple[Array, Array]:
    """Two values of each channel, (C,), from those of the slices of it."""
    macros, sizes, (blocks, slices) = _specialised(arrays, relu)
    xp, channels, dtype = get_array_module(arrays[0]), arrays[0].shape[1], arrays[0].dtype
    first, second = xp.empty((slices, channels), dtype), xp.empty((slices, channels), dtype)
    args = [*arrays, *per_channel, first, second, *sizes]
    cuda.launch("batch_norm.cu", kernel, macros, (blocks, slices), (_THREADS,), args)
    if slices == 1:
        return first[0], second[0]
    merged = xp.empty(channels, dtype), xp.empty(channels, dtype)
    args = [first, second, *merged, *sizes, np.int32(slices)]
    cuda.launch("batch_norm.cu", f"{kernel}_merge", macros, (blocks,), (_THREADS,), args)
    return merged


def _specialised(arrays: list[Array], relu: bool) -> tuple[dict[str, str | int], list[Any], tuple[int, int]]:
    """Macros, the arguments N, C and image, and the grid (groups of channels, slices), from shape and alignment."""
    x = arrays[0]
    n, channels, image = x.shape[0], x.shape[1], prod(x.shape[2:])
    together = 1 if image >= 8 else 32  # below 8 elements (32 bytes) a run of one channel wastes part of each access
    pack = vector(image, *arrays)
    blocks = -(-channels // together)
    workers = _THREADS // together
    slices = max(1, min(_BLOCKS // blocks, _THREADS, n * image // pack // (workers * _PACKS)))
    # A thread's offset may pass the end of x by the step to its next pack, over all channels.
    index = cuda.index_type(2 * x.size + _THREADS * pack * channels)
    macros: dict[str, str | int] = {"DTYPE": cuda.c_type(x), "INDEX": index, "CHANNELS": together}
    macros |= {"VECTOR": pack, "RELU": int(relu), "THREADS": _THREADS}
    sizes = [np.int32(n), np.int32(channels), np.int32(image) if index == "int" else np.int64(image)]
    return macros, sizes, (blocks, slices)
