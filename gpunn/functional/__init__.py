"""Differentiable functions on tensors, or on plain NumPy and CuPy arrays.

With plain arrays only, a function returns a plain array and records nothing. With a Tensor among its arguments it
returns a Tensor that :meth:`gpunn.Tensor.backward` can go back through.

>>> import numpy as np, gpunn.functional as F
>>> F.relu(np.array([-1.0, 2.0]))
array([0., 2.])
"""

from gpunn.functional.activation import relu, sigmoid, tanh
from gpunn.functional.conv import conv2d
from gpunn.functional.linear import linear
from gpunn.functional.loss import cross_entropy
from gpunn.functional.lrn import local_response_norm
from gpunn.functional.pool import avg_pool2d, max_pool2d
from gpunn.functional.softmax import log_softmax, softmax

__all__ = [
    "avg_pool2d",
    "conv2d",
    "cross_entropy",
    "linear",
    "local_response_norm",
    "log_softmax",
    "max_pool2d",
    "relu",
    "sigmoid",
    "softmax",
    "tanh",
]
