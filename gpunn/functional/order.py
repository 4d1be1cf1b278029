"""Differentiable reductions, running products and sorting; see :mod:`gpunn.ops.array.reduction` and ``order``.

What a Tensor has a method for is that method, here with PyTorch's defaults.
"""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral
from typing import Any

from gpunn.backend import check_array
from gpunn.casting import in_float32
from gpunn.errors import ArgumentError, check
from gpunn.functional.record import X, differentiable, raw
from gpunn.ops.array import order as ops
from gpunn.ops.array import vector
from gpunn.ops.array.shape import Axis
from gpunn.tensor import Tensor, wrapped


def by_tensor(op: str, x: Any, compute: Callable[[Tensor], Tensor]) -> Any:
    """What ``compute`` gives of a Tensor: of an array an array."""
    if isinstance(x, Tensor):
        return compute(x)
    check_array(op, x=x)
    return compute(wrapped(x)).data


# ---- over axes -------------------------------------------------------------------------------------------------------


def sum(x: X, axis: Axis = None, keepdims: bool = False) -> X:
    """The sum over ``axis``, or of all elements.

    >>> import numpy as np
    >>> sum(np.ones((2, 3)), axis=1).tolist()
    [3.0, 3.0]
    """
    return by_tensor("sum", x, lambda t: t.sum(axis, keepdims))


def mean(x: X, axis: Axis = None, keepdims: bool = False) -> X:
    """The mean over ``axis``, or of all elements.

    >>> import numpy as np
    >>> mean(np.array([1.0, 2.0])).tolist()
    1.5
    """
    return by_tensor("mean", x, lambda t: t.mean(axis, keepdims))


def prod(x: X, axis: Axis = None, keepdims: bool = False) -> X:
    """The product over ``axis``, or of all elements.

    >>> import numpy as np
    >>> prod(np.array([2.0, 3.0])).tolist()
    6.0
    """
    return by_tensor("prod", x, lambda t: t.prod(axis, keepdims))


def var(x: X, axis: Axis = None, correction: int = 1, keepdims: bool = False) -> X:
    """The variance over ``axis``; the divisor is n - ``correction``, n - 1 as in PyTorch (``x.var()`` divides by n).

    >>> import numpy as np
    >>> var(np.array([1.0, 3.0])).tolist(), var(np.array([1.0, 3.0]), correction=0).tolist()
    (2.0, 1.0)
    """
    _check_correction("var", correction)
    return by_tensor("var", x, lambda t: t.var(axis, correction, keepdims))


def std(x: X, axis: Axis = None, correction: int = 1, keepdims: bool = False) -> X:
    """The square root of :func:`var`; its gradient is 0 where all elements are equal.

    >>> import numpy as np
    >>> std(np.array([1.0, 3.0]), correction=0).tolist()
    1.0
    """
    _check_correction("std", correction)
    return by_tensor("std", x, lambda t: t.std(axis, correction, keepdims))


def _check_correction(op: str, correction: int) -> None:
    whole = isinstance(correction, Integral)
    check(whole, ArgumentError, op, "correction must be an integer", correction=correction)


def amax(x: X, axis: Axis = None, keepdims: bool = False) -> X:
    """The largest element over ``axis``, or of all; several equal ones share the gradient evenly.

    >>> import numpy as np
    >>> amax(np.array([[1.0, 3.0], [2.0, 0.0]]), 1).tolist()
    [3.0, 2.0]
    """
    return by_tensor("amax", x, lambda t: t.max(axis, keepdims))


def amin(x: X, axis: Axis = None, keepdims: bool = False) -> X:
    """The smallest element over ``axis``, or of all; several equal ones share the gradient evenly.

    >>> import numpy as np
    >>> amin(np.array([[1.0, 3.0], [2.0, 0.0]]), 1).tolist()
    [1.0, 0.0]
    """
    return by_tensor("amin", x, lambda t: t.min(axis, keepdims))


@in_float32
def norm(x: X, p: float = 2.0, axis: Axis = None, keepdims: bool = False) -> X:
    """The length ``(sum_i |x[i]|^p)^(1/p)`` of the vectors along ``axis``, or of all elements as one vector.

    ``p`` may be infinite (the largest ``|x[i]|``) or 0 (how many elements are not 0). The gradient at 0 is 0.

    >>> import numpy as np
    >>> norm(np.array([3.0, -4.0])).tolist(), norm(np.array([3.0, -4.0]), 1).tolist()
    (5.0, 7.0)
    """
    xd = raw(x)
    y = vector.norm(xd, p, axis, keepdims)
    return differentiable(y, (x,), lambda gy, _: (vector.norm_backward(gy, xd, y, p, axis, keepdims),))


def cumsum(x: X, axis: int) -> X:
    """The sums of the elements up to each one, along ``axis``.

    >>> import numpy as np
    >>> cumsum(np.array([1.0, 2.0, 3.0]), 0).tolist()
    [1.0, 3.0, 6.0]
    """
    check(axis is not None, ArgumentError, "cumsum", "an axis must be given", axis=axis)
    return by_tensor("cumsum", x, lambda t: t.cumsum(axis))


def cumprod(x: X, axis: int) -> X:
    """The products of the elements up to each one, along ``axis``.

    >>> import numpy as np
    >>> cumprod(np.array([2.0, 3.0, 4.0]), 0).tolist()
    [2.0, 6.0, 24.0]
    """
    check(axis is not None, ArgumentError, "cumprod", "an axis must be given", axis=axis)
    return by_tensor("cumprod", x, lambda t: t.cumprod(axis))


# ---- by order --------------------------------------------------------------------------------------------------------


def argsort(x: X, axis: int = -1, descending: bool = False) -> X:
    """The indices that sort x along ``axis``; equal elements keep their order, NaN is larger than any number.

    >>> import numpy as np
    >>> argsort(np.array([2.0, 1.0, 3.0]), descending=True).tolist()
    [2, 0, 1]
    """
    y = ops.argsort(raw(x), axis, descending)
    return wrapped(y) if isinstance(x, Tensor) else y  # type: ignore[return-value]


def sort(x: X, axis: int = -1, descending: bool = False) -> tuple[X, X]:
    """The elements in order along ``axis``, and their indices, as :func:`argsort` gives them.

    >>> import numpy as np
    >>> [a.tolist() for a in sort(np.array([3.0, 1.0, 2.0]))]
    [[1.0, 2.0, 3.0], [1, 2, 0]]
    """
    return _chosen(x, axis, *ops.sort(raw(x), axis, descending))


def topk(x: X, k: int, axis: int = -1, largest: bool = True) -> tuple[X, X]:
    """The ``k`` largest elements along ``axis``, the largest first, and their indices; or the least, the least first.

    >>> import numpy as np
    >>> [a.tolist() for a in topk(np.array([3.0, 1.0, 2.0]), 2)]
    [[3.0, 2.0], [0, 2]]
    """
    return _chosen(x, axis, *ops.topk(raw(x), k, axis, largest))


def _chosen(x: Any, axis: int, y: Any, indices: Any) -> tuple[Any, Any]:
    shape, own = raw(x).shape, indices.copy()  # the caller may change his
    values = differentiable(y, (x,), lambda gy, _: (ops.along_backward(gy, shape, own, axis),))
    return values, wrapped(indices) if isinstance(x, Tensor) else indices


def searchsorted(x: X, values: Any, right: bool = False) -> X:
    """Where in the sorted vector x each of ``values`` would be put: before its equals, or ``right`` of them.

    >>> import numpy as np
    >>> searchsorted(np.array([1.0, 2.0, 2.0]), np.array([2.0, 5.0])).tolist()
    [1, 3]
    """
    y = ops.searchsorted(raw(x), raw(values), "right" if right else "left")
    return wrapped(y) if isinstance(x, Tensor) or isinstance(values, Tensor) else y  # type: ignore[return-value]


def nonzero(x: X) -> X:
    """The indices of the elements that are not 0, a row for each: (count, axes). ``x.nonzero()`` gives them by axes.

    >>> import numpy as np
    >>> nonzero(np.array([[0, 5], [6, 0]])).tolist()
    [[0, 1], [1, 0]]
    """
    y = ops.rows(ops.nonzero(raw(x)))
    return wrapped(y) if isinstance(x, Tensor) else y  # type: ignore[return-value]
