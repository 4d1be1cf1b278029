"""What functions give back, as an editor shows it; nothing here runs. ``mypy`` checks it, and so does pyright.

``a`` is an array of NumPy; those of CuPy are ``u``, of no known type, as long as CuPy has no types.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeAlias, assert_type

import numpy as np
from matplotlib.figure import Figure

import gpunn.functional as F
from gpunn import Tensor, interop, models, nn, optim, plot
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
    assert_type(F.sin(a), Array)
    assert_type(F.atan2(a, a), Array)
    assert_type(F.fmod(a, 2.0), Array)
    assert_type(F.lerp(a, a, 0.5), Array)
    assert_type(F.cat([a, a]), Array)
    assert_type(F.outer(a, a), Array)
    assert_type(F.topk(a, 2), tuple[Array, Array])
    assert_type(F.gather(a, 0, index), Array)
    assert_type(F.scatter(a, 0, index, 1.0), Array)
    assert_type(F.chunk(a, 2), tuple[Array, ...])
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
    assert_type(F.prelu(a, a), Array)
    assert_type(F.normalize(a), Array)
    assert_type(F.pairwise_distance(a, a), Array)
    assert_type(F.rms_norm(a, 3), Array)
    assert_type(F.triplet_margin_loss(a, a, a), Array)
    assert_type(F.gaussian_nll_loss(a, a, 1.0), Array)
    assert_type(F.ctc_loss(a, index, [3], [2]), Array)
    assert_type(F.hardtanh(a), Array)
    assert_type(F.cosine_similarity(a, a), Array)
    assert_type(F.embedding(index, a), Array)
    assert_type(F.embedding_bag(index, a), Array)
    assert_type(F.cross_entropy(a, index), Array)
    assert_type(F.nll_loss(a, index), Array)
    assert_type(F.mse_loss(a, a), Array)
    assert_type(F.batch_norm(a, a, a, training=True), Array)
    assert_type(F.layer_norm(a, 3, a, a), Array)
    assert_type(F.local_response_norm(a, 5), Array)
    assert_type(F.max_pool1d(a, 2), Array)
    assert_type(F.lp_pool2d(a, 2, 2), Array)
    assert_type(F.fractional_max_pool2d(a, 2, 3), Array)
    assert_type(F.interpolate(a, 3), Array)
    assert_type(F.grid_sample(a, F.affine_grid(a, (1, 2, 3, 4))), Array)
    assert_type(F.fold(F.unfold(a, 2), 5, 2), Array)
    assert_type(F.channel_shuffle(F.pixel_unshuffle(F.pixel_shuffle(a, 2), 2), 2), Array)
    assert_type(F.scaled_dot_product_attention(a, a, a), Array)
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
    assert_type(F.sin(p), Parameter)
    assert_type(F.pow(t, 2), Tensor)
    assert_type(F.atan2(a, t), Tensor)
    assert_type(F.lerp(a, a, t), Tensor)
    assert_type(F.cat([a, t]), Tensor)
    assert_type(F.dot(t, p), Tensor)
    assert_type(F.sort(t), tuple[Tensor, Tensor])
    assert_type(F.scatter_add(a, 0, index, t), Tensor)
    assert_type(F.gather(a, 0, t), Array)
    assert_type(t.size(), Any)
    assert_type(t.max(1).unsqueeze(0).half().float(), Tensor)
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
    assert_type(F.prelu(t, p), Tensor)
    assert_type(F.normalize(t), Tensor)
    assert_type(F.pairwise_distance(a, t), Tensor)
    assert_type(F.rms_norm(a, 3, p), Tensor)
    assert_type(F.margin_ranking_loss(t, a, index), Tensor)
    assert_type(F.triplet_margin_loss(t, a, a), Tensor)
    assert_type(F.soft_margin_loss(t, index), Tensor)
    assert_type(F.multilabel_margin_loss(t, index), Tensor)
    assert_type(F.multilabel_soft_margin_loss(t, labels), Tensor)
    assert_type(F.poisson_nll_loss(t, a), Tensor)
    assert_type(F.gaussian_nll_loss(t, a, a), Tensor)
    assert_type(F.ctc_loss(t, index, [3], [2]), Tensor)
    assert_type(F.prelu(a, p), Tensor)
    assert_type(F.hardtanh(t), Tensor)
    assert_type(F.cosine_similarity(t, a), Tensor)
    assert_type(F.embedding(index, p), Tensor)
    assert_type(F.embedding_bag(index, p), Tensor)
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
    assert_type(F.lp_pool2d(t, 2, 2), Tensor)
    assert_type(F.fractional_max_pool3d(t, 2, 3), Tensor)
    assert_type(F.fractional_max_pool3d(t, 2, 3, return_indices=wanted), Any)
    assert_type(F.interpolate(t, None, 2, "bilinear"), Tensor)
    assert_type(F.pixel_shuffle(t, 2), Tensor)
    assert_type(F.grid_sample(a, F.affine_grid(t, (1, 2, 3, 4))), Tensor)
    assert_type(F.scaled_dot_product_attention(t, a, p), Tensor)
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


class Own(nn.Module):
    def forward(self, x: Tensor, scale: float = 1.0) -> tuple[Tensor, float]:
        return x * scale, scale


def layers(t: Tensor, a: Array, module: nn.Module, packed: nn.PackedSequence) -> None:
    assert_type(nn.Linear(3, 2)(a), Tensor)
    assert_type(nn.Conv2d(1, 2, 3)(t), Tensor)
    assert_type(nn.ReLU()(a), Array)
    assert_type(nn.Flatten()(nn.MaxPool2d(2)(t)), Tensor)
    assert_type(nn.LayerNorm(3)(t), Tensor)
    assert_type(nn.Sequential(nn.ReLU())(t), Tensor)
    assert_type(nn.CrossEntropyLoss()(t, a), Tensor)
    assert_type(nn.MSELoss()(a, a), Array)
    assert_type(nn.LSTM(3, 2)(t), tuple[Tensor, tuple[Tensor, Tensor]])
    assert_type(nn.GRU(3, 2)(packed), tuple[nn.PackedSequence, Tensor])
    assert_type(Own()(t, scale=2.0), tuple[Tensor, float])
    assert_type(module(t), Any)
    assert_type(models.lenet5()(t), Tensor)
    assert_type(models.AlexNet(10).logits(t), Tensor)
    assert_type(nn.MaxUnpool2d(2)(t, a), Tensor)
    Own()(a)  # type: ignore[arg-type]


def training(optimizer: optim.Optimizer, closure: Callable[[], Tensor]) -> None:
    assert_type(optimizer.step(closure), Tensor)
    assert_type(optim.LBFGS([]).step(closure), Tensor)
    assert_type(plot.curves([{"epoch": 1, "train_loss": 1.0}]), Figure)
    _ = interop.onnx.exports  # type: ignore[attr-defined]


def operators(t: Tensor, a: Matrix) -> None:
    assert_type(t - np.float32(2), Tensor)
    assert_type(sum([t, t]), Tensor | Literal[0])
    t + "1"  # type: ignore[operator]
    t * None  # type: ignore[operator]
    t @ [1.0]  # type: ignore[operator]
    assert_type(a * t, Tensor)
    assert_type(a @ t, Tensor)
    assert_type(2 - t, Tensor)
    assert_type(t[0] > 0.5, Tensor)
    assert_type(t.mean(axis=0), Tensor)
