"""Differentiable functions on tensors, or on plain NumPy and CuPy arrays.

With plain arrays only, a function returns a plain array and records nothing. With a Tensor among its arguments it
returns a Tensor that :meth:`gpunn.Tensor.backward` can go back through.

>>> import numpy as np, gpunn.functional as F
>>> F.relu(np.array([-1.0, 2.0]))
array([0., 2.])
"""

from gpunn.functional.activation import relu, sigmoid, tanh
from gpunn.functional.batch_norm import batch_norm
from gpunn.functional.block import bias_relu_lrn_pool, bias_relu_pool_lrn
from gpunn.functional.conv import conv2d
from gpunn.functional.device import concatenate, to_device
from gpunn.functional.dropout import dropout, dropout2d
from gpunn.functional.global_pool import global_avg_pool2d, global_max_pool2d
from gpunn.functional.linear import linear
from gpunn.functional.loss import cross_entropy
from gpunn.functional.lrn import local_response_norm
from gpunn.functional.pool import avg_pool2d, max_pool2d
from gpunn.functional.rnn_cell import gru_cell, lstm_cell, rnn_cell
from gpunn.functional.skeleton import skeletonize
from gpunn.functional.softmax import log_softmax, softmax

__all__ = [
    "avg_pool2d",
    "batch_norm",
    "bias_relu_lrn_pool",
    "bias_relu_pool_lrn",
    "concatenate",
    "conv2d",
    "cross_entropy",
    "dropout",
    "dropout2d",
    "global_avg_pool2d",
    "global_max_pool2d",
    "gru_cell",
    "linear",
    "local_response_norm",
    "log_softmax",
    "lstm_cell",
    "max_pool2d",
    "relu",
    "rnn_cell",
    "sigmoid",
    "skeletonize",
    "softmax",
    "tanh",
    "to_device",
]
