"""Differentiable losses that ask for a margin; see :mod:`gpunn.ops.margin_loss`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gpunn.backend import Array
from gpunn.casting import in_float32
from gpunn.functional.record import copied, differentiable, kept, raw
from gpunn.ops import margin_loss as ops
from gpunn.ops.loss_reduction import Reduction


@in_float32
def hinge_embedding_loss(x: Any, target: Any, margin: float = 1.0, reduction: Reduction = "mean") -> Any:
    """x where target is 1, ``max(0, margin - x)`` where it is -1; target has the shape of x.

    >>> import numpy as np
    >>> hinge_embedding_loss(np.array([0.5, 0.5, 3.0]), np.array([1, -1, -1]), reduction="none").tolist()
    [0.5, 0.5, 0.0]
    """
    xd, settings = raw(x), (copied(target, x), margin, reduction)
    y = ops.hinge_embedding_loss(xd, *settings)
    return differentiable(y, (x,), lambda gy, _: (ops.hinge_embedding_loss_backward(gy, xd, *settings),))


@in_float32
def multi_margin_loss(
    x: Any, target: Any, p: int = 1, margin: float = 1.0, weight: Any = None, reduction: Reduction = "mean"
) -> Any:
    """``sum_{c != t} max(0, margin - x[n, t] + x[n, c])^p / C`` with t = target[n], for x (N, C) and classes (N,).

    ``weight`` (C,) multiplies the loss of its class, a constant; the mean divides by N all the same.

    >>> import numpy as np
    >>> round(float(multi_margin_loss(np.array([[0.1, 0.2, 0.4, 0.8]]), np.array([3]))), 4)
    0.325
    """
    xd, settings = raw(x), (copied(target, x), p, margin, copied(weight, x), reduction)
    y = ops.multi_margin_loss(xd, *settings)
    return differentiable(y, (x,), lambda gy, _: (ops.multi_margin_loss_backward(gy, xd, *settings),))


@in_float32
def cosine_embedding_loss(x1: Any, x2: Any, target: Any, margin: float = 0.0, reduction: Reduction = "mean") -> Any:
    """``1 - cos(x1, x2)`` where target is 1, ``max(0, cos(x1, x2) - margin)`` where it is -1.

    x1 and x2 are (N, D) with target (N,), or (D,) with target ().

    >>> import numpy as np
    >>> float(cosine_embedding_loss(np.array([1.0, 0.0]), np.array([0.0, 2.0]), np.array(1)))
    1.0
    """
    (a, b), settings = kept(x1, x2), (copied(target, x1, x2), margin, reduction)

    def backward(gy: Array, needs: tuple[bool, ...]) -> Sequence[Array | None]:
        return (
            ops.cosine_embedding_loss_backward_x1(gy, a, b, *settings) if needs[0] else None,
            ops.cosine_embedding_loss_backward_x1(gy, b, a, *settings) if needs[1] else None,
        )

    return differentiable(ops.cosine_embedding_loss(a, b, *settings), (x1, x2), backward)
