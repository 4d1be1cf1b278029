"""Inputs without the axis of the batch: what functions and layers give is the only example of a batch of one."""

import numpy as np
import pytest

from gpunn import Tensor, nn, tensor
from gpunn import functional as F
from gpunn.functional.record import raw
from gpunn.interop.onnx import export

SHAPES = {1: (4, 7), 2: (4, 6, 5), 3: (4, 3, 4, 5)}
INDICES = {rank: np.arange(np.prod(shape)).reshape(shape) % 50 for rank, shape in SHAPES.items()}


def ones(*shape):
    return np.linspace(-1, 1, int(np.prod(shape))).reshape(shape)


FUNCTIONS = {}
for rank, shape in SHAPES.items():
    window, half = (2,) * rank, (3,) * rank
    FUNCTIONS |= {
        f"conv{rank}d": (shape, lambda f, x, w=window: f(x, ones(6, 2, *w), ones(6), 1, 1, 1, 2)),
        f"conv_transpose{rank}d": (shape, lambda f, x, w=window: f(x, ones(4, 3, *w), ones(6), 2, 1, 1, 2)),
        f"max_pool{rank}d": (shape, lambda f, x: f(x, 2, 1, 1, 1, True, True)),
        f"avg_pool{rank}d": (shape, lambda f, x: f(x, 2, 2, 1, True)),
        f"adaptive_avg_pool{rank}d": (shape, lambda f, x, h=half: f(x, h)),
        f"adaptive_max_pool{rank}d": (shape, lambda f, x, h=half: f(x, h, True)),
        f"global_avg_pool{rank}d": (shape, lambda f, x: f(x)),
        f"global_max_pool{rank}d": (shape, lambda f, x: f(x)),
    }  # fmt: skip
FUNCTIONS |= {
    "dropout1d": (SHAPES[1], lambda f, x: f(x, training=False)),
    "dropout3d": (SHAPES[3], lambda f, x: f(x, 0.0)),
    "linear": ((4,), lambda f, x: f(x, ones(3, 4), ones(3))),
}


def parts(y):
    return y if isinstance(y, tuple) else (y,)


def assert_is_the_only_example(function, x):
    """``function`` of x is that of the batch of x alone, for arrays and tensors, and so is the gradient."""
    plain = parts(function(x))
    batch, alone = (tensor(a, requires_grad=True, dtype=a.dtype) for a in (x[None], x))
    of_batch, of_one = parts(function(batch)), parts(function(alone))
    assert isinstance(of_one[0], Tensor)
    for array, whole, one in zip(plain, of_batch, of_one, strict=True):
        assert whole.shape == (1, *one.shape)
        np.testing.assert_array_equal(raw(one), raw(whole)[0])
        np.testing.assert_array_equal(raw(one), raw(array))
    g = ones(*of_one[0].shape)
    of_one[0].backward(g)
    of_batch[0].backward(g[None])
    assert alone.grad.shape == x.shape
    np.testing.assert_array_equal(alone.grad, batch.grad[0])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name, rng):
    shape, call = FUNCTIONS[name]
    assert all(type(y) is np.ndarray for y in parts(call(getattr(F, name), np.zeros(shape))))
    assert_is_the_only_example(lambda x: call(getattr(F, name), x), rng.standard_normal(shape))


D = {"dtype": np.float64}
LAYERS = {
    **{f"InstanceNorm{rank}d": lambda make: make(4, affine=True, **D) for rank in SHAPES},
    **{
        f"{kind}Pad{rank}d": lambda make: make(2)
        for kind in ("Reflection", "Replication", "Circular")
        for rank in SHAPES
    },
    "ZeroPad2d": lambda make: make(1),
    **{f"Conv{rank}d": lambda make: make(4, 2, 3, padding=1, padding_mode="circular", **D) for rank in SHAPES},
    **{f"MaxPool{rank}d": lambda make: make(2, return_indices=True) for rank in SHAPES},
    **{f"AdaptiveMaxPool{rank}d": lambda make: make(2, return_indices=True) for rank in SHAPES},
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers(name, rng):
    assert_is_the_only_example(LAYERS[name](getattr(nn, name)), rng.standard_normal(SHAPES[int(name[-2])]))


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_cells(kind, rng):
    layer, x, states = getattr(nn, f"{kind}Cell")(4, 3, **D), rng.standard_normal(4), rng.standard_normal((2, 3))
    assert_is_the_only_example(layer, x)

    def with_states(x):
        h, c = states[:, None] if x.ndim == 2 else states
        return layer(x, (h, c) if kind == "LSTM" else h)

    assert_is_the_only_example(with_states, x)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_losses_of_one_row(reduction, rng):
    x, weight, shares = rng.standard_normal(5), rng.random(5), rng.random(5)
    for call in (
        lambda x, t: F.cross_entropy(x, t, weight, 1, reduction, 0.1),
        lambda x, t: F.nll_loss(x, t, weight, reduction=reduction),
        lambda x, t: F.multi_margin_loss(x, t, 2, weight=weight, reduction=reduction),
        lambda x, t: F.cross_entropy(x, shares if x.ndim == 1 else shares[None], weight, reduction=reduction),
    ):
        for target in (np.array(3), np.int64(3), np.array([3])):
            batch, alone = (tensor(a, requires_grad=True, dtype=a.dtype) for a in (x[None], x))
            whole, one = call(batch, np.array([3])), call(alone, target)
            assert one.shape == ()
            assert one.item() == whole.item()
            whole.sum().backward()
            one.backward()
            np.testing.assert_array_equal(alone.grad, batch.grad[0])


def test_dropout_of_channels(rng):
    x = np.ones((64, 3, 2))
    for name, one in (("dropout1d", x[..., 0]), ("dropout3d", x[..., None])):
        y = getattr(F, name)(one, 0.5)
        assert set(np.unique(y.reshape(64, -1).mean(1))) == {0.0, 2.0}
    y = F.dropout2d(x, 0.5)  # (N, C, L), as PyTorch has it
    assert set(np.unique(y.mean(2))) == {0.0, 2.0}
    assert len(np.unique(y[0].mean(1))) + len(np.unique(y[1].mean(1))) + len(np.unique(y[2].mean(1))) > 3


def test_a_model_of_one_example_is_exported(tmp_path, rng):
    runtime = pytest.importorskip("onnxruntime")
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.InstanceNorm2d(4), nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(2), nn.Flatten(0)
    )
    x = rng.standard_normal((3, 9, 9)).astype(np.float32)
    export(model, x, tmp_path / "m.onnx", dynamic_batch=False)
    y = runtime.InferenceSession(str(tmp_path / "m.onnx")).run(None, {"input": x})[0]
    np.testing.assert_allclose(y, model(x).data, rtol=1e-4, atol=1e-5)


@pytest.mark.peer
@pytest.mark.parametrize("name", [name for name in FUNCTIONS if "global" not in name])
def test_functions_match_pytorch(name):
    torch = pytest.importorskip("torch")
    shape, call = FUNCTIONS[name]
    x = np.random.default_rng(0).standard_normal(shape)

    def theirs(*args):
        return getattr(torch.nn.functional, name)(*(torch.tensor(a) if isinstance(a, np.ndarray) else a for a in args))

    def named(*args, **settings):
        return theirs(*args) if not settings else torch.tensor(args[0])

    for own, other in zip(parts(call(getattr(F, name), x)), parts(call(named, x)), strict=True):
        np.testing.assert_allclose(own, other.numpy(), rtol=1e-11, atol=1e-11)
