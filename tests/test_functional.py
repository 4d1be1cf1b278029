"""Each function gives plain arrays for plain arrays, and tensors with the right gradients for tensors."""

import numpy as np
import pytest
from runners import WITH_KERNEL, Runner

import gpunn.functional as F
from gpunn import Tensor, no_grad, tensor
from gpunn.backend import get_array_module, random_generator
from gpunn.functional.record import raw
from gpunn.testing import check_gradients

IMAGES, FILTERS, BIAS = (2, 4, 6, 5), (6, 2, 3, 3), (6,)
SIGNALS, VOLUMES = (2, 4, 9), (2, 4, 4, 3, 2)


def beside(x, *lists):
    """The lists as arrays on the device of x."""
    return [get_array_module(raw(x)).array(values) for values in lists]


FUNCTIONS = {
    "conv2d": (lambda x, w, b: F.conv2d(x, w, b, 2, 1, 1, 2), [IMAGES, FILTERS, BIAS]),
    "conv2d without bias": (lambda x, w: F.conv2d(x, w, groups=2), [IMAGES, FILTERS]),
    "conv1d": (lambda x, w, b: F.conv1d(x, w, b, 2, 1, 2, 2), [SIGNALS, (6, 2, 3), BIAS]),
    "conv3d": (lambda x, w, b: F.conv3d(x, w, b, 2, 1, 1, 2), [VOLUMES, (6, 2, 3, 2, 1), BIAS]),
    "conv_transpose1d": (lambda x, w, b: F.conv_transpose1d(x, w, b, 2, 1, 1, 2), [SIGNALS, (4, 3, 3), BIAS]),
    "conv_transpose2d": (lambda x, w, b: F.conv_transpose2d(x, w, b, 2, 1, 1, 2), [IMAGES, (4, 3, 3, 2), BIAS]),
    "conv_transpose3d": (lambda x, w: F.conv_transpose3d(x, w, stride=2), [VOLUMES, (4, 3, 3, 2, 1)]),
    "max_pool1d": (lambda x: F.max_pool1d(x, 3, 2, 1), [SIGNALS]),
    "max_pool3d": (lambda x: F.max_pool3d(x, 2, 1), [VOLUMES]),
    "avg_pool1d": (lambda x: F.avg_pool1d(x, 3, 2, 1, True, False), [SIGNALS]),
    "avg_pool3d": (lambda x: F.avg_pool3d(x, 2, 2, 1, True, False), [VOLUMES]),
    "adaptive_avg_pool1d": (lambda x: F.adaptive_avg_pool1d(x, 3), [SIGNALS]),
    "adaptive_avg_pool2d": (lambda x: F.adaptive_avg_pool2d(x, (4, None)), [IMAGES]),
    "adaptive_avg_pool3d": (lambda x: F.adaptive_avg_pool3d(x, 2), [VOLUMES]),
    "adaptive_max_pool1d": (lambda x: F.adaptive_max_pool1d(x, 3), [SIGNALS]),
    "adaptive_max_pool2d": (lambda x: F.adaptive_max_pool2d(x, (4, None)), [IMAGES]),
    "adaptive_max_pool3d": (lambda x: F.adaptive_max_pool3d(x, 2), [VOLUMES]),
    "lp_pool1d": (lambda x: F.lp_pool1d(x * x + 0.1, 3, 3, 2), [SIGNALS]),
    "lp_pool2d": (lambda x: F.lp_pool2d(x, 2, (2, 3), 1), [IMAGES]),
    "lp_pool3d": (lambda x: F.lp_pool3d(x, 2, 2, 1), [VOLUMES]),
    "fractional_max_pool2d": (
        lambda x: F.fractional_max_pool2d(
            x, 2, 3, _random_samples=beside(x, [[[0.3, 0.7]] * 4] * 2)[0].astype(x.dtype)
        ),
        [IMAGES],
    ),
    "fractional_max_pool3d": (
        lambda x: F.fractional_max_pool3d(
            x, (2, 1, 1), 2, _random_samples=beside(x, [[[0.3, 0.7, 0.1]] * 4] * 2)[0].astype(x.dtype)
        ),
        [VOLUMES],
    ),
    "interpolate": (lambda x: F.interpolate(x, (4, 9), mode="bicubic"), [IMAGES]),
    "interpolate, nearest": (lambda x: F.interpolate(x, scale_factor=1.5), [VOLUMES]),
    "interpolate, area": (lambda x: F.interpolate(x, 4, mode="area"), [SIGNALS]),
    "grid_sample": (F.grid_sample, [IMAGES, (2, 3, 4, 2)]),
    "grid_sample, bicubic": (
        lambda x, grid: F.grid_sample(x, grid, "bicubic", "reflection", True), [IMAGES, (2, 3, 4, 2)],
    ),
    "grid_sample, volumes": (lambda x, grid: F.grid_sample(x, grid, "bilinear", "border"), [VOLUMES, (2, 1, 3, 2, 3)]),
    "affine_grid": (lambda theta: F.affine_grid(theta, (2, 1, 3, 4)), [(2, 2, 3)]),
    "unfold": (lambda x: F.unfold(x, (3, 2), 1, 1, 2), [IMAGES]),
    "fold": (lambda x: F.fold(x, (5, 4), (3, 2), 1, 1, 2), [(2, 12, 9)]),
    "pixel_shuffle": (lambda x: F.pixel_shuffle(x, 2), [IMAGES]),
    "pixel_unshuffle": (lambda x: F.pixel_unshuffle(x, 2), [(2, 3, 4, 6)]),
    "channel_shuffle": (lambda x: F.channel_shuffle(x, 2), [IMAGES]),
    "scaled_dot_product_attention": (F.scaled_dot_product_attention, [(2, 4, 3, 5), (2, 4, 6, 5), (2, 4, 6, 2)]),
    "scaled_dot_product_attention, causal": (
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.3, enable_gqa=True),
        [(2, 4, 3, 5), (2, 2, 6, 5), (2, 2, 6, 2)],
    ),
    "scaled_dot_product_attention, mask": (
        lambda q, k, v, m: F.scaled_dot_product_attention(q, k, v, m, 0.3, generator=random_generator(1)),
        [(3, 5), (6, 5), (6, 2), (3, 6)],
    ),
    "max_unpool1d": (lambda x: F.max_unpool1d(x, *beside(x, [[[1, 4, 2], [5, 0, 3]]]), 2), [(1, 2, 3)]),
    "max_unpool2d": (lambda x: F.max_unpool2d(x, *beside(x, [[[7, 2]]]), 2), [(1, 1, 2)]),
    "max_unpool3d": (lambda x: F.max_unpool3d(x, *beside(x, [[[[3, 9]]]]), 2, 3), [(1, 1, 1, 2)]),
    "global_avg_pool1d": (F.global_avg_pool1d, [SIGNALS]),
    "global_avg_pool3d": (F.global_avg_pool3d, [VOLUMES]),
    "global_max_pool1d": (F.global_max_pool1d, [SIGNALS]),
    "global_max_pool3d": (F.global_max_pool3d, [VOLUMES]),
    "layer_norm": (lambda x, w, b: F.layer_norm(x, (6, 5), w, b), [IMAGES, (6, 5), (6, 5)]),
    "group_norm": (lambda x, w, b: F.group_norm(x, 2, w, b), [IMAGES, (4,), (4,)]),
    "instance_norm": (lambda x, w, b: F.instance_norm(x, None, None, w, b), [IMAGES, (4,), (4,)]),
    "instance_norm, running": (
        lambda x: F.instance_norm(x, *beside(x, [0.5, 0, 1, -1], [2.0, 1, 0.5, 3]), use_input_stats=False), [IMAGES],
    ),
    "max_pool2d": (lambda x: F.max_pool2d(x, 3, 2, 1), [IMAGES]),
    "avg_pool2d": (lambda x: F.avg_pool2d(x, 3, 2, 1, True, False), [IMAGES]),
    "local_response_norm": (lambda x: F.local_response_norm(x, 5, 0.5, alpha_mode="sum"), [IMAGES]),
    "batch_norm": (lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True), [IMAGES, (4,), (4,)]),
    "batch_norm, evaluation": (lambda x: F.batch_norm(x, *beside(x, [0.5, 0, 1, -1], [2.0, 1, 0.5, 3])), [IMAGES]),
    "dropout": (lambda x: F.dropout(x, 0.3, generator=random_generator(1)), [(5, 7)]),
    "dropout2d": (lambda x: F.dropout2d(x, 0.3, generator=random_generator(1)), [IMAGES]),
    "bias_relu_pool_lrn": (lambda x, b: F.bias_relu_pool_lrn(x, b, 3, 2, 1, alpha=0.5), [IMAGES, (4,)]),
    "bias_relu_lrn_pool": (lambda x, b: F.bias_relu_lrn_pool(x, b, 3, 2, 1, alpha=0.5), [IMAGES, (4,)]),
    "global_avg_pool2d": (F.global_avg_pool2d, [IMAGES]),
    "global_max_pool2d": (F.global_max_pool2d, [IMAGES]),
    "rnn": (lambda *a: F.rnn(*a)[0], [(3, 2, 4), (2, 3), (3, 4), (3, 3), (3,), (3,)]),
    "lstm": (lambda x, h, c, *w: F.lstm(x, (h, c), *w)[0], [(3, 2, 4), (2, 3), (2, 3), (12, 4), (12, 3), (12,), (12,)]),
    "lstm projected": (
        lambda x, h, c, w, *more: F.lstm(x, (h, c), w, *more[:-1], w_hr=more[-1])[0],
        [(3, 2, 4), (2, 2), (2, 3), (12, 4), (12, 2), (12,), (12,), (2, 3)],
    ),
    "avg_pool2d, another divisor": (lambda x: F.avg_pool2d(x, 3, 2, 1, divisor_override=5), [IMAGES]),
    "embedding, by frequency": (
        lambda w: F.embedding(beside(w, [[0, 4], [3, 1]])[0], w, scale_grad_by_freq=True), [(5, 3)],
    ),
    "gru": (lambda *a: F.gru(*a)[1], [(3, 2, 4), (2, 3), (9, 4), (9, 3), (9,), (9,)]),
    "gru reset before": (
        lambda *a: F.gru(*a, reset_after=False, reverse=True)[0],
        [(3, 2, 4), (2, 3), (9, 4), (9, 3), (9,), (9,)],
    ),
    "rnn_cell": (F.rnn_cell, [(2, 4), (2, 3), (3, 4), (3, 3), (3,), (3,)]),
    "lstm_cell": (
        lambda x, h, c, *w: sum(F.lstm_cell(x, (h, c), *w)),
        [(2, 4), (2, 3), (2, 3), (12, 4), (12, 3), (12,), (12,)],
    ),
    "gru_cell": (F.gru_cell, [(2, 4), (2, 3), (9, 4), (9, 3), (9,), (9,)]),
    "gru_cell reset before": (
        lambda *a: F.gru_cell(*a, reset_after=False),
        [(2, 4), (2, 3), (9, 4), (9, 3), (9,), (9,)],
    ),
    "gru_cell reset before, no bias": (
        lambda *a: F.gru_cell(*a, reset_after=False),
        [(2, 4), (2, 3), (9, 4), (9, 3)],
    ),
    "linear": (F.linear, [(3, 4), (5, 4), (5,)]),
    "linear without bias": (F.linear, [(3, 4), (5, 4)]),
    "bilinear": (F.bilinear, [(3, 4), (3, 2), (5, 4, 2), (5,)]),
    "bilinear without bias": (F.bilinear, [(3, 4), (3, 2), (5, 4, 2)]),
    "embedding": (lambda w: F.embedding(beside(w, [[0, 4], [4, 4]])[0], w, 1), [(5, 3)]),
    "embedding_bag": (
        lambda w, each: F.embedding_bag(
            beside(w, [[0, 4], [4, 4]])[0], w, mode="sum", per_sample_weights=each, padding_idx=1,
        ), [(5, 3), (2, 2)],
    ),
    "embedding_bag, means": (lambda w: F.embedding_bag(*beside(w, [0, 4, 4]), w, *beside(w, [0, 2, 2])), [(5, 3)]),
    "embedding_bag, maxima": (lambda w: F.embedding_bag(beside(w, [[0, 4, 4]])[0], w, mode="max"), [(5, 3)]),
    "pad": (lambda x: F.pad(x, (1, 2, -1, 0), value=2.0), [IMAGES]),
    "pad, reflected": (lambda x: F.pad(x, (1, 2, 3, 0), "reflect"), [IMAGES]),
    "dropout1d": (lambda x: F.dropout1d(x, 0.3, generator=random_generator(1)), [(2, 5, 3)]),
    "dropout3d": (lambda x: F.dropout3d(x, 0.3, generator=random_generator(1)), [(2, 5, 1, 3, 2)]),
    "alpha_dropout": (lambda x: F.alpha_dropout(x, 0.3, True, generator=random_generator(1)), [(5, 7)]),
    "feature_alpha_dropout": (lambda x: F.feature_alpha_dropout(x, 0.3, True, generator=random_generator(1)), [IMAGES]),
    "relu": (F.relu, [(3, 4)]),
    "leaky_relu": (lambda x: F.leaky_relu(x, 0.2), [(3, 4)]),
    "hardsigmoid": (F.hardsigmoid, [(3, 4)]),
    "silu": (F.silu, [(3, 4)]),
    "gelu": (F.gelu, [(3, 4)]),
    "softplus": (lambda x: F.softplus(x, 2.0), [(3, 4)]),
    "elu": (lambda x: F.elu(x, 0.7), [(3, 4)]),
    "selu": (F.selu, [(3, 4)]),
    "sigmoid": (F.sigmoid, [(3, 4)]),
    **{name: (getattr(F, name), [(3, 4)]) for name in (
        "hardtanh", "relu6", "hardswish", "hardshrink", "softshrink", "softsign", "tanhshrink", "logsigmoid", "mish",
        "celu", "glu", "softmin",
    )},
    "threshold": (lambda x: F.threshold(x, 0.3, 0.3), [(3, 4)]),
    "prelu": (F.prelu, [(3, 4), (4,)]),
    "rrelu": (lambda x: F.rrelu(x, training=True, generator=random_generator(1)), [(3, 4)]),
    "gumbel_softmax": (lambda x: F.gumbel_softmax(x, 2.0, generator=random_generator(1)), [(3, 4)]),
    "tanh": (F.tanh, [(3, 4)]),
    "softmax": (lambda x: F.softmax(x, 0), [(3, 4)]),
    "log_softmax": (F.log_softmax, [(3, 4)]),
    "cross_entropy": (lambda x: F.cross_entropy(x, *beside(x, [0, 3, 1])), [(3, 4)]),
    "matmul": (F.matmul, [(2, 3, 4), (4, 5)]),
    "exp": (F.exp, [(3, 4)]),
    "log": (lambda x: F.log(x * x), [(3, 4)]),
    "sqrt": (lambda x: F.sqrt(x * x), [(3, 4)]),
    "abs": (F.abs, [(3, 4)]),
    "maximum": (F.maximum, [(3, 4), (4,)]),
    "minimum": (F.minimum, [(3, 1), (3, 4)]),
    "where": (lambda x, y: F.where(raw(x) > 0, x, y), [(3, 4), (4,)]),
    "clip": (lambda x: F.clip(x, -0.5, 0.7), [(3, 4)]),
    "logsumexp": (lambda x: F.logsumexp(x, (0, 2)), [(3, 4, 2)]),
    "concatenate": (lambda x, y: F.concatenate([x, y], 1), [(3, 2), (3, 4)]),
    "stack": (lambda x, y: F.stack([x, y], 1), [(3, 4), (3, 4)]),
    "split": (lambda x: F.split(x, [1, 3], 1)[1], [(3, 4)]),
    "einsum": (lambda x, y: F.einsum("ij,kj->ik", x, y), [(3, 4), (2, 4)]),
    "cross_entropy, probabilities": (lambda x, t: F.cross_entropy(x, F.softmax(t), label_smoothing=0.1), [(3, 4)] * 2),
    "nll_loss": (lambda x: F.nll_loss(x, *beside(x, [0, 3, 1])), [(3, 4)]),
    "kl_div": (lambda x, t: F.kl_div(x, F.softmax(t), "batchmean"), [(3, 4)] * 2),
    "mse_loss": (F.mse_loss, [(3, 4)] * 2),
    "l1_loss": (F.l1_loss, [(3, 4)] * 2),
    "huber_loss": (lambda x, t: F.huber_loss(x, t, delta=0.5), [(3, 4)] * 2),
    "smooth_l1_loss": (lambda x, t: F.smooth_l1_loss(x, t, beta=0.5), [(3, 4)] * 2),
    "binary_cross_entropy": (lambda x, t: F.binary_cross_entropy(F.sigmoid(x), F.sigmoid(t)), [(3, 4)] * 2),
    "binary_cross_entropy_with_logits": (
        lambda x, t: F.binary_cross_entropy_with_logits(x, F.sigmoid(t)),
        [(3, 4)] * 2,
    ),
    "normalize": (F.normalize, [(3, 4)]),
    "pairwise_distance": (F.pairwise_distance, [(3, 4), (4,)]),
    "rms_norm": (lambda x, w: F.rms_norm(x, 4, w), [(3, 4), (4,)]),
    "margin_ranking_loss": (lambda a, b: F.margin_ranking_loss(a, b, *beside(a, [1, -1, 1]), 0.7), [(3,)] * 2),
    "triplet_margin_loss": (lambda *x: F.triplet_margin_loss(*x, 5.0, swap=True), [(3, 4)] * 3),
    "triplet_margin_with_distance_loss": (
        lambda *x: F.triplet_margin_with_distance_loss(*x, lambda a, b: ((a - b) ** 2).sum(1), 50.0), [(3, 4)] * 3,
    ),
    "soft_margin_loss": (lambda x: F.soft_margin_loss(x, *beside(x, [1, -1, 1])), [(3,)]),
    "multilabel_margin_loss": (
        lambda x: F.multilabel_margin_loss(x, *beside(x, [[0, 3, -1, 1], [2, -1, -1, -1]])), [(2, 4)],
    ),
    "multilabel_soft_margin_loss": (F.multilabel_soft_margin_loss, [(3, 4)] * 2),
    "poisson_nll_loss": (lambda x, t: F.poisson_nll_loss(x, t * t, full=True), [(3, 4)] * 2),
    "gaussian_nll_loss": (lambda x, t, v: F.gaussian_nll_loss(x, t, v * v + 0.1, True), [(3, 4), (4,), (3, 1)]),
    "ctc_loss": (
        lambda x: F.ctc_loss(F.log_softmax(x), *beside(x, [[1, 1], [2, 0]]), [5, 3], [2, 1], 3), [(5, 2, 4)],
    ),
    "hinge_embedding_loss": (lambda x: F.hinge_embedding_loss(x, *beside(x, [1, -1, 1])), [(3,)]),
    "multi_margin_loss": (lambda x: F.multi_margin_loss(x, *beside(x, [0, 3, 1])), [(3, 4)]),
    "to_device": (lambda x: F.to_device(2 * x, "cpu"), [(3, 4)]),
    "cosine_similarity": (F.cosine_similarity, [(3, 4)] * 2),
    "acos": (lambda x: F.acos(F.tanh(x)), [(3, 4)]),
    "acosh": (lambda x: F.acosh(1.5 + x * x), [(3, 4)]),
    "asin": (lambda x: F.asin(F.tanh(x)), [(3, 4)]),
    "asinh": (F.asinh, [(3, 4)]),
    "atan": (F.atan, [(3, 4)]),
    "atanh": (lambda x: F.atanh(F.tanh(x) / 2), [(3, 4)]),
    "ceil": (F.ceil, [(3, 4)]),
    "cos": (F.cos, [(3, 4)]),
    "cosh": (F.cosh, [(3, 4)]),
    "erf": (F.erf, [(3, 4)]),
    "erfc": (F.erfc, [(3, 4)]),
    "exp2": (F.exp2, [(3, 4)]),
    "expm1": (F.expm1, [(3, 4)]),
    "floor": (F.floor, [(3, 4)]),
    "log10": (lambda x: F.log10(1 + x * x), [(3, 4)]),
    "log1p": (lambda x: F.log1p(x * x), [(3, 4)]),
    "log2": (lambda x: F.log2(1 + x * x), [(3, 4)]),
    "reciprocal": (lambda x: F.reciprocal(2 + F.tanh(x)), [(3, 4)]),
    "rsqrt": (lambda x: F.rsqrt(1 + x * x), [(3, 4)]),
    "sign": (F.sign, [(3, 4)]),
    "sin": (F.sin, [(3, 4)]),
    "sinh": (F.sinh, [(3, 4)]),
    "square": (F.square, [(3, 4)]),
    "tan": (lambda x: F.tan(F.tanh(x)), [(3, 4)]),
    "trunc": (F.trunc, [(3, 4)]),
    "round": (F.round, [(3, 4)]),
    "nan_to_num": (F.nan_to_num, [(3, 4)]),
    "atan2": (F.atan2, [(3, 4), (4,)]),
    "fmod": (lambda x, y: F.fmod(4 * x, 1 + y * y), [(3, 4), (4,)]),
    "hypot": (F.hypot, [(3, 4), (3, 1)]),
    "logaddexp": (F.logaddexp, [(3, 4), (4,)]),
    "floor_divide": (lambda x, y: F.floor_divide(4 * x, 1 + y * y) + x, [(3, 4), (4,)]),
    "remainder": (lambda x, y: F.remainder(4 * x, 1 + y * y), [(3, 4), (4,)]),
    "pow": (lambda x, y: F.pow(1 + x * x, y), [(3, 4), (4,)]),
    "lerp": (F.lerp, [(3, 4), (4,), (3, 1)]),
    "lerp, a number": (lambda x, y: F.lerp(x, y, 0.3), [(3, 4), (4,)]),
    "cat": (lambda x, y: F.cat([x, y], 1), [(3, 2), (3, 4)]),
    "reshape": (lambda x: F.reshape(x, (2, -1)), [(3, 4)]),
    "flatten": (lambda x: F.flatten(x, 1), [(3, 4, 2)]),
    "squeeze": (F.squeeze, [(3, 1, 2, 1)]),
    "unsqueeze": (lambda x: F.unsqueeze(x, 1), [(3, 4)]),
    "permute": (lambda x: F.permute(x, (2, 0, 1)), [(3, 4, 2)]),
    "swapaxes": (lambda x: F.swapaxes(x, 0, -1), [(3, 4, 2)]),
    "movedim": (lambda x: F.movedim(x, (0, 2), (1, 0)), [(3, 4, 2)]),
    "broadcast_to": (lambda x: F.broadcast_to(x, (2, 3, 4)), [(3, 1)]),
    "tile": (lambda x: F.tile(x, (2, 1, 3)), [(3, 4)]),
    "chunk": (lambda x: F.chunk(x, 3, 1)[1], [(3, 5)]),
    "unbind": (lambda x: F.unbind(x, 1)[2], [(3, 5)]),
    "tril": (lambda x: F.tril(x, 1), [(2, 3, 4)]),
    "triu": (lambda x: F.triu(x, -1), [(3, 4)]),
    "diagonal": (lambda x: F.diagonal(x, 1, 2, 0), [(3, 4, 2)]),
    "trace": (F.trace, [(3, 4)]),
    "flip": (lambda x: F.flip(x, (0, 2)), [(3, 4, 2)]),
    "roll": (lambda x: F.roll(x, (1, -2), (0, 1)), [(3, 4)]),
    "roll, flat": (lambda x: F.roll(x, 5), [(3, 4)]),
    "masked_fill": (lambda x: F.masked_fill(x, raw(x)[0] > 0, 2.0), [(3, 4)]),
    "masked_select": (lambda x: F.masked_select(x, beside(x, [[True], [False]])[0]), [(3, 1, 4)]),
    "index_select": (lambda x: F.index_select(x, 1, *beside(x, [2, 0, 2])), [(3, 4)]),
    "gather": (lambda x: F.gather(x, 1, *beside(x, [[2, 0, 2], [1, 3, 3]])), [(3, 4)]),
    "scatter": (lambda x, y: F.scatter(x, 1, *beside(x, [[2, 0], [1, 3]]), y), [(3, 4), (2, 3)]),
    "scatter_add": (lambda x, y: F.scatter_add(x, 0, *beside(x, [[2, 0], [2, 1]]), y), [(3, 4), (2, 3)]),
    "dot": (F.dot, [(4,), (4,)]),
    "outer": (F.outer, [(3,), (4,)]),
    "cross": (lambda x, y: F.cross(x, y, 0), [(3, 4), (3, 1)]),
    "sum": (lambda x: F.sum(x, 1), [(3, 4)]),
    "mean": (lambda x: F.mean(x, (0, 1)), [(3, 4)]),
    "prod": (lambda x: F.prod(x, 1, True), [(3, 4)]),
    "var": (lambda x: F.var(x, 1), [(3, 4)]),
    "std": (lambda x: F.std(x, 0), [(3, 4)]),
    "amax": (lambda x: F.amax(x, 1), [(3, 4)]),
    "amin": (F.amin, [(3, 4)]),
    "cumsum": (lambda x: F.cumsum(x, 1), [(3, 4)]),
    "cumprod": (lambda x: F.cumprod(x, 1), [(3, 4)]),
    "norm": (lambda x: F.norm(x, 2, 1), [(3, 4)]),
    "norm, of order 3": (lambda x: F.norm(x, 3, (0, 2), True), [(3, 4, 2)]),
    "norm, the largest": (lambda x: F.norm(x, np.inf), [(3, 4)]),
    "sort": (lambda x: F.sort(x, 0, True)[0], [(3, 4)]),
    "topk": (lambda x: F.topk(x, 2)[0], [(3, 4)]),
    "cosine_embedding_loss": (lambda a, b: F.cosine_embedding_loss(a, b, *beside(a, [1, -1, 1])), [(3, 4)] * 2),
}  # fmt: skip


@pytest.fixture(params=FUNCTIONS.keys())
def case(request, rng):
    function, shapes = FUNCTIONS[request.param]
    return function, [rng.standard_normal(shape) for shape in shapes]


def test_plain_arrays_in_plain_arrays_out(run, case):
    function, arrays = case
    plain = run(function, *arrays)
    assert isinstance(plain, np.ndarray | np.generic)
    recorded = function(*(tensor(a) for a in arrays))
    assert isinstance(recorded, Tensor)
    assert not recorded.requires_grad
    np.testing.assert_allclose(plain, recorded.data, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", WITH_KERNEL)
def test_gradient_is_the_slope(name, case):
    function, arrays = case
    Runner(name)(lambda *a: check_gradients(function, a) or a[0], *arrays)


# What they compute is not differentiable.
WITHOUT_GRADIENT = {
    "argsort", "full_like", "isfinite", "isinf", "isnan", "nonzero", "one_hot", "ones_like", "rand_like", "randn_like",
    "searchsorted", "skeletonize", "zeros_like",
}  # fmt: skip


def test_every_function_is_in_the_table():
    assert {name.split(",")[0].split(" ")[0] for name in FUNCTIONS} | WITHOUT_GRADIENT == set(F.__all__)


def test_only_what_needs_a_gradient_gets_one(case):
    function, arrays = case
    leaves = [tensor(a, requires_grad=number == 0) for number, a in enumerate(arrays)]
    y = function(*leaves)
    y.backward(np.ones(y.shape))
    assert leaves[0].grad is not None
    assert all(leaf.grad is None for leaf in leaves[1:])
    with no_grad():
        assert not function(*leaves).requires_grad


def test_indices_of_max_pooling():
    x = np.float32([[[[1, 5], [7, 3]]]])
    y, indices = F.max_pool2d(tensor(x), 2, return_indices=True)
    assert (y.item(), indices.item(), indices.dtype) == (7, 2, np.int64)
