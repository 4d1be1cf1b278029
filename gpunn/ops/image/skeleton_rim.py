"""Thinning on any array module: look-ups for the pixels on the rim of what is still set."""

from __future__ import annotations

import numpy as np

from gpunn.backend import Array, get_array_module
from gpunn.ops.image.neighbourhoods import FIRST, PLACES, REMOVAL, SECOND


def takes(x: Array) -> bool:
    """Whatever comes."""
    return True


def thin(images: Array) -> Array:
    """The skeletons of images (N, H, W)."""
    xp = get_array_module(images)
    n, height, width = images.shape
    padded = xp.zeros((n, height + 2, width + 2), np.uint8)  # a rim of clear pixels: no image sees the next one
    padded[:, 1:-1, 1:-1] = images != 0
    flat, row, removal = padded.reshape(-1), width + 2, xp.asarray(REMOVAL)
    changed = True
    while changed:
        changed = False
        for phase in (FIRST, SECOND):
            # Most pixels of a thick shape are surrounded by set ones, and stay: only the others are looked up.
            column = flat[: -2 * row] & flat[row:-row] & flat[2 * row :]
            surrounded = column[:-2] & column[1:-1] & column[2:]
            rim = xp.flatnonzero(flat[row + 1 : -row - 1] > surrounded) + (row + 1)
            neighbours = xp.zeros(rim.shape, np.uint8)
            for bit, (down, right) in enumerate(PLACES.values()):
                neighbours |= flat[rim + (down * row + right)] << bit
            goes = rim[removal[neighbours] & phase != 0]
            flat[goes] = 0
            changed |= goes.size > 0
    return padded[:, 1:-1, 1:-1].astype(bool)
