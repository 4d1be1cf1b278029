"""Classes as vectors; see :mod:`gpunn.ops.indexing`."""

from __future__ import annotations

from typing import Any

from gpunn.functional.record import raw
from gpunn.ops import indexing as ops
from gpunn.tensor import Tensor, wrapped


def one_hot(target: Any, num_classes: int = -1) -> Any:
    """``y[..., c] = 1 where target[...] == c, else 0``: integers, of the target's shape and ``num_classes`` more.

    Without ``num_classes`` there are as many classes as the largest target needs. It has no gradient.

    >>> import numpy as np
    >>> one_hot(np.array([0, 2])).tolist()
    [[1, 0, 0], [0, 0, 1]]
    """
    y = ops.one_hot(raw(target), num_classes)
    return wrapped(y) if isinstance(target, Tensor) else y
