"""Activations and softmax, by :mod:`gpunn.ops.activation`."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from gpunn.backend import Array, get_array_module, where
from gpunn.errors import ArgumentError, check, check_number
from gpunn.interop.cudnn.arrays import on_device
from gpunn.interop.cudnn.constants import (
    CUDNN_ACTIVATION_CLIPPED_RELU,
    CUDNN_ACTIVATION_ELU,
    CUDNN_ACTIVATION_IDENTITY,
    CUDNN_ACTIVATION_RELU,
    CUDNN_ACTIVATION_SIGMOID,
    CUDNN_ACTIVATION_TANH,
    CUDNN_SOFTMAX_ACCURATE,
    CUDNN_SOFTMAX_FAST,
    CUDNN_SOFTMAX_LOG,
)
from gpunn.ops import activation as ops
from gpunn.ops.shared.checks import check_shape


class _Activation(NamedTuple):
    forward: Callable[[Array, float], Array]
    backward: Callable[[Array, Array, Array, float], Array]
    """From gy, x and y."""


def _clipped_relu(x: Array, ceiling: float) -> Array:
    return get_array_module(x).minimum(ops.relu(x), x.dtype.type(ceiling))


def _clipped_relu_backward(gy: Array, x: Array, y: Array, ceiling: float) -> Array:
    return where((x <= 0) | (x >= x.dtype.type(ceiling)), x.dtype.type(0), gy)


_ACTIVATIONS = {
    CUDNN_ACTIVATION_SIGMOID: _Activation(lambda x, _: ops.sigmoid(x), lambda gy, x, y, _: ops.sigmoid_backward(gy, y)),
    CUDNN_ACTIVATION_RELU: _Activation(lambda x, _: ops.relu(x), lambda gy, x, y, _: ops.relu_backward(gy, y)),
    CUDNN_ACTIVATION_TANH: _Activation(lambda x, _: ops.tanh(x), lambda gy, x, y, _: ops.tanh_backward(gy, y)),
    CUDNN_ACTIVATION_CLIPPED_RELU: _Activation(_clipped_relu, _clipped_relu_backward),
    CUDNN_ACTIVATION_ELU: _Activation(ops.elu, lambda gy, x, y, alpha: ops.elu_backward(gy, x, alpha)),
    CUDNN_ACTIVATION_IDENTITY: _Activation(lambda x, _: x.copy(), lambda gy, x, y, _: gy.copy()),
}


def activation_forward(x: Array, mode: int, coef: float = 0.0) -> Array:
    """The function ``CUDNN_ACTIVATION_...`` of each element; NaN stays NaN.

    ``coef`` is the ceiling of ``CLIPPED_RELU``, ``min(max(x, 0), coef)``, and alpha of ``ELU``, which is
    ``alpha (exp(x) - 1)`` below 0.

    >>> import numpy as np
    >>> activation_forward(np.array([-1.0, 2.0, 8.0]), CUDNN_ACTIVATION_CLIPPED_RELU, 6.0).tolist()
    [0.0, 2.0, 6.0]
    """
    op = "cudnn.activation_forward"
    function = _activation(op, mode, coef)
    with on_device(op, x=x):
        return function.forward(x, float(coef))


def activation_backward(x: Array, y: Array, gy: Array, mode: int, coef: float = 0.0) -> Array:
    """The gradient with respect to x, from gy, that with respect to y; see :func:`activation_forward`.

    Sigmoid, relu and tanh need y alone, and do not read x.
    """
    op = "cudnn.activation_backward"
    function = _activation(op, mode, coef)
    with on_device(op, x=x, y=y, gy=gy):
        check_shape(op, "y", y, x.shape)
        check_shape(op, "gy", gy, x.shape)
        return function.backward(gy, x, y, float(coef))


def _activation(op: str, mode: int, coef: float) -> _Activation:
    check_number(op, coef=coef)
    known = "CUDNN_ACTIVATION_SIGMOID, _RELU, _TANH, _CLIPPED_RELU, _ELU, _IDENTITY"
    check(mode in _ACTIVATIONS, ArgumentError, op, f"mode must be one of {known}", mode=mode)
    return _ACTIVATIONS[mode]


def softmax_forward(x: Array, axis: int, algorithm: int) -> Array:
    """Softmax along ``axis``, or its logarithm with ``CUDNN_SOFTMAX_LOG``.

    ``CUDNN_SOFTMAX_FAST`` is computed as ``_ACCURATE`` is: the largest x is subtracted first.

    >>> import numpy as np
    >>> softmax_forward(np.array([[0.0, 0.0]]), 1, CUDNN_SOFTMAX_ACCURATE).tolist()
    [[0.5, 0.5]]
    """
    op = "cudnn.softmax_forward"
    _check_algorithm(op, algorithm)
    with on_device(op, x=x):
        return ops.log_softmax(x, axis) if algorithm == CUDNN_SOFTMAX_LOG else ops.softmax(x, axis)


def softmax_backward(y: Array, gy: Array, axis: int, algorithm: int) -> Array:
    """The gradient with respect to x, from y, the result of :func:`softmax_forward`, and gy, its gradient."""
    op = "cudnn.softmax_backward"
    _check_algorithm(op, algorithm)
    with on_device(op, y=y, gy=gy):
        backward = ops.log_softmax_backward if algorithm == CUDNN_SOFTMAX_LOG else ops.softmax_backward
        return backward(gy, y, axis)


def _check_algorithm(op: str, algorithm: int) -> None:
    known = algorithm in (CUDNN_SOFTMAX_FAST, CUDNN_SOFTMAX_ACCURATE, CUDNN_SOFTMAX_LOG)
    rule = "algorithm must be one of CUDNN_SOFTMAX_FAST, _ACCURATE, _LOG"
    check(known, ArgumentError, op, rule, algorithm=algorithm)
