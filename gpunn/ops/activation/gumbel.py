"""Draws from the classes that logits give, which have a gradient; forward and backward.

    y = softmax((x + g) / tau) along an axis, with g[i] = -log(-log(u[i])) and u even in 0 to 1

The largest of x + g is class i with the probability softmax(x)[i]; as tau goes to 0, y goes to 1 there and to 0
elsewhere. float16 is computed in float32. Source: Jang, Gu and Poole 2017, "Categorical reparameterization with
Gumbel-softmax".
"""

from __future__ import annotations

import numpy as np

from gpunn import cuda
from gpunn.backend import Array, accumulation_dtype, get_array_module, operands
from gpunn.errors import ArgumentError, check, check_number
from gpunn.ops.activation.softmax import softmax, softmax_backward
from gpunn.ops.array.shape import axis_of
from gpunn.ops.shared.checks import check_shape


def gumbel_noise(x: Array, generator: np.random.Generator) -> Array:
    """g, wide, of the shape of x, where x is; drawn on the CPU, so the same on every device."""
    xp = operands("gumbel_softmax", x=x)
    cuda.refuse_capture("gumbel_softmax", "its noise is drawn on the CPU")
    return xp.asarray(generator.gumbel(size=x.shape), accumulation_dtype(x.dtype))


def gumbel_softmax(x: Array, noise: Array, tau: float = 1.0, axis: int = -1) -> Array:
    """``softmax((x + noise) / tau)`` along ``axis``.

    >>> gumbel_softmax(np.array([0.0, 1.0]), np.array([1.0, 0.0])).tolist()
    [0.5, 0.5]
    """
    op = "gumbel_softmax"
    operands(op, x=x)
    check_shape(op, "noise", noise, x.shape)
    _check_tau(op, tau)
    axis = axis_of(op, x, axis)
    return softmax((x + noise) / noise.dtype.type(tau), axis).astype(x.dtype, copy=False)


def gumbel_softmax_backward(gy: Array, y: Array, tau: float = 1.0, axis: int = -1) -> Array:
    """The gradient with respect to x: that of softmax, divided by ``tau``."""
    _check_tau("gumbel_softmax_backward", tau)
    return softmax_backward(gy, y, axis) / y.dtype.type(tau)


def only_largest(y: Array, axis: int) -> Array:
    """1 at the first of the largest along ``axis``, else 0.

    >>> only_largest(np.array([[0.5, 0.5], [0.2, 0.8]]), 1).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    xp = get_array_module(y)
    places = xp.arange(y.shape[axis]).reshape(-1, *(1,) * (y.ndim - 1 - axis % y.ndim))
    return (xp.expand_dims(y.argmax(axis), axis) == places).astype(y.dtype)


def _check_tau(op: str, tau: float) -> None:
    check_number(op, tau=tau)
    check(tau > 0, ArgumentError, op, "tau must be above 0", tau=tau)
