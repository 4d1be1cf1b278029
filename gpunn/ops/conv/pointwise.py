"""Convolution where each window is one pixel: a product of matrices, on CuPy by cuBLAS."""

from __future__ import annotations

from math import prod

from gpunn import cuda
from gpunn.backend import Array, accumulation_dtype, get_array_module
from gpunn.cpu.blas import matmul
from gpunn.ops.conv.geometry import Plan


def takes(job: str, plan: Plan, x: Array, fused: bool) -> bool:
    """True for filters of one pixel, where nothing is fused with the product: a kernel does that with what it holds."""
    return plan.is_one_pixel and job != "backward_w" and not fused and not cuda.capturing()  # which refuses cuBLAS


def forward(plan: Plan, x: Array, w: Array, b: Array | None, relu: bool) -> Array:
    """y (N, K, *image): the filters times the pixels of x."""
    return _multiply(_filters(w, plan.groups), x)


def backward_x(plan: Plan, gy: Array, w: Array) -> Array:
    """gx (N, C, *image)."""
    return _multiply(_filters(w, plan.groups).swapaxes(1, 2), gy)


def _filters(w: Array, groups: int) -> Array:
    """w as (groups, K/groups, C/groups)."""
    return w.astype(accumulation_dtype(w.dtype), copy=False).reshape(groups, w.shape[0] // groups, w.shape[1])


def _multiply(filters: Array, x: Array) -> Array:
    (n, _, *size), (groups, rows, terms) = x.shape, filters.shape
    pixels = x.astype(filters.dtype, copy=False).reshape(n, groups, terms, prod(size))
    y = matmul(get_array_module(x), filters, pixels)
    return y.reshape(n, groups * rows, *size).astype(x.dtype, copy=False)
