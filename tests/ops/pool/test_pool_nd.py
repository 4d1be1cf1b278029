import agreement
import numpy as np
import oracles
import pytest
from planned import pooling as ops

import gpunn.functional as F
from gpunn import nn, tensor
from gpunn.errors import ArgumentError, DtypeError, ShapeError
from gpunn.ops.shared.checks import integers
from gpunn.ops.shared.window import output_size, window

# The kernel is compiled for each size of window: a few for signals.
KERNELS = {1: [(1,), (2,), (3,), (6,)], 3: [(1, 1, 1), (2, 2, 2), (3, 1, 2), (1, 3, 3)]}
SPECIAL = [0.0, -0.0, 1.0, -np.inf, np.inf, np.nan]


def random_case(rank, rng, dilated):
    """A shape of x, and settings that the rules allow."""
    kernel = KERNELS[rank][rng.integers(4)]
    dilation = rng.integers(1, 3, rank) if dilated else np.ones(rank, int)
    padding = np.array([rng.integers(0, f // 2 + 1) for f in kernel])  # PyTorch's rule; ours allows half the extent
    extent = dilation * (np.array(kernel) - 1) + 1
    least = extent - 2 * padding if dilated else extent  # what PyTorch's avg_pool3d takes
    # Odd lengths: 16-byte accesses are compiled for each stride and padding too.
    size = rng.integers(np.maximum(1, least), extent + 6) | (rank == 1)
    settings = {"stride": rng.integers(1, 5, rank), "padding": padding} | ({"dilation": dilation} if dilated else {})
    settings = {"kernel_size": kernel} | {name: tuple(map(int, values)) for name, values in settings.items()}
    settings["ceil_mode"] = bool(rng.integers(2))
    settings |= {} if dilated else {"count_include_pad": bool(rng.integers(2))}
    return (*map(int, rng.integers(1, 4, 2)), *map(int, size)), settings


def geometry(shape, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, **_):
    """The size of the output, and the arguments in one form."""
    rank = len(shape) - 2
    stride = kernel_size if stride is None else stride
    out = output_size("test", shape[2:], window("test", kernel_size, stride, padding, dilation, rank), ceil_mode)
    return out, *(integers("test", "_", value, 0, rank) for value in (kernel_size, stride, padding, dilation))


AWKWARD = {
    "one element": ((1, 1, 1), {"kernel_size": 1}),
    "primes, overlap": ((3, 5, 13), {"kernel_size": 3, "stride": 2}),
    "no signal": ((0, 2, 5), {"kernel_size": 2}),
    "stride passes over elements": ((2, 2, 9), {"kernel_size": 2, "stride": 3}),
    "ceil, window larger than the image": ((1, 2, 2), {"kernel_size": 4, "stride": 3, "ceil_mode": True}),
    "ceil overhang": ((1, 2, 6), {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True}),
    "by 16 bytes": ((2, 3, 16), {"kernel_size": 2}),
    "large window": ((1, 2, 300), {"kernel_size": 270, "stride": 7}),
    "one voxel": ((1, 1, 1, 1, 1), {"kernel_size": 1}),
    "volume": ((2, 3, 5, 4, 7), {"kernel_size": (2, 3, 2), "stride": (1, 2, 3), "padding": (1, 1, 0)}),
    "no volume": ((0, 2, 3, 3, 3), {"kernel_size": 2}),
    "volume, ceil overhang": ((1, 2, 4, 5, 6), {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True}),
    "volume, large window": ((1, 1, 7, 8, 9), {"kernel_size": 7, "stride": 1}),
}


def draw(rng, shape, dtype=np.float64):
    # Quarters of small integers: many ties, exact in every dtype.
    return (rng.integers(-6, 6, shape) / 4).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(("shape", "settings"), AWKWARD.values(), ids=AWKWARD.keys())
def test_max_forward_is_the_naive_loop(run, shape, settings, dtype, rng):
    rank, x = len(shape) - 2, draw(rng, shape, dtype)
    y, place = run(ops.max_pool, rank, x, **settings)
    out, *arguments = geometry(shape, **settings)
    expected = oracles.max_pool_nd(x, out, *arguments)
    assert (y.dtype, place.dtype) == (dtype, np.uint8 if np.prod(arguments[0]) <= 256 else np.int32)
    np.testing.assert_array_equal(y, expected[0])
    np.testing.assert_array_equal(run(ops.max_pool_indices, rank, place, shape, **settings), expected[1])


@pytest.mark.parametrize("include", [True, False])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(("shape", "settings"), AWKWARD.values(), ids=AWKWARD.keys())
def test_avg_forward_is_the_naive_loop(run, shape, settings, include, dtype, rng):
    x = rng.standard_normal(shape).astype(dtype)
    y = run(ops.avg_pool, len(shape) - 2, x, count_include_pad=include, **settings)
    out, kernel, stride, padding, _ = geometry(shape, **settings)
    assert y.dtype == dtype
    oracles.assert_close(y, oracles.avg_pool_nd(x, out, kernel, stride, padding, include), int(np.prod(kernel)))


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("rank", [1, 3])
def test_backward_is_the_directional_difference(run, rank, seed):
    rng = np.random.default_rng(seed)
    shape, settings = random_case(rank, rng, dilated=True)
    x = rng.permutation(np.prod(shape)).reshape(shape).astype(np.float64)  # no ties: the maximum is differentiable
    place = run(ops.max_pool, rank, x, **settings)[1]
    oracles.assert_gradient(
        lambda v: run(ops.max_pool, rank, v, **settings)[0],
        lambda gy: run(ops.max_pool_backward, rank, gy, place, shape, **settings), x, rng,
    )  # fmt: skip
    shape, settings = random_case(rank, rng, dilated=False)
    oracles.assert_gradient(
        lambda v: run(ops.avg_pool, rank, v, **settings),
        lambda gy: run(ops.avg_pool_backward, rank, gy, shape, **settings), rng.standard_normal(shape), rng,
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(4))
def test_ties_nan_and_infinities(run, seed):
    rng = np.random.default_rng(seed)
    for size in ((19,), (5, 6, 7)):
        x = rng.choice(SPECIAL, (2, 3, *size), p=[0.2, 0.1, 0.2, 0.3, 0.1, 0.1])
        settings = {"kernel_size": 3, "stride": 2, "padding": 1}
        y, place = run(ops.max_pool, len(size), x, **settings)
        out, *arguments = geometry(x.shape, **settings)
        expected = oracles.max_pool_nd(x, out, *arguments)
        np.testing.assert_array_equal(y, expected[0])
        np.testing.assert_array_equal(ops.max_pool_indices(len(size), place, x.shape, **settings), expected[1])


def test_non_contiguous_arrays_are_read_right(run, rng):
    for rank in (1, 3):
        x = rng.standard_normal((2, 3, 8, 6, 4)[: rank + 2][::-1]).T
        y, place = run(ops.max_pool, rank, x, 2)
        np.testing.assert_array_equal(y, ops.max_pool(rank, x.copy("C"), 2)[0])
        oracles.assert_close(run(ops.avg_pool, rank, x, 2), ops.avg_pool(rank, x.copy("C"), 2), 8)
        gy = rng.standard_normal(y.shape[::-1]).T
        expected = ops.max_pool_backward(rank, gy.copy("C"), place, x.shape, 2)
        np.testing.assert_array_equal(run(ops.max_pool_backward, rank, gy, place, x.shape, 2), expected)
        expected = ops.avg_pool_backward(rank, gy.copy("C"), x.shape, 2)
        oracles.assert_close(run(ops.avg_pool_backward, rank, gy, x.shape, 2), expected)


@pytest.mark.parametrize("name", ["max_pool", "avg_pool"])
def test_errors_name_rule_and_values(run, name):
    function = getattr(ops, name)
    with pytest.raises(ShapeError, match=rf"{name}1d: x must have the 3 dimensions \(N, C, L\), got shape=\(5, 5\)"):
        run(function, 1, np.ones((5, 5)), 2)
    with pytest.raises(ShapeError, match=rf"{name}3d: x must have the 5 dimensions \(N, C, D, H, W\), got shape=\(5,"):
        run(function, 3, np.ones((5, 5)), 2)
    with pytest.raises(ShapeError, match=rf"{name}1d: the window must fit into the padded image, got window=\(6,\)"):
        run(function, 1, np.ones((1, 1, 5)), 6)
    with pytest.raises(ArgumentError, match="padding must be at most half of the window's extent, got padding=2"):
        run(function, 3, np.ones((1, 1, 5, 5, 5)), 3, padding=2)
    with pytest.raises(ArgumentError, match=r"kernel_size must be .* or three of them, got kernel_size=\(2,"):
        run(function, 3, np.ones((1, 1, 5, 5, 5)), (2, 2))
    with pytest.raises(DtypeError, match=f"{name}1d: x must be a floating array, got dtype='int64'"):
        run(function, 1, np.ones((1, 1, 5), np.int64), 2)


def test_a_window_of_padding_alone_has_no_index(run):
    # Along the axis the windows hold -1 and 1; 0 and 2; 1 and 3, of elements from 0 to 1.
    x, settings = np.array([[[4.0, 3.0]]]), {"kernel_size": 2, "stride": 1, "padding": 1, "dilation": 2}
    y, place = run(ops.max_pool, 1, x, **settings)
    assert y.tolist() == [[[3, 4]]]
    assert run(ops.max_pool_indices, 1, place, x.shape, **settings).tolist() == [[[1, 0]]]
    rule = r"max_pool1d_indices: a window that lies in the padding alone has no maximum to point at, got image=\(1,\)"
    with pytest.raises(ShapeError, match=rule):
        F.max_pool1d(x[..., :1], **settings, return_indices=True)
    assert F.max_pool1d(x[..., :1], **settings).tolist() == [[[-np.inf]]]
    row = {"kernel_size": (1, 2), "stride": 1, "padding": (0, 1), "dilation": 2}
    with pytest.raises(ShapeError, match="max_pool2d_indices: a window that lies in the padding alone"):
        F.max_pool2d(np.ones((1, 1, 3, 1)), **row, return_indices=True)


def test_errors_about_gradients():
    gy = np.ones((1, 1, 2))
    with pytest.raises(ShapeError, match=r"avg_pool1d_backward: gy must have shape \(1, 1, 2\), got shape=\(1, 1, 3\)"):
        ops.avg_pool_backward(1, np.ones((1, 1, 3)), (1, 1, 4), 2)
    with pytest.raises(ShapeError, match=r"max_pool1d_backward: gy must have shape \(1, 1, 2\)"):
        ops.max_pool_backward(1, np.ones((1, 1, 3)), np.zeros((1, 1, 3), np.uint8), (1, 1, 4), 2)
    with pytest.raises(DtypeError, match="max_pool1d_backward: place must be uint8, got dtype='int64'"):
        ops.max_pool_backward(1, gy, np.ones((1, 1, 2), np.int64), (1, 1, 4), 2)
    with pytest.raises(ShapeError, match=r"max_pool1d_indices: place must have shape \(1, 1, 2\), got"):
        ops.max_pool_indices(1, np.ones((1, 1, 1), np.uint8), (1, 1, 4), 2)
    with pytest.raises(ShapeError, match=r"max_pool3d: x must have the 5 dimensions"):
        ops.max_pool_backward(3, gy, np.ones((1, 1, 2), np.uint8), (1, 1, 4), 2)


def test_layers_are_their_function(rng):
    for rank in (1, 2, 3):
        x = rng.standard_normal((2, 3, *(7,) * rank)).astype(np.float32)
        y = getattr(nn, f"MaxPool{rank}d")(2, 3, 1, 2, ceil_mode=True)(x)
        np.testing.assert_array_equal(y, getattr(F, f"max_pool{rank}d")(x, 2, 3, 1, 2, True))
        y = getattr(nn, f"AvgPool{rank}d")(2, 3, 1, True, False)(x)
        np.testing.assert_array_equal(y, getattr(F, f"avg_pool{rank}d")(x, 2, 3, 1, True, False))


@pytest.mark.parametrize(("function", "layer"), [(F.avg_pool2d, nn.AvgPool2d), (F.avg_pool3d, nn.AvgPool3d)])
def test_a_divisor_of_ones_own(run, function, layer, rng):
    rank = int(function.__name__[-2])
    x, share = rng.standard_normal((2, 3, *(5, 7, 6)[:rank])), 3**rank / 5
    y = run(lambda x: function(x, 3, 2, 1, divisor_override=5), x)
    np.testing.assert_allclose(y, function(x, 3, 2, 1) * share, rtol=1e-12)
    np.testing.assert_allclose(layer(3, 2, 1, divisor_override=5)(x), y, rtol=1e-12)
    own, other = (tensor(x, requires_grad=True, dtype=np.float64) for _ in range(2))
    function(own, 3, 2, 1, divisor_override=-5).sum().backward()
    (function(other, 3, 2, 1) * -share).sum().backward()
    np.testing.assert_allclose(own.grad, other.grad, rtol=1e-12)
    for wrong in (0, 1.5, "2"):
        with pytest.raises(ArgumentError, match="divisor_override must be None or an integer other than 0, got"):
            function(x, 3, divisor_override=wrong)


@pytest.mark.peer("max_pool1d", "max_pool3d", "avg_pool1d", "avg_pool3d")
@pytest.mark.parametrize("rank", [1, 3])
@pytest.mark.parametrize("name", ["max_pool", "avg_pool"])
def test_matches_pytorch(run, name, rank):
    torch = pytest.importorskip("torch")
    maximum = name == "max_pool"
    for seed in range(80):
        rng = np.random.default_rng(seed)
        shape, settings = random_case(rank, rng, dilated=maximum)
        settings |= {"return_indices": True} if maximum else {}
        settings |= {"divisor_override": int(rng.integers(1, 9))} if not maximum and rank == 3 and seed % 2 else {}
        # PyTorch's index of a window of padding alone, which dilation can make, is no index.
        special = maximum and seed % 4 == 0 and set(settings["dilation"]) == {1}
        x = rng.choice(SPECIAL, shape) if special else draw(rng, shape)
        ours, theirs = agreement.both(torch, f"{name}{rank}d", **settings)
        if maximum and not special and bool(torch.isinf(theirs(torch.tensor(x))[0]).any()):
            with pytest.raises(ShapeError, match="lies in the padding alone"):
                ours(x)
            continue
        agreement.assert_agrees(run, torch, ours, theirs, [x], where=f"{seed=} {shape} {settings}", tolerance=1e-12)
