"""Differentiable functions on tensors, or on plain NumPy and CuPy arrays.

With plain arrays only, a function returns a plain array and records nothing. With a Tensor among its arguments it
returns a Tensor that :meth:`gpunn.Tensor.backward` can go back through.

>>> import numpy as np, gpunn.functional as F
>>> F.relu(np.array([-1.0, 2.0]))
array([0., 2.])
"""

from gpunn.functional.activation import hardsigmoid, leaky_relu, relu, sigmoid, tanh
from gpunn.functional.adaptive_pool import (
    adaptive_avg_pool1d,
    adaptive_avg_pool2d,
    adaptive_avg_pool3d,
    adaptive_max_pool1d,
    adaptive_max_pool2d,
    adaptive_max_pool3d,
)
from gpunn.functional.arithmetic import matmul
from gpunn.functional.batch_norm import batch_norm
from gpunn.functional.bilinear import bilinear
from gpunn.functional.binary_loss import binary_cross_entropy, binary_cross_entropy_with_logits
from gpunn.functional.block import bias_relu_lrn_pool, bias_relu_pool_lrn
from gpunn.functional.conv import conv1d, conv2d, conv3d
from gpunn.functional.conv_transpose import conv_transpose1d, conv_transpose2d, conv_transpose3d
from gpunn.functional.cosine import cosine_similarity
from gpunn.functional.device import to_device
from gpunn.functional.dropout import dropout, dropout1d, dropout2d, dropout3d
from gpunn.functional.einsum import einsum
from gpunn.functional.embedding import embedding
from gpunn.functional.global_pool import (
    global_avg_pool1d,
    global_avg_pool2d,
    global_avg_pool3d,
    global_max_pool1d,
    global_max_pool2d,
    global_max_pool3d,
)
from gpunn.functional.group_norm import group_norm, instance_norm
from gpunn.functional.indexing import one_hot
from gpunn.functional.layer_norm import layer_norm
from gpunn.functional.likelihood_loss import kl_div, nll_loss
from gpunn.functional.linear import linear
from gpunn.functional.loss import cross_entropy
from gpunn.functional.lrn import local_response_norm
from gpunn.functional.margin_loss import cosine_embedding_loss, hinge_embedding_loss, multi_margin_loss
from gpunn.functional.math import abs, exp, log, sqrt
from gpunn.functional.pad import pad
from gpunn.functional.pool import avg_pool1d, avg_pool2d, avg_pool3d, max_pool1d, max_pool2d, max_pool3d
from gpunn.functional.reduction import logsumexp
from gpunn.functional.regression_loss import huber_loss, l1_loss, mse_loss, smooth_l1_loss
from gpunn.functional.rnn import gru, lstm, rnn
from gpunn.functional.rnn_cell import gru_cell, lstm_cell, rnn_cell
from gpunn.functional.selection import clip, maximum, minimum, where
from gpunn.functional.shape import concatenate, split, stack
from gpunn.functional.skeleton import skeletonize
from gpunn.functional.smooth_activation import elu, gelu, selu, silu, softplus
from gpunn.functional.softmax import log_softmax, softmax

__all__ = [
    "abs",
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool3d",
    "adaptive_max_pool1d",
    "adaptive_max_pool2d",
    "adaptive_max_pool3d",
    "avg_pool1d",
    "avg_pool2d",
    "avg_pool3d",
    "batch_norm",
    "bias_relu_lrn_pool",
    "bias_relu_pool_lrn",
    "bilinear",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "clip",
    "concatenate",
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "cosine_embedding_loss",
    "cosine_similarity",
    "cross_entropy",
    "dropout",
    "dropout1d",
    "dropout2d",
    "dropout3d",
    "einsum",
    "elu",
    "embedding",
    "exp",
    "gelu",
    "global_avg_pool1d",
    "global_avg_pool2d",
    "global_avg_pool3d",
    "global_max_pool1d",
    "global_max_pool2d",
    "global_max_pool3d",
    "group_norm",
    "gru",
    "gru_cell",
    "hardsigmoid",
    "hinge_embedding_loss",
    "huber_loss",
    "instance_norm",
    "kl_div",
    "l1_loss",
    "layer_norm",
    "leaky_relu",
    "linear",
    "local_response_norm",
    "log",
    "log_softmax",
    "logsumexp",
    "lstm",
    "lstm_cell",
    "matmul",
    "max_pool1d",
    "max_pool2d",
    "max_pool3d",
    "maximum",
    "minimum",
    "mse_loss",
    "multi_margin_loss",
    "nll_loss",
    "one_hot",
    "pad",
    "relu",
    "rnn",
    "rnn_cell",
    "selu",
    "sigmoid",
    "silu",
    "skeletonize",
    "smooth_l1_loss",
    "softmax",
    "softplus",
    "split",
    "sqrt",
    "stack",
    "tanh",
    "to_device",
    "where",
]
