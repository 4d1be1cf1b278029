"""Differentiable moves of whole rows: they pack sequences of different lengths.

    pick(x, index)[i] = x[index[i]]        place(x, index, count)[index[i]] = x[i]        index names no row twice

Each is the other's gradient, and neither adds anything up: a gradient is moved back to where its row came from.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gpunn.backend import Array, get_array_module
from gpunn.functional.record import differentiable, raw
from gpunn.ops.indexing import check_range


def pick(x: Any, index: Array, axis: int = 0) -> Any:
    """The rows ``index``, an integer array, of x along ``axis``; none may be named twice.

    >>> import numpy as np
    >>> pick(np.array([1.0, 2.0, 3.0]), np.array([2, 0])).tolist()
    [3.0, 1.0]
    """
    xd = raw(x)
    check_range("pick", index, axis, xd.shape)
    place_of = (*(slice(None),) * axis, get_array_module(xd).array(index))

    def backward(g: Array, _: Any) -> Sequence[Array | None]:
        gx = get_array_module(g).zeros(xd.shape, g.dtype)
        gx[place_of] = g
        return (gx,)

    return differentiable(xd[place_of], (x,), backward)


def place(x: Any, index: Array, count: int, fill: float = 0.0) -> Any:
    """An array of ``count`` rows that has row i of x at ``index[i]``, and ``fill`` in the rows that get none.

    >>> import numpy as np
    >>> place(np.array([1.0, 2.0]), np.array([2, 0]), 4).tolist()
    [2.0, 0.0, 1.0, 0.0]
    """
    xd = raw(x)
    xp = get_array_module(xd)
    check_range("place", index, 0, (count,))
    index = xp.array(index)
    y = xp.full((count, *xd.shape[1:]), fill, xd.dtype)
    y[index] = xd
    return differentiable(y, (x,), lambda g, _: (g[index],))
