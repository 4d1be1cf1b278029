"""The product of large matrices of float32 by oneDNN, on the CPU: as fast as BLAS, and in the threads of all else."""

from __future__ import annotations

from math import prod

import numpy as np

from gpunn import cuda
from gpunn.backend import Array
from gpunn.cpu import onednn

_NANOSECONDS = 0.02  # of a product and its sum, about
_LEAST_PRODUCTS = 1 << 22  # with fewer the call takes longer than is gained
_FEW = 4  # rows or columns, with which BLAS, that reads a matrix once, is faster
_MOST_AXES = 12  # of oneDNN
_A, _B, _Y = 1, 33, 17


def takes(a: Array, b: Array) -> bool:
    """True for large matrices, or stacks, of float32 on the CPU where the library is, unless kernels are emulated."""
    if a.ndim < 2 or b.ndim < 2 or a.size * b.shape[-1] < _LEAST_PRODUCTS or b.dtype != a.dtype:
        return False
    if a.shape[-2] < _FEW or b.shape[-1] < _FEW or max(a.ndim, b.ndim) > _MOST_AXES or b.size == 0:
        return False
    return onednn.takes(a) and not cuda.takes(a)


def multiply(a: Array, b: Array, out: Array | None = None) -> Array:
    """``a @ b``, written to ``out`` if that is given, which lies apart from both."""
    axes = max(a.ndim, b.ndim)
    a, b = (each.reshape((1,) * (axes - each.ndim) + each.shape) for each in (a, b))
    shape = (*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1])
    y = np.empty(shape, a.dtype) if out is None or not out.flags.c_contiguous else out
    (a_turned, own_a), (b_turned, own_b) = _turned(a), _turned(b)
    settings = a.shape, a_turned, b.shape, b_turned, shape
    onednn.run(prod(shape) * a.shape[-1] * _NANOSECONDS, _multiply, settings, own_a, own_b, y)
    if out is not None and out is not y:
        out[...] = y
        return out
    return y


def _turned(a: Array) -> tuple[bool, Array]:
    """Whether the transposed matrices are contiguous, and those that are."""
    other = a.swapaxes(-1, -2)
    turned = other.flags.c_contiguous and not a.flags.c_contiguous
    return turned, other if turned else a


def _multiply(a: tuple[int, ...], a_turned: bool, b: tuple[int, ...], b_turned: bool, y: tuple[int, ...]) -> onednn.Job:
    layouts = _layout(a, a_turned), _layout(b, b_turned), onednn.Layout(y)
    own = onednn.Description("matmul", *layouts[:2], None, layouts[2])
    return onednn.Job(own, [(_A, layouts[0], False), (_B, layouts[1], False), (_Y, layouts[2], True)])


def _layout(shape: tuple[int, ...], turned: bool) -> onednn.Layout:
    if not turned:
        return onednn.Layout(shape)
    *stack, rows, columns = shape
    *outer, down, across = onednn.strides_of((*stack, columns, rows))
    return onednn.Layout(shape, strides=[*outer, across, down])
