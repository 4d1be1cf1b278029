"""Thinning by ``kernels/skeleton.cu``, on bits: 32 pixels a word."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpunn import cuda
from gpunn.backend import Array, get_array_module
from gpunn.ops.image.neighbourhoods import FIRST, REMOVAL, SECOND


def takes(x: Array) -> bool:
    """True where kernels run."""
    return cuda.takes(x)


_THREADS = 128
_C_TYPES = {"bool": "unsigned char", "uint8": "unsigned char", "float32": "float", "float64": "double"}


def thin(images: Array) -> Array:
    """The skeletons of images (N, H, W)."""
    xp = get_array_module(images)
    if images.dtype.name not in _C_TYPES:
        images = images != 0
    n, height, width = images.shape
    words_a_row = -(-width // 32)
    words = n * height * words_a_row
    index = cuda.index_type(32 * words)
    macros: dict[str, str | int] = {"DTYPE": _C_TYPES[images.dtype.name], "INDEX": index, "THREADS": _THREADS}
    count = np.int32 if index == "int" else np.int64
    k, w = np.int32(words_a_row), np.int32(width)

    def launch(kernel: str, threads: int, *args: Any) -> None:
        cuda.launch("skeleton.cu", kernel, macros, (-(-threads // _THREADS),), (_THREADS,), args)

    packed, thinned = xp.empty(words, np.uint32), xp.empty(words, np.uint32)
    launch("skeleton_pack", 32 * words, xp.ascontiguousarray(images), packed, count(words), k, w)
    first, second = (xp.asarray(_bits(REMOVAL & phase != 0)) for phase in (FIRST, SECOND))
    changed = xp.ones(1, np.int32)
    while int(changed[0]):
        changed[0] = 0
        sizes = (count(words), np.int32(height), k)
        launch("skeleton_thin", words, packed, thinned, first, changed, *sizes)
        launch("skeleton_thin", words, thinned, packed, second, changed, *sizes)
    y = xp.empty(images.shape, bool)
    launch("skeleton_unpack", y.size, packed, y, count(y.size), k, w)
    return y


def _bits(flags: Array) -> Array:
    """Bit i % 32 of word i // 32 is ``flags[i]``: 256 of them are one sector, wherever a warp's lanes look."""
    return np.packbits(flags, bitorder="little").view("<u4")
