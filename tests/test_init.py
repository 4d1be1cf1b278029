import math

import numpy as np
import pytest

from gpunn import backend, nn, optim, tensor
from gpunn.backend import random_generator
from gpunn.errors import ArgumentError, DtypeError, ShapeError
from gpunn.nn import init

LINEAR, CONV = (120, 250), (60, 20, 3, 5)
FANS = {LINEAR: (250, 120), CONV: (300, 900)}
KURTOSIS = {"normal": 3.0, "uniform": 1.8}


def weight(shape, dtype=np.float32):
    return nn.Parameter(np.zeros(shape, dtype))


def assert_moments(values, mean, variance, kurtosis):
    """Mean and variance are those given, within five standard errors of a sample of independent values."""
    n = values.size
    values = np.float64(values)
    assert abs(values.mean() - mean) <= 5 * math.sqrt(variance / n)
    assert abs(((values - mean) ** 2).mean() / variance - 1) <= 5 * math.sqrt((kurtosis - 1) / n)


def variances(shape):
    """A function, the kind of distribution, and the variance that it should have."""
    fan_in, fan_out = FANS[shape]
    return [
        (lambda w, g: init.uniform_(w, -0.5, 1.5, g), "uniform", 1 / 3, 0.5),
        (lambda w, g: init.normal_(w, 2.0, 0.3, g), "normal", 0.09, 2.0),
        (lambda w, g: init.xavier_uniform_(w, 1.5, g), "uniform", 1.5**2 * 2 / (fan_in + fan_out), 0.0),
        (lambda w, g: init.xavier_normal_(w, generator=g), "normal", 2 / (fan_in + fan_out), 0.0),
        (lambda w, g: init.kaiming_uniform_(w, generator=g), "uniform", 2 / fan_in, 0.0),
        (lambda w, g: init.kaiming_uniform_(w, math.sqrt(5), generator=g), "uniform", 1 / 3 / fan_in, 0.0),
        (lambda w, g: init.kaiming_normal_(w, 0.5, "fan_out", generator=g), "normal", 1.6 / fan_out, 0.0),
        (lambda w, g: init.kaiming_normal_(w, 0, "fan_in", "tanh", g), "normal", 25 / 9 / fan_in, 0.0),
        (lambda w, g: init.lecun_uniform_(w, g), "uniform", 1 / fan_in, 0.0),
        (lambda w, g: init.lecun_normal_(w, g), "normal", 1 / fan_in, 0.0),
    ]


@pytest.mark.parametrize("number", range(10))
@pytest.mark.parametrize("shape", [LINEAR, CONV], ids=["linear", "conv"])
def test_mean_variance_and_bounds(shape, number):
    fill, kind, variance, mean = variances(shape)[number]
    w = fill(weight(shape), random_generator(3))
    assert w.dtype == np.float32
    assert_moments(w.data, mean, variance, KURTOSIS[kind])
    furthest = abs(w.data - mean).max()
    bound = math.sqrt(3 * variance)
    if kind == "uniform":
        assert 0.999 * bound < furthest <= bound * (1 + 1e-6)
    else:
        assert furthest > 3 * math.sqrt(variance)


def test_the_truncated_normal_is_the_normal_within_the_bounds():
    a, b = -1.0, 2.5  # in standard deviations
    w = init.trunc_normal_(weight((200, 200), np.float64), 0.5, 0.2, 0.5 + 0.2 * a, 0.5 + 0.2 * b, random_generator(0))
    z = (w.data - 0.5) / 0.2
    assert a <= z.min() < a + 0.01
    assert b - 0.2 < z.max() <= b
    density = lambda x: math.exp(-x * x / 2) / math.sqrt(2 * math.pi)  # noqa: E731
    share = (math.erf(b / math.sqrt(2)) - math.erf(a / math.sqrt(2))) / 2
    mean = (density(a) - density(b)) / share
    variance = 1 + (a * density(a) - b * density(b)) / share - mean**2
    assert_moments(z, mean, variance, 3)  # cut on both sides, its kurtosis is below the normal one
    half = np.mean(z < 0)
    assert abs(half - math.erf(1 / math.sqrt(2)) / 2 / share) <= 5 * math.sqrt(0.25 / z.size)


@pytest.mark.parametrize("shape", [(5, 5), (3, 7), (7, 3), (4, 2, 3, 1), (2, 3, 2, 2), (1, 1)])
def test_orthogonal_rows_or_columns(shape):
    w = init.orthogonal_(weight(shape, np.float64), 1.5, random_generator(0)).data.reshape(shape[0], -1)
    product = w @ w.T if w.shape[0] <= w.shape[1] else w.T @ w
    np.testing.assert_allclose(product, 1.5**2 * np.eye(len(product)), atol=1e-14)


def test_orthogonal_matrices_are_uniform():
    """Each element has mean 0 and variance 1/n; the signs that QR leaves to convention would show in the mean."""
    generator = random_generator(0)
    drawn = np.stack([init.orthogonal_(weight((3, 3), np.float64), generator=generator).data for _ in range(2000)])
    for row, column in np.ndindex(3, 3):
        values = drawn[:, row, column]
        assert abs(values.mean()) <= 5 * math.sqrt(1 / 3 / 2000)
        assert abs((values**2).mean() - 1 / 3) <= 5 * math.sqrt((1.8 - 1) / 2000) / 3  # uniform on the sphere in 3-D


EVERY = {
    "uniform_": lambda w, g=None: init.uniform_(w, generator=g),
    "normal_": lambda w, g=None: init.normal_(w, generator=g),
    "trunc_normal_": lambda w, g=None: init.trunc_normal_(w, generator=g),
    "xavier_uniform_": lambda w, g=None: init.xavier_uniform_(w, generator=g),
    "xavier_normal_": lambda w, g=None: init.xavier_normal_(w, generator=g),
    "kaiming_uniform_": lambda w, g=None: init.kaiming_uniform_(w, generator=g),
    "kaiming_normal_": lambda w, g=None: init.kaiming_normal_(w, generator=g),
    "lecun_uniform_": init.lecun_uniform_,
    "lecun_normal_": init.lecun_normal_,
    "orthogonal_": lambda w, g=None: init.orthogonal_(w, generator=g),
}


@pytest.mark.parametrize("fill", EVERY.values(), ids=EVERY.keys())
def test_the_same_generator_gives_the_same_values_in_every_dtype(fill):
    double = fill(weight((4, 6), np.float64), random_generator(5)).data
    for dtype in (np.float16, np.float32):
        np.testing.assert_array_equal(fill(weight((4, 6), dtype), random_generator(5)).data, double.astype(dtype))
    assert (fill(weight((4, 6), np.float64), random_generator(6)).data != double).all()
    backend.manual_seed(5)
    np.testing.assert_array_equal(fill(weight((4, 6), np.float64)).data, double)


@pytest.mark.parametrize("fill", EVERY.values(), ids=EVERY.keys())
def test_a_layer_is_filled_in_place_even_in_the_buffer_of_an_optimizer(fill):
    layer = nn.Linear(6, 4)
    sgd = optim.SGD(layer.parameters(), lr=1.0)
    view, bias = layer.weight.data, layer.bias.data.copy()
    before = view.copy()
    assert fill(layer.weight) is layer.weight
    assert layer.weight.data is view
    assert (view != before).all()
    np.testing.assert_array_equal(layer.bias.data, bias)
    layer.weight.grad = view.copy()
    sgd.step()
    np.testing.assert_array_equal(layer.weight.data, 0)


@pytest.mark.gpu
@pytest.mark.parametrize("fill", EVERY.values(), ids=EVERY.keys())
def test_a_gpu_gets_the_numbers_of_the_cpu(fill):
    there = tensor(np.zeros((4, 6), np.float32), device="gpu")
    np.testing.assert_array_equal(
        fill(there, random_generator(0)).numpy(), fill(weight((4, 6)), random_generator(0)).data
    )


def test_layers_begin_as_they_did():
    layer = nn.Linear(3, 2, generator=random_generator(0))
    drawn = random_generator(0).uniform(-(3**-0.5), 3**-0.5, (2, 3)).astype(np.float32)
    np.testing.assert_array_equal(layer.weight.data, drawn)


def test_parts_are_the_stream_of_one_draw():
    shape = (3, 30011)  # more than a part
    for fill, name in ((init.uniform_, "random"), (init.normal_, "standard_normal")):
        drawn = fill(weight(shape), generator=random_generator(1)).data
        np.testing.assert_array_equal(drawn, getattr(random_generator(1), name)(shape).astype(np.float32))


def test_constants_and_fans():
    assert init.constant_(tensor(np.zeros((), np.float16)), 1.5).item() == 1.5
    assert init.fans(CONV) == FANS[CONV]
    assert init.fans((0, 3)) == (3, 0)
    for fill in EVERY.values():  # nothing to draw, and nothing divided by 0
        assert fill(weight((0, 3))).shape == (0, 3)


def test_errors_name_rule_and_values():
    bias, w = weight((3,)), weight((3, 4))
    for name in ("xavier_uniform_", "xavier_normal_", "kaiming_uniform_", "lecun_normal_", "orthogonal_"):
        with pytest.raises(ShapeError, match=r"fans: a weight must have two axes or more: .* got shape=\(3,\)"):
            getattr(init, name)(bias)
    for fill, kind, message in (
        (lambda: init.uniform_(w, 2, 1), ArgumentError, "uniform_: a must be at most b, both finite, got a=2, b=1"),
        (lambda: init.normal_(w, 0, -1), ArgumentError, "normal_: std must be at least 0 and finite, got std=-1"),
        (lambda: init.trunc_normal_(w, std=0), ArgumentError, "trunc_normal_: std must be above 0 and finite"),
        (lambda: init.trunc_normal_(w, a=3, b=9), ArgumentError, "must hold at least 1 % of the distribution, got a=3"),
        (lambda: init.xavier_uniform_(w, -1), ArgumentError, "xavier_uniform_: std must be at least 0"),
        (lambda: init.kaiming_normal_(w, mode="in"), ArgumentError, "mode must be fan_in or fan_out, got mode='in'"),
        (lambda: init.calculate_gain("gelu"), ArgumentError, "nonlinearity must be one of linear, .*, got"),
        (lambda: init.eye_(weight((2, 3, 4))), ShapeError, r"eye_: tensor must be a matrix, got shape=\(2, 3, 4\)"),
        (lambda: init.dirac_(w), ShapeError, "dirac_: tensor must be filters of a convolution, 3 to 5 axes"),
        (lambda: init.dirac_(weight((3, 1, 1)), 2), ShapeError, "groups must divide the filters, got groups=2"),
        (lambda: init.sparse_(w, 1.5), ArgumentError, "sparse_: sparsity must be from 0 to 1, got sparsity=1.5"),
        (lambda: init.sparse_(bias, 0.5), ShapeError, "sparse_: tensor must be a matrix"),
        (lambda: init.uniform_(np.zeros(3)), DtypeError, "uniform_: takes a tensor, .*, got type='ndarray'"),
    ):
        with pytest.raises(kind, match=message):
            fill()
    np.testing.assert_array_equal(w.data, 0)


@pytest.mark.peer
def test_fans_gains_and_spread_are_those_of_pytorch(rng):
    torch = pytest.importorskip("torch")
    kinds = ["linear", "conv1d", "conv2d", "conv3d", "sigmoid", "tanh", "relu", "selu", "leaky_relu"]
    kinds += ["conv_transpose1d", "conv_transpose2d", "conv_transpose3d"]
    for draw in range(50):
        shape = tuple(rng.integers(1, 9, rng.integers(2, 5)).tolist())
        theirs = torch.empty(shape)
        assert init.fans(shape) == torch.nn.init._calculate_fan_in_and_fan_out(theirs), shape
        kind, slope = kinds[draw % len(kinds)], float(rng.uniform(0, 2))
        for param in (None, slope):
            assert init.calculate_gain(kind, param) == torch.nn.init.calculate_gain(kind, param), (kind, param)


@pytest.mark.peer
def test_fixed_values_are_those_of_pytorch(rng):
    torch = pytest.importorskip("torch")
    for draw in range(50):
        matrix = tuple(rng.integers(1, 7, 2).tolist())
        groups = int(rng.integers(1, 4))
        filters = (groups * int(rng.integers(1, 4)), *rng.integers(1, 6, rng.integers(2, 5)).tolist())
        for name, shape, settings in (
            ("zeros_", matrix, ()), ("ones_", matrix, ()), ("eye_", matrix, ()), ("dirac_", filters, (groups,))
        ):  # fmt: skip
            ours = getattr(init, name)(weight(shape), *settings).data
            theirs = getattr(torch.nn.init, name)(torch.full(shape, 7.0), *settings).numpy()
            np.testing.assert_array_equal(ours, theirs, err_msg=f"{draw=} {name} {shape=} {settings=}")
        share = float(rng.uniform(0, 1))
        ours, theirs = init.sparse_(weight(matrix), share).data, torch.nn.init.sparse_(torch.empty(matrix), share)
        assert ((ours == 0).sum(0) == (theirs == 0).sum(0).numpy()).all(), (matrix, share)


def test_a_sparse_matrix_has_zeros_at_drawn_places():
    w = init.sparse_(weight((40, 300)), 0.24, 0.5, random_generator(0)).data
    assert ((w == 0).sum(0) == 10).all()
    assert ((w == 0).sum(1) > 0).all()
    assert_moments(w[w != 0], 0.0, 0.25, KURTOSIS["normal"])


@pytest.mark.peer
def test_samples_spread_as_those_of_pytorch():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    for draw in range(50):
        generator = random_generator(draw)
        shape = [(60, 40), (20, 6, 3, 3)][draw % 2]
        slope, mode, gain = generator.uniform(0, 2), ["fan_in", "fan_out"][int(generator.integers(2))], 0.5 + draw / 20
        for name, settings in {
            "uniform_": (-0.5, gain), "normal_": (0.5, gain), "trunc_normal_": (0.1, gain, -1.0, 2.0),
            "xavier_uniform_": (gain,), "xavier_normal_": (gain,), "kaiming_uniform_": (slope, mode),
            "kaiming_normal_": (slope, mode), "orthogonal_": (gain,),
        }.items():  # fmt: skip
            ours = getattr(init, name)(weight(shape), *settings, generator=generator).data
            theirs = getattr(torch.nn.init, name)(torch.empty(shape), *settings).numpy()
            where = f"{draw=} {name} {shape=} {settings=}"
            error = 5 * math.sqrt(2 * 2 / ours.size)  # of the difference of two variances, at a kurtosis up to 3
            np.testing.assert_allclose(ours.var() / theirs.var(), 1, atol=error, err_msg=where)
            assert abs(ours.mean() - theirs.mean()) <= 5 * math.sqrt(2 / ours.size) * theirs.std(), where
