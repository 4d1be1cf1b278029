"""Differentiable functions between devices: moving an array, and joining arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gpunn.backend import asarray, device_of, operands
from gpunn.errors import ShapeError, check
from gpunn.functional.record import differentiable, raw


def to_device(x: Any, device: str) -> Any:
    """x on ``device``; its gradient goes back to where x is. What is there already is returned as it is.

    >>> import numpy as np
    >>> to_device(np.ones(2), "cpu").tolist()
    [1.0, 1.0]
    """
    source, y = device_of(raw(x)), asarray(raw(x), device)
    return x if y is raw(x) else differentiable(y, (x,), lambda gy, _: (asarray(gy, source),))


def concatenate(xs: Sequence[Any], axis: int = 0) -> Any:
    """The arrays ``xs``, one behind the other along ``axis``; their other sizes must be equal.

    >>> import numpy as np
    >>> concatenate([np.zeros((2, 1)), np.ones((2, 2))], axis=1).tolist()
    [[0.0, 1.0, 1.0], [0.0, 1.0, 1.0]]
    """
    arrays = [raw(x) for x in xs]
    check(bool(arrays), ShapeError, "concatenate", "there must be at least one array")
    xp = operands("concatenate", **{f"xs[{number}]": a for number, a in enumerate(arrays)})
    rest = {(a.ndim, *(size for at, size in enumerate(a.shape) if at != axis % a.ndim)) for a in arrays}
    rule = "arrays must have one shape, up to axis"
    check(len(rest) == 1, ShapeError, "concatenate", rule, shapes=[a.shape for a in arrays], axis=axis)
    ends = np.cumsum([a.shape[axis] for a in arrays[:-1]]).tolist()
    return differentiable(xp.concatenate(arrays, axis), xs, lambda gy, _: xp.split(gy, ends, axis))
