"""What people read of layers, ``in_features`` for instance, has PyTorch's values."""

import inspect

import numpy as np
import pytest

from gpunn import nn
from gpunn.spelling import translated

MADE = {
    "Linear": [((4, 3), {}), ((4, 3), {"bias": False})],
    "Bilinear": [((4, 3, 2), {})],
    "Embedding": [((9, 3), {}), ((9, 3), {"padding_idx": -1})],
    "CosineSimilarity": [((), {})],
    "Flatten": [((), {})],
    "Unflatten": [((1, (2, 3)), {})],
    "Identity": [((), {})],
    **{f"Conv{n}d": [((4, 6, 3), {}), ((4, 6, (3,) * n), {"stride": 2, "padding": "same", "groups": 2} | {"stride": 1}),
                     ((4, 6, 3, 2, 1, 2), {"bias": False, "padding_mode": "zeros"})] for n in (1, 2, 3)},
    **{f"ConvTranspose{n}d": [((4, 6, 3), {}), ((4, 6, 3, 2, 1, 1), {"groups": 2, "dilation": 2})] for n in (1, 2, 3)},
    **{f"MaxPool{n}d": [((3,), {}), ((3, 2, 1, 2), {"ceil_mode": True})] for n in (1, 2, 3)},
    **{f"AvgPool{n}d": [((3,), {}), ((3, 2, 1, True, False), {})] for n in (1, 2, 3)},
    **{f"Adaptive{kind}Pool{n}d": [((3,), {})] for n in (1, 2, 3) for kind in ("Avg", "Max")},
    **{f"BatchNorm{n}d": [((4,), {}), ((4, 1e-3, None, False, False), {})] for n in (1, 2, 3)},
    **{f"InstanceNorm{n}d": [((4,), {}), ((4, 1e-3, 0.2, True, True), {})] for n in (1, 2, 3)},
    "GroupNorm": [((2, 4), {}), ((2, 4, 1e-3, False), {})],
    "LayerNorm": [((4,), {}), (((3, 4), 1e-3, False), {})],
    "LocalResponseNorm": [((5,), {}), ((3, 0.1, 0.5, 2.0), {})],
    **{name: [((3, 4), {}), ((3, 4, 2), {"bias": False, "batch_first": True, "dropout": 0.5, "bidirectional": True})]
       for name in ("RNN", "LSTM", "GRU")},
    **{name: [((3, 4), {}), ((3, 4, False), {})] for name in ("RNNCell", "LSTMCell", "GRUCell")},
    **{name: [((), {}), ((0.3,), {})] for name in ("Dropout", "Dropout1d", "Dropout2d", "Dropout3d")},
    **{name: [((), {})] for name in ("ReLU", "Sigmoid", "Tanh", "SELU", "SiLU", "Hardsigmoid")},
    "ELU": [((), {}), ((0.5,), {})],
    "GELU": [((), {}), (("tanh",), {})],
    "LeakyReLU": [((), {}), ((0.2,), {})],
    "Softplus": [((), {}), ((2.0, 3.0), {})],
    "Softmax": [((1,), {})],
    "LogSoftmax": [((1,), {})],
    **{f"{kind}Pad{n}d": [((2,), {}), ((tuple(range(2 * n)),), {})]
       for n in (1, 2, 3) for kind in ("Reflection", "Replication", "Circular")},
    **{f"ZeroPad{n}d": [((2,), {})] for n in (1, 2, 3)},
    **{f"ConstantPad{n}d": [((2, 0.5), {})] for n in (1, 2, 3)},
    **{f"MaxUnpool{n}d": [((3,), {}), ((3, 2, 1), {})] for n in (1, 2, 3)},
    **{f"LPPool{n}d": [((2.0, 3), {}), ((2.0, 3, 2), {"ceil_mode": True})] for n in (1, 2, 3)},
    **{name: [((), {})] for name in ("Hardswish", "LogSigmoid", "Mish", "ReLU6", "Softmax2d", "Softsign")},
    "Tanhshrink": [((), {})],
    **{name: [((), {}), ((0.2,), {})] for name in ("CELU", "Hardshrink", "Softshrink", "AlphaDropout")},
    "FeatureAlphaDropout": [((0.2,), {})],
    "GLU": [((), {}), ((1,), {})],
    "Hardtanh": [((), {}), ((-2.0, 3.0), {})],
    "PReLU": [((), {}), ((3,), {})],
    "RReLU": [((), {}), ((0.2, 0.4), {})],
    "Softmin": [((1,), {})],
    "Threshold": [((0.1, 20.0), {})],
    "PixelShuffle": [((2,), {})],
    "PixelUnshuffle": [((2,), {})],
    "ChannelShuffle": [((2,), {})],
    "Unfold": [((3,), {}), (((3, 2), 1, 2, 1), {})],
    "Fold": [(((4, 5), (2, 2)), {})],
    "Upsample": [((), {"scale_factor": 2.0}), (((4, 5),), {"mode": "bilinear", "align_corners": True})],
    "PairwiseDistance": [((), {}), ((1.0, 1e-3, True), {})],
    "RMSNorm": [((4,), {}), (((3, 4), 1e-3, False), {})],
    "MarginRankingLoss": [((), {}), ((0.5,), {"reduction": "sum"})],
    "TripletMarginLoss": [((), {}), ((0.5, 1.0, 1e-3, True), {})],
    "PoissonNLLLoss": [((), {}), ((False, True), {})],
    "GaussianNLLLoss": [((), {}), ((), {"full": True, "eps": 1e-3})],
    "CTCLoss": [((), {}), ((2, "sum", True), {})],
    **{name: [((), {})] for name in ("SoftMarginLoss", "MultiLabelMarginLoss", "MultiLabelSoftMarginLoss")},
    "MultiheadAttention": [((8, 2), {}), ((8, 4, 0.1), {"kdim": 3, "vdim": 5, "batch_first": True})],
    "CrossEntropyLoss": [((), {}), ((None,), {"ignore_index": 3, "reduction": "sum", "label_smoothing": 0.1})],
    "NLLLoss": [((), {}), ((None,), {"ignore_index": 3, "reduction": "none"})],
    "KLDivLoss": [((), {"reduction": "batchmean", "log_target": True})],
    "SmoothL1Loss": [((), {"beta": 0.5})],
    "HuberLoss": [((), {"delta": 0.5})],
    "HingeEmbeddingLoss": [((2.0,), {})],
    "CosineEmbeddingLoss": [((0.5,), {})],
    "MultiMarginLoss": [((1, 0.5), {})],
    **{name: [((), {}), ((), {"reduction": "sum"})] for name in ("L1Loss", "MSELoss", "BCELoss", "BCEWithLogitsLoss")},
}  # fmt: skip
OTHERS = {"training", "inplace", "size_average", "reduce", "device", "dtype", "sparse", "mode", "call_super_init"}
OTHERS |= {"init", "name"}  # what PReLU began with, and what Upsample is called


def read(layer, name):
    value = getattr(layer, name, "missing")
    return np.array(value.tolist()) if hasattr(value, "tolist") else value


@pytest.mark.peer
@pytest.mark.parametrize("name", MADE)
def test_attributes_of_layers_are_those_of_pytorch(name):
    torch = pytest.importorskip("torch")
    differ = []
    for args, settings in MADE[name]:
        theirs, ours = getattr(torch.nn, name)(*args, **settings), getattr(nn, name)(*args, **settings)
        constants = {*getattr(theirs, "__constants__", ()), *vars(theirs)}
        for each in sorted(each for each in constants if each[0] != "_" and each not in OTHERS):
            wanted, found = read(theirs, each), read(ours, each)
            if isinstance(wanted, bool | int | float | str | tuple | None) and not inspect.ismodule(wanted):
                same = type(wanted) is type(found) and wanted == found
                differ += [] if same else [f"{each}: {wanted!r}, here {found!r}, of {args} {settings}"]
    assert not differ, "\n".join(differ)


def test_sizes_follow_the_weight():
    layer = nn.Linear(4, 3)
    layer.weight = nn.Parameter(np.zeros((2, 5), np.float32))
    assert (layer.in_features, layer.out_features) == (5, 2)
    conv, spread = nn.Conv2d(4, 6, (3, 2), groups=2), nn.ConvTranspose2d(4, 6, 3, groups=2)
    assert (conv.in_channels, conv.out_channels, conv.kernel_size) == (4, 6, (3, 2))
    assert (spread.in_channels, spread.out_channels, spread.kernel_size) == (4, 6, (3, 3))
    assert (conv.stride, conv.padding, conv.dilation, conv.groups) == ((1, 1), (0, 0), (1, 1), 2)
    embedding = nn.Embedding(7, 3)
    assert (embedding.num_embeddings, embedding.embedding_dim) == (7, 3)


def test_arguments_have_pytorchs_names_too():
    assert nn.Softmax(dim=1).dim == nn.LogSoftmax(dim=1).axis == nn.Softmin(dim=1).dim == nn.GLU(dim=1).dim == 1
    assert nn.CosineSimilarity(dim=-1).axis == -1
    assert nn.PairwiseDistance(keepdim=True).keepdims
    assert nn.Unflatten(dim=1, unflattened_size=(2, 3)).sizes == (2, 3)
    with pytest.raises(TypeError, match="'axis' and 'dim', which are two names of one argument"):
        nn.Softmax(axis=1, dim=1)


@pytest.mark.peer
def test_arguments_are_those_of_pytorch():
    torch = pytest.importorskip("torch")
    out_of_use = {"self", "device", "dtype", "size_average", "reduce", "min_value", "max_value", "args", "kwargs"}
    for name in nn.__all__:
        ours, theirs = getattr(nn, name), getattr(torch.nn, name, None)
        if not inspect.isclass(ours) or theirs is None:
            continue
        known = {**inspect.signature(ours.__init__).parameters}
        wanted = dict.fromkeys(inspect.signature(theirs.__init__).parameters.keys() - out_of_use)
        assert known.keys() >= translated(ours.__init__, wanted).keys(), name
