"""Activations, element by element, and softmax along an axis; forward and backward.

    pointwise     relu, leaky_relu, sigmoid, hardsigmoid, tanh: derivatives from the output, which is kept anyway
    smooth        silu, gelu, softplus, elu, selu: derivatives from the input
    softmax       softmax and its logarithm

Arrays of any shape; each file has the formulas and the sources.
"""

from gpunn.ops.activation.pointwise import (
    hardsigmoid,
    hardsigmoid_backward,
    leaky_relu,
    leaky_relu_backward,
    relu,
    relu_backward,
    sigmoid,
    sigmoid_backward,
    tanh,
    tanh_backward,
)
from gpunn.ops.activation.smooth import (
    Approximate,
    elu,
    elu_backward,
    gelu,
    gelu_backward,
    gelu_kept,
    selu,
    selu_backward,
    silu,
    silu_backward,
    silu_kept,
    softplus,
    softplus_backward,
)
from gpunn.ops.activation.softmax import log_softmax, log_softmax_backward, softmax, softmax_backward

__all__ = [
    "Approximate",
    "elu",
    "elu_backward",
    "gelu",
    "gelu_backward",
    "gelu_kept",
    "hardsigmoid",
    "hardsigmoid_backward",
    "leaky_relu",
    "leaky_relu_backward",
    "log_softmax",
    "log_softmax_backward",
    "relu",
    "relu_backward",
    "selu",
    "selu_backward",
    "sigmoid",
    "sigmoid_backward",
    "silu",
    "silu_backward",
    "silu_kept",
    "softmax",
    "softmax_backward",
    "softplus",
    "softplus_backward",
    "tanh",
    "tanh_backward",
]
