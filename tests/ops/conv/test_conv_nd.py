import agreement
import numpy as np
import oracles
import pytest
from conv_case import assert_wrong_arrays_are_refused
from planned import conv as ops

import gpunn.functional as F
from gpunn import nn
from gpunn.backend import random_generator
from gpunn.errors import ArgumentError, ShapeError
from gpunn.ops.shared.window import window


def random_case(rank, rng):
    """Shapes of x and w, and settings that fit them."""
    groups = int(rng.choice([1, 1, 2, 3]))
    kernel = rng.integers(1, 4, rank)
    stride, dilation, padding = rng.integers(1, 4, rank), rng.integers(1, 3, rank), rng.integers(0, 3, rank)
    extent = dilation * (kernel - 1) + 1
    size = rng.integers(np.maximum(1, extent - 2 * padding), extent + 5)
    n, channels, filters = (int(v) for v in rng.integers(1, 4, 3))
    settings = {"stride": stride, "padding": padding, "dilation": dilation}
    settings = {name: tuple(map(int, values)) for name, values in settings.items()} | {"groups": groups}
    shapes = (n, channels * groups, *map(int, size)), (filters * groups, channels, *map(int, kernel))
    return *shapes, settings


def arrays(shapes, rng, dtype=np.float64):
    x, w = (rng.standard_normal(shape).astype(dtype) for shape in shapes)
    return x, w, rng.standard_normal(len(w)).astype(dtype)


AWKWARD = {
    "one element": ((1, 1, 1), (1, 1, 1), {}),
    "primes": ((3, 5, 13), (7, 5, 3), {"padding": 1}),
    "no signal": ((0, 2, 5), (3, 2, 3), {}),
    "no signal, one element": ((0, 2, 5), (3, 2, 1), {}),
    "depthwise": ((2, 6, 9), (6, 1, 3), {"groups": 6}),
    "more padding than signal": ((1, 1, 2), (2, 1, 5), {"padding": 3}),
    "grouped, one element": ((2, 4, 7), (6, 2, 1), {"groups": 2}),
    "one voxel": ((1, 1, 1, 1, 1), (1, 1, 1, 1, 1), {}),
    "volume": ((2, 3, 5, 4, 6), (4, 3, 3, 2, 1), {"stride": (2, 1, 3), "padding": (1, 0, 2)}),
    "no volume": ((0, 2, 3, 3, 3), (3, 2, 2, 2, 2), {}),
    "depthwise volume": ((2, 4, 4, 3, 5), (8, 1, 2, 2, 2), {"groups": 4, "dilation": (1, 2, 3)}),
    "grouped, one voxel": ((2, 4, 3, 2, 2), (6, 2, 1, 1, 1), {"groups": 2}),
    "strided, one voxel": ((2, 4, 3, 4, 2), (6, 4, 1, 1, 1), {"stride": (2, 3, 1)}),
}


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(("x", "w", "settings"), AWKWARD.values(), ids=AWKWARD.keys())
def test_forward_is_the_naive_loop(run, x, w, settings, dtype, rng):
    rank, (x, w, b) = len(x) - 2, arrays((x, w), rng, dtype)
    y = run(ops.conv, rank, x, w, b, **settings)
    assert y.dtype == dtype
    oracles.assert_close(y, oracles.conv_nd(x, w, b, **settings), w[0].size)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("rank", [1, 3])
def test_backward_is_the_directional_difference(run, rank, seed):
    rng = np.random.default_rng(seed)
    *shapes, settings = random_case(rank, rng)
    x, w, b = arrays(shapes, rng)
    forward = lambda x, w, b: run(ops.conv, rank, x, w, b, **settings)  # noqa: E731
    oracles.assert_gradient(
        lambda v: forward(v, w, b), lambda g: run(ops.conv_backward_x, rank, g, w, x.shape, **settings), x, rng
    )
    oracles.assert_gradient(
        lambda v: forward(x, v, b), lambda g: run(ops.conv_backward_w, rank, g, x, w.shape, **settings), w, rng
    )
    oracles.assert_gradient(lambda v: forward(x, w, v), lambda g: run(ops.conv_backward_b, g), b, rng)


def test_signals_are_images_of_one_row(run, rng):
    x, w, b = arrays(((2, 4, 11), (6, 2, 3)), rng, np.float32)
    settings = {"stride": 2, "padding": 1, "dilation": 2, "groups": 2}
    rows = {"stride": (1, 2), "padding": (0, 1), "dilation": (1, 2), "groups": 2}
    y = run(ops.conv, 1, x, w, b, **settings)
    np.testing.assert_array_equal(y, run(ops.conv, 2, x[:, :, None], w[:, :, None], b, **rows)[:, :, 0])
    np.testing.assert_array_equal(
        run(ops.conv_backward_x, 1, y, w, x.shape, **settings),
        run(ops.conv_backward_x, 2, y[:, :, None], w[:, :, None], (2, 4, 1, 11), **rows)[:, :, 0],
    )


def test_relu_in_the_same_pass(run, rng):
    for shapes in (((2, 3, 9), (4, 3, 3)), ((1, 2, 4, 4, 4), (3, 2, 2, 2, 2))):
        x, w, b = arrays(shapes, rng)
        rank = x.ndim - 2
        expected = np.maximum(run(ops.conv, rank, x, w, b), 0)
        assert (expected == 0).any()
        np.testing.assert_allclose(run(ops.conv, rank, x, w, b, relu=True), expected, atol=1e-12)


def test_padding_in_words_and_on_one_side(run, rng):
    for rank, pads in ((1, ((2, 0),)), (3, ((2, 0), (1, 3), (0, 1)))):
        x, w, _ = arrays(((1, 2, *(6, 7, 5)[:rank]), (2, 2, *(2, 3, 1)[:rank])), rng)
        assert run(ops.conv, rank, x, w, padding="same").shape == x.shape
        padded = np.pad(x, ((0, 0), (0, 0), *pads))
        uneven = run(ops.conv, rank, x, w, padding=pads)
        oracles.assert_close(uneven, ops.conv(rank, padded, w, padding="valid"), 12)
        gy = rng.standard_normal(uneven.shape)
        inner = (..., *(slice(before, n - after) for (before, after), n in zip(pads, padded.shape[2:], strict=True)))
        gx = run(ops.conv_backward_x, rank, gy, w, x.shape, padding=pads)
        oracles.assert_close(gx, ops.conv_backward_x(rank, gy, w, padded.shape)[inner], 12)


def test_non_contiguous_arrays_are_read_right(run, rng):
    for rank, settings in ((1, {"padding": 1, "dilation": 2}), (3, {"stride": 2, "groups": 2})):
        groups = settings.get("groups", 1)
        x = rng.standard_normal((2, 4, 5, 6, 7)[: rank + 2][::-1]).T
        w = rng.standard_normal((6, 4 // groups, 2, 3, 2)[: rank + 2][::-1]).T
        gy = rng.standard_normal(ops.conv(rank, x.copy(), w.copy(), **settings).shape[::-1]).T
        assert not any(a.flags.c_contiguous for a in (x, w, gy))
        for function, *args in (
            (ops.conv, x, w),
            (ops.conv_backward_x, gy, w, x.shape),
            (ops.conv_backward_w, gy, x, w.shape),
        ):
            packed = [a.copy("C") if isinstance(a, np.ndarray) else a for a in args]
            expected = function(rank, *packed, **settings)
            oracles.assert_close(run(function, rank, *args, **settings), expected, gy.size)


IMAGE, FILTER = (1, 2, 5), (1, 2, 3)
VOLUME, CUBE = (1, 8, 5, 5, 5), (6, 8, 3, 3, 3)
WRONG = [
    (1, (2, 5), FILTER, {}, ShapeError, r"conv1d: x must have the 3 dimensions \(N, C, L\), got shape=\(2, 5\)"),
    (1, IMAGE, (4, 2), {}, ShapeError, r"w must have the 3 dimensions \(K, C/groups, KL\), got shape=\(4, 2\)"),
    (3, IMAGE, CUBE, {}, ShapeError, r"conv3d: x must have the 5 dimensions \(N, C, D, H, W\), got shape=\(1, 2, 5\)"),
    (3, VOLUME, CUBE, {"groups": 3}, ShapeError, "groups must divide in_channels, got groups=3, in_channels=8"),
    (1, IMAGE, (1, 1, 3), {}, ShapeError, "in_channels / groups channels, got w=1, in_channels=2, groups=1"),
    (1, IMAGE, (1, 2, 8), {"padding": 1}, ShapeError, r"fit into the padded image, got window=\(8,\), image=\(5,\)"),
    (1, IMAGE, FILTER, {"stride": 0}, ArgumentError, "integer of at least 1, or a tuple of one, got stride=0"),
    (3, VOLUME, CUBE, {"stride": (1, 2)}, ArgumentError, r"or three of them, got stride=\(1, 2\)"),
    (3, VOLUME, CUBE, {"padding": "full"}, ArgumentError, '"same" or "valid", got padding=\'full\''),
    (1, IMAGE, FILTER, {"padding": "same", "stride": 2}, ArgumentError, r"needs stride 1, got stride=\(2,\)"),
]


@pytest.mark.parametrize(("rank", "x", "w", "settings", "kind", "message"), WRONG)
def test_errors_name_rule_and_values(run, rank, x, w, settings, kind, message):
    with pytest.raises(kind, match=message):
        run(ops.conv, rank, np.ones(x), np.ones(w), **settings)


def test_errors_about_dtypes_and_gradients():
    assert_wrong_arrays_are_refused(ops, "conv", (1, 1, 4), (1, 1, 3), (1, 1, 2))
    with pytest.raises(ShapeError, match=r"conv_backward_b: gy must have the dimensions \(N, K, \.\.\.\), got"):
        ops.conv_backward_b(np.ones(3))


def test_the_geometry_of_a_window():
    win = window("test", (2, 1, 3), 1, ((1, 0), (0, 2), (0, 0)), (1, 5, 2), rank=3)
    assert win.extent() == (2, 1, 5)
    x = np.arange(4 * 6 * 6).reshape(4, 6, 6)
    firsts = [int(view[0, 0, 0]) for view in win.views(x, (3, 6, 2))]
    assert firsts == [0, 2, 4, 36, 38, 40]
    assert win.views(x, (3, 6, 2))[5].tolist() == x[1:4, :, 4:].tolist()
    assert win.reach((3, 4, 6), (3, 6, 1)) == (4, 6, 6)
    assert not win.is_one_pixel()
    assert window("test", 1, 1, 0, 3, rank=3).is_one_pixel()


def test_layers_are_their_function(rng):
    for layer, function, shape, weight in (
        (nn.Conv1d(4, 6, 3, 2, 1, 2, 2), F.conv1d, (2, 4, 9), (6, 2, 3)),
        (nn.Conv3d(2, 3, (1, 2, 3), 1, "same", bias=False), F.conv3d, (2, 2, 3, 4, 5), (3, 2, 1, 2, 3)),
    ):
        assert layer.weight.shape == weight
        bound = np.prod(weight[1:]) ** -0.5
        assert 0.5 * bound < np.abs(layer.weight.data).max() <= bound
        x = rng.standard_normal(shape).astype(np.float32)
        bias = None if layer.bias is None else layer.bias.data
        expected = function(x, layer.weight.data, bias, layer.stride, layer.padding, layer.dilation, layer.groups)
        np.testing.assert_array_equal(layer(x).data, expected)
    same = [nn.Conv3d(1, 1, 2, generator=random_generator(3)).weight.data for _ in range(2)]
    np.testing.assert_array_equal(*same)
    with pytest.raises(ShapeError, match="Conv1d: groups must divide in_channels and out_channels, got groups=2"):
        nn.Conv1d(3, 2, 1, groups=2)
    with pytest.raises(ArgumentError, match="Conv3d: kernel_size must be an integer of at least 1, or three of them"):
        nn.Conv3d(1, 1, (2, 2))


@pytest.mark.peer("conv1d", "conv3d")
@pytest.mark.parametrize("rank", [1, 3])
def test_matches_pytorch(run, rank):
    torch = pytest.importorskip("torch")
    for seed in range(60):
        rng = np.random.default_rng(seed)
        *shapes, settings = random_case(rank, rng)
        both = agreement.both(torch, f"conv{rank}d", **settings)
        given, where = arrays(shapes, rng)[: 3 - seed % 2], f"{seed=} {shapes} {settings}"
        agreement.assert_agrees(run, torch, *both, given, where=where, tolerance=1e-9)
