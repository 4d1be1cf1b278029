"""How many neighbouring elements a kernel moves in one access; shared by the memory-bound kernels."""

from __future__ import annotations

import numpy as np

from gpunn.backend import Array

WIDEST = 16
"""Bytes of the widest access of a CUDA thread; its address must be a multiple of them."""


def vector(length: int, *arrays: Array) -> int:
    """The macro VECTOR of kernels/pack.cuh for contiguous ``arrays`` of one dtype, in rows of ``length`` elements.

    16 bytes of elements if each row starts at a multiple of 16 bytes, else one element: an array can start
    anywhere, if it is a slice of another.

    >>> x = np.zeros((4, 8), np.float32)
    >>> vector(8, x), vector(8, x.astype(np.float64)), vector(6, x), vector(8, x.ravel()[1:])
    (4, 2, 1, 1)
    """
    width = WIDEST // int(arrays[0].dtype.itemsize)
    aligned = length % width == 0 and all(_address(a) % WIDEST == 0 for a in arrays)
    return width if aligned else 1


def _address(x: Array) -> int:
    return x.ctypes.data if isinstance(x, np.ndarray) else int(x.data.ptr)
