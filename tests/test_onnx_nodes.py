"""Every layer and function that has a translation to ONNX gives there what it gives here."""

from __future__ import annotations

import inspect
from functools import partial
from itertools import product

import numpy as np
import pytest
from onnx_case import RUN_BY, Of, check_export, drawn

from gpunn import functional as F
from gpunn import nn, tensor
from gpunn.errors import ArgumentError, GraphError
from gpunn.functional.record import raw
from gpunn.interop.onnx import export
from gpunn.interop.onnx_nodes import TRANSLATIONS
from gpunn.interop.trace import _watched

MAPS, SIGNAL, VOLUME = (4, 7, 6), (4, 9), (4, 5, 4, 6)


def trained(layer: nn.Module) -> nn.Module:
    """The layer with parameters and statistics that are all different."""
    for number, (_, held) in enumerate([*layer.named_parameters(), *layer.named_buffers()]):
        if held.dtype.kind == "f":
            held.data[...] = np.abs(drawn(held.shape, 100 + number)) * 0.5 + 0.1
    return layer


LAYERS = {
    "Linear": (lambda: nn.Linear(6, 3), MAPS),
    "Linear, rows": (lambda: nn.Linear(9, 3, bias=False), (9,)),
    "Linear, no bias": (lambda: nn.Linear(6, 3, bias=False), MAPS),
    "Flatten": (nn.Flatten, MAPS),
    "Unflatten": (lambda: nn.Unflatten(1, (2, -1)), MAPS),
    "Identity": (nn.Identity, MAPS),
    "Sequential": (lambda: nn.Sequential(nn.ReLU(), nn.Tanh()), MAPS),
    "Conv1d": (lambda: nn.Conv1d(4, 6, 3, 2, 1, 2, 2), SIGNAL),
    "Conv2d": (lambda: nn.Conv2d(4, 6, (3, 2), (2, 1), ((0, 2), (1, 0)), (1, 2), 2), MAPS),
    "Conv2d, same": (lambda: nn.Conv2d(4, 6, (3, 2), padding="same", bias=False), MAPS),
    "Conv2d, depthwise": (lambda: nn.Conv2d(4, 8, 3, padding="valid", groups=4), MAPS),
    "Conv2d, reflected": (lambda: nn.Conv2d(4, 6, 3, padding=2, padding_mode="reflect"), MAPS),
    "Conv2d, circular": (lambda: nn.Conv2d(4, 6, 3, padding=2, padding_mode="circular"), MAPS),
    "Conv3d": (lambda: nn.Conv3d(4, 6, (2, 3, 2), (1, 2, 1), (1, 0, 1)), VOLUME),
    "ConvTranspose1d": (lambda: nn.ConvTranspose1d(4, 6, 3, 2, 1, 1, 2), SIGNAL),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(4, 6, (3, 2), (2, 3), 1, (1, 2), 2), MAPS),
    "ConvTranspose2d, uneven": (lambda: nn.ConvTranspose2d(4, 6, 3, 2, ((0, 1), (2, 0)), dilation=2), MAPS),
    "ConvTranspose3d": (lambda: nn.ConvTranspose3d(4, 2, 2, 2, bias=False), VOLUME),
    "MaxPool1d": (lambda: nn.MaxPool1d(3, 2, 1), SIGNAL),
    "MaxPool2d": (lambda: nn.MaxPool2d((3, 2), (1, 2), (1, 0), (1, 2)), MAPS),
    "MaxPool3d": (lambda: nn.MaxPool3d(2, ceil_mode=True), VOLUME),
    "AvgPool1d": (lambda: nn.AvgPool1d(3, 2, 1), SIGNAL),
    "AvgPool2d": (lambda: nn.AvgPool2d((3, 2), None, (1, 0), count_include_pad=False), MAPS),
    "AvgPool3d": (lambda: nn.AvgPool3d(2, 2, 1, ceil_mode=True), VOLUME),
    "AdaptiveAvgPool1d": (lambda: nn.AdaptiveAvgPool1d(4), SIGNAL),
    "AdaptiveAvgPool2d": (lambda: nn.AdaptiveAvgPool2d((3, None)), MAPS),
    "AdaptiveAvgPool3d": (lambda: nn.AdaptiveAvgPool3d((1, 2, 4)), VOLUME),
    "AdaptiveMaxPool1d": (lambda: nn.AdaptiveMaxPool1d(4), SIGNAL),
    "AdaptiveMaxPool2d": (lambda: nn.AdaptiveMaxPool2d((9, 1)), MAPS),
    "AdaptiveMaxPool3d": (lambda: nn.AdaptiveMaxPool3d(2), VOLUME),
    "GlobalAvgPool1d": (nn.GlobalAvgPool1d, SIGNAL),
    "GlobalAvgPool2d": (nn.GlobalAvgPool2d, MAPS),
    "GlobalAvgPool3d": (nn.GlobalAvgPool3d, VOLUME),
    "GlobalMaxPool1d": (nn.GlobalMaxPool1d, SIGNAL),
    "GlobalMaxPool2d": (nn.GlobalMaxPool2d, MAPS),
    "GlobalMaxPool3d": (nn.GlobalMaxPool3d, VOLUME),
    "LocalResponseNorm": (lambda: nn.LocalResponseNorm(3, 0.7, 0.6, 1.5), MAPS),
    "LocalResponseNorm, summed": (lambda: nn.LocalResponseNorm(5, 0.7, 0.6, 2.0, "sum"), MAPS),
    "LocalResponseNorm, of 2": (lambda: nn.LocalResponseNorm(2, 0.7), MAPS),
    "LocalResponseNorm, of 4": (lambda: nn.LocalResponseNorm(4, 0.7, alpha_mode="sum"), MAPS),
    "LocalResponseNorm, of 8 signals": (lambda: nn.LocalResponseNorm(8, 0.7), SIGNAL),
    "LocalResponseNorm, volumes": (lambda: nn.LocalResponseNorm(3, 0.7), VOLUME),
    "BatchNorm1d": (lambda: nn.BatchNorm1d(9), (9,)),
    "BatchNorm2d": (lambda: nn.BatchNorm2d(4, eps=0.3, relu=True), MAPS),
    "BatchNorm2d, not affine": (lambda: nn.BatchNorm2d(4, affine=False), MAPS),
    "BatchNorm3d": (lambda: nn.BatchNorm3d(4), VOLUME),
    "LayerNorm": (lambda: nn.LayerNorm((7, 6), eps=0.3), MAPS),
    "LayerNorm, not affine": (lambda: nn.LayerNorm(6, elementwise_affine=False), MAPS),
    "GroupNorm": (lambda: nn.GroupNorm(2, 4, eps=0.3), MAPS),
    "GroupNorm, rows": (lambda: nn.GroupNorm(3, 9, affine=False), (9,)),
    "InstanceNorm1d": (lambda: nn.InstanceNorm1d(4, affine=True), SIGNAL),
    "InstanceNorm2d": (lambda: nn.InstanceNorm2d(4, eps=0.3), MAPS),
    "InstanceNorm3d": (lambda: nn.InstanceNorm3d(4, affine=True, track_running_stats=True), VOLUME),
    "ReLU": (nn.ReLU, MAPS),
    "LeakyReLU": (lambda: nn.LeakyReLU(0.3), MAPS),
    "Sigmoid": (nn.Sigmoid, MAPS),
    "Hardsigmoid": (nn.Hardsigmoid, MAPS),
    "Tanh": (nn.Tanh, MAPS),
    "SiLU": (nn.SiLU, MAPS),
    "GELU": (nn.GELU, MAPS),
    "GELU, tanh": (lambda: nn.GELU("tanh"), MAPS),
    "Softplus": (lambda: nn.Softplus(2.0, 0.5), MAPS),
    "ELU": (lambda: nn.ELU(0.7), MAPS),
    "SELU": (nn.SELU, MAPS),
    "Softmax": (lambda: nn.Softmax(1), MAPS),
    "LogSoftmax": (nn.LogSoftmax, MAPS),
    "Softmax2d": (nn.Softmax2d, MAPS),
    "Softmin": (lambda: nn.Softmin(1), MAPS),
    "CELU": (lambda: nn.CELU(1.7), MAPS),
    "GLU": (lambda: nn.GLU(1), MAPS),
    "Hardshrink": (lambda: nn.Hardshrink(0.4), MAPS),
    "Hardswish": (lambda: nn.Sequential(Of(lambda x: 3 * x), nn.Hardswish()), MAPS),
    "Hardtanh": (lambda: nn.Hardtanh(-0.4, 0.7), MAPS),
    "LogSigmoid": (lambda: nn.Sequential(Of(lambda x: 40 * x), nn.LogSigmoid()), MAPS),
    "Mish": (nn.Mish, MAPS),
    "PReLU": (nn.PReLU, MAPS),
    "PReLU, of channels": (lambda: nn.PReLU(4), MAPS),
    "RMSNorm": (lambda: nn.RMSNorm((7, 6), 0.3), MAPS),
    "RMSNorm, plain": (lambda: nn.RMSNorm(6, elementwise_affine=False), MAPS),
    "RReLU": (nn.RReLU, MAPS),
    "ReLU6": (lambda: nn.Sequential(Of(lambda x: 5 * x), nn.ReLU6()), MAPS),
    "Softshrink": (lambda: nn.Softshrink(0.4), MAPS),
    "Softsign": (nn.Softsign, MAPS),
    "Tanhshrink": (nn.Tanhshrink, MAPS),
    "Threshold": (lambda: nn.Threshold(0.3, 2.0), MAPS),
    "Upsample": (lambda: nn.Upsample(scale_factor=1.7, mode="linear"), SIGNAL),
    "Upsample, nearest": (lambda: nn.Upsample((9, 4, 7)), VOLUME),
    "Upsample, nearest exactly": (lambda: nn.Upsample((9, 4), mode="nearest-exact"), MAPS),
    "Upsample, bilinear": (lambda: nn.Upsample((5, 13), mode="bilinear"), MAPS),
    "Upsample, corners": (lambda: nn.Upsample(scale_factor=(2, 0.7), mode="bilinear", align_corners=True), MAPS),
    "Upsample, bicubic": (lambda: nn.Upsample((9, 4), mode="bicubic"), MAPS),
    "Upsample, bicubic corners": (lambda: nn.Upsample((9, 5), mode="bicubic", align_corners=True), MAPS),
    "Upsample, trilinear": (lambda: nn.Upsample((9, 3, 7), mode="trilinear"), VOLUME),
    "UpsamplingNearest2d": (lambda: nn.UpsamplingNearest2d(scale_factor=2), MAPS),
    "UpsamplingBilinear2d": (lambda: nn.UpsamplingBilinear2d(scale_factor=2), MAPS),
    "Unfold": (lambda: nn.Unfold((3, 2), (1, 2), 1, (2, 1)), MAPS),
    "Fold": (lambda: nn.Fold((5, 4), (2, 1), 1, (1, 0), (2, 1)), (6, 12)),
    "LPPool1d": (lambda: nn.LPPool1d(4, 3, 2, ceil_mode=True), (4, 9)),
    "LPPool2d": (lambda: nn.LPPool2d(2, (3, 2)), MAPS),
    "LPPool3d": (lambda: nn.LPPool3d(float("inf"), 2), VOLUME),
    "Dropout": (nn.Dropout, MAPS),
    "Dropout1d": (nn.Dropout1d, SIGNAL),
    "Dropout2d": (nn.Dropout2d, MAPS),
    "Dropout3d": (nn.Dropout3d, VOLUME),
    "PixelShuffle": (lambda: nn.PixelShuffle(2), MAPS),
    "PixelUnshuffle": (lambda: nn.PixelUnshuffle(2), (3, 4, 6)),
    "ChannelShuffle": (lambda: nn.ChannelShuffle(2), VOLUME),
    "TransformerEncoderLayer": (lambda: nn.TransformerEncoderLayer(9, 3, 12, batch_first=True), SIGNAL),
    "TransformerEncoderLayer, first": (
        lambda: nn.TransformerEncoderLayer(9, 3, 12, 0.5, "gelu", batch_first=True, norm_first=True, bias=False),
        SIGNAL,
    ),
    "TransformerEncoder": (
        lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(9, 3, 12), 2, nn.LayerNorm(9)), SIGNAL,
    ),
    "ConstantPad1d": (lambda: nn.ConstantPad1d((3, -1), 0.5), SIGNAL),
    "ConstantPad2d": (lambda: nn.ConstantPad2d((1, 0, -2, 3), 2.0), MAPS),
    "ConstantPad3d": (lambda: nn.ConstantPad3d(1, 0.5), VOLUME),
    "ZeroPad1d": (lambda: nn.ZeroPad1d((3, -1)), SIGNAL),
    "ZeroPad3d": (lambda: nn.ZeroPad3d(1), VOLUME),
    "AlphaDropout": (nn.AlphaDropout, MAPS),
    "FeatureAlphaDropout": (nn.FeatureAlphaDropout, MAPS),
    "ZeroPad2d": (lambda: nn.ZeroPad2d((1, 0, -2, 3)), MAPS),
    "ReflectionPad1d": (lambda: nn.ReflectionPad1d((3, 1)), SIGNAL),
    "ReflectionPad2d": (lambda: nn.ReflectionPad2d((3, 1, 0, 2)), MAPS),
    "ReflectionPad3d": (lambda: nn.ReflectionPad3d(2), VOLUME),
    "ReplicationPad1d": (lambda: nn.ReplicationPad1d((3, 1)), SIGNAL),
    "ReplicationPad2d": (lambda: nn.ReplicationPad2d((3, 1, 0, 9)), MAPS),
    "ReplicationPad3d": (lambda: nn.ReplicationPad3d(2), VOLUME),
    "CircularPad1d": (lambda: nn.CircularPad1d((3, 1)), SIGNAL),
    "CircularPad2d": (lambda: nn.CircularPad2d((3, 0, 0, 2)), MAPS),
    "CircularPad3d": (lambda: nn.CircularPad3d(2), VOLUME),
    "RNN": (lambda: nn.RNN(9, 3, 2, "relu", bidirectional=True, batch_first=True), SIGNAL),
    "RNN, no bias": (lambda: nn.RNN(9, 3, bias=False, batch_first=True), SIGNAL),
    "LSTM": (lambda: nn.LSTM(9, 3, 2, bidirectional=True, batch_first=True), SIGNAL),
    "LSTM, dropout": (lambda: nn.LSTM(9, 3, 2, dropout=0.5, batch_first=True), SIGNAL),
    "GRU": (lambda: nn.GRU(9, 3, 2, bidirectional=True, batch_first=True), SIGNAL),
    "GRU, reset before": (lambda: nn.GRU(9, 3, reset_after=False, batch_first=True), SIGNAL),
    "RNNCell": (lambda: nn.RNNCell(9, 3), (9,)),
    "LSTMCell": (lambda: nn.LSTMCell(9, 3), (9,)),
    "GRUCell": (lambda: nn.GRUCell(9, 3), (9,)),
    "GRUCell, reset before": (lambda: nn.GRUCell(9, 3, reset_after=False), (9,)),
}  # fmt: skip


# What onnx.reference (1.23) does not compute as ONNX says: groups, other than two axes, relu in a recurrent layer, and
# overlapping windows over padding.
REFERENCE_IS_WRONG = {
    "ConvTranspose1d", "ConvTranspose2d", "GlobalMaxPool1d", "GlobalMaxPool3d", "RNN", "maxima of windows",
}  # fmt: skip


def run_by(name):
    if name not in REFERENCE_IS_WRONG:
        return RUN_BY
    pytest.importorskip("onnxruntime")
    return RUN_BY[1:]


@pytest.mark.slow
@pytest.mark.parametrize("name", LAYERS)
def test_layer(name, tmp_path):
    make, shape = LAYERS[name]
    check_export(tmp_path / "m.onnx", trained(make()), [shape], run_by=run_by(name))


# Layers of other inputs than one array of floats; they are tested by themselves.
ELSEWHERE = {
    "Bilinear", "CosineSimilarity", "Embedding", "EmbeddingBag", "MultiheadAttention", "TransformerDecoderLayer",
    "TransformerDecoder", "Transformer", "PairwiseDistance", "MaxUnpool1d", "MaxUnpool2d", "MaxUnpool3d",
}  # fmt: skip
UNTRANSLATED = {"FractionalMaxPool2d", "FractionalMaxPool3d"}
NO_LAYERS = {
    "Module",
    "ModuleDict",
    "ModuleList",
    "ParameterDict",
    "ParameterList",
    "Parameter",
    "Buffer",
    "PackedSequence",
}


def test_the_table_of_layers_is_whole():
    classes = {n for n in nn.__all__ if inspect.isclass(getattr(nn, n)) and not n.endswith("Loss")}
    translated = classes - NO_LAYERS - UNTRANSLATED
    assert {name.split(",")[0] for name in LAYERS} | ELSEWHERE == translated


class Attends(nn.Module):
    def __init__(self):
        self.attention = nn.MultiheadAttention(9, 3, add_bias_kv=True, add_zero_attn=True, batch_first=True)

    def forward(self, q, k):
        y, weights = self.attention(q, k, k, attn_mask=np.eye(4, 5) > 0)
        return F.concatenate([y, weights], -1)


@pytest.mark.slow
@pytest.mark.parametrize("make", [Attends, lambda: nn.Transformer(9, 3, 1, 1, 12, batch_first=True)])
def test_attention_to_another_input(make, tmp_path):
    check_export(tmp_path / "m.onnx", trained(make()), [(4, 9), (5, 9)], run_by=run_by("attention"))


def test_embedding(tmp_path):
    check_export(tmp_path / "m.onnx", nn.Embedding(5, 3, padding_idx=0), [(4,)], [np.int64])
    check_export(tmp_path / "m.onnx", nn.Embedding(5, 3), [(4, 2)], [np.int32])


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_bags(mode, tmp_path):
    for padding in (None, 2):
        bag = nn.EmbeddingBag(5, 3, mode=mode, padding_idx=padding)
        check_export(tmp_path / "m.onnx", trained(bag), [(4,)], [np.int64])
    check_export(tmp_path / "m.onnx", bag, [(1,)], [np.int64], make=lambda i: i * 0 + 2)  # nothing in them
    weighed = Of(lambda i, w: F.embedding_bag(i, tensor(P), mode="sum", per_sample_weights=tensor(w)))
    check_export(tmp_path / "m.onnx", weighed, [(4,), (4,)], [np.int64, np.float32], make=lambda x: x % 3)
    runs = Of(lambda i: F.embedding_bag(i.reshape(-1), tensor(W), np.array([0, 2])))
    with pytest.raises(GraphError, match="bags must be rows of indices"):
        export(runs, np.ones((2, 4), int), tmp_path / "m.onnx", dynamic_batch=False)


def test_embedding_of_one_row(tmp_path):
    for model, shape in ((nn.Embedding(1, 3), (4,)), (Of(lambda i: F.embedding(tensor(i), tensor(W[:1])) * 2), ())):
        check_export(tmp_path / "m.onnx", model, [shape], [np.int64], make=np.zeros_like)
    with pytest.raises(ArgumentError, match="embedding: indices must lie in 0 to 0, got index=2"):
        export(nn.Embedding(1, 3), np.full((2, 4), 2), tmp_path / "m.onnx")
    rule = "the number of examples, or their values, may not decide"
    with pytest.raises(GraphError, match=rule):  # zeros are still followed by other values where there are some
        export(Of(lambda i: tensor(np.ones(3)) * int(raw(i).sum())), np.zeros((2, 4), int), tmp_path / "m.onnx")


@pytest.mark.parametrize("padding", [0, 1, (0, 1), (2, 0)])
@pytest.mark.parametrize(("stride", "dilation", "output_padding"), [
    (1, 2, 1), (1, 3, 2), (2, 3, 2), (2, 1, 1), (3, 2, 2), ((1, 2), (3, 1), (2, 1)), ((2, 1), (3, 2), (2, 1)),
])  # fmt: skip
def test_output_padding(stride, dilation, output_padding, padding, tmp_path):
    pytest.importorskip("onnxruntime")  # the reference takes no more of it than onnxruntime
    for bias in (True, False):
        layer = nn.ConvTranspose2d(4, 6, 3, stride, padding, output_padding, 2, bias, dilation)
        check_export(tmp_path / "m.onnx", trained(layer), [MAPS], run_by=RUN_BY[1:], batches=(2,))


def test_bilinear(tmp_path):
    check_export(tmp_path / "m.onnx", nn.Bilinear(4, 3, 2), [(4,), (3,)])
    check_export(tmp_path / "m.onnx", nn.Bilinear(4, 3, 2, bias=False), [(5, 4), (5, 3)])


def test_cosine_similarity(tmp_path):
    check_export(tmp_path / "m.onnx", nn.CosineSimilarity(), [(4, 3), (4, 3)])
    check_export(tmp_path / "m.onnx", nn.CosineSimilarity(-1), [(4, 3), (1, 3)])


def test_states_of_recurrent_layers_are_inputs(tmp_path):
    for layer in (nn.RNN(3, 4), nn.GRU(3, 4)):
        model = Of(lambda x, h, layer=layer: layer(x.transpose(1, 0, 2), h.transpose(1, 0, 2)))
        model.layer = layer
        check_export(tmp_path / "m.onnx", model, [(6, 3), (1, 4)])
    model = Of(lambda x, h, c: model.layer(x.transpose(1, 0, 2), (h.transpose(1, 0, 2), c.transpose(1, 0, 2))))
    model.layer = nn.LSTM(3, 4)
    check_export(tmp_path / "m.onnx", model, [(6, 3), (1, 4), (1, 4)])


SHAPE = (3, 4)
W = drawn((4, 3), 50)
P = W.T  # (3, 4)
NOT_FINITE = np.float32([np.nan, np.inf, -np.inf, 1])
FUNCTIONS = {
    "elementary": lambda x: (
        F.acos(F.tanh(x)),
        F.acosh(abs(x) + 1.1),
        F.asin(F.tanh(x)),
        F.asinh(x),
        F.atan(x),
        F.atanh(F.tanh(x) / 2),
        F.ceil(x),
        F.cos(x),
        F.cosh(x),
        F.erf(x),
        F.erfc(x),
        F.exp2(x),
        F.expm1(x),
        F.floor(3 * x),
        F.log10(abs(x) + 0.1),
        F.log1p(abs(x)),
        F.log2(abs(x) + 0.1),
        F.reciprocal(abs(x) + 0.1),
        F.rsqrt(abs(x) + 0.1),
        F.sign(x),
        F.sin(x),
        F.sinh(x),
        F.square(x),
        F.tan(F.tanh(x)),
        F.trunc(3 * x),
        F.round(3 * x),
        F.round(x, 2),
        F.isnan(x),
        F.isfinite(x),
        F.isinf(x),
        F.nan_to_num(F.where(x > 0, x, NOT_FINITE), 0.5, None, -2.0),
        F.floor((3 * x).astype(np.int32)),
    ),
    "elementary methods": lambda x: (
        x.exp(),
        abs(x).log(),
        abs(x).sqrt(),
        x.sigmoid(),
        x.tanh(),
        x.relu(),
        (3 * x).round(),
        x.round(1),
        x.div(0.3, "floor"),
        x.div(0.3, "trunc"),
        x.pow(2),
        x.neg(),
        x.add(x, alpha=2),
        x.double(),
        x.int(),
    ),
    "elementary of two": lambda x: (
        F.atan2(x, tensor(P)),
        F.atan2(x, F.relu(tensor(P))),
        F.fmod(3 * x, abs(tensor(P)) + 0.3),
        F.hypot(x, tensor(P)),
        F.logaddexp(x, tensor(P)),
        F.remainder(3 * x, tensor(P)),
        F.floor_divide(3 * x, tensor(P)) + 7 // (x * 0 + 2) + (9 * x % 4) + 5 % (x * 0 + 3),
        (9 * x).astype(np.int64) // 4,
        F.remainder((9 * x).astype(np.int64), 4),
        F.lerp(x, tensor(P), 0.3),
        F.lerp(x, 2 * x, abs(x)),
        F.pow(abs(x), 1.5),
        F.pow(2.0, x),
        F.remainder(x, 0.7),
    ),
    "shapes": lambda x: (
        F.reshape(x, (-1, 12)),
        F.flatten(x, 1),
        F.squeeze(x[:, :1], 1),
        F.unsqueeze(x, -1),
        F.permute(x, (0, 2, 1)),
        F.swapaxes(x, 1, 2),
        F.movedim(x, 1, -1),
        F.broadcast_to(x[:, :1], (len(x), 5, 4)),
        F.tile(x, (2, 1, 3)),
        F.tile(x, 2),
        F.tile(x[:, 0], (1, 2, 2)),
        F.cat(F.chunk(x, 2, 2)[::-1], 2),
        F.stack(F.unbind(x, 1), 1),
        x.expand(2, -1, -1, -1),
        x.view(-1, 12),
        x.flatten(1),
        x.unsqueeze(1),
        x.permute(0, 2, 1),
    ),
    "triangles": lambda x: (
        F.tril(x),
        F.triu(x, 1),
        F.diagonal(x, 1, 1, 2),
        x.diagonal(-1, 2, 1),
        F.trace(x[0]),
        x.trace(0, 1, 2),
    ),
    "moved": lambda x: (F.flip(x, (1, -1)), F.roll(x, 1, 1), F.roll(x, (5, -1), (1, 2)), F.roll(x[0, :, :1], 1)),
    "chosen": lambda x: (
        F.masked_fill(x, x > 0, 7.0),
        x.masked_fill(P > 0, -1),
        F.index_select(x, 2, np.array([3, 0])),
        F.gather(x, 1, (x[:, :2] > 0).astype(np.int64)),
        F.gather(x, 2, (x[:, :, :3] > 0).astype(np.int64)),
    ),
    "put": lambda x: (
        F.scatter(x, 1, np.tile([[[0], [2]]], (len(x), 1, 1)), 5.0),
        F.scatter(x, 2, F.argsort(x), 2 * x),
        F.scatter_add(x, 1, (x[:, :2] > 0).astype(np.int64), x),
    ),
    "sorted": lambda x: (
        *F.sort(x),
        *F.sort(x, 1, descending=True),
        *F.topk(x, 2),
        *F.topk(x, 2, 1, largest=False),
        F.argsort(x, 1),
        x.argsort(1),
        F.argsort(x, descending=True),
    ),
    "searched": lambda x: (
        F.searchsorted(np.float32([-1, 0, 0.3]), x[0]),
        F.searchsorted(F.sort(x)[0], x[:, :, :2], right=True),
        tensor(np.float32([-1, 0, 0.3])).searchsorted(x[:, 0]),
    ),
    "reductions": lambda x: (
        F.sum(x, 1),
        F.mean(x, (1, 2)),
        F.prod(x, 2),
        F.var(x, 1),
        F.std(x, 2, 0),
        F.amax(x, 1),
        F.amin(x, 2, True),
        F.cumsum(x, 1),
        F.cumprod(x, 2),
        x.cumprod(1),
        F.norm(x, 2, 1),
        F.norm(x, 3, (1, 2), True),
        F.norm(x, "fro", 2),
    ),
    "vectors": lambda x: (F.cross(x, 2 * x[:, ::-1], 1), F.dot(x[0, 0], x[0, 0]), F.outer(x[0, 0], x[0, 1])),
    "pixels": lambda x: (
        F.pixel_shuffle(x.reshape(-1, 4, 1, 3), 2),
        F.pixel_shuffle(x.reshape(-1, 1, 3, 4, 1, 1), 2),
        F.pixel_unshuffle(x.reshape(-1, 2, 2, 3)[..., :2], 2),
        F.pixel_unshuffle(x[0].reshape(1, 2, 6), 2),
    ),
    "made alike": lambda x: (F.zeros_like(x) + x, F.ones_like(x[:, 0]), F.full_like(x, 3, np.int32)),
    "abs": lambda x: F.abs(x) + abs(x),
    "arithmetic": lambda x: (2 - x * 3) / (x + 10) + (1 / (x + 9)) - x * x - (-x) + np.float32(2),
    "arithmetic on an array": lambda x: x * W[:, 0] + W.T,
    "argmax": lambda x: (x.argmax(1), x.argmax(-1, keepdims=True), x.argmin(2)),
    "astype": lambda x: (x.astype(np.float64) * 2, x.astype(np.int32), (x > 0).astype(np.float32)),
    "clip": lambda x: x.clip(-0.5, 0.5) + F.clip(x, min=0.1) + F.clip(x, max=0.2) + F.clip(x, x / 2, 0.4),
    "comparisons": lambda x: (x > 0, x >= 0.5, x < x * x, x <= 0.1, x == x, x != 0.0),
    "concatenate": lambda x: F.concatenate([x, 2 * x], -1),
    "copy": lambda x: x.copy(),
    "cumsum": lambda x: x.cumsum(1) + x.cumsum(-1),
    "detach": lambda x: x.detach() * 2,
    "einsum": lambda x: F.einsum("nij,jk->nki", x, W),
    "exp": lambda x: F.exp(x) + F.log(x * x + 1) + F.sqrt(x * x),
    "flatten": lambda x: x.flatten() * 2,
    "getitem": lambda x: (x[:, 1], x[..., -1], x[:, 1:, ::2], x[:, ::-1], x[:, None, 0, ..., None], x[:, :, -3:-1]),
    "getitem, array": lambda x: (x[:, np.array([2, 0, 2])], x[:, :, np.array([[0, 1], [3, -1]])]),
    "getitem, lists": lambda x: (x[:, [2, 0]], x[:, [1], None, ::2], x[:, -1, [0, 3, -1]], x[None, :, :, [[0], [1]]]),
    "getitem, masks": lambda x: (
        x[:, np.array([True, False, True])],
        x[..., [False, True, True, False]],
        x[:, drawn(SHAPE, 3) > 0],
        x[:, [False] * 3],
    ),
    "getitem, several arrays": lambda x: (
        x[:, [0, 2], [1, 3]],
        x[:, np.array([[0], [2]]), np.array([1, -1])],
        x[[0], :, [1, 3]],
        x[:1, None, [0, 2], [1, 3]],
        x[0, :, [1, 3]],
        x[0, None, [1, 2]],
        x[[0, 0], :, None],
        x[:, [2, 1], None, [0, 1]],
        x[None, 0, ..., [1, 3], None],
    ),
    "getitem, indices of the input": lambda x: (
        x[(x[:, 0, 0] > 0).astype(int) * 0, 1],
        x[:, (x[0, :2, 0] > 0).astype(int)],
    ),
    "getitem, steps back": lambda x: x[:, 2:0:-1, -1::-2],
    "logic": lambda x: (~(x > 0), (x > 0) & (x < 1), (x > 1) | (x < 0), (x > 0) ^ (x > 1)),
    "logsumexp": lambda x: F.logsumexp(x, 1) + F.logsumexp(x, 1, keepdims=True)[:, 0],
    "matmul": lambda x: (x @ W, F.matmul(x, W), W @ x, x @ W[:, 0]),
    "max": lambda x: (x.max(1), x.min((1, 2)), x.max(2, keepdims=True)),
    "maximum": lambda x: F.maximum(x, 0.5) + F.minimum(-x, x * 2),
    "mean": lambda x: (x.mean(1), x.mean((1, 2), keepdims=True), x.mean(-1), x - x.mean(0)),
    "one_hot": lambda x: F.one_hot((x > 0).astype(np.int64), 3),
    "pad": lambda x: F.pad(x, (1, 2), value=3.0),
    "parameter": lambda x: F.linear(x, F.relu(W.T)),
    "power": lambda x: (x**2, (x * x + 1) ** 0.5, 2**x, (x * x + 1) ** x),
    "prod": lambda x: x.prod(1),
    "ravel": lambda x: x.ravel(),
    "repeat": lambda x: (x.repeat(2, 1), x.repeat(3, 0), x.repeat(2)),
    "reshape": lambda x: (x.reshape(-1, 4), x.reshape(len(x), -1), x.reshape(1, *x.shape), x.reshape(3, 4, -1)),
    "reshape, two axes grow": lambda x: (x.sum(2) @ x.sum(2).T).reshape(len(x), 1, len(x)),
    "softmax of another dtype": lambda x: F.softmax(x, 1, dtype=np.float64) + F.log_softmax(x > 0, dtype=np.float64),
    "split": lambda x: F.split(x, [1, 3], -1) + F.split(x, 2, 1),
    "squeeze": lambda x: x.sum(1, keepdims=True).squeeze(1),
    "stack": lambda x: (F.stack([x, x * 2], 1), F.stack([x, x], -1)),
    "sum": lambda x: (x.sum(1), x.sum((1, 2), keepdims=True), x.sum(), x.astype(np.int32).sum(1)),
    "swapaxes": lambda x: x.swapaxes(1, -1),
    "take": lambda x: (x.take(np.array([1, 0]), 1), x.take([0, 5])),
    "transpose": lambda x: (x.transpose(0, 2, 1), x.transpose((2, 0, 1)), x.T),
    "transpose of no axes": lambda x: (x.sum().transpose(()), x.sum().T * 2, x + x.max((0, 1, 2)).transpose()),
    "truth": lambda x: ((x > 0).all(1), (x > 1).any((1, 2)), (x > 0).any(-1, keepdims=True)),
    "var": lambda x: (x.var(1), x.std((1, 2), ddof=1), x.var(-1, keepdims=True), x.var(0)),
    "where": lambda x: F.where(x > 0, x, 0.0) + F.where(x > 1, 1.0, x * 2),
    "zeros of the input's size": lambda x: x + np.zeros(x.shape, np.float32) + np.full((len(x), 1, 4), 2, np.float32),
    "zeros of other sizes": lambda x: (
        F.concatenate([x, x[:1]]) + np.zeros((len(x) + 1, 1, 1), np.float32),
        F.concatenate([x, x, 0 * x[:1]]) + np.ones((2 * len(x) + 1, 1, 1), np.float32),
    ),
    "fused blocks": lambda x: (
        F.bias_relu_pool_lrn(x.reshape(-1, 3, 2, 2), W[0], 2, 1, 1),
        F.bias_relu_lrn_pool(x.reshape(-1, 3, 2, 2), W[0], 2, 1, size=4, alpha=0.5),
    ),
    "sequences": lambda x: F.lstm(x, None, drawn((8, 4), 1), drawn((8, 2), 2), b_hh=drawn((8,), 3), reverse=True)[0],
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function(name, tmp_path):
    # Rows of the sequences are the steps. An example of one hides what keeps its size, one of two what becomes 1.
    batches = (3,) if name == "sequences" else (2, 1, 5) if name.startswith("zeros") else (1, 2, 5)
    check_export(tmp_path / "m.onnx", Of(lambda x: FUNCTIONS[name](tensor(x))), [SHAPE], batches=batches,
                 dynamic_batch=name != "sequences")  # fmt: skip


def test_every_translation_is_of_a_function():
    assert set(TRANSLATIONS) <= set(_watched().values())


def test_every_function_is_watched_by_its_own_code():
    """A wrapper without ``functools.wraps`` would give all its functions one code."""
    names = set(_watched().values())
    assert set(F.__all__) <= names
    assert {"Tensor.__add__", "Tensor.__rsub__", "Tensor.__getitem__", "Tensor.reshape"} <= names


SCORES = {
    "cross_entropy": lambda x, t, r: F.cross_entropy(x, t, reduction=r),
    "cross_entropy, weights": lambda x, t, r: F.cross_entropy(x, t, WEIGHTS, reduction=r),
    "cross_entropy, an ignored class": lambda x, t, r: F.cross_entropy(x, t, WEIGHTS, 2, r),
    "cross_entropy, smoothed": lambda x, t, r: F.cross_entropy(x, t, WEIGHTS, 2, r, 0.2),
    "cross_entropy, smoothed alike": lambda x, t, r: F.cross_entropy(x, t, None, -100, r, 0.2),
    "nll_loss": lambda x, t, r: F.nll_loss(F.log_softmax(x, 1), t, reduction=r),
    "nll_loss, weights": lambda x, t, r: F.nll_loss(x, t, WEIGHTS, 1, r),
}
WEIGHTS = np.float32([0.5, 2, 1, 0.3, 1.5])
PAIRS = {
    "mse_loss": F.mse_loss, "l1_loss": F.l1_loss, "huber_loss": partial(F.huber_loss, delta=0.6),
    "l1_loss, weights": lambda x, t, reduction: F.l1_loss(x, t, reduction, F.sigmoid(x)),
    "huber_loss, weights": lambda x, t, reduction: F.huber_loss(x, t, reduction, 0.6, F.sigmoid(x)),
    "smooth_l1_loss": partial(F.smooth_l1_loss, beta=0.6), "smooth_l1_loss, 0": partial(F.smooth_l1_loss, beta=0.0),
    "binary_cross_entropy_with_logits": lambda x, t, reduction: F.binary_cross_entropy_with_logits(
        x, F.sigmoid(t), WEIGHTS, reduction),
    "binary_cross_entropy_with_logits, answers": lambda x, t, reduction: F.binary_cross_entropy_with_logits(
        x, F.sigmoid(t), None, reduction, WEIGHTS),
    "binary_cross_entropy": lambda x, t, reduction: F.binary_cross_entropy(
        F.sigmoid(x), F.sigmoid(t), WEIGHTS, reduction),
    "mse_loss, weights": lambda x, t, reduction: F.mse_loss(x, t, reduction, weight=abs(t) + 0.1),
    "margin_ranking_loss": lambda x, t, reduction: F.margin_ranking_loss(
        x, t, F.where(t > 0.3, 1, -1), 0.3, reduction),
    "soft_margin_loss": lambda x, t, reduction: F.soft_margin_loss(x, F.where(t > 0, 1, -1), reduction),
    "multilabel_soft_margin_loss": lambda x, t, reduction: F.multilabel_soft_margin_loss(
        x, F.sigmoid(t), WEIGHTS, reduction),
    "triplet_margin_loss": lambda x, t, reduction: F.triplet_margin_loss(x, t, t - x, 0.7, 3, swap=True,
                                                                         reduction=reduction),
    "poisson_nll_loss": lambda x, t, reduction: F.poisson_nll_loss(x, abs(t) * 2, full=True, reduction=reduction),
    "poisson_nll_loss, rates": lambda x, t, reduction: F.poisson_nll_loss(abs(x), abs(t), False, reduction=reduction),
    "gaussian_nll_loss": lambda x, t, reduction: F.gaussian_nll_loss(x, t, abs(x[:, 0]), True, reduction=reduction),
    "gaussian_nll_loss, one": lambda x, t, reduction: F.gaussian_nll_loss(x, t, 0.3, reduction=reduction),
    "kl_div": lambda x, t, reduction: F.kl_div(x, F.relu(t), reduction),
    "kl_div, logarithms": lambda x, t, reduction: F.kl_div(x, t, reduction, True),
    "cross_entropy, probabilities": lambda x, t, reduction: F.cross_entropy(
        x, F.softmax(t, 1), WEIGHTS, reduction=reduction, label_smoothing=0.1),
}  # fmt: skip
REDUCTIONS = ("mean", "sum", "none")


@pytest.mark.parametrize("name", [*SCORES, *PAIRS])
def test_losses(name, tmp_path):
    for reduction in (*REDUCTIONS, *["batchmean"] * name.startswith("kl_div")):
        if name in SCORES:
            model, dtypes = Of(lambda x, t, r=reduction: SCORES[name](tensor(x), t, r)), [np.float32, np.int64]
            for shapes in ([(5,), ()], [(5, 3, 2), (3, 2)]):
                check_export(tmp_path / "m.onnx", model, shapes, dtypes, batches=(3, 4), run_by=RUN_BY[1:])
        else:
            model = Of(lambda x, t, r=reduction: PAIRS[name](tensor(x), t, reduction=r))
            check_export(tmp_path / "m.onnx", model, [(5,), (5,)], batches=(3, 1))


@pytest.mark.parametrize("p", [1, 2, 3.5, 0, np.inf, -np.inf])
def test_lengths(p, tmp_path):
    def lengths(x):
        x = tensor(x)
        return F.normalize(x, p, (1, 2)), F.normalize(x, p), F.pairwise_distance(x, 2 * x[:, :1], p, keepdims=True)

    check_export(tmp_path / "m.onnx", Of(lengths), [SHAPE], batches=(2, 3))
    check_export(tmp_path / "m.onnx", nn.PairwiseDistance(2), [(4,), (4,)])


def test_maxima_put_back(tmp_path):
    for rank in (1, 2, 3):
        shape = (2, 9, 6, 4)[: 1 + rank]

        def both(x, rank=rank):
            y, places = getattr(F, f"max_pool{rank}d")(tensor(x), 3, 2, 1, return_indices=True)
            size = x.shape[2:]
            return getattr(F, f"max_unpool{rank}d")(y, places, 3, 2, 1, output_size=size)

        check_export(tmp_path / "m.onnx", Of(both), [shape], run_by=RUN_BY[1:])


@pytest.mark.parametrize("opset", [18, 20])
def test_samples_at_places(opset, tmp_path):
    for mode in ("bilinear", "nearest", "bicubic"):
        for padding, corners in (("zeros", True), ("border", False), ("reflection", True)):
            model = Of(lambda x, at, s=(mode, padding, corners): F.grid_sample(tensor(x), tensor(at), *s))
            check_export(tmp_path / "m.onnx", model, [MAPS, (3, 5, 2)], batches=(2,), run_by=RUN_BY[1:], opset=opset)
    spread = Of(lambda x: F.grid_sample(tensor(x), F.affine_grid(AFFINE, (2, 4, 5, 3), False)))
    check_export(tmp_path / "m.onnx", spread, [MAPS], batches=(2,), run_by=RUN_BY[1:], dynamic_batch=False)
    volumes = Of(lambda x: F.grid_sample(tensor(x), tensor(drawn((2, 2, 3, 2, 3), 1))))
    if opset == 20:
        how = {"run_by": RUN_BY[1:], "dynamic_batch": False, "opset": opset}
        check_export(tmp_path / "m.onnx", volumes, [VOLUME], batches=(2,), **how)
    else:
        with pytest.raises(GraphError, match="grid_sample in Of: volumes need opset=20, got opset=18"):
            export(volumes, drawn((2, *VOLUME), 0), tmp_path / "m.onnx", dynamic_batch=False)


AFFINE = drawn((2, 2, 3), 4)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_antialias(mode, tmp_path):
    smaller = Of(lambda x: F.interpolate(tensor(x), (3, 4), mode=mode, antialias=True))
    check_export(tmp_path / "m.onnx", smaller, [MAPS], run_by=RUN_BY[1:])


def test_losses_of_margins(tmp_path):
    for reduction in REDUCTIONS:
        for p in (1, 2):
            model = Of(lambda x, t, p=p, r=reduction: F.multi_margin_loss(tensor(x), t, p, 0.7, WEIGHTS, r))
            check_export(tmp_path / "m.onnx", model, [(5,), ()], [np.float32, np.int64], batches=(3, 4))
        hinge = Of(lambda x, t, r=reduction: F.hinge_embedding_loss(tensor(x), F.where(t > 0, 1, -1), 0.7, r))
        check_export(tmp_path / "m.onnx", hinge, [(5,), (5,)], batches=(3, 1))
        angles = Of(lambda a, b, t, r=reduction: F.cosine_embedding_loss(tensor(a), b, F.where(t > 0, 1, -1), 0.1, r))
        check_export(tmp_path / "m.onnx", angles, [(5,), (5,), ()], batches=(3, 1))
    given = Of(lambda x, t: F.hinge_embedding_loss(tensor(x), t))  # the second run may not make up other answers
    check_export(tmp_path / "m.onnx", given, [(5,), (5,)], [np.float32, np.float32], batches=(3,),
                 make=lambda x: np.where(x > 0, 1, -1).astype(x.dtype))  # fmt: skip


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_places_of_maxima(rank, tmp_path):
    pytest.importorskip("onnxruntime")
    pool, shape = getattr(F, f"max_pool{rank}d"), (2, 9, 7, 6)[: 1 + rank]
    for settings in ((3, 2, 1), (2, 1, 0, 2), (2, 2, 0, 1, True)):
        model = Of(lambda x, s=settings: pool(tensor(x), *s, return_indices=True))
        check_export(tmp_path / "m.onnx", model, [shape], batches=(2, 3), run_by=RUN_BY[1:])


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_places_of_maxima_of_bins(rank, tmp_path):
    pool, shape = getattr(F, f"adaptive_max_pool{rank}d"), (2, 7, 6, 5)[: 1 + rank]
    model = Of(lambda x: pool(tensor(x), (3, 2, 4)[:rank], return_indices=True))
    check_export(tmp_path / "m.onnx", model, [shape], batches=(2, 3))


def test_statistics_of_the_batch(tmp_path):
    for layer, shape in ((nn.BatchNorm2d(4, 0.3, track_running_stats=False), MAPS),
                         (nn.BatchNorm1d(9, affine=False, track_running_stats=False, relu=True), (9,))):  # fmt: skip
        check_export(tmp_path / "m.onnx", trained(layer), [shape], batches=(2, 5))


# Answers that are listed, all alignments, draws at random, and pixels that come and go.
NO_TRANSLATION = {
    "ctc_loss", "fractional_max_pool2d", "fractional_max_pool3d", "gumbel_softmax",
    "multilabel_margin_loss", "skeletonize",
}  # fmt: skip
# They call what has a translation.
OF_OTHERS = {
    "affine_grid", "alpha_dropout", "channel_shuffle", "dropout", "dropout1d", "dropout2d", "dropout3d",
    "feature_alpha_dropout", "relu6", "rnn_cell", "rrelu",
    "scaled_dot_product_attention", "split", "triplet_margin_loss", "triplet_margin_with_distance_loss",
}  # fmt: skip


# How many there are depends on values; draws at random.
OF_VALUES = {"masked_select", "nonzero", "rand_like", "randn_like"}
# They call what has a translation.
OF_METHODS = {
    "amax", "amin", "broadcast_to", "chunk", "cumprod", "cumsum", "diagonal", "dot", "flatten", "mean", "movedim",
    "outer", "permute", "pow", "prod", "reshape", "squeeze", "std", "sum", "swapaxes", "trace", "unbind", "unsqueeze",
    "var",
}  # fmt: skip


def test_what_has_no_translation():
    assert set(F.__all__) - set(TRANSLATIONS) == OF_OTHERS | NO_TRANSLATION | OF_VALUES | OF_METHODS


POOLS = [
    (n, kernel, stride, padding) for n, kernel, stride, padding in product((2, 4, 5, 6, 7), (2, 3), (1, 2, 3), (0, 1))
]


@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize("what", ["maxima", "means", "means without padding"])
def test_windows_of_every_kind(what, ceil_mode, tmp_path):
    """ONNX lets a window start in the padding at the end, with ceil_mode; ours must start before it."""

    def pool(x, *settings):
        if what == "maxima":
            return F.max_pool1d(x, *settings, 1, ceil_mode)
        return F.avg_pool1d(x, *settings, ceil_mode, what == "means")

    def pools(x):
        fitting = (row for row in POOLS if row[0] + 2 * row[3] > row[1] - (row[2] if ceil_mode else 1))
        return F.concatenate([pool(tensor(x)[:, :, :n], *settings) for n, *settings in fitting], 2)

    check_export(tmp_path / "m.onnx", Of(pools), [(2, 7)], batches=(2, 3), run_by=run_by(f"{what} of windows"))


@pytest.mark.parametrize("opset", [18, 21, 23])
def test_newer_operators(opset, tmp_path):
    model = nn.Sequential(
        nn.Conv2d(4, 6, 3), nn.AvgPool2d(2, 2, 1, ceil_mode=True), nn.GroupNorm(2, 6), nn.Flatten(), nn.GELU(),
        nn.LayerNorm(54), nn.Linear(54, 3), nn.LogSoftmax(),
    )  # fmt: skip
    written = check_export(tmp_path / "m.onnx", model, [(4, 7, 6)], opset=opset, run_by=RUN_BY[:1])
    assert written.opset_import[0].version == opset


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_floats(dtype, tmp_path):
    model = nn.Sequential(nn.Linear(4, 3, dtype=dtype), nn.LeakyReLU(0.3), nn.Softmax())
    if dtype is np.float64:
        check_export(tmp_path / "m.onnx", model, [(4,)], [dtype], run_by=RUN_BY[:1])
    else:
        written = check_export(tmp_path / "m.onnx", Of(F.relu), [(4,)], [dtype], run_by=RUN_BY[:1])
        assert written.graph.input[0].type.tensor_type.elem_type == 10
