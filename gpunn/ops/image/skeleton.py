"""Skeletons of binary images by thinning (Zhang and Suen 1984, "A fast parallel algorithm for thinning digital
patterns").

Passes of two sub-iterations remove pixels from the rim of each shape until a pass removes none. With the eight
neighbours in the circle N NE E SE S SW W NW, a set pixel goes if

    2 to 6 of them are set, there is one step from clear to set around the circle, and
    first sub-iteration: one of N E S and one of E S W is clear; second: one of N E W and one of N S W is clear.

All pixels of a sub-iteration are judged at once, and pixels outside the image are clear. The pixels are those of
scikit-image's ``skeletonize(image, method="zhang")``, which departs from the published conditions in 25 of the 256
neighbourhoods, listed in :mod:`gpunn.ops.image.neighbourhoods`: it also removes corners of staircases, and keeps some
ends of lines for longer.

The ways to compute are :mod:`gpunn.ops.image.skeleton_kernel` and :mod:`gpunn.ops.image.skeleton_rim`.
"""

from __future__ import annotations

from types import ModuleType

import numpy as np

from gpunn.backend import Array, check_array, get_array_module
from gpunn.errors import DtypeError, ShapeError, check
from gpunn.ops.image import skeleton_kernel, skeleton_rim
from gpunn.ops.shared.routes import route

ROUTES: tuple[ModuleType, ...] = (skeleton_kernel, skeleton_rim)


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
    way = route(ROUTES, xp.empty(0, np.float32))
    return way.thin(image.reshape(-1, *image.shape[-2:])).reshape(image.shape)
