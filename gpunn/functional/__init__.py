"""Differentiable functions on tensors, or on plain NumPy and CuPy arrays.

With plain arrays only, a function returns a plain array and records nothing. With a Tensor among its arguments it
returns a Tensor that :meth:`gpunn.Tensor.backward` can go back through.

>>> import numpy as np, gpunn.functional as F
>>> F.relu(np.array([-1.0, 2.0]))
array([0., 2.])
"""

from gpunn.functional.activation import relu, sigmoid, tanh
from gpunn.functional.arithmetic import matmul
from gpunn.functional.batch_norm import batch_norm
from gpunn.functional.block import bias_relu_lrn_pool, bias_relu_pool_lrn
from gpunn.functional.conv import conv2d
from gpunn.functional.device import to_device
from gpunn.functional.dropout import dropout, dropout2d
from gpunn.functional.einsum import einsum
from gpunn.functional.global_pool import global_avg_pool2d, global_max_pool2d
from gpunn.functional.indexing import one_hot
from gpunn.functional.linear import linear
from gpunn.functional.loss import cross_entropy
from gpunn.functional.lrn import local_response_norm
from gpunn.functional.math import abs, exp, log, sqrt
from gpunn.functional.pool import avg_pool2d, max_pool2d
from gpunn.functional.reduction import logsumexp
from gpunn.functional.rnn_cell import gru_cell, lstm_cell, rnn_cell
from gpunn.functional.selection import clip, maximum, minimum, where
from gpunn.functional.shape import concatenate, split, stack
from gpunn.functional.skeleton import skeletonize
from gpunn.functional.softmax import log_softmax, softmax

__all__ = [
    "abs",
    "avg_pool2d",
    "batch_norm",
    "bias_relu_lrn_pool",
    "bias_relu_pool_lrn",
    "clip",
    "concatenate",
    "conv2d",
    "cross_entropy",
    "dropout",
    "dropout2d",
    "einsum",
    "exp",
    "global_avg_pool2d",
    "global_max_pool2d",
    "gru_cell",
    "linear",
    "local_response_norm",
    "log",
    "log_softmax",
    "logsumexp",
    "lstm_cell",
    "matmul",
    "max_pool2d",
    "maximum",
    "minimum",
    "one_hot",
    "relu",
    "rnn_cell",
    "sigmoid",
    "skeletonize",
    "softmax",
    "split",
    "sqrt",
    "stack",
    "tanh",
    "to_device",
    "where",
]
