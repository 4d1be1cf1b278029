"""Skeletons of binary images; see :mod:`gpunn.ops.image.skeleton`. Pixels come and go, so there is no gradient."""

from __future__ import annotations

from typing import Any

from gpunn.backend import Array
from gpunn.functional.record import raw
from gpunn.ops import image as ops


def skeletonize(image: Any) -> Array:
    """The skeleton of what is not 0 in ``image`` (H, W) or (N, H, W), a plain bool array of the same shape.

    The same pixels as scikit-image's ``skeletonize(image, method="zhang")``.

    >>> import numpy as np
    >>> skeletonize(np.ones((3, 5))).astype(int).tolist()
    [[0, 0, 0, 1, 0], [1, 1, 1, 0, 0], [0, 0, 0, 0, 0]]
    """
    return ops.skeletonize(raw(image))
