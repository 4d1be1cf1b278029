"""Skeletons of binary images by thinning (Zhang and Suen 1984, "A fast parallel algorithm for thinning digital
patterns").

Passes of two sub-iterations remove pixels from the rim of each shape until a pass removes none. With the eight
neighbours in the circle N NE E SE S SW W NW, a set pixel goes if

    2 to 6 of them are set, there is one step from clear to set around the circle, and
    first sub-iteration: one of N E S and one of E S W is clear; second: one of N E W and one of N S W is clear.

All pixels of a sub-iteration are judged at once, and pixels outside the image are clear. The pixels are those of
scikit-image's ``skeletonize(image, method="zhang")``, which departs from the published conditions in 25 of the 256
neighbourhoods, listed below: it also removes corners of staircases, and keeps some ends of lines for longer.

CUDA: ``kernels/skeleton.cu``. Without it: look-ups for the pixels on the rim of what is still set.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gpunn import cuda
from gpunn.backend import Array, check_array, get_array_module
from gpunn.errors import DtypeError, ShapeError, check

_PLACES = {
    "NW": (-1, -1),
    "N": (-1, 0),
    "NE": (-1, 1),
    "W": (0, -1),
    "E": (0, 1),
    "SW": (1, -1),
    "S": (1, 0),
    "SE": (1, 1),
}
"""The neighbours, in the order of their bits in the number of a neighbourhood, with their rows and columns."""

_CIRCLE = ["N", "NE", "E", "SE", "S", "SW", "W", "NW"]

_NEVER, _FIRST, _SECOND, _BOTH = 0, 1, 2, 3
"""The sub-iterations in which a pixel goes: bit 0 is the first, bit 1 the second."""

_DEPARTURES = {
    _NEVER: ["SE S", "W NW"],
    _FIRST: ["N NW", "N NE", "NE E", "N NE E", "N W NW", "N E NW", "N NE W", "S W NW", "N SW W", "N NE SW W"],
    _SECOND: ["E SE", "S SW", "SW W", "E SE S", "S SW W", "N E SE", "E S SW", "SE S W", "NE E S SW"],
    _BOTH: ["N E", "E S", "S W", "N W"],
}
"""Where scikit-image decides otherwise than the published conditions."""


def skeletonize(image: Array) -> Array:
    """The skeleton of what is not 0 in ``image`` (H, W), or of each image of a batch (N, H, W): a bool array.

    >>> skeletonize(np.ones((3, 7))).astype(int)
    array([[0, 0, 0, 0, 0, 1, 0],
           [1, 1, 1, 1, 1, 0, 0],
           [0, 0, 0, 0, 0, 0, 0]])

    Raises ShapeError unless ``image`` has 2 or 3 dimensions, DtypeError unless it is of bools, integers or floats.
    """
    op = "skeletonize"
    check_array(op, image=image)
    check(
        image.dtype.kind in "buif", DtypeError, op, "image must be of bools, integers or floats", dtype=str(image.dtype)
    )
    check(image.ndim in (2, 3), ShapeError, op, "image must have the dimensions (H, W) or (N, H, W)", shape=image.shape)
    xp = get_array_module(image)
    if image.size == 0:
        return xp.zeros(image.shape, bool)
    # The kernels see bits, whatever the dtype of the image was: only the place of the array matters.
    thin = _thin_with_kernel if cuda.takes(xp.empty(0, np.float32)) else _thin
    return thin(xp, image.reshape(-1, *image.shape[-2:])).reshape(image.shape)


def _removal_table() -> np.ndarray[Any, Any]:
    """For each neighbourhood the sub-iterations in which the pixel in its middle goes."""
    table = np.zeros(256, np.uint8)
    for number in range(256):
        there = {name for bit, name in enumerate(_PLACES) if number >> bit & 1}
        steps = sum(a not in there and b in there for a, b in zip(_CIRCLE, _CIRCLE[1:] + _CIRCLE[:1], strict=True))
        if 2 <= len(there) <= 6 and steps == 1:
            first = not {"N", "E", "S"} <= there and not {"E", "S", "W"} <= there
            second = not {"N", "E", "W"} <= there and not {"N", "S", "W"} <= there
            table[number] = first * _FIRST + second * _SECOND
    places = list(_PLACES)
    for decision, neighbourhoods in _DEPARTURES.items():
        for names in neighbourhoods:
            table[sum(1 << places.index(name) for name in names.split())] = decision
    return table


_REMOVAL = _removal_table()


# ---- without the kernel ---------------------------------------------------------------------------------------------


def _thin(xp: Any, images: Array) -> Array:
    n, height, width = images.shape
    padded = xp.zeros((n, height + 2, width + 2), np.uint8)  # a rim of clear pixels: no image sees the next one
    padded[:, 1:-1, 1:-1] = images != 0
    flat, row, removal = padded.reshape(-1), width + 2, xp.asarray(_REMOVAL)
    changed = True
    while changed:
        changed = False
        for phase in (_FIRST, _SECOND):
            # Most pixels of a thick shape are surrounded by set ones, and stay: only the others are looked up.
            column = flat[: -2 * row] & flat[row:-row] & flat[2 * row :]
            surrounded = column[:-2] & column[1:-1] & column[2:]
            rim = xp.flatnonzero(flat[row + 1 : -row - 1] > surrounded) + (row + 1)
            neighbours = xp.zeros(rim.shape, np.uint8)
            for bit, (down, right) in enumerate(_PLACES.values()):
                neighbours |= flat[rim + (down * row + right)] << bit
            goes = rim[removal[neighbours] & phase != 0]
            flat[goes] = 0
            changed |= goes.size > 0
    return padded[:, 1:-1, 1:-1].astype(bool)


# ---- with the kernel ------------------------------------------------------------------------------------------------

_THREADS = 128
_C_TYPES = {"bool": "unsigned char", "uint8": "unsigned char", "float32": "float", "float64": "double"}


def _thin_with_kernel(xp: Any, images: Array) -> Array:
    if images.dtype.name not in _C_TYPES:
        images = images != 0
    n, height, width = images.shape
    words_a_row = -(-width // 32)
    words = n * height * words_a_row
    index = cuda.index_type(32 * words)
    macros: dict[str, str | int] = {"DTYPE": _C_TYPES[images.dtype.name], "INDEX": index}
    count = np.int32 if index == "int" else np.int64
    k, w = np.int32(words_a_row), np.int32(width)

    def launch(kernel: str, threads: int, *args: Any) -> None:
        cuda.launch("skeleton.cu", kernel, macros, (-(-threads // _THREADS),), (_THREADS,), args)

    packed, thinned = xp.empty(words, np.uint32), xp.empty(words, np.uint32)
    launch("skeleton_pack", 32 * words, xp.ascontiguousarray(images), packed, count(words), k, w)
    removal, changed = xp.asarray(_REMOVAL), xp.ones(1, np.int32)
    while int(changed[0]):
        changed[0] = 0
        sizes = (count(words), np.int32(height), k)
        launch("skeleton_thin", words, packed, thinned, removal, changed, *sizes, np.int32(0))
        launch("skeleton_thin", words, thinned, packed, removal, changed, *sizes, np.int32(1))
    y = xp.empty(images.shape, bool)
    launch("skeleton_unpack", y.size, packed, y, count(y.size), k, w)
    return y
