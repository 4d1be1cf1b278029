"""What turns an array function into a differentiable one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

import numpy as np

from gpunn.backend import Array, check_array, dtype_of, plain
from gpunn.graph import copied, kept, raw
from gpunn.tensor import Backward, Plain, Tensor, record, wrapped

__all__ = [
    "Given",
    "Input",
    "X",
    "Y",
    "alone",
    "copied",
    "differentiable",
    "in_dtype",
    "kept",
    "lifted",
    "mark_changed",
    "raw",
]

X = TypeVar("X", bound="Given")
"""A Tensor, or an array of NumPy or CuPy: what a function of one array takes and gives back."""

if TYPE_CHECKING:  # TypeVar of typing takes a default from Python 3.13 on
    from typing_extensions import TypeVar as WithDefault

    Y = WithDefault("Y", default=np.ndarray[Any, Any])
else:
    Y = TypeVar("Y")
"""What a function of several arrays gives back: a Tensor if one of them is a Tensor, else an array, the default."""

Y_co = TypeVar("Y_co", covariant=True)


class Recorded(Protocol[Y_co]):
    """A Tensor or a Parameter: functions give for both what ``detach`` gives, a Tensor."""

    def detach(self) -> Y_co: ...


Given: TypeAlias = Plain | Tensor
"""An array or a Tensor."""

Input: TypeAlias = Plain | Recorded[Y]
"""An array or a Tensor, argument of a function that returns Y: arrays leave Y open, a Tensor decides it."""


def in_dtype(x: X, dtype: Any, op: str = "astype") -> X:
    """``x``, an array or a Tensor, in ``dtype``; itself if it is in that one."""
    check_array(op, x=raw(x))
    given: Any = x
    wanted = dtype_of(op, dtype)
    return x if raw(x).dtype == wanted else given.astype(wanted)


def differentiable(y: Array, inputs: Sequence[Any], backward: Backward) -> Any:
    """``y`` itself if ``inputs`` are plain arrays, else a Tensor that remembers ``backward``.

    ``y`` is an array, computed from the arrays of ``inputs``, which may be None where they are left out.
    ``backward(gy, needs)`` is given the gradient of y, and for each of ``inputs`` whether it needs one; it returns a
    gradient for each, of its shape and dtype, or None. The values that it needs are those that :func:`kept` gives of
    the inputs: whoever calls may fill his arrays anew before the backward pass.

    >>> differentiable(np.array([8.0]), [np.array([2.0])], lambda gy, needs: [12 * gy])
    array([8.])

    Nothing is checked: for users there is :func:`gpunn.differentiable`, which is.
    """
    for x in inputs:
        if isinstance(x, Tensor):
            break
    else:
        return y
    parents = [x if isinstance(x, Tensor) else wrapped(x) for x in inputs if x is not None]

    def of_parents(gy: Array, needs: tuple[bool, ...]) -> Sequence[Array | None]:
        given = iter(needs)
        each = backward(gy, tuple(x is not None and next(given) for x in inputs))
        return [g for x, g in zip(inputs, each, strict=True) if x is not None]

    return record(y, parents, of_parents if len(parents) < len(inputs) else backward)


def mark_changed(x: Any) -> None:
    """Say that the array of ``x`` was changed in place, if x is a Tensor: a gradient that needs the old is refused.

    >>> from gpunn import tensor
    >>> x = tensor([1.0], requires_grad=True)
    >>> y = x * x
    >>> mark_changed(x)
    >>> y.backward()
    Traceback (most recent call last):
    gpunn.errors.GraphError: backward: an array of this graph was changed in place after it was computed with, got ...
    """
    if isinstance(x, Tensor):
        x.mark_changed()


def lifted(x: Any, axis: int = 0) -> Any:
    """``x``, a Tensor or an array, as a batch of one: with an axis of size 1 at ``axis``; anything else as it is.

    >>> lifted(np.zeros((3, 4))).shape, lifted(np.zeros((3, 4)), 1).shape
    ((1, 3, 4), (3, 1, 4))
    """
    each = x if isinstance(x, Tensor) else plain(x)
    return each.reshape(*each.shape[:axis], 1, *each.shape[axis:]) if hasattr(each, "reshape") else each


def alone(function: Callable[..., Any], x: Any, *more: Any, **named: Any) -> Any:
    """``function`` of the batch of ``x`` alone, without the axis of the batch; of each of several results alike.

    A function of (N, C, ...) so takes (C, ...) too. It asks for that where it looks at the shape anyway, and passes
    itself: for what follows calls (:mod:`gpunn.interop.trace`) it then is the reshapes and the call inside it.

    >>> alone(lambda x, scale: x * scale, np.array([2.0, 3.0]), 2.0).tolist()
    [4.0, 6.0]
    """
    y = function(lifted(x), *more, **named)
    return tuple(map(_first, y)) if isinstance(y, tuple) else _first(y)


def _first(y: Any) -> Any:
    """The only example of ``y``; a number that is the loss of the whole batch as it is."""
    return y.reshape(y.shape[1:])
