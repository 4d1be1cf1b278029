"""What the gradients of broadcasting arithmetic, reductions and indexing have in common."""

from __future__ import annotations

from typing import Any

from gpunn.backend import Array, accumulation_dtype, get_array_module, is_array


def unbroadcast(g: Array, shape: tuple[int, ...]) -> Array:
    """Sum ``g`` over the axes along which an array of ``shape`` was broadcast.

    >>> import numpy as np
    >>> unbroadcast(np.ones((2, 3)), (3,)).tolist()
    [2.0, 2.0, 2.0]
    """
    added = g.ndim - len(shape)
    stretched = [added + axis for axis, size in enumerate(shape) if size == 1 and g.shape[added + axis] != 1]
    axes = (*range(added), *stretched)
    return g.sum(axes, dtype=accumulation_dtype(g.dtype)).astype(g.dtype).reshape(shape) if axes else g


def matmul_backward(gy: Array, a: Array, b: Array, needs: tuple[bool, bool]) -> tuple[Array | None, Array | None]:
    """The gradients of ``a @ b``; vectors count as rows of a and columns of b, as in NumPy."""
    rows, columns = a.ndim > 1, b.ndim > 1
    wide_a = a if rows else a[None, :]
    wide_b = b if columns else b[:, None]
    wide_gy = gy if rows else gy[..., None, :] if columns else gy[..., None]
    if not columns:
        wide_gy = wide_gy[..., None]
    ga = unbroadcast(wide_gy @ wide_b.swapaxes(-1, -2), wide_a.shape).reshape(a.shape) if needs[0] else None
    gb = unbroadcast(wide_a.swapaxes(-1, -2) @ wide_gy, wide_b.shape).reshape(b.shape) if needs[1] else None
    return ga, gb


def spread(g: Array, shape: tuple[int, ...], axis: Any, keepdims: bool) -> Array:
    """``g``, the gradient of a reduction over ``axis``, broadcast back to the ``shape`` that was reduced."""
    xp = get_array_module(g)
    if axis is not None and not keepdims:
        g = xp.expand_dims(g, axis)
    return xp.broadcast_to(g, shape)


def scatter(g: Array, shape: tuple[int, ...], index: Any) -> Array:
    """Zeros of ``shape`` with ``g`` added at ``index``, as often as the index names an element.

    Arrays of integers may name an element several times; on CuPy the order of those additions is not fixed.
    """
    xp = get_array_module(g)
    several = any((is_array(i) and i.dtype.kind in "iu") or isinstance(i, list) for i in _parts(index))
    out = xp.zeros(shape, accumulation_dtype(g.dtype) if several else g.dtype)
    if several:
        xp.add.at(out, index, g)
    else:
        out[index] = g
    return out.astype(g.dtype, copy=False)


def _parts(index: Any) -> tuple[Any, ...]:
    return index if isinstance(index, tuple) else (index,)
