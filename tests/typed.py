"""What functions give back, as an editor shows it; nothing here runs. ``mypy`` checks it, and so does pyright.

``a`` is an array of NumPy; those of CuPy are ``u``, of no known type, as long as CuPy has no types.
"""

from __future__ import annotations

from typing import Any, TypeAlias, assert_type

import numpy as np

import gpunn.functional as F
from gpunn import Tensor
from gpunn.nn import Parameter

Array: TypeAlias = np.ndarray[Any, Any]
Matrix: TypeAlias = np.ndarray[tuple[int, int], np.dtype[np.float32]]


def arguments(a: Array, t: Tensor, p: Parameter, u: Any, matrix: Matrix, b: Parameter | None) -> None:
    assert_type(F.linear(a, a), Array)
    assert_type(F.linear(matrix, matrix, a), Array)
    assert_type(F.linear(t, t), Tensor)
    assert_type(F.linear(t, t, None), Tensor)
    assert_type(F.linear(t, p, p), Tensor)
    assert_type(F.linear(t, p, b), Tensor)
    assert_type(F.linear(p, p), Tensor)
    assert_type(F.linear(a, p), Tensor)
    assert_type(F.linear(t, a), Tensor)
    assert_type(F.linear(a, a, p), Tensor)
    assert_type(F.linear(u, u), Any)
    assert_type(F.linear(u, a), Any)
    F.linear(u, p).backward()
    F.linear([1.0], a)  # type: ignore[arg-type]


def arrays(a: Array, index: Array) -> None:
    assert_type(F.relu(a), Array)
    assert_type(F.log(a), Array)
    assert_type(F.matmul(a, a), Array)
    assert_type(F.einsum("ij,jk->ik", a, a), Array)
    assert_type(F.one_hot(index), Array)
    assert_type(F.where(a > 0, a, 0.0), Array)
    assert_type(F.maximum(a, 0.0), Array)
    assert_type(F.minimum(1, a), Array)
    assert_type(F.concatenate([a, a]), Array)
    assert_type(F.stack((a, a)), Array)
    assert_type(F.split(a, 2), tuple[Array, ...])
    assert_type(F.bias_relu_pool_lrn(a, a), Array)
    assert_type(F.bias_relu_lrn_pool(a, a), Array)
    assert_type(F.conv1d(a, a), Array)
    assert_type(F.conv2d(a, a, a, stride=2), Array)
    assert_type(F.conv3d(a, a), Array)
    assert_type(F.conv_transpose1d(a, a), Array)
    assert_type(F.conv_transpose2d(a, a, a, 2), Array)
    assert_type(F.conv_transpose3d(a, a), Array)
    assert_type(F.to_device(a, "cpu"), Array)
    assert_type(F.dropout(a, 0.1), Array)
    assert_type(F.bilinear(a, a, a), Array)
    assert_type(F.cosine_similarity(a, a), Array)
    assert_type(F.embedding(index, a), Array)
    assert_type(F.cross_entropy(a, index), Array)
    assert_type(F.nll_loss(a, index), Array)
    assert_type(F.mse_loss(a, a), Array)
    assert_type(F.batch_norm(a, a, a, training=True), Array)
    assert_type(F.layer_norm(a, 3, a, a), Array)
    assert_type(F.local_response_norm(a, 5), Array)
    assert_type(F.max_pool1d(a, 2), Array)
    assert_type(F.avg_pool2d(a, 2), Array)
    assert_type(F.rnn_cell(a, a, a, a), Array)
    assert_type(F.lstm(a, None, a, a), tuple[Array, tuple[Array, Array]])


def tensors(t: Tensor, p: Parameter, a: Array, index: Array, labels: Any, wanted: bool) -> None:
    assert_type(F.relu(t), Tensor)
    assert_type(F.log(t), Tensor)
    assert_type(F.matmul(a, t), Tensor)
    assert_type(F.einsum("ij,jk->ik", a, t), Tensor)
    assert_type(F.one_hot(t), Tensor)
    assert_type(F.where(t > 0, a, 0.0), Tensor)
    assert_type(F.where(a > 0, 0.0, t), Tensor)
    assert_type(F.maximum(t, 0.0), Tensor)
    assert_type(F.minimum(a, t), Tensor)
    assert_type(F.concatenate([t, p]), Tensor)
    assert_type(F.concatenate([a, t]), Tensor)
    assert_type(F.stack((t, a)), Tensor)
    assert_type(F.split(t, 2), tuple[Tensor, ...])
    assert_type(F.bias_relu_pool_lrn(a, p), Tensor)
    assert_type(F.bias_relu_lrn_pool(t, p), Tensor)
    assert_type(F.conv1d(t, p), Tensor)
    assert_type(F.conv2d(a, p, p, stride=2), Tensor)
    assert_type(F.conv3d(t, a), Tensor)
    assert_type(F.conv_transpose1d(t, p), Tensor)
    assert_type(F.conv_transpose2d(a, p, p, 2), Tensor)
    assert_type(F.conv_transpose3d(t, a), Tensor)
    assert_type(F.to_device(t, "cpu"), Tensor)
    assert_type(F.dropout(t, 0.1), Tensor)
    assert_type(F.bilinear(t, t, p), Tensor)
    assert_type(F.cosine_similarity(t, a), Tensor)
    assert_type(F.embedding(index, p), Tensor)
    assert_type(F.embedding(t, a), Array)
    assert_type(F.cross_entropy(t, labels), Tensor)
    assert_type(F.binary_cross_entropy(t, a), Tensor)
    assert_type(F.binary_cross_entropy_with_logits(t, a), Tensor)
    assert_type(F.nll_loss(t, index, a), Tensor)
    assert_type(F.kl_div(t, a), Tensor)
    assert_type(F.hinge_embedding_loss(t, index), Tensor)
    assert_type(F.multi_margin_loss(t, index), Tensor)
    assert_type(F.cosine_embedding_loss(t, a, index), Tensor)
    assert_type(F.mse_loss(t, a), Tensor)
    assert_type(F.mse_loss(a, t), Tensor)
    F.mse_loss(t, labels).backward()
    assert_type(F.l1_loss(t, a), Tensor)
    assert_type(F.huber_loss(t, a), Tensor)
    assert_type(F.smooth_l1_loss(t, a), Tensor)
    assert_type(F.batch_norm(t, a, a), Tensor)
    assert_type(F.batch_norm(a, t, t), Array)
    assert_type(F.batch_norm(a, None, None, p, p, True), Tensor)
    assert_type(F.group_norm(t, 2), Tensor)
    assert_type(F.instance_norm(t, weight=p, bias=p), Tensor)
    assert_type(F.layer_norm(a, 3, p, p), Tensor)
    assert_type(F.local_response_norm(t, 5), Tensor)
    assert_type(F.max_pool1d(t, 2), Tensor)
    assert_type(F.max_pool2d(t, 2, return_indices=False), Tensor)
    assert_type(F.max_pool2d(t, 2, return_indices=wanted), Any)
    assert_type(F.max_pool3d(t, 2), Tensor)
    assert_type(F.adaptive_max_pool1d(t, 2), Tensor)
    assert_type(F.adaptive_max_pool2d(t, (2, None)), Tensor)
    assert_type(F.adaptive_max_pool3d(t, 2), Tensor)
    assert_type(F.max_unpool1d(t, a, 2), Tensor)
    assert_type(F.avg_pool2d(t, 2), Tensor)
    assert_type(F.rnn_cell(t, a, p, p, p, p), Tensor)
    assert_type(F.lstm_cell(a, (a, a), p, p), tuple[Tensor, Tensor])
    assert_type(F.gru_cell(t, t, p, p), Tensor)
    assert_type(F.rnn(t, None, p, p), tuple[Tensor, Tensor])
    assert_type(F.lstm(a, (a, t), a, a), tuple[Tensor, tuple[Tensor, Tensor]])
    assert_type(F.gru(a, None, p, p, p, p), tuple[Tensor, Tensor])
