"""Mixed precision: :func:`autocast`, and the three ways in which functions follow it.

    in_half       matrix products and convolutions                     float32 is rounded to the half type
    in_float32    losses, softmax, norms, logarithms, powers, sums     half types become float32
    in_widest     other functions of several arrays                    half types beside float32 become float32

A function that follows none of them computes in the dtype that it is given. A cast is recorded as ``astype`` is, so the
gradient of a float32 array is float32. float64 is never cast: it is for checks. Source: Micikevicius et al. 2018,
"Mixed precision training"; which function goes where is PyTorch's choice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any, TypeVar, cast

import numpy as np

from gpunn.backend import accumulation_dtype, half_dtype, is_floating
from gpunn.context import Setting, context

Function = TypeVar("Function", bound=Callable[..., Any])
"""Decorated or not, a function has the same type; through a ParamSpec mypy loses the default of a type variable."""

_half: Setting[np.dtype[Any] | None] = Setting("autocast", None)


@context
def autocast(name: str | None) -> Iterator[None]:
    """Within this context matrix products and convolutions compute in a half type: ``"bf16"`` or ``"fp16"``.

    These are ``@``, linear, bilinear, einsum, convolutions, and recurrent layers and cells, of
    :mod:`gpunn.functional` and so of :mod:`gpunn.nn`, on tensors and on plain arrays. Their float32 arguments are
    rounded, and so is the result; sums are float32. Losses, softmax, norms, exp, log, powers, sums, means and sigmoid
    (whose results losses take logarithms of) compute and return float32. Others keep the dtype that they are given,
    and where float32 meets a half type make it float32. Parameters stay float32, and their gradients are. ``None``
    switches it off inside; float64 and the functions of :mod:`gpunn.ops` do not follow it. The backward pass belongs
    outside, though it does the same inside.

    float16 keeps 10 bits of mantissa, but overflows beyond 65504 and loses gradients below 6e-8: scale the loss, with
    :class:`gpunn.optim.GradScaler`. bfloat16 keeps 7 bits, and the range of float32.

    :func:`gpunn.backend.matmul_precision` leaves every array float32, and rounds only what a GPU's convolution
    multiplies. autocast makes the arrays themselves half as large, those kept for the backward pass too, and does so on
    every device. It is for a GPU: the CPU only does the same roundings, and is slower for it (a step of digits takes
    1.2 times the time of float32 in bf16, 2.4 times in fp16).

    A parameter is rounded anew wherever it is used: kept, it would have to follow every step, and the gradients of its
    several uses would be added up in the half type.

    >>> import gpunn
    >>> from gpunn import functional as F
    >>> w = gpunn.tensor([[3.0]], requires_grad=True)
    >>> with autocast("fp16"):
    ...     y = F.linear(gpunn.tensor([[1 / 3]]), w)
    >>> y
    tensor([[1.]], dtype=float16, requires_grad=True)
    >>> y.backward()
    >>> w.grad
    array([[0.33325195]], dtype=float32)

    Raises ArgumentError for another name, PackageError for ``"bf16"`` without the package ``ml_dtypes``.
    """
    with _half.using(None if name is None else half_dtype("autocast", name)):
        yield


def in_half(function: Function) -> Function:
    """``function``, which under :func:`autocast` gets float32 and half arrays in the half type."""

    @wraps(function)
    def casting(*args: Any, **kwargs: Any) -> Any:
        half = _half.get()
        if half is None:
            return function(*args, **kwargs)
        return _called(function, args, kwargs, lambda dtype: half if dtype.itemsize <= 4 else dtype)

    return cast(Function, casting)


def in_float32(function: Function) -> Function:
    """``function``, which under :func:`autocast` gets half arrays in float32."""

    @wraps(function)
    def casting(*args: Any, **kwargs: Any) -> Any:
        if _half.get() is None:
            return function(*args, **kwargs)
        return _called(function, args, kwargs, accumulation_dtype)

    return cast(Function, casting)


def in_widest(function: Function) -> Function:
    """``function``, which under :func:`autocast` gets half arrays in float32 if its arrays are of several dtypes."""

    @wraps(function)
    def casting(*args: Any, **kwargs: Any) -> Any:
        if _half.get() is None or len(set(_dtypes((args, kwargs)))) < 2:
            return function(*args, **kwargs)
        return _called(function, args, kwargs, accumulation_dtype)

    return cast(Function, casting)


def widened(x: Any) -> Any:
    """``x``, under :func:`autocast` in float32 if it is a half array."""
    return x if _half.get() is None else _cast(x, accumulation_dtype)


def _called(function: Callable[..., Any], args: Any, kwargs: Any, wanted: Callable[[Any], np.dtype[Any]]) -> Any:
    return function(*_cast(args, wanted), **_cast(kwargs, wanted))


def _cast(value: Any, wanted: Callable[[Any], np.dtype[Any]]) -> Any:
    """``value``, with the floating arrays and tensors that it is or holds in the dtype that is wanted for theirs."""
    if isinstance(value, dict):
        return {name: _cast(each, wanted) for name, each in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(_cast(each, wanted) for each in value)
    if not hasattr(value, "astype") or not is_floating(value.dtype):
        return value
    dtype = wanted(value.dtype)
    return value if dtype == value.dtype else value.astype(dtype)


def _dtypes(value: Any) -> Iterator[np.dtype[Any]]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, tuple | list):
        for each in value:
            yield from _dtypes(each)
    elif hasattr(value, "astype") and is_floating(value.dtype):
        yield value.dtype
