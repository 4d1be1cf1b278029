"""Differentiable functions on tensors, or on plain NumPy and CuPy arrays.

With plain arrays only, a function returns a plain array and records nothing. With a Tensor among its arguments it
returns a Tensor that :meth:`gpunn.Tensor.backward` can go back through.

>>> import numpy as np, gpunn.functional as F
>>> F.relu(np.array([-1.0, 2.0]))
array([0., 2.])

Arguments may be named as PyTorch names them: ``input=`` for ``x=``, ``dim=`` for ``axis=`` (:mod:`gpunn.spelling`).
"""

from gpunn.functional.activation import (
    elu,
    gelu,
    hardsigmoid,
    leaky_relu,
    log_softmax,
    relu,
    selu,
    sigmoid,
    silu,
    softmax,
    softplus,
    tanh,
)
from gpunn.functional.array import (
    abs,
    clip,
    concatenate,
    einsum,
    exp,
    log,
    logsumexp,
    matmul,
    maximum,
    minimum,
    one_hot,
    pad,
    split,
    sqrt,
    stack,
    where,
)
from gpunn.functional.block import bias_relu_lrn_pool, bias_relu_pool_lrn
from gpunn.functional.conv import conv1d, conv2d, conv3d, conv_transpose1d, conv_transpose2d, conv_transpose3d
from gpunn.functional.device import to_device
from gpunn.functional.dropout import dropout, dropout1d, dropout2d, dropout3d
from gpunn.functional.image import skeletonize
from gpunn.functional.linear import bilinear, cosine_similarity, embedding, linear
from gpunn.functional.loss import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    cosine_embedding_loss,
    cross_entropy,
    hinge_embedding_loss,
    huber_loss,
    kl_div,
    l1_loss,
    mse_loss,
    multi_margin_loss,
    nll_loss,
    smooth_l1_loss,
)
from gpunn.functional.norm import batch_norm, group_norm, instance_norm, layer_norm, local_response_norm
from gpunn.functional.pool import (
    adaptive_avg_pool1d,
    adaptive_avg_pool2d,
    adaptive_avg_pool3d,
    adaptive_max_pool1d,
    adaptive_max_pool2d,
    adaptive_max_pool3d,
    avg_pool1d,
    avg_pool2d,
    avg_pool3d,
    global_avg_pool1d,
    global_avg_pool2d,
    global_avg_pool3d,
    global_max_pool1d,
    global_max_pool2d,
    global_max_pool3d,
    max_pool1d,
    max_pool2d,
    max_pool3d,
)
from gpunn.functional.recurrent import gru, gru_cell, lstm, lstm_cell, rnn, rnn_cell
from gpunn.spelling import spelled

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

for _name in __all__:
    globals()[_name] = spelled(globals()[_name])
    globals()[_name].__module__ = __name__  # where pickle finds it
