"""Arithmetic that broadcasts: what its operands must agree on, and the gradients of ``+ - * / **`` and ``@``.

The gradient of a result belongs to each element that was used, so where an operand was broadcast its gradients are
summed (:func:`unbroadcast`). Each backward takes the two operands and which of them need a gradient, and returns two
gradients, None for the one not needed. Forward are Python's operators.
"""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np

from gpunn.backend import (
    Array,
    accumulation_dtype,
    asarray,
    cast,
    device_of,
    fail_on_type,
    get_array_module,
    is_array,
    is_floating,
)
from gpunn.errors import DeviceError, DtypeError, ShapeError, check, fail
from gpunn.ops.array.product import of_stacks, product

Gradients = tuple[Array | None, Array | None]


def pair(op: str, a: Any, b: Any) -> tuple[Array, Array]:
    """``a`` and ``b`` as arrays of one device, one dtype, and shapes that broadcast.

    A Python number takes the dtype and device of the other operand, so that nothing is promoted.

    >>> a, b = pair("add", np.ones(2, np.float32), 0.5)
    >>> b.dtype
    dtype('float32')
    """
    a, b = agreeing(op, a, b)
    try:
        np.broadcast_shapes(a.shape, b.shape)
    except ValueError:
        fail(ShapeError, op, "shapes must broadcast", a=a.shape, b=b.shape)
    return a, b


def agreeing(op: str, a: Any, b: Any) -> tuple[Array, Array]:
    """``a`` and ``b`` as arrays of one device and one dtype; see :func:`pair`."""
    a, b = _beside(op, a, b), _beside(op, b, a)
    here, there = device_of(a), device_of(b)
    check(here == there, DeviceError, op, "operands must be on one device", a=here, b=there)
    if a.dtype != b.dtype:  # not by check(): the name of a dtype takes longer than a small sum
        fail(DtypeError, op, "operands must have one dtype", a=str(a.dtype), b=str(b.dtype))
    return a, b


def _beside(op: str, value: Any, other: Any) -> Array:
    if is_array(value):
        return value
    if not isinstance(value, Real | np.generic | list | tuple):
        fail_on_type(DtypeError, op, "operands must be arrays or numbers", value)
    if not is_array(other):
        bare = not isinstance(value, np.generic | list | tuple) and not isinstance(other, np.generic | list | tuple)
        if bare and op != "where":  # whose condition is the array
            names = [type(value).__name__, type(other).__name__]
            fail(DtypeError, op, "one of the operands must be an array", types=names)
        return asarray(value)
    whole = isinstance(value, int) and (other.dtype.kind != "b" or isinstance(value, bool))
    exact = whole or is_floating(other.dtype)
    dtype = other.dtype if exact else None
    if isinstance(value, list | tuple) or device_of(other) == "cpu":
        return asarray(value, dtype=dtype, device=device_of(other))
    number = asarray(value, dtype=dtype, device="cpu")  # a number is filled in on the GPU, not copied there
    return get_array_module(other).full((), number.item(), number.dtype)


def unbroadcast(g: Array, shape: tuple[int, ...]) -> Array:
    """Sum ``g`` over the axes along which an array of ``shape`` was broadcast.

    >>> unbroadcast(np.ones((2, 3)), (3,)).tolist()
    [2.0, 2.0, 2.0]
    """
    added = g.ndim - len(shape)
    stretched = [added + axis for axis, size in enumerate(shape) if size == 1 and g.shape[added + axis] != 1]
    axes = (*range(added), *stretched)
    return g.sum(axes, dtype=accumulation_dtype(g.dtype)).astype(g.dtype).reshape(shape) if axes else g


def add_backward(gy: Array, a: Array, b: Array, needs: tuple[bool, ...]) -> Gradients:
    """``gy`` and ``gy``."""
    return unbroadcast(gy, a.shape) if needs[0] else None, unbroadcast(gy, b.shape) if needs[1] else None


def subtract_backward(gy: Array, a: Array, b: Array, needs: tuple[bool, ...]) -> Gradients:
    """``gy`` and ``-gy``."""
    return unbroadcast(gy, a.shape) if needs[0] else None, unbroadcast(-gy, b.shape) if needs[1] else None


def multiply_backward(gy: Array, a: Array, b: Array, needs: tuple[bool, ...]) -> Gradients:
    """``gy b`` and ``gy a``."""
    return unbroadcast(gy * b, a.shape) if needs[0] else None, unbroadcast(gy * a, b.shape) if needs[1] else None


def divide_backward(gy: Array, a: Array, b: Array, needs: tuple[bool, ...]) -> Gradients:
    """``gy / b`` and ``-gy a / b^2``."""
    ga = gy / b
    return unbroadcast(ga, a.shape) if needs[0] else None, unbroadcast(-ga * a / b, b.shape) if needs[1] else None


def power_backward(gy: Array, a: Array, b: Array, needs: tuple[bool, ...]) -> Gradients:
    """``gy b a^(b-1)``, 0 where b is 0, and ``gy a^b log a``, 0 where a is 0 and b is not negative.

    Where a is negative a^b is defined for whole b alone: the gradient of b is NaN there.
    """
    xp = get_array_module(gy)
    ga = gb = None
    if needs[0]:
        flat = b == 0  # a constant, even where a is infinite
        base, exponent = (xp.where(flat, 1, of).astype(b.dtype, copy=False) for of in (a, b - 1))
        ga = unbroadcast(gy * b * base**exponent, a.shape)
    if needs[1]:
        flat = (a == 0) & (b >= 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            gb = unbroadcast(xp.where(flat, 0, gy * a**b * xp.log(xp.where(flat, 1, a))).astype(gy.dtype), b.shape)
    return ga, gb


def power_by_number(x: Array, n: float) -> Array:
    """``x^n`` in the dtype of x.

    >>> power_by_number(np.array([2.0, 3.0], np.float32), 2.0).tolist()
    [4.0, 9.0]
    """
    return cast(x**n, x.dtype)  # Python's float promotes bfloat16


def power_by_number_backward(gy: Array, x: Array, n: float) -> Array:
    """``gy n x^(n-1)``; where n is 0, ``0 gy``."""
    return cast(gy * n * x ** (n - 1) if n else gy * 0, x.dtype)


def matmul(a: Array, b: Array) -> Array:
    """The matrix product of the last two axes, others broadcast; a vector is a row of a or a column of b.

    >>> matmul(np.ones((2, 3)), np.ones(3)).tolist()
    [3.0, 3.0]
    """
    fits = a.ndim and b.ndim and a.shape[-1] == b.shape[-2 if b.ndim > 1 else 0]
    check(bool(fits), ShapeError, "matmul", "the inner dimensions must agree", a=a.shape, b=b.shape)
    try:
        np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    except ValueError:
        fail(ShapeError, "matmul", "the axes before the last two must broadcast", a=a.shape, b=b.shape)
    return _product(a, b)


def _product(a: Array, b: Array) -> Array:
    """``a @ b``, for half types summed in float32 and rounded once: NumPy has no fast product of them."""
    xp, acc = get_array_module(a, b), accumulation_dtype(a.dtype) if is_floating(a.dtype) else a.dtype
    if acc == a.dtype or (xp is not np and a.dtype == np.float16):  # cuBLAS sums float16 in float32 itself
        return xp.asarray(_times(a, b))
    return xp.asarray(_times(a.astype(acc), b.astype(acc))).astype(a.dtype)


def matmul_backward(gy: Array, a: Array, b: Array, needs: tuple[bool, ...]) -> Gradients:
    """``gy b^T`` and ``a^T gy``; vectors count as rows of a and columns of b, as in NumPy."""
    rows, columns = a.ndim > 1, b.ndim > 1
    wide_a = a if rows else a[None, :]
    wide_b = b if columns else b[:, None]
    wide_gy = gy if rows else gy[..., None, :] if columns else gy[..., None]
    if not columns:
        wide_gy = wide_gy[..., None]
    ga = unbroadcast(_product(wide_gy, wide_b.swapaxes(-1, -2)), wide_a.shape).reshape(a.shape) if needs[0] else None
    gb = unbroadcast(_product(wide_a.swapaxes(-1, -2), wide_gy), wide_b.shape).reshape(b.shape) if needs[1] else None
    return ga, gb


def _times(a: Array, b: Array) -> Array:
    return product(a, b) if a.ndim == b.ndim == 2 and a.dtype == b.dtype else of_stacks(a, b)
