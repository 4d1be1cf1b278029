import agreement
import numpy as np
import oracles
import pytest
from conv_case import assert_wrong_arrays_are_refused
from planned import conv
from planned import transposed as ops

import gpunn.functional as F
from gpunn import nn
from gpunn.backend import matmul_precision
from gpunn.errors import ArgumentError, ShapeError


def random_case(rank, rng):
    """Shapes of x and w, and settings that leave something of the output."""
    groups = int(rng.choice([1, 1, 2, 3]))
    n, channels, filters = (int(v) for v in rng.integers(1, 4, 3))
    while True:
        size, kernel, stride = rng.integers(1, (6, 6, 4)[rank - 1], rank), *rng.integers(1, 4, (2, rank))
        dilation, padding = rng.integers(1, 3, rank), rng.integers(0, 3, rank)
        more = rng.integers(0, np.maximum(stride, dilation))
        if ((size - 1) * stride - 2 * padding + dilation * (kernel - 1) + 1 + more >= 1).all():
            break
    settings = {"stride": stride, "padding": padding, "output_padding": more, "dilation": dilation}
    settings = {name: tuple(map(int, values)) for name, values in settings.items()} | {"groups": groups}
    shapes = (n, channels * groups, *map(int, size)), (channels * groups, filters, *map(int, kernel))
    return *shapes, settings


def arrays(shapes, groups, rng, dtype=np.float64):
    x, w = (rng.standard_normal(shape).astype(dtype) for shape in shapes)
    return x, w, rng.standard_normal(w.shape[1] * groups).astype(dtype)


AWKWARD = {
    "one element": ((1, 1, 1), (1, 1, 1), {}),
    "primes": ((3, 5, 7), (5, 3, 3), {"stride": 2, "padding": 1}),
    "no signal": ((0, 2, 5), (2, 3, 3), {}),
    "stride leaves gaps": ((2, 2, 4), (2, 3, 1), {"stride": 3}),
    "more output": ((2, 2, 4), (2, 3, 2), {"stride": 3, "output_padding": 2}),
    "more output than the stride": ((2, 2, 4), (2, 3, 3), {"dilation": 3, "output_padding": 2}),
    "more output, one element": ((2, 2, 4), (2, 3, 1), {"dilation": 3, "output_padding": 2}),
    "grouped": ((2, 4, 5), (4, 3, 3), {"groups": 2}),
    "depthwise": ((2, 6, 5), (6, 1, 3), {"groups": 6, "stride": 2, "output_padding": 1}),
    "one pixel": ((1, 1, 1, 1), (1, 1, 1, 1), {}),
    "image": ((2, 3, 4, 5), (3, 4, 3, 2), {"stride": (2, 3), "padding": (1, 0), "output_padding": (1, 2)}),
    "no image": ((0, 3, 4, 5), (3, 4, 1, 1), {}),
    "nearly all is padding": ((1, 2, 2, 3), (2, 1, 3, 3), {"padding": (1, 2)}),
    "one voxel": ((1, 1, 1, 1, 1), (1, 1, 1, 1, 1), {}),
    "volume": ((2, 2, 2, 3, 2), (2, 3, 2, 1, 3), {"stride": (2, 1, 3), "padding": (1, 0, 2)}),
    "no volume": ((0, 3, 2, 2, 2), (3, 2, 2, 2, 2), {}),
}


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(("x", "w", "settings"), AWKWARD.values(), ids=AWKWARD.keys())
def test_forward_is_the_naive_loop(run, x, w, settings, dtype, rng):
    rank, (x, w, b) = len(x) - 2, arrays((x, w), settings.get("groups", 1), rng, dtype)
    y = run(ops.conv_transpose, rank, x, w, b, **settings)
    assert y.dtype == dtype
    oracles.assert_close(y, oracles.conv_transpose(x, w, b, **settings), w[:, 0].size)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_backward_is_the_directional_difference(run, rank, seed):
    rng = np.random.default_rng(seed)
    *shapes, settings = random_case(rank, rng)
    x, w, b = arrays(shapes, settings["groups"], rng)

    def forward(x, w, b):
        return run(ops.conv_transpose, rank, x, w, b, **settings)

    def backward(function, *args):
        return lambda gy: run(function, rank, gy, *args, **settings)

    gradient_x = backward(ops.conv_transpose_backward_x, w, x.shape)
    gradient_w = backward(ops.conv_transpose_backward_w, x, w.shape)
    oracles.assert_gradient(lambda v: forward(v, w, b), gradient_x, x, rng)
    oracles.assert_gradient(lambda v: forward(x, v, b), gradient_w, w, rng)
    oracles.assert_gradient(lambda v: forward(x, w, v), lambda g: run(conv.conv_backward_b, g), b, rng)


def test_it_is_the_gradient_of_convolution(run, rng):
    for padding in (((2, 1), (0, 3)), "same", "valid"):
        x, w = rng.standard_normal((2, 3, 5, 6)), rng.standard_normal((3, 4, 4, 3))
        y = run(ops.conv_transpose, 2, x, w, padding=padding)
        expected = conv.conv_backward_x(2, x, w, y.shape, padding=padding)
        oracles.assert_close(y, expected, 12)
        assert (y.shape[2:] == (5, 6)) == (padding == "same")


def test_on_tensor_cores(run, rng):
    # The convolution that computes it takes tf32 operands: 10 bits of mantissa, 2^-11 off at most.
    for settings in ({"stride": 2, "output_padding": 1}, {"dilation": 3, "output_padding": 2}):
        x, w, _ = arrays(((2, 4, 3, 5), (4, 6, 3, 2)), 1, rng, np.float32)
        exact = oracles.conv_transpose(x, w, **settings)
        gy = rng.standard_normal(exact.shape).astype(np.float32)
        with matmul_precision("tf32"):
            y = run(ops.conv_transpose, 2, x, w, **settings)
            gx = run(ops.conv_transpose_backward_x, 2, gy, w, x.shape, **settings)
            gw = run(ops.conv_transpose_backward_w, 2, gy, x, w.shape, **settings)
        np.testing.assert_allclose(y, exact, atol=2e-2)
        wide = [a.astype(np.float64) for a in (gy, x, w)]
        for actual, expected in (
            (gx, ops.conv_transpose_backward_x(2, wide[0], wide[2], x.shape, **settings)),
            (gw, ops.conv_transpose_backward_w(2, wide[0], wide[1], w.shape, **settings)),
        ):
            np.testing.assert_allclose(actual, expected, atol=2e-2)


def test_non_contiguous_arrays_are_read_right(run, rng):
    for rank in (1, 2, 3):
        x = rng.standard_normal((2, 4, 5, 3, 4)[: rank + 2][::-1]).T
        w = rng.standard_normal((4, 3, 2, 3, 2)[: rank + 2][::-1]).T
        packed = ops.conv_transpose(rank, x.copy("C"), w.copy("C"), stride=2)
        oracles.assert_close(run(ops.conv_transpose, rank, x, w, stride=2), packed, w[:, 0].size)
        gy = rng.standard_normal(packed.shape[::-1]).T
        for function, *args in (
            (ops.conv_transpose_backward_x, gy, w, x.shape),
            (ops.conv_transpose_backward_w, gy, x, w.shape),
        ):
            whole = [a.copy("C") if isinstance(a, np.ndarray) else a for a in args]
            expected = function(rank, *whole, stride=2)
            oracles.assert_close(run(function, rank, *args, stride=2), expected, gy.size)


SIGNAL, FILTER = (1, 4, 5), (4, 2, 3)
WRONG = [
    (1, (4, 5), FILTER, {}, ShapeError, r"conv_transpose1d: x must have the 3 dimensions \(N, C, L\), got"),
    (2, (1, 4, 5, 5), FILTER, {}, ShapeError, r"w must have the 4 dimensions \(C, K/groups, KH, KW\), got"),
    (1, SIGNAL, (3, 2, 3), {}, ShapeError, "w must have in_channels filters, got w=3, in_channels=4"),
    (1, SIGNAL, FILTER, {"groups": 3}, ShapeError, "groups must divide in_channels, got groups=3, in_channels=4"),
    (1, SIGNAL, FILTER, {"groups": 0}, ArgumentError, "groups must be an integer of at least 1, got groups=0"),
    (1, (1, 0, 5), (0, 2, 3), {}, ShapeError, "at least one channel, got in_channels=0, out_channels=2"),
    (1, SIGNAL, FILTER, {"stride": 0}, ArgumentError, "stride must be an integer of at least 1, or .* got stride=0"),
    (1, SIGNAL, FILTER, {"padding": -1}, ArgumentError, "padding must be an integer of at least 0"),
    (1, SIGNAL, FILTER, {"output_padding": -1}, ArgumentError, "output_padding must be an integer of at least 0"),
    (
        1,
        SIGNAL,
        FILTER,
        {"output_padding": 2, "stride": 2},
        ArgumentError,
        r"output_padding must be less than the stride or the dilation, got output_padding=\(2,\), stride=\(2,\), dil",
    ),
    (1, (1, 4, 0), FILTER, {}, ShapeError, r"at least one element along each axis, got shape=\(1, 4, 0\)"),
    (
        1,
        (1, 4, 1),
        FILTER,
        {"padding": 2},
        ShapeError,
        r"must leave something of the output, got output=\(-1,\), image=\(1,\), window=\(3,\), padding=\(\(2, 2\),\)",
    ),
]


@pytest.mark.parametrize(("rank", "x", "w", "settings", "kind", "message"), WRONG)
def test_errors_name_rule_and_values(run, rank, x, w, settings, kind, message):
    with pytest.raises(kind, match=message):
        run(ops.conv_transpose, rank, np.ones(x), np.ones(w), **settings)


def test_errors_about_dtypes_and_gradients():
    assert_wrong_arrays_are_refused(ops, "conv_transpose", (1, 1, 4), (1, 2, 3), (1, 2, 6))


def test_layers_are_their_function(rng):
    for rank in (1, 2, 3):
        layer = getattr(nn, f"ConvTranspose{rank}d")(4, 6, 3, 2, 1, 1, 2, True, 2)
        assert layer.weight.shape == (4, 3, *(3,) * rank)
        assert layer.bias.shape == (6,)
        bound = (3 * 3**rank) ** -0.5
        assert 0.5 * bound < np.abs(layer.weight.data).max() <= bound
        x = rng.standard_normal((2, 4, *(3,) * rank)).astype(np.float32)
        function = getattr(F, f"conv_transpose{rank}d")
        np.testing.assert_array_equal(layer(x).data, function(x, layer.weight.data, layer.bias.data, 2, 1, 1, 2, 2))
        assert getattr(nn, f"ConvTranspose{rank}d")(1, 1, 2, bias=False).bias is None
    with pytest.raises(ShapeError, match="ConvTranspose2d: groups must divide in_channels and out_channels"):
        nn.ConvTranspose2d(4, 3, 1, groups=2)


@pytest.mark.peer("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_matches_pytorch(run, rank):
    torch = pytest.importorskip("torch")
    for seed in range(60):
        rng = np.random.default_rng(seed)
        *shapes, settings = random_case(rank, rng)
        both = agreement.both(torch, f"conv_transpose{rank}d", **settings)
        given, where = arrays(shapes, settings["groups"], rng)[: 3 - seed % 2], f"{seed=} {shapes} {settings}"
        agreement.assert_agrees(run, torch, *both, given, where=where, tolerance=1e-9)
