"""Layers and containers: modules that hold parameters and call :mod:`gpunn.functional`."""

from gpunn.nn import init
from gpunn.nn.activation import Hardsigmoid, LeakyReLU, ReLU, Sigmoid, Tanh
from gpunn.nn.adaptive_pool import (
    AdaptiveAvgPool1d,
    AdaptiveAvgPool2d,
    AdaptiveAvgPool3d,
    AdaptiveMaxPool1d,
    AdaptiveMaxPool2d,
    AdaptiveMaxPool3d,
)
from gpunn.nn.batch_norm import BatchNorm1d, BatchNorm2d, BatchNorm3d
from gpunn.nn.bilinear import Bilinear
from gpunn.nn.binary_loss import BCELoss, BCEWithLogitsLoss
from gpunn.nn.container import Identity, ModuleList, Sequential
from gpunn.nn.conv import Conv1d, Conv2d, Conv3d
from gpunn.nn.conv_transpose import ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
from gpunn.nn.cosine import CosineSimilarity
from gpunn.nn.dropout import Dropout, Dropout1d, Dropout2d, Dropout3d
from gpunn.nn.embedding import Embedding
from gpunn.nn.global_pool import (
    GlobalAvgPool1d,
    GlobalAvgPool2d,
    GlobalAvgPool3d,
    GlobalMaxPool1d,
    GlobalMaxPool2d,
    GlobalMaxPool3d,
)
from gpunn.nn.group_norm import GroupNorm, InstanceNorm1d, InstanceNorm2d, InstanceNorm3d
from gpunn.nn.layer_norm import LayerNorm
from gpunn.nn.likelihood_loss import KLDivLoss, NLLLoss
from gpunn.nn.linear import Flatten, Linear, Unflatten
from gpunn.nn.loss import CrossEntropyLoss
from gpunn.nn.lrn import LocalResponseNorm
from gpunn.nn.margin_loss import CosineEmbeddingLoss, HingeEmbeddingLoss, MultiMarginLoss
from gpunn.nn.module import Buffer, Module, Parameter
from gpunn.nn.packed import PackedSequence, pack_padded_sequence, pack_sequence, pad_packed_sequence, pad_sequence
from gpunn.nn.pad import (
    CircularPad1d,
    CircularPad2d,
    CircularPad3d,
    ReflectionPad1d,
    ReflectionPad2d,
    ReflectionPad3d,
    ReplicationPad1d,
    ReplicationPad2d,
    ReplicationPad3d,
    ZeroPad2d,
)
from gpunn.nn.pool import AvgPool1d, AvgPool2d, AvgPool3d, MaxPool1d, MaxPool2d, MaxPool3d
from gpunn.nn.regression_loss import HuberLoss, L1Loss, MSELoss, SmoothL1Loss
from gpunn.nn.rnn import GRU, LSTM, RNN
from gpunn.nn.rnn_cell import GRUCell, LSTMCell, RNNCell
from gpunn.nn.smooth_activation import ELU, GELU, SELU, SiLU, Softplus
from gpunn.nn.softmax import LogSoftmax, Softmax

__all__ = [
    "ELU",
    "GELU",
    "GRU",
    "LSTM",
    "RNN",
    "SELU",
    "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d",
    "AdaptiveAvgPool3d",
    "AdaptiveMaxPool1d",
    "AdaptiveMaxPool2d",
    "AdaptiveMaxPool3d",
    "AvgPool1d",
    "AvgPool2d",
    "AvgPool3d",
    "BCELoss",
    "BCEWithLogitsLoss",
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "Bilinear",
    "Buffer",
    "CircularPad1d",
    "CircularPad2d",
    "CircularPad3d",
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "ConvTranspose3d",
    "CosineEmbeddingLoss",
    "CosineSimilarity",
    "CrossEntropyLoss",
    "Dropout",
    "Dropout1d",
    "Dropout2d",
    "Dropout3d",
    "Embedding",
    "Flatten",
    "GRUCell",
    "GlobalAvgPool1d",
    "GlobalAvgPool2d",
    "GlobalAvgPool3d",
    "GlobalMaxPool1d",
    "GlobalMaxPool2d",
    "GlobalMaxPool3d",
    "GroupNorm",
    "Hardsigmoid",
    "HingeEmbeddingLoss",
    "HuberLoss",
    "Identity",
    "InstanceNorm1d",
    "InstanceNorm2d",
    "InstanceNorm3d",
    "KLDivLoss",
    "L1Loss",
    "LSTMCell",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "LocalResponseNorm",
    "LogSoftmax",
    "MSELoss",
    "MaxPool1d",
    "MaxPool2d",
    "MaxPool3d",
    "Module",
    "ModuleList",
    "MultiMarginLoss",
    "NLLLoss",
    "PackedSequence",
    "Parameter",
    "RNNCell",
    "ReLU",
    "ReflectionPad1d",
    "ReflectionPad2d",
    "ReflectionPad3d",
    "ReplicationPad1d",
    "ReplicationPad2d",
    "ReplicationPad3d",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "SmoothL1Loss",
    "Softmax",
    "Softplus",
    "Tanh",
    "Unflatten",
    "ZeroPad2d",
    "init",
    "pack_padded_sequence",
    "pack_sequence",
    "pad_packed_sequence",
    "pad_sequence",
]
