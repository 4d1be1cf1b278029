"""Differentiable reductions, running products and sorting; see :mod:`gpunn.ops.array.reduction` and ``order``.

What a Tensor has a method for is that method, here with PyTorch's defaults.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, overload

import numpy as np

from gpunn.backend import check_array, is_floating
from gpunn.casting import in_float32
from gpunn.errors import ArgumentError, DtypeError, check, check_number
from gpunn.functional.record import X, copied, differentiable, in_dtype, raw
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


def _of(t: Tensor, dtype: Any, op: str) -> Tensor:
    return t if dtype is None else in_dtype(t, dtype, op)


# ---- over axes -------------------------------------------------------------------------------------------------------


def sum(x: X, axis: Axis = None, keepdims: bool = False, dtype: Any = None) -> X:
    """The sum over ``axis``, or of all elements; ``dtype`` is that to compute in, and of the result.

    >>> import numpy as np
    >>> sum(np.ones((2, 3)), axis=1).tolist()
    [3.0, 3.0]
    """
    return by_tensor("sum", x, lambda t: _of(t, dtype, "sum").sum(axis, keepdims))


def mean(x: X, axis: Axis = None, keepdims: bool = False, dtype: Any = None) -> X:
    """The mean over ``axis``, or of all elements; ``dtype`` is that to compute in, and of the result.

    >>> import numpy as np
    >>> mean(np.array([1.0, 2.0])).tolist()
    1.5
    """

    def averaged(t: Tensor) -> Tensor:
        t = _of(t, dtype, "mean")
        check(is_floating(t.dtype), DtypeError, "mean", "x must hold floats, or dtype say so", dtype=str(t.dtype))
        return t.mean(axis, keepdims)

    return by_tensor("mean", x, averaged)


def prod(x: X, axis: Axis = None, keepdims: bool = False, dtype: Any = None) -> X:
    """The product over ``axis``, or of all elements; ``dtype`` is that to compute in, and of the result.

    >>> import numpy as np
    >>> prod(np.array([2.0, 3.0])).tolist()
    6.0
    """
    return by_tensor("prod", x, lambda t: _of(t, dtype, "prod").prod(axis, keepdims))


def var(
    x: X, axis: Axis = None, correction: float | None = 1, keepdims: bool = False, unbiased: bool | None = None
) -> X:
    """The variance over ``axis``; the divisor is n - ``correction``, n - 1 as in PyTorch (``x.var()`` divides by n).

    ``unbiased``, PyTorch's older name, is True for a correction of 1, and False for 0.

    >>> import numpy as np
    >>> var(np.array([1.0, 3.0])).tolist(), var(np.array([1.0, 3.0]), correction=0).tolist()
    (2.0, 1.0)
    """
    if isinstance(axis, bool):  # as PyTorch's second argument it says whether to divide by n - 1
        axis, unbiased = None, axis
    less = _correction("var", correction, unbiased)
    return by_tensor("var", x, lambda t: t.var(axis, less, keepdims))


def std(
    x: X, axis: Axis = None, correction: float | None = 1, keepdims: bool = False, unbiased: bool | None = None
) -> X:
    """The square root of :func:`var`; its gradient is 0 where all elements are equal.

    >>> import numpy as np
    >>> std(np.array([1.0, 3.0]), correction=0).tolist()
    1.0
    """
    if isinstance(axis, bool):  # as PyTorch's second argument it says whether to divide by n - 1
        axis, unbiased = None, axis
    less = _correction("std", correction, unbiased)
    return by_tensor("std", x, lambda t: t.std(axis, less, keepdims))


def _correction(op: str, correction: float | None, unbiased: bool | None) -> float:
    if unbiased is not None:
        check(isinstance(unbiased, bool), ArgumentError, op, "unbiased must be True or False", unbiased=unbiased)
        return float(unbiased)
    if correction is None:
        return 1.0
    check_number(op, correction=correction)
    return correction


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
def norm(x: X, p: float | Literal["fro"] = 2.0, axis: Axis = None, keepdims: bool = False, dtype: Any = None) -> X:
    """The length ``(sum_i |x[i]|^p)^(1/p)`` of the vectors along ``axis``, or of all elements as one vector.

    ``p`` may be infinite (the largest ``|x[i]|``) or 0 (how many elements are not 0);
    ``"fro"`` is 2. The gradient at 0 is 0. ``dtype`` is that to compute in, and of the result.

    >>> import numpy as np
    >>> norm(np.array([3.0, -4.0])).tolist(), norm(np.array([3.0, -4.0]), 1).tolist()
    (5.0, 7.0)
    """
    if dtype is not None:
        x = in_dtype(x, dtype, "norm")
    xd, order = raw(x), 2.0 if p == "fro" else p
    y = vector.norm(xd, order, axis, keepdims)
    return differentiable(y, (x,), lambda gy, _: (vector.norm_backward(gy, xd, y, order, axis, keepdims),))


def cumsum(x: X, axis: int, dtype: Any = None) -> X:
    """The sums of the elements up to each one, along ``axis``; ``dtype`` is that to compute in.

    >>> import numpy as np
    >>> cumsum(np.array([1.0, 2.0, 3.0]), 0).tolist()
    [1.0, 3.0, 6.0]
    """
    check(axis is not None, ArgumentError, "cumsum", "an axis must be given", axis=axis)
    return by_tensor("cumsum", x, lambda t: _of(t, dtype, "cumsum").cumsum(axis))


def cumprod(x: X, axis: int, dtype: Any = None) -> X:
    """The products of the elements up to each one, along ``axis``; ``dtype`` is that to compute in.

    >>> import numpy as np
    >>> cumprod(np.array([2.0, 3.0, 4.0]), 0).tolist()
    [2.0, 6.0, 24.0]
    """
    check(axis is not None, ArgumentError, "cumprod", "an axis must be given", axis=axis)
    return by_tensor("cumprod", x, lambda t: _of(t, dtype, "cumprod").cumprod(axis))


# ---- by order --------------------------------------------------------------------------------------------------------


def argsort(x: X, axis: int = -1, descending: bool = False, stable: bool = True) -> X:
    """The indices that sort x along ``axis``; equal elements keep their order, NaN is larger than any number.

    It is always ``stable``, as PyTorch's is if asked to.

    >>> import numpy as np
    >>> argsort(np.array([2.0, 1.0, 3.0]), descending=True).tolist()
    [2, 0, 1]
    """
    y = ops.argsort(raw(x), axis, descending)
    return wrapped(y) if isinstance(x, Tensor) else y  # type: ignore[return-value]


def sort(x: X, axis: int = -1, descending: bool = False, stable: bool = True) -> tuple[X, X]:
    """The elements in order along ``axis``, and their indices, as :func:`argsort` gives them.

    >>> import numpy as np
    >>> [a.tolist() for a in sort(np.array([3.0, 1.0, 2.0]))]
    [[1.0, 2.0, 3.0], [1, 2, 0]]
    """
    return _chosen(x, axis, *ops.sort(raw(x), axis, descending))


def topk(x: X, k: int, axis: int = -1, largest: bool = True, sorted: bool = True) -> tuple[X, X]:
    """The ``k`` largest elements along ``axis``, the largest first, and their indices; or the least, the least first.

    They are in that order also where they need not be ``sorted``.

    >>> import numpy as np
    >>> [a.tolist() for a in topk(np.array([3.0, 1.0, 2.0]), 2)]
    [[3.0, 2.0], [0, 2]]
    """
    return _chosen(x, axis, *ops.topk(raw(x), k, axis, largest))


def _chosen(x: Any, axis: int, y: Any, indices: Any) -> tuple[Any, Any]:
    shape, own = raw(x).shape, copied(indices, x)
    values = differentiable(y, (x,), lambda gy, _: (ops.along_backward(gy, shape, own, axis),))
    return values, wrapped(indices) if isinstance(x, Tensor) else indices


def searchsorted(
    x: X,
    values: Any,
    out_int32: bool = False,
    right: bool = False,
    side: Literal["left", "right"] | None = None,
    sorter: Any = None,
) -> X:
    """The index at which each of ``values`` would be put in the sorted x: before its equals, or ``right`` of them.

    x is a vector, or has rows along its last axis for those of values, a number or an array. ``side="right"`` is
    ``right=True``; ``sorter`` holds the indices that sort x, where x is not sorted itself.

    >>> import numpy as np
    >>> searchsorted(np.array([1.0, 2.0, 2.0]), np.array([2.0, 5.0])).tolist()
    [1, 3]
    """
    at = side or ("right" if right else "left")
    rule = "right and side must not differ"
    check(not (right and side == "left"), ArgumentError, "searchsorted", rule, right=right, side=side)
    xd = raw(x)
    if sorter is not None:
        xd = ops.sorted_by("searchsorted", xd, raw(sorter))
    y = ops.searchsorted(xd, raw(values), at)
    if out_int32:
        y = y.astype(np.int32)
    return wrapped(y) if isinstance(x, Tensor) or isinstance(values, Tensor) else y  # type: ignore[return-value]


@overload
def nonzero(x: X, as_tuple: Literal[False] = False) -> X: ...
@overload
def nonzero(x: X, as_tuple: Literal[True]) -> tuple[X, ...]: ...
@overload
def nonzero(x: X, as_tuple: bool) -> Any: ...
def nonzero(x: Any, as_tuple: bool = False) -> Any:
    """The indices of the elements that are not 0, a row for each, (count, axes); or an array for each axis.

    >>> import numpy as np
    >>> nonzero(np.array([[0, 5], [6, 0]])).tolist()
    [[0, 1], [1, 0]]
    """
    xd = raw(x)
    check_array("nonzero", x=xd)
    indices = ops.nonzero(xd if xd.ndim else xd.reshape(1))
    each = indices if as_tuple else (ops.rows(indices)[:, : xd.ndim],)
    given = tuple(wrapped(index) if isinstance(x, Tensor) else index for index in each)
    return given if as_tuple else given[0]
