"""Differentiable choice of elements: where, maximum, minimum, clip; see :mod:`gpunn.ops.selection`."""

from __future__ import annotations

from typing import Any

from gpunn.backend import is_array
from gpunn.casting import in_widest
from gpunn.functional.record import copied, differentiable, kept, raw
from gpunn.ops import selection as ops
from gpunn.ops.arithmetic import pair


@in_widest
def where(condition: Any, a: Any, b: Any) -> Any:
    """``a`` where ``condition`` (booleans) holds, else ``b``; shapes broadcast. a or b may be a number.

    What is not chosen gets the gradient 0, and 0 times an infinite slope is NaN: ``where(x > 0, sqrt(x), 0)`` has a NaN
    gradient at 0. Choose before: ``where(x > 0, sqrt(where(x > 0, x, 1)), 0)``.

    >>> import numpy as np
    >>> where(np.array([True, False]), np.array([1.0, 2.0]), 0.0).tolist()
    [1.0, 0.0]
    """
    chosen = copied(condition, a, b)
    x, y = pair("where", raw(a), raw(b))
    result = ops.where(chosen, x, y)
    # The condition has no gradient, but as a Tensor it makes the result one.
    inputs = (_input(a, x), _input(b, y), condition)
    return differentiable(result, inputs, lambda gy, needs: (*ops.where_backward(gy, chosen, x, y, needs), None))


@in_widest
def maximum(a: Any, b: Any) -> Any:
    """The larger of a and b, element by element; shapes broadcast, one of them may be a number.

    Where they are equal each gets half of the gradient.

    >>> import numpy as np
    >>> maximum(np.array([1.0, 5.0]), 2.0).tolist()
    [2.0, 5.0]
    """
    x, y = pair("maximum", *kept(a, b))
    inputs = (_input(a, x), _input(b, y))
    return differentiable(ops.maximum(x, y), inputs, lambda gy, needs: ops.maximum_backward(gy, x, y, needs))


@in_widest
def minimum(a: Any, b: Any) -> Any:
    """The smaller of a and b, element by element; shapes broadcast, one of them may be a number.

    Where they are equal each gets half of the gradient.

    >>> import numpy as np
    >>> minimum(np.array([1.0, 5.0]), 2.0).tolist()
    [1.0, 2.0]
    """
    x, y = pair("minimum", *kept(a, b))
    inputs = (_input(a, x), _input(b, y))
    return differentiable(ops.minimum(x, y), inputs, lambda gy, needs: ops.minimum_backward(gy, x, y, needs))


def clip(x: Any, min: float | None = None, max: float | None = None) -> Any:
    """``x`` with what is below ``min`` raised to it and what is above ``max`` lowered to it; numbers, or None.

    The gradient is 1 from bound to bound, the bounds included, and 0 outside.

    >>> import numpy as np
    >>> clip(np.array([-2.0, 0.5, 3.0]), 0, 1).tolist()
    [0.0, 0.5, 1.0]
    """
    xd = raw(x)
    return differentiable(ops.clip(xd, min, max), (x,), lambda gy, _: (ops.clip_backward(gy, xd, min, max),))


def _input(x: Any, array: Any) -> Any:
    """``x``, or the array that was made of it if it is a number."""
    return array if not is_array(raw(x)) else x
