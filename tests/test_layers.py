"""Each layer of one function is that function, with the layer's settings."""

import numpy as np
import pytest

from gpunn import functional as F
from gpunn import nn, tensor
from gpunn.backend import random_generator
from gpunn.errors import ArgumentError, DtypeError, ShapeError

LAYERS = {
    "LeakyReLU": (nn.LeakyReLU(0.3), lambda v: F.leaky_relu(v, 0.3)),
    "Hardsigmoid": (nn.Hardsigmoid(), F.hardsigmoid),
    "SiLU": (nn.SiLU(), F.silu),
    "GELU": (nn.GELU("tanh"), lambda v: F.gelu(v, "tanh")),
    "Softplus": (nn.Softplus(2.0, 1.0), lambda v: F.softplus(v, 2.0, 1.0)),
    "ELU": (nn.ELU(0.7), lambda v: F.elu(v, 0.7)),
    "SELU": (nn.SELU(), F.selu),
    "Softmax": (nn.Softmax(1), lambda v: F.softmax(v, 1)),
    "LogSoftmax": (nn.LogSoftmax(1), lambda v: F.log_softmax(v, 1)),
    "CELU": (nn.CELU(0.7), lambda v: F.celu(v, 0.7)),
    "GLU": (nn.GLU(1), lambda v: F.glu(v, 1)),
    "Hardshrink": (nn.Hardshrink(0.7), lambda v: F.hardshrink(v, 0.7)),
    "Hardswish": (nn.Hardswish(True), F.hardswish),
    "Hardtanh": (nn.Hardtanh(-0.3, 0.4), lambda v: F.hardtanh(v, -0.3, 0.4)),
    "LogSigmoid": (nn.LogSigmoid(), F.logsigmoid),
    "Mish": (nn.Mish(), F.mish),
    "RReLU": (nn.RReLU(0.2, 0.2), lambda v: F.leaky_relu(v, 0.2)),
    "ReLU6": (nn.ReLU6(True), F.relu6),
    "Softmax2d": (nn.Softmax2d(), lambda v: F.softmax(v, 1)),
    "Softmin": (nn.Softmin(1), lambda v: F.softmin(v, 1)),
    "Softshrink": (nn.Softshrink(0.7), lambda v: F.softshrink(v, 0.7)),
    "Softsign": (nn.Softsign(), F.softsign),
    "Tanhshrink": (nn.Tanhshrink(), F.tanhshrink),
    "Threshold": (nn.Threshold(0.2, 0.7), lambda v: F.threshold(v, 0.2, 0.7)),
    "Identity": (nn.Identity(), lambda v: v),
    "Unflatten": (nn.Unflatten(-1, (3, -1)), lambda v: v.reshape(2, 4, 5, 3, 2)),
    "ConstantPad1d": (nn.ConstantPad1d((1, 2), 0.5), lambda v: F.pad(v, (1, 2), value=0.5), (2, 3, 6)),
    "ConstantPad2d": (nn.ConstantPad2d((1, -2, 3, 0), 2), lambda v: F.pad(v, (1, -2, 3, 0), value=2)),
    "ConstantPad3d": (nn.ConstantPad3d(1, -1.0), lambda v: F.pad(v, (1,) * 6, value=-1.0), (1, 2, 3, 4, 5)),
    "ZeroPad1d": (nn.ZeroPad1d((1, -2)), lambda v: F.pad(v, (1, -2)), (2, 3, 6)),
    "ZeroPad3d": (nn.ZeroPad3d(1), lambda v: F.pad(v, (1,) * 6), (1, 2, 3, 4, 5)),
    "ZeroPad2d": (nn.ZeroPad2d((1, -2, 3, 0)), lambda v: F.pad(v, (1, -2, 3, 0))),
    "ReflectionPad1d": (nn.ReflectionPad1d((1, 2)), lambda v: F.pad(v, (1, 2), "reflect"), (2, 3, 6)),
    "ReflectionPad2d": (nn.ReflectionPad2d(2), lambda v: F.pad(v, (2,) * 4, "reflect")),
    "ReflectionPad3d": (nn.ReflectionPad3d(1), lambda v: F.pad(v, (1,) * 6, "reflect"), (1, 2, 3, 4, 5)),
    "ReplicationPad1d": (nn.ReplicationPad1d((1, 2)), lambda v: F.pad(v, (1, 2), "replicate"), (2, 3, 6)),
    "ReplicationPad2d": (nn.ReplicationPad2d((0, 1, 2, 3)), lambda v: F.pad(v, (0, 1, 2, 3), "replicate")),
    "ReplicationPad3d": (nn.ReplicationPad3d(1), lambda v: F.pad(v, (1,) * 6, "replicate"), (1, 2, 3, 4, 5)),
    "CircularPad1d": (nn.CircularPad1d(1), lambda v: F.pad(v, (1, 1), "circular"), (3, 6)),
    "CircularPad2d": (nn.CircularPad2d((0, 1, 2, 3)), lambda v: F.pad(v, (0, 1, 2, 3), "circular")),
    "CircularPad3d": (nn.CircularPad3d(1), lambda v: F.pad(v, (1,) * 6, "circular"), (1, 2, 3, 4, 5)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_is_its_function(name, rng):
    layer, function, *shape = LAYERS[name]
    x = rng.standard_normal(shape[0] if shape else (2, 4, 5, 6))
    np.testing.assert_array_equal(layer(x), function(x))
    assert layer(tensor(x, requires_grad=True)).requires_grad
    assert layer.state_dict() == {}


CLASSES, HALF = np.array([0, 2, 1, 0]), np.array([0.5, 1.0, 2.0])
SIGNS = np.array([1, -1, -1, 1])
LOSSES = {
    "MSELoss": (nn.MSELoss("sum"), lambda x, t: F.mse_loss(x, t, "sum")),
    "L1Loss": (nn.L1Loss("sum"), lambda x, t: F.l1_loss(x, t, "sum")),
    "HuberLoss": (nn.HuberLoss("sum", 0.3), lambda x, t: F.huber_loss(x, t, "sum", 0.3)),
    "SmoothL1Loss": (nn.SmoothL1Loss("sum", 0.3), lambda x, t: F.smooth_l1_loss(x, t, "sum", 0.3)),
    "BCELoss": (nn.BCELoss(HALF, "sum"), lambda x, t: F.binary_cross_entropy(x, t, HALF, "sum")),
    "BCEWithLogitsLoss": (
        nn.BCEWithLogitsLoss(HALF, "sum", 2 * HALF),
        lambda x, t: F.binary_cross_entropy_with_logits(x, t, HALF, "sum", 2 * HALF),
    ),
    "CrossEntropyLoss": (
        nn.CrossEntropyLoss(HALF, 2, "sum", 0.1),
        lambda x, t: F.cross_entropy(x, t, HALF, 2, "sum", 0.1), CLASSES,
    ),
    "NLLLoss": (nn.NLLLoss(HALF, 2, "sum"), lambda x, t: F.nll_loss(x, t, HALF, 2, "sum"), CLASSES),
    "KLDivLoss": (nn.KLDivLoss("batchmean", True), lambda x, t: F.kl_div(x, t, "batchmean", True)),
    "HingeEmbeddingLoss": (
        nn.HingeEmbeddingLoss(0.7, "sum"),
        lambda x, t: F.hinge_embedding_loss(x, t, 0.7, "sum"), np.stack([SIGNS] * 3, 1),
    ),
    "MultiMarginLoss": (
        nn.MultiMarginLoss(2, 0.7, HALF, "sum"), lambda x, t: F.multi_margin_loss(x, t, 2, 0.7, HALF, "sum"), CLASSES,
    ),
    "CosineEmbeddingLoss": (
        nn.CosineEmbeddingLoss(0.2, "sum"), lambda x, t: F.cosine_embedding_loss(x, 1 - x, t, 0.2, "sum"), SIGNS,
    ),
    "CosineSimilarity": (nn.CosineSimilarity(0, 0.9), lambda x, t: F.cosine_similarity(x, t, 0, 0.9)),
}  # fmt: skip


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_layer_is_its_function(name, rng):
    layer, function, *target = LOSSES[name]
    x, t = rng.uniform(0.1, 0.9, (2, 4, 3))
    t = target[0] if target else t
    given = (x, 1 - x, t) if name == "CosineEmbeddingLoss" else (x, t)
    np.testing.assert_array_equal(layer(*given), function(x, t))
    weights = [key for key in ("weight", "pos_weight") if getattr(layer, key, None) is not None]
    assert sorted(layer.state_dict()) == sorted(weights)
    assert layer.parameters() == []
    default = type(layer)()
    assert default.state_dict() == {}
    if name != "CosineSimilarity":
        assert default.reduction == "mean"


def test_weights_of_losses_are_given_as_anything():
    for weight in ([1.0, 2.0], np.float32([1, 2]), tensor([1.0, 2.0])):
        held = nn.CrossEntropyLoss(weight).weight
        assert held.dtype == np.float32
        assert held.data.tolist() == [1, 2]


def test_embedding_layer_and_its_padding(rng):
    layer = nn.Embedding(5, 3, padding_idx=-2, generator=random_generator(0), dtype=np.float64)
    assert not layer.weight.data[3].any()
    np.testing.assert_array_equal(
        np.delete(layer.weight.data, 3, 0), np.delete(random_generator(0).standard_normal((5, 3)), 3, 0)
    )
    indices = np.array([[3, 1], [1, 4]])
    y = layer(indices)
    np.testing.assert_array_equal(y.data, layer.weight.data[indices])
    y.sum().backward()
    np.testing.assert_array_equal(layer.weight.grad, np.array([0, 2, 0, 0, 1])[:, None] * np.ones(3))
    assert nn.Embedding(2, 2)(tensor(np.array([1]))).shape == (1, 2)
    with pytest.raises(ArgumentError, match="Embedding: padding_idx must lie in -5 to 4, got padding_idx=5"):
        nn.Embedding(5, 3, 5)
    with pytest.raises(ArgumentError, match="Embedding: num_embeddings must be an integer of at least 1"):
        nn.Embedding(0, 3)


def test_bilinear_layer(rng):
    layer = nn.Bilinear(4, 3, 2, generator=random_generator(0))
    assert (layer.weight.shape, layer.bias.shape, layer.weight.dtype) == ((2, 4, 3), (2,), np.float32)
    assert abs(layer.weight.data).max() <= 0.5
    x1, x2 = rng.standard_normal((5, 4)).astype(np.float32), rng.standard_normal((5, 3)).astype(np.float32)
    expected = F.bilinear(x1, x2, layer.weight.data, layer.bias.data)
    np.testing.assert_array_equal(layer(x1, x2).data, expected)
    layer(x1, x2).sum().backward()
    assert all(abs(parameter.grad).sum() > 0 for parameter in layer.parameters())
    assert nn.Bilinear(1, 1, 1, bias=False).bias is None
    with pytest.raises(ArgumentError, match="in2_features must be an integer of at least 1, got in2_features=0"):
        nn.Bilinear(4, 0, 2)


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
@pytest.mark.parametrize("padding", [0, 1, (2, 1), ((0, 2), (1, 0)), "same"])
def test_padding_mode_of_convolution(mode, padding, rng):
    x = rng.standard_normal((2, 3, 6, 7))
    layer = nn.Conv2d(3, 2, (3, 2), padding=padding, padding_mode=mode, dtype=np.float64)
    top, left = {"same": ((1, 1), (0, 1)), 0: ((0, 0),) * 2, 1: ((1, 1),) * 2, (2, 1): ((2, 2), (1, 1))}.get(
        padding, padding
    )
    wide = np.pad(x, ((0, 0), (0, 0), top, left), {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}[mode])
    np.testing.assert_allclose(layer(x).data, F.conv2d(wide, layer.weight.data, layer.bias.data), rtol=1e-13)


@pytest.mark.peer
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")  # PyTorch's advice
@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_padding_mode_matches_pytorch(rank, mode, rng):
    torch = pytest.importorskip("torch")
    kernel, several = (3, 4, 2)[:rank], (2, 1, 0)[:rank]
    x = rng.standard_normal((2, 3, *(6, 7, 5)[:rank]))
    for padding in (1, several, "same", "valid"):
        settings = {"padding": padding, "padding_mode": mode, "dilation": 1 if padding == several else 2}
        layer = getattr(nn, f"Conv{rank}d")(3, 2, kernel, **settings, dtype=np.float64)
        theirs = getattr(torch.nn, f"Conv{rank}d")(3, 2, kernel, **settings, dtype=torch.float64)
        theirs.load_state_dict({key: torch.tensor(value) for key, value in layer.state_dict().items()})
        leaf, own = torch.tensor(x, requires_grad=True), tensor(x, requires_grad=True)
        expected, y = theirs(leaf), layer(own)
        np.testing.assert_allclose(y.data, expected.detach().numpy(), rtol=1e-12, atol=1e-12)
        (expected**2).sum().backward()
        (y**2).sum().backward()
        np.testing.assert_allclose(own.grad, leaf.grad.numpy(), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("rank", [1, 3])
def test_padding_mode_of_signals_and_volumes(rank):
    x = np.arange(1.0, 4.0).reshape(1, 1, 3, *(1,) * (rank - 1))
    layer = getattr(nn, f"Conv{rank}d")
    for mode, sums in {"zeros": [3, 6, 5], "reflect": [5, 6, 7], "replicate": [4, 6, 8], "circular": [6, 6, 6]}.items():
        conv = layer(1, 1, (3, *(1,) * (rank - 1)), padding=(1, *(0,) * (rank - 1)), padding_mode=mode, bias=False)
        conv.weight.data[...] = 1
        assert conv(x.astype(np.float32)).data.ravel().tolist() == sums


def test_errors_name_rule_and_values():
    with pytest.raises(ArgumentError, match="Conv2d: padding_mode is .*got padding_mode='constant'"):
        nn.Conv2d(1, 1, 3, padding_mode="constant")
    with pytest.raises(ArgumentError, match=r"ZeroPad2d: padding must be an integer or 4 of them, got .*\(1, 2\)"):
        nn.ZeroPad2d((1, 2))
    with pytest.raises(ShapeError, match=r"ReflectionPad1d: x must have 2 or 3 dimensions, .*got shape=\(1, 1, 1, 5\)"):
        nn.ReflectionPad1d(1)(np.ones((1, 1, 1, 5)))
    for sizes in ((4, 2), (-1, -1), (-1, 5), (0, -1)):
        with pytest.raises(ShapeError, match=r"Unflatten: sizes must multiply to axis, got sizes=.*, axis=6"):
            nn.Unflatten(1, sizes)(np.ones((2, 6)))
    with pytest.raises(ShapeError, match=r"Unflatten: axis must be one of x's, got axis=2, shape=\(2, 6\)"):
        nn.Unflatten(2, (2, 3))(np.ones((2, 6)))


@pytest.mark.parametrize(("name", "shape"), [("1d", (3, 8, 5)), ("3d", (3, 8, 2, 3, 2))])
def test_dropout_of_channels_in_other_dimensions(name, shape):
    function, layer = getattr(F, f"dropout{name}"), getattr(nn, f"Dropout{name}")
    x = np.ones(shape, np.float32)
    y = function(x, 0.5, generator=random_generator(3))
    images = F.dropout2d(x.reshape(3, 8, -1, 1), 0.5, generator=random_generator(3))
    np.testing.assert_array_equal(y, images.reshape(shape))
    assert set(y.reshape(24, -1).mean(1)) == {0.0, 2.0}
    np.testing.assert_array_equal(layer(0.5, generator=random_generator(3))(x), y)
    np.testing.assert_array_equal(layer(0.5).eval()(x), x)
    leaf = tensor(x, requires_grad=True)
    function(leaf, 0.5, generator=random_generator(3)).sum().backward()
    np.testing.assert_array_equal(leaf.grad, y)
    with pytest.raises(ShapeError, match=rf"dropout{name}: x must have the . dimensions .*got shape=\(3,\)"):
        function(np.ones(3))


@pytest.mark.parametrize(
    "layer",
    [
        nn.BatchNorm1d(3), nn.InstanceNorm2d(3), nn.GroupNorm(1, 3), nn.ZeroPad2d(1), nn.ReflectionPad1d(1),
        nn.Flatten(), nn.Unflatten(1, (3, 1)), nn.Softmax2d(), nn.LSTMCell(3, 2), nn.GRUCell(3, 2), nn.RNNCell(3, 2),
    ],
    ids=lambda layer: type(layer).__name__,
)  # fmt: skip
def test_what_is_no_array_is_an_error_of_the_layer(layer):
    """Such as the tuple of a recurrent layer, of which the output was not taken out."""
    for x in (None, (np.ones((2, 3)), None), [[1.0, 2.0]]):
        with pytest.raises(DtypeError, match=f"{type(layer).__name__}: x must be a NumPy or CuPy array, got type="):
            layer(x)


def test_settings_of_another_kind_are_errors_of_the_layer():
    for make, message in (
        (lambda: nn.ZeroPad2d(1.5), "ZeroPad2d: padding must be an integer or 4 of them, got padding=1.5"),
        (lambda: nn.ConstantPad1d((1, "a"), 0.0), "ConstantPad1d: padding must be an integer or 2 of them"),
        (lambda: nn.Flatten(end_dim="all"), "Flatten: start_dim and end_dim must be integers, got start_dim=1"),
        (lambda: nn.Unflatten("c", (2, 3)), "Unflatten: axis must be an integer, got axis='c'"),
        (lambda: nn.Unflatten(1, 6), "Unflatten: sizes must be a tuple of integers, got sizes=6"),
    ):
        with pytest.raises(ArgumentError, match=message):
            make()
