"""The product of two matrices, by NumPy, oneDNN and CuPy, or in a captured step by the library's own kernels.

    y[n, m] = sum_k a[n, k] b[k, m]

CuPy refuses cuBLAS while a CUDA graph is captured. There the product is a convolution of N images of one pixel with
1 x 1 filters: forward it is ``a W^T``, its gradient with respect to x ``a W``, that with respect to W ``X^T b``. So a
matrix or its transpose is read where it lies, without a copy.

CUDA: ``kernels/conv.cu``, by :mod:`gpunn.ops.conv.tiled`.
"""

from __future__ import annotations

import numpy as np

from gpunn import cuda
from gpunn.backend import Array, get_array_module
from gpunn.cpu.blas import matmul
from gpunn.ops.array import product_onednn
from gpunn.ops.conv import Plan, plan, tiled

_SMALL = 1 << 18  # products of two numbers, for which NumPy's way is the fastest, and of two matrices in one thread


def product(a: Array, b: Array, out: Array | None = None) -> Array:
    """``a @ b`` for a (N, K) and b (K, M) of one dtype, written to ``out`` if that is given.

    >>> import numpy as np
    >>> product(np.ones((2, 3)), np.ones((3, 1))).tolist()
    [[3.0], [3.0]]
    """
    if not (cuda.capturing() and cuda.takes(a)):
        small = type(a) is np.ndarray and len(a) > 1 < b.shape[1] and a.size * b.shape[1] <= _SMALL
        return np.matmul(a, b, out=out) if small else of_stacks(a, b, out)
    y = get_array_module(a).zeros((len(a), b.shape[1]), a.dtype) if 0 in (*a.shape, *b.shape) else _by_convolution(a, b)
    if out is None:
        return y
    out[...] = y
    return out


def of_stacks(a: Array, b: Array, out: Array | None = None) -> Array:
    """``a @ b`` for vectors, matrices and stacks of them, of any dtypes; not in a captured step.

    >>> import numpy as np
    >>> of_stacks(np.ones((2, 1, 3)), np.ones((3, 1))).tolist()
    [[[3.0]], [[3.0]]]
    """
    if product_onednn.takes(a, b):
        return product_onednn.multiply(a, b, out)
    y: Array = matmul(np if type(a) is np.ndarray else get_array_module(a, b), a, b, out)
    return y


def _by_convolution(a: Array, b: Array) -> Array:
    (n, k), m = a.shape, b.shape[1]
    if _is_transposed(b):
        y = tiled.forward(_pixels_plan(n, k, m), _pixels(a), _pixels(b.T), None, relu=False)
    elif _is_transposed(a):
        y = tiled.backward_w(_pixels_plan(k, m, n), _pixels(a.T), _pixels(b))
    else:
        y = tiled.backward_x(_pixels_plan(n, m, k), _pixels(a), _pixels(b))
    return y.reshape(n, m)


def _is_transposed(a: Array) -> bool:
    """Whether ``a.T`` is contiguous, and a is not."""
    return bool(a.T.flags.c_contiguous and not a.flags.c_contiguous)


def _pixels(a: Array) -> Array:
    return get_array_module(a).ascontiguousarray(a).reshape(*a.shape, 1, 1)


def _pixels_plan(images: int, channels: int, filters: int) -> Plan:
    return plan(2, (images, channels, 1, 1), (filters, channels, 1, 1))
