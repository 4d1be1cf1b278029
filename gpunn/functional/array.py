"""Differentiable array functions; see :mod:`gpunn.ops.array` for the formulas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

from gpunn.backend import is_array
from gpunn.casting import in_float32, in_half, in_widest
from gpunn.errors import ArgumentError, check
from gpunn.functional.record import Input, X, Y, copied, differentiable, kept, raw
from gpunn.ops import array as ops
from gpunn.ops.array.arithmetic import pair
from gpunn.ops.array.pad import PadMode
from gpunn.ops.array.shape import Axis
from gpunn.tensor import Tensor, wrapped


@in_half
def matmul(a: Input[Y], b: Input[Y]) -> Y:
    """``a @ b``: the matrix product of the last two axes, (..., N, K) by (..., K, M); the axes before them broadcast.

    A vector counts as a row of a, or a column of b. Raises ShapeError if the inner sizes differ.

    >>> import numpy as np
    >>> matmul(np.ones((2, 3)), np.ones((3, 1))).tolist()
    [[3.0], [3.0]]
    """
    x, y = ops.agreeing("matmul", *kept(a, b))
    return differentiable(ops.matmul(x, y), (a, b), lambda gy, needs: ops.matmul_backward(gy, x, y, needs))


@in_half
def einsum(equation: str, *operands: Input[Y]) -> Y:
    """The sum of products that ``equation`` names: each axis has a letter, those not in the result are summed over.

    A letter that comes twice in an operand names its diagonal, ``...`` stands for all axes without a letter, which
    broadcast, and an axis of size 1 broadcasts too.

    >>> import numpy as np
    >>> einsum("ij,jk->ik", np.ones((2, 3)), np.ones((3, 1))).tolist()
    [[3.0], [3.0]]
    >>> einsum("...ii->...", np.array([[1.0, 2.0], [3.0, 4.0]])).tolist()
    5.0
    """
    if len(operands) == 1 and isinstance(operands[0], list | tuple):
        operands = tuple(operands[0])
    arrays = kept(*operands)
    y = ops.einsum(equation, *arrays)
    result = differentiable(y, operands, lambda gy, needs: ops.einsum_backward(gy, equation, arrays, needs))
    # Of one operand it may be a view: its axes in another order.
    shares = len(operands) == 1 and isinstance(result, Tensor)
    return result.sharing_memory(*operands) if shares else result


def one_hot(target: Input[Y], num_classes: int = -1) -> Y:
    """``y[..., c] = 1 where target[...] == c, else 0``: integers, of the target's shape and ``num_classes`` more.

    Without ``num_classes`` there are as many classes as the largest target needs. It has no gradient.

    >>> import numpy as np
    >>> one_hot(np.array([0, 2])).tolist()
    [[1, 0, 0], [0, 0, 1]]
    """
    y = ops.one_hot(raw(target), num_classes)
    if isinstance(target, Tensor):
        y = wrapped(y)
    return y


@in_float32
def exp(x: X) -> X:
    """``exp(x[i])``.

    >>> import numpy as np
    >>> exp(np.array([0.0])).tolist()
    [1.0]
    """
    y = ops.exp(raw(x))
    return differentiable(y, (x,), lambda gy, _: (ops.exp_backward(gy, y),))


@in_float32
def log(x: X) -> X:
    """The natural logarithm ``log(x[i])``; -inf at 0 and NaN below it, with NumPy's warning.

    >>> import numpy as np
    >>> log(np.array([1.0])).tolist()
    [0.0]
    """
    xd = raw(x)
    return differentiable(ops.log(xd), (x,), lambda gy, _: (ops.log_backward(gy, xd),))


@in_float32
def sqrt(x: X) -> X:
    """``sqrt(x[i])``; NaN below 0, with NumPy's warning. The gradient at 0 is infinite.

    So a length written as ``sqrt((x * x).sum())`` has the gradient 0 times infinity, NaN, where x is 0: add a small
    number under the root.

    >>> import numpy as np
    >>> sqrt(np.array([4.0])).tolist()
    [2.0]
    """
    y = ops.sqrt(raw(x))
    return differentiable(y, (x,), lambda gy, _: (ops.sqrt_backward(gy, y),))


def abs(x: X) -> X:
    """``|x[i]|``; the gradient at 0 is 0.

    >>> import numpy as np
    >>> abs(np.array([-1.0, 2.0])).tolist()
    [1.0, 2.0]
    """
    xd = raw(x)
    return differentiable(ops.abs(xd), (x,), lambda gy, _: (ops.abs_backward(gy, xd),))


def pad(x: X, pads: tuple[int, ...], mode: PadMode = "constant", value: float = 0.0) -> X:
    """x with elements added along its last axes: ``pads`` is (left, right), or (left, right, top, bottom), and so on.

    ``mode`` is ``"constant"`` (``value``), ``"reflect"`` (mirrored at the outermost element), ``"replicate"`` (the
    outermost element) or ``"circular"`` (from the other end). Negative pads take elements away.

    >>> import numpy as np
    >>> pad(np.array([[1.0, 2.0, 3.0]]), (2, 1), "reflect").tolist()
    [[3.0, 2.0, 1.0, 2.0, 3.0, 2.0]]
    """
    y = ops.pad(raw(x), pads, mode, value)
    shape, kept_pads = raw(x).shape, tuple(pads)
    return differentiable(y, (x,), lambda gy, _: (ops.pad_backward(gy, shape, kept_pads, mode),))


@in_float32
def logsumexp(x: X, axis: Axis = None, keepdims: bool = False) -> X:
    """``log sum_i exp(x[i])`` over ``axis`` (all axes by default), without overflow.

    >>> import numpy as np
    >>> logsumexp(np.array([1000.0, 1000.0])).round(4).tolist()
    1000.6931
    """
    xd = raw(x)
    y = ops.logsumexp(xd, axis, keepdims)
    return differentiable(y, (x,), lambda gy, _: (ops.logsumexp_backward(gy, xd, axis, keepdims),))


@in_widest
def where(condition: Input[Y], a: Input[Y] | float, b: Input[Y] | float) -> Y:
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
def maximum(a: Input[Y] | float, b: Input[Y] | float) -> Y:
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
def minimum(a: Input[Y] | float, b: Input[Y] | float) -> Y:
    """The smaller of a and b, element by element; shapes broadcast, one of them may be a number.

    Where they are equal each gets half of the gradient.

    >>> import numpy as np
    >>> minimum(np.array([1.0, 5.0]), 2.0).tolist()
    [1.0, 2.0]
    """
    x, y = pair("minimum", *kept(a, b))
    inputs = (_input(a, x), _input(b, y))
    return differentiable(ops.minimum(x, y), inputs, lambda gy, needs: ops.minimum_backward(gy, x, y, needs))


def clip(x: Input[Y], min: Input[Y] | float | None = None, max: Input[Y] | float | None = None) -> Y:
    """``x`` with what is below ``min`` raised to it and what is above ``max`` lowered to it; numbers, arrays or None.

    The gradient is 1 from bound to bound, the bounds included, and 0 outside: there it is that of the bound, if that is
    an array. The shapes broadcast. Where min is above max, which arrays may be, the result is max.

    >>> import numpy as np
    >>> clip(np.array([-2.0, 0.5, 3.0]), 0, 1).tolist()
    [0.0, 0.5, 1.0]
    >>> clip(np.array([-2.0, 0.5, 3.0]), max=np.array([0.0, 1.0, 2.0])).tolist()
    [-2.0, 0.5, 2.0]
    """
    least: Any = raw(min)
    most: Any = raw(max)
    if not is_array(least) and not is_array(most):
        xd = raw(x)
        return differentiable(ops.clip(xd, least, most), (x,), lambda gy, _: (ops.clip_backward(gy, xd, least, most),))
    xd, low, high = ops.bounded("clip", *kept(x, min, max))
    inputs = (x, min if is_array(least) else low, max if is_array(most) else high)
    y = ops.clip_between(xd, low, high)
    return differentiable(y, inputs, lambda gy, needs: ops.clip_between_backward(gy, xd, low, high, needs))


def _input(x: Any, array: Any) -> Any:
    """``x``, or the array that was made of it if it is a number."""
    return array if not is_array(raw(x)) else x


@overload
def concatenate(arrays: Sequence[Input[Y]], axis: int = 0) -> Y: ...
@overload
def concatenate(arrays: Sequence[Any], axis: int = 0) -> Tensor: ...
@in_widest
def concatenate(arrays: Any, axis: int = 0) -> Any:
    """The arrays one after another along ``axis``; their other axes must be equal.

    >>> import numpy as np
    >>> concatenate([np.array([1, 2]), np.array([3])]).tolist()
    [1, 2, 3]
    """
    return _concatenated("concatenate", arrays, axis)


def _concatenated(op: str, arrays: Any, axis: int) -> Any:
    parts = _raw(op, arrays)
    y, shapes = ops.concatenate(parts, axis, op), [part.shape for part in parts]
    return differentiable(y, arrays, lambda gy, _: ops.concatenate_backward(gy, shapes, axis))


@overload
def cat(arrays: Sequence[Input[Y]], axis: int = 0) -> Y: ...
@overload
def cat(arrays: Sequence[Any], axis: int = 0) -> Tensor: ...
@in_widest
def cat(arrays: Any, axis: int = 0) -> Any:
    """:func:`concatenate`, under PyTorch's name.

    >>> import numpy as np
    >>> cat([np.array([1, 2]), np.array([3])]).tolist()
    [1, 2, 3]
    """
    return _concatenated("cat", arrays, axis)


@overload
def stack(arrays: Sequence[Input[Y]], axis: int = 0) -> Y: ...
@overload
def stack(arrays: Sequence[Any], axis: int = 0) -> Tensor: ...
@in_widest
def stack(arrays: Any, axis: int = 0) -> Any:
    """The arrays, all of one shape, side by side along a new ``axis``.

    >>> import numpy as np
    >>> stack([np.array([1, 2]), np.array([3, 4])], axis=1).tolist()
    [[1, 3], [2, 4]]
    """
    y = ops.stack(_raw("stack", arrays), axis)
    return differentiable(y, arrays, lambda gy, _: ops.stack_backward(gy, axis))


def split(x: X, split_size_or_sections: int | Sequence[int], axis: int = 0) -> tuple[X, ...]:
    """The pieces of ``x`` along ``axis``: each of one size (the last may be smaller), or of the sizes listed.

    The pieces are views: a change in place of one is a change of x.

    >>> import numpy as np
    >>> [piece.tolist() for piece in split(np.arange(5), 2)]
    [[0, 1], [2, 3], [4]]
    >>> [piece.tolist() for piece in split(np.arange(5), [1, 4])]
    [[0], [1, 2, 3, 4]]
    """
    whole: Any = x  # a Tensor stays one when it is indexed
    return tuple(whole[index] for index in ops.split_indices(raw(x), split_size_or_sections, axis))


def _raw(op: str, arrays: Any) -> list[Any]:
    several = isinstance(arrays, list | tuple)
    check(several, ArgumentError, op, "arrays must be a list or tuple of them", type=type(arrays).__name__)
    return [raw(a) for a in arrays]
