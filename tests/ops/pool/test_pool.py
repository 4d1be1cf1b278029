import itertools

import numpy as np
import oracles
import pytest
from planned import pooling as pool

from gpunn import cuda
from gpunn.backend import half_dtype
from gpunn.errors import ArgumentError, DtypeError, ShapeError
from gpunn.ops.shared.checks import integers
from gpunn.ops.shared.window import output_size, window

# A kernel is compiled for each size of window: a handful that covers one pixel, square, tall, even and large.
WINDOWS = [(1, 1), (2, 2), (3, 3), (3, 2), (5, 4)]


def random_settings(rng, dilated: bool):
    """Random window arguments that the rules allow, and an image size that the window fits.

    Mostly odd widths: 16-byte accesses are compiled for each stride and padding too, so one in eight has them.
    """
    if rng.integers(8) == 0:
        width, padding = 8 * int(rng.integers(1, 4)), (int(rng.integers(2)), int(rng.integers(2)))
        settings = {"kernel_size": (3, 3), "stride": (int(rng.integers(1, 4)), 2), "padding": padding}
        shape = (*map(int, rng.integers(1, 4, 2)), int(rng.integers(3, 12)), width)
        extra = {"dilation": (1, 1)} if dilated else {"count_include_pad": bool(rng.integers(2))}
        return shape, settings | extra | {"ceil_mode": padding[1] == 0}
    kernel = WINDOWS[rng.integers(len(WINDOWS))]
    dilation = tuple(map(int, rng.integers(1, 3, 2))) if dilated else (1, 1)
    extent = [d * (f - 1) + 1 for d, f in zip(dilation, kernel, strict=True)]
    padding = tuple(int(rng.integers(0, f // 2 + 1)) for f in kernel)  # PyTorch's rule; ours allows half the extent
    size = [int(rng.integers(max(1, e - 2 * p), e + 9)) for e, p in zip(extent, padding, strict=True)]
    size[1] += 1 - size[1] % 2
    stride = tuple(map(int, rng.integers(1, 5, 2)))
    shape = (*map(int, rng.integers(1, 4, 2)), *size)
    settings = {"kernel_size": kernel, "stride": stride, "padding": padding, "ceil_mode": bool(rng.integers(2))}
    return shape, settings | ({"dilation": dilation} if dilated else {"count_include_pad": bool(rng.integers(2))})


def out_size(shape, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, **_):
    win = window("test", kernel_size, kernel_size if stride is None else stride, padding, dilation)
    return output_size("test", shape[2:], win, ceil_mode)


AWKWARD = {
    "one pixel": ((1, 1, 1, 1), {"kernel_size": 1}),
    "primes, overlap": ((3, 5, 13, 11), {"kernel_size": 3, "stride": 2}),
    "no image": ((0, 2, 5, 5), {"kernel_size": 2}),
    "stride passes over pixels": ((2, 2, 9, 8), {"kernel_size": 2, "stride": 3}),
    "as much padding as allowed": ((1, 2, 3, 2), {"kernel_size": (5, 4), "padding": 2, "stride": 1}),
    "ceil overhang": ((1, 2, 6, 6), {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True}),
    "ceil, window larger than the image": ((1, 2, 2, 4), {"kernel_size": (3, 5), "stride": 2, "ceil_mode": True}),
    "ceil, window in padding": ((1, 1, 4, 4), {"kernel_size": 2, "stride": 3, "padding": 1, "ceil_mode": True}),
    "alexnet": ((1, 2, 55, 55), {"kernel_size": 3, "stride": 2}),
    "16 bytes, window in the padding": ((2, 2, 12, 16), {"kernel_size": 3, "stride": 2, "padding": 1}),
    "16 bytes, ceil overhang": ((1, 3, 8, 8), {"kernel_size": 3, "stride": 2, "ceil_mode": True}),
    "16 bytes, stride passes over pixels": ((2, 2, 9, 12), {"kernel_size": 2, "stride": 3}),
    "16 bytes, windows side by side": ((3, 3, 6, 8), {"kernel_size": 2}),
    "16 bytes written, not read": ((1, 2, 6, 9), {"kernel_size": 2, "stride": 2}),
    "16 bytes would be too many registers": ((1, 2, 6, 20), {"kernel_size": 5, "stride": 4, "padding": 2}),
}  # fmt: skip


def draw(rng, shape, dtype=np.float64):
    # Quarters of small integers: many ties, exact in every dtype.
    return (rng.integers(-6, 6, shape) / 4).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("shape", "settings"), AWKWARD.values(), ids=AWKWARD.keys())
def test_max_forward_is_the_naive_loop(run, shape, settings, dtype, rng):
    x = draw(rng, shape, dtype)
    y, place = run(pool.max_pool2d, x, **settings)
    kernel, stride, padding = pairs(settings)
    expected = oracles.max_pool2d(x, out_size(shape, **settings), kernel, stride, padding, (1, 1))
    assert y.dtype == dtype
    assert place.dtype == np.uint8
    np.testing.assert_array_equal(y, expected[0])
    np.testing.assert_array_equal(place, expected[1])


@pytest.mark.parametrize("include", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("shape", "settings"), AWKWARD.values(), ids=AWKWARD.keys())
def test_avg_forward_is_the_naive_loop(run, shape, settings, include, dtype, rng):
    x = rng.standard_normal(shape).astype(dtype)
    kernel, stride, padding = pairs(settings)
    expected = oracles.avg_pool2d(x, out_size(shape, **settings), kernel, stride, padding, include)
    y = run(pool.avg_pool2d, x, count_include_pad=include, **settings)
    assert y.dtype == dtype
    oracles.assert_close(y, expected, kernel[0] * kernel[1])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fp16", "bf16"])
@pytest.mark.parametrize(("shape", "settings"), AWKWARD.values(), ids=AWKWARD.keys())
def test_16_bits_are_computed_in_float32_and_rounded_once(run, name, shape, settings, rng):
    half = half_dtype("test", name)
    x = rng.standard_normal(shape).astype(half)
    exact = np.float32(x)
    y, place = run(pool.max_pool2d, x, **settings)
    assert y.dtype == half
    for found, wanted in zip((y, place), pool.max_pool2d(exact, **settings), strict=True):
        np.testing.assert_array_equal(found, wanted.astype(found.dtype))
    means = run(pool.avg_pool2d, x, **settings)
    close_in(half, means, pool.avg_pool2d(exact, **settings))
    gy = rng.standard_normal(y.shape).astype(half)
    gx = run(pool.max_pool2d_backward, gy, place, shape, **settings)
    close_in(half, gx, pool.max_pool2d_backward(np.float32(gy), place, shape, **settings))
    gx = run(pool.avg_pool2d_backward, gy, shape, **settings)
    close_in(half, gx, pool.avg_pool2d_backward(np.float32(gy), shape, **settings))


def close_in(half, found, exact):
    """One rounding apart, half a unit in the last place; a bit more where float32 rounded to the other side before."""
    assert found.dtype == half
    eps = 2.0**-10 if half == np.float16 else 2.0**-7
    np.testing.assert_allclose(np.float32(found), exact, rtol=0.51 * eps, atol=1e-6)


def pairs(settings):
    kernel = integers("test", "kernel_size", settings["kernel_size"], 1, 2)
    stride = integers("test", "stride", settings.get("stride", kernel), 1, 2)
    return kernel, stride, integers("test", "padding", settings.get("padding", 0), 0, 2)


@pytest.mark.parametrize("seed", range(12))
def test_backward_is_the_directional_difference(run, seed):
    rng = np.random.default_rng(seed)
    shape, settings = random_settings(rng, dilated=True)
    x = rng.permutation(np.prod(shape)).reshape(shape).astype(np.float64)  # no ties: the maximum is differentiable
    place = run(pool.max_pool2d, x, **settings)[1]
    oracles.assert_gradient(
        lambda v: run(pool.max_pool2d, v, **settings)[0],
        lambda gy: run(pool.max_pool2d_backward, gy, place, shape, **settings), x, rng,
    )  # fmt: skip
    shape, settings = random_settings(rng, dilated=False)
    oracles.assert_gradient(
        lambda v: run(pool.avg_pool2d, v, **settings),
        lambda gy: run(pool.avg_pool2d_backward, gy, shape, **settings), rng.standard_normal(shape), rng,
    )  # fmt: skip


SPECIAL = [0.0, -0.0, 1.0, -np.inf, np.inf, np.nan]


@pytest.mark.parametrize("seed", range(6))
def test_ties_nan_and_infinities(run, seed):
    rng = np.random.default_rng(seed)
    x = rng.choice(SPECIAL, (2, 3, 9, 8), p=[0.2, 0.1, 0.2, 0.3, 0.1, 0.1])
    settings = {"kernel_size": 3, "stride": 2, "padding": 1}
    y, place = run(pool.max_pool2d, x, **settings)
    expected = oracles.max_pool2d(x, y.shape[2:], (3, 3), (2, 2), (1, 1), (1, 1))
    np.testing.assert_array_equal(y, expected[0])
    np.testing.assert_array_equal(place, expected[1])


def test_a_window_of_minus_infinity_finds_an_element_of_the_image(run):
    x = np.full((1, 1, 2, 2), -np.inf)
    y, place = run(pool.max_pool2d, x, 3, padding=1)
    assert y.item() == -np.inf
    assert pool.max_pool2d_indices(place, x.shape, 3, padding=1).item() == 0
    gx = run(pool.max_pool2d_backward, np.ones_like(y), place, x.shape, 3, padding=1)
    np.testing.assert_array_equal(gx, [[[[1, 0], [0, 0]]]])


def test_a_window_of_padding_alone_gets_no_gradient(run):
    # Elements at rows -2, 2 and -1, 3 of an image of rows 0 and 1: none inside.
    x, settings = np.ones((1, 1, 2, 5)), {"kernel_size": (2, 1), "padding": (2, 0), "dilation": (4, 1), "stride": 1}
    y, place = run(pool.max_pool2d, x, **settings)
    assert y.shape == (1, 1, 2, 5)
    assert (y == -np.inf).all()
    assert (place == 0).all()
    assert run(pool.max_pool2d_backward, np.ones_like(y), place, x.shape, **settings).sum() == 0


def test_every_backend_gives_the_same_gradients(run, rng):
    for shape, settings in AWKWARD.values():
        x = draw(rng, shape, np.float32)
        y, place = pool.max_pool2d(x, **settings)
        gy = rng.standard_normal(y.shape).astype(np.float32)
        exact = pool.max_pool2d_backward(gy.astype(np.float64), place, shape, **settings)
        oracles.assert_close(run(pool.max_pool2d_backward, gy, place, shape, **settings), exact, 25)
        exact = pool.avg_pool2d_backward(gy.astype(np.float64), shape, **settings)
        oracles.assert_close(run(pool.avg_pool2d_backward, gy, shape, **settings), exact, 25)


def test_large_window_counts_places_beyond_a_byte(run, rng):
    x = rng.standard_normal((1, 2, 20, 19))
    x[0, 0, 16, 15] = 9.0
    y, place = run(pool.max_pool2d, x, (17, 16))
    assert place.dtype == np.int32
    assert (y[0, 0, 0, 0], place[0, 0, 0, 0]) == (9.0, 17 * 16 - 1)
    gx = run(pool.max_pool2d_backward, np.ones_like(y), place, x.shape, (17, 16))
    assert gx[0, 0, 16, 15] == 1
    assert gx.sum() == y.size


def test_non_contiguous_arrays_are_read_right(run, rng):
    x = rng.standard_normal((2, 9, 8, 3)).transpose(0, 3, 1, 2)[:, ::2]
    packed = np.ascontiguousarray(x)
    y, place = run(pool.max_pool2d, x, 2)
    np.testing.assert_array_equal(y, pool.max_pool2d(packed, 2)[0])
    oracles.assert_close(run(pool.avg_pool2d, x, 2), pool.avg_pool2d(packed, 2))
    gy = rng.standard_normal(y.shape[::-1]).T
    expected = pool.max_pool2d_backward(np.ascontiguousarray(gy), place, x.shape, 2)
    np.testing.assert_array_equal(run(pool.max_pool2d_backward, gy, place, x.shape, 2), expected)
    oracles.assert_close(
        run(pool.avg_pool2d_backward, gy, x.shape, 2), pool.avg_pool2d_backward(gy.copy("C"), x.shape, 2)
    )


def test_slices_that_start_anywhere_are_read_right(run, rng):
    # Contiguous, but not at a multiple of 16 bytes.
    x = rng.standard_normal(65).astype(np.float32)[1:].reshape(1, 1, 8, 8)
    y, place = run(pool.max_pool2d, x, 2)
    expected = pool.max_pool2d(x.copy(), 2)
    np.testing.assert_array_equal(y, expected[0])
    np.testing.assert_array_equal(place, expected[1])
    oracles.assert_close(run(pool.avg_pool2d, x, 2), pool.avg_pool2d(x.copy(), 2), 4)


def test_wide_index_gives_the_same_bits(monkeypatch, rng):
    x = rng.standard_normal((2, 3, 7, 7)).astype(np.float32)
    with cuda.emulate():
        narrow = pool.max_pool2d(x, 3, 2), pool.avg_pool2d(x, 3, 2)
        monkeypatch.setattr(cuda, "index_type", lambda *sizes: "long long")
        np.testing.assert_array_equal(pool.max_pool2d(x, 3, 2), narrow[0])
        np.testing.assert_array_equal(pool.avg_pool2d(x, 3, 2), narrow[1])


@pytest.mark.parametrize("name", ["max_pool2d", "avg_pool2d"])
def test_errors_name_rule_and_values(run, name):
    function = getattr(pool, name)
    with pytest.raises(ShapeError, match=rf"{name}: x must have the 4 dimensions \(N, C, H, W\), got shape=\(5, 5\)"):
        run(function, np.ones((5, 5)), 2)
    with pytest.raises(ShapeError, match=rf"{name}: the window must fit into the padded image, got window=\(6, 6\)"):
        run(function, np.ones((1, 1, 5, 5)), 6)
    with pytest.raises(ArgumentError, match="padding must be at most half of the window's extent, got padding=2"):
        run(function, np.ones((1, 1, 5, 5)), 3, padding=2)
    with pytest.raises(ArgumentError, match="kernel_size must be an integer of at least 1"):
        run(function, np.ones((1, 1, 5, 5)), 0)
    with pytest.raises(DtypeError, match=f"{name}: x must be a floating array, got dtype='int64'"):
        run(function, np.ones((1, 1, 5, 5), np.int64), 2)


def test_errors_about_gradients():
    with pytest.raises(ShapeError, match=r"gy must have shape \(1, 1, 2, 2\), got shape=\(1, 1, 3, 3\)"):
        pool.avg_pool2d_backward(np.ones((1, 1, 3, 3)), (1, 1, 4, 4), 2)
    with pytest.raises(DtypeError, match="place must be uint8, got dtype='int64'"):
        pool.max_pool2d_backward(np.ones((1, 1, 2, 2)), np.ones((1, 1, 2, 2), np.int64), (1, 1, 4, 4), 2)
    with pytest.raises(ShapeError, match="place must have shape"):
        pool.max_pool2d_backward(np.ones((1, 1, 2, 2)), np.ones((1, 1, 1, 2), np.uint8), (1, 1, 4, 4), 2)


@pytest.mark.peer("max_pool2d")
@pytest.mark.parametrize("seed", range(200))
def test_max_matches_pytorch(run, seed):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(2000 + seed)
    shape, settings = random_settings(rng, dilated=True)
    x = rng.choice(SPECIAL, shape) if seed % 4 == 0 else draw(rng, shape)
    leaf = torch.tensor(x, requires_grad=True)
    expected, indices = torch.nn.functional.max_pool2d(leaf, **settings, return_indices=True)
    y, place = run(pool.max_pool2d, x, **settings)
    np.testing.assert_array_equal(y, expected.detach().numpy())
    gy = rng.standard_normal(y.shape)
    if settings["dilation"] == (1, 1) or np.isfinite(y).all():  # PyTorch's index of an empty window is no index
        np.testing.assert_array_equal(pool.max_pool2d_indices(place, shape, **settings), indices.numpy())
        expected.backward(torch.tensor(gy))
        oracles.assert_close(run(pool.max_pool2d_backward, gy, place, shape, **settings), leaf.grad.numpy(), 25)


@pytest.mark.peer("avg_pool2d")
@pytest.mark.parametrize("seed", range(200))
def test_avg_matches_pytorch(run, seed):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(3000 + seed)
    shape, settings = random_settings(rng, dilated=False)
    x = rng.standard_normal(shape).astype(np.float32)
    leaf = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    expected = torch.nn.functional.avg_pool2d(leaf, **settings)
    gy = rng.standard_normal(expected.shape).astype(np.float32)
    expected.backward(torch.tensor(gy, dtype=torch.float64))
    oracles.assert_close(run(pool.avg_pool2d, x, **settings), expected.detach().numpy(), 20)
    oracles.assert_close(run(pool.avg_pool2d_backward, gy, shape, **settings), leaf.grad.numpy(), 20)


def test_indices_are_those_of_the_maxima(rng):
    x = rng.standard_normal((2, 3, 9, 8))
    y, place = pool.max_pool2d(x, 3, 2, 1)
    indices = pool.max_pool2d_indices(place, x.shape, 3, 2, 1)
    for n, c in itertools.product(range(2), range(3)):
        np.testing.assert_array_equal(x[n, c].ravel()[indices[n, c]], y[n, c])
