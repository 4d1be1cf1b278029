import numpy as np
import oracles
import pytest
from planned import block, lrn
from planned import pooling as pool

from gpunn import cuda
from gpunn.errors import ArgumentError, DtypeError, ShapeError
from gpunn.ops import activation

# A kernel is compiled for each window, stride, size and exponent: few of them, on many shapes.
AWKWARD = {
    "one pixel": ((1, 1, 1, 1), {"kernel_size": 1, "stride": 1, "size": 3}),
    "alexnet's, several tiles": ((2, 7, 31, 67), {}),
    "tiles that end with the image": ((1, 3, 29, 63), {"padding": 1}),
    "one image narrower than the window": ((2, 6, 2, 2), {"padding": 1}),
    "more pixels than a block has threads": ((3, 4, 13, 17), {}),
    "channels in parts": ((1, 43, 5, 5), {}),
    "even window over the channels, no overlap": ((2, 9, 9, 8), {"kernel_size": 2, "size": 4}),
    "stride passes over pixels": ((1, 5, 8, 41), {"kernel_size": (3, 2), "stride": (1, 3), "size": 3, "beta": 0.5}),
    "no image": ((0, 4, 5, 5), {}),
    "another exponent": ((1, 6, 7, 7), {"beta": 0.6}),
    "window too large for the kernels' tile": ((1, 2, 20, 20), {"kernel_size": 17, "stride": 1}),
}  # fmt: skip
LRN = ("size", "alpha", "beta", "k", "alpha_mode")
DEFAULTS = {"kernel_size": 3, "stride": 2, "padding": 0, "size": 5, "alpha": 1e-4, "beta": 0.75, "k": 2.0}


def strong(settings):
    """``settings`` with an alpha that makes the normalisation felt."""
    return {"alpha": 0.3} | settings


def expected(x, b, settings, order):
    """Both loops one after the other in float64: the output, and the places of the maxima."""
    given = DEFAULTS | settings
    kernel, stride, padding = (v if isinstance(v, tuple) else (v, v) for v in map(given.get, list(DEFAULTS)[:3]))
    out = [(n + 2 * p - f) // s + 1 for n, p, f, s in zip(x.shape[2:], padding, kernel, stride, strict=True)]
    normalise = lambda v: oracles.local_response_norm(v, *(given[name] for name in LRN[:-1]))  # noqa: E731
    pool = lambda v: oracles.max_pool2d(v, out, kernel, stride, padding, (1, 1))  # noqa: E731
    r = np.maximum(np.float64(x + b[:, None, None]), 0)
    if order == "lrn_pool":
        return pool(normalise(r))
    pooled, place = pool(r)
    return normalise(pooled), place


def forward(run, order, x, b, settings):
    """y, and what backward needs besides gy."""
    if order == "lrn_pool":
        y, place = run(block.bias_relu_lrn_pool, x, b, **settings)
        return y, (x, b, place)
    y, pooled, place = run(block.bias_relu_pool_lrn, x, b, **settings)
    return y, (pooled, place, x.shape)


def backward(run, order, gy, kept, settings):
    return run(getattr(block, f"bias_relu_{order}_backward"), gy, *kept, **settings)


def draw(rng, shape, dtype=np.float64):
    return rng.standard_normal(shape).astype(dtype), rng.standard_normal(shape[1]).astype(dtype)


ORDERS = pytest.mark.parametrize("order", ["pool_lrn", "lrn_pool"])


@ORDERS
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("shape", "settings"), AWKWARD.values(), ids=AWKWARD.keys())
def test_forward_is_the_naive_loops(run, shape, settings, dtype, order, rng):
    settings = strong(settings)
    x, b = draw(rng, shape, dtype)
    y, kept = forward(run, order, x, b, settings)
    assert y.dtype == dtype
    wanted, place = expected(x, b, settings, order)
    oracles.assert_close(y, wanted, 5)
    np.testing.assert_array_equal(kept[1 if order == "pool_lrn" else 2], place)


@ORDERS
@pytest.mark.parametrize(("shape", "settings"), AWKWARD.values(), ids=AWKWARD.keys())
def test_backward_is_the_directional_difference(run, shape, settings, order, rng):
    settings = strong(settings)
    x, b = draw(rng, shape)
    kept = forward(run, order, x, b, settings)[1]
    oracles.assert_gradient(
        lambda v: forward(run, order, v, b, settings)[0], lambda gy: backward(run, order, gy, kept, settings)[0], x, rng
    )
    oracles.assert_gradient(
        lambda v: forward(run, order, x, v, settings)[0], lambda gy: backward(run, order, gy, kept, settings)[1], b, rng
    )


@ORDERS
def test_every_backend_gives_the_same_gradients_in_float32(run, order, rng):
    for shape, settings in AWKWARD.values():
        settings = strong(settings)
        x, b = draw(rng, shape, np.float32)
        y, kept = forward(run, order, x, b, settings)
        gy = rng.standard_normal(y.shape).astype(np.float32)
        gx, gb = backward(run, order, gy, kept, settings)
        wide = [a.astype(np.float64) if isinstance(a, np.ndarray) and a.dtype == np.float32 else a for a in kept]
        exact = getattr(block, f"bias_relu_{order}_backward")(gy.astype(np.float64), *wide, **settings)
        oracles.assert_close(gx, exact[0], 9)
        oracles.assert_close(gb, exact[1], y.size // max(y.shape[1], 1))


@ORDERS
def test_it_is_the_operations_one_after_the_other(run, order, rng):
    settings, window = {"alpha": 0.3, "padding": 1}, (3, 2, 1)
    x, b = draw(rng, (2, 7, 19, 21), np.float32)
    normalise = (5, 0.3, 0.75, 2.0, "sum")
    y, kept = forward(run, order, x, b, settings)
    gy = rng.standard_normal(y.shape).astype(np.float32)
    r = activation.relu(x + b[:, None, None])
    if order == "pool_lrn":
        pooled, place = run(pool.max_pool2d, r, *window)
        np.testing.assert_array_equal(kept[0], pooled)
        wanted = lrn.local_response_norm(pooled, *normalise)
        g = lrn.local_response_norm_backward(gy, pooled, *normalise)
        g = run(pool.max_pool2d_backward, g, place, x.shape, *window)
    else:
        wanted, place = run(pool.max_pool2d, lrn.local_response_norm(r, *normalise), *window)
        g = run(pool.max_pool2d_backward, gy, place, x.shape, *window)
        g = lrn.local_response_norm_backward(g, r, *normalise)
    gx = activation.relu_backward(g, r)
    np.testing.assert_array_equal(kept[1 if order == "pool_lrn" else 2], place)
    equal = np.testing.assert_array_equal if run.name in ("numpy", "onednn") else oracles.assert_close
    for actual, exact in zip(
        (y, *backward(run, order, gy, kept, settings)), (wanted, gx, gx.sum((0, 2, 3))), strict=True
    ):
        equal(actual, exact)


@ORDERS
def test_ties_and_dead_pixels(run, order):
    # All that is negative becomes one tie of zeros: its first element has the place, and no gradient.
    settings = {"size": 1}  # channels apart: what is seen is the pooling
    x, b = np.full((1, 3, 5, 5), -1.0), np.array([0.0, 2.0, 0.5])
    x[0, 0, 1, 1] = 1
    y, kept = forward(run, order, x, b, settings)
    place = kept[1 if order == "pool_lrn" else 2]
    np.testing.assert_array_equal(place[0], [[[4, 0], [0, 0]], [[0, 0], [0, 0]], [[0, 0], [0, 0]]])
    gx, gb = backward(run, order, np.ones_like(y), kept, settings)
    assert not gx[0, 2].any()
    assert gb[2] == 0
    np.testing.assert_array_equal(np.argwhere(gx[0, 0]), [[1, 1]])
    np.testing.assert_array_equal(np.argwhere(gx[0, 1]), [[0, 0], [0, 2], [2, 0], [2, 2]])


@ORDERS
def test_nan_wins_its_windows(run, order, rng):
    x, b = draw(rng, (1, 2, 7, 7))
    x[0, 1, 3, 3] = np.nan
    settings = {"size": 1, "kernel_size": 3, "stride": 2}
    y, kept = forward(run, order, x, b, settings)
    np.testing.assert_array_equal(np.isnan(y[0, 1]), [[False] * 3, [False, True, False], [False] * 3])
    assert kept[1 if order == "pool_lrn" else 2][0, 1, 1, 1] == 4
    assert np.isfinite(y[0, 0]).all()


@ORDERS
def test_non_contiguous_arrays_are_read_right(run, order, rng):
    x = rng.standard_normal((2, 9, 8, 6)).transpose(0, 3, 1, 2)[:, ::2]
    b = rng.standard_normal(6)[::2]
    y, kept = forward(run, order, x, b, {})
    packed, packed_kept = forward(run, order, x.copy("C"), b.copy(), {})
    np.testing.assert_array_equal(y, packed)
    gy = rng.standard_normal(y.shape[::-1]).T
    actual, wanted = backward(run, order, gy, kept, {}), backward(run, order, gy.copy("C"), packed_kept, {})
    for a, e in zip(actual, wanted, strict=True):
        np.testing.assert_array_equal(a, e)


@ORDERS
def test_wide_index_gives_the_same_bits(monkeypatch, order, rng):
    def both_ways():
        with cuda.emulate():
            y, kept = forward(lambda function, *args: function(*args), order, x, b, {})
            return y, *backward(lambda function, *args: function(*args), order, y, kept, {})

    x, b = draw(rng, (2, 7, 9, 9), np.float32)
    narrow = both_ways()
    monkeypatch.setattr(cuda, "index_type", lambda *sizes: "long long")
    for actual, wanted in zip(both_ways(), narrow, strict=True):
        np.testing.assert_array_equal(actual, wanted)


@ORDERS
def test_half_precision_sums_in_single(order, rng):
    x, b = np.full((1, 1, 200, 200), 1, np.float16), np.zeros(1, np.float16)
    y, kept = forward(lambda function, *args, **kw: function(*args, **kw), order, x, b, {"kernel_size": 1, "stride": 1})
    assert y.dtype == np.float16
    gy = np.full(y.shape, 0.5, np.float16)
    plain = lambda function, *args, **kw: function(*args, **kw)  # noqa: E731
    gx, gb = backward(plain, order, gy, kept, {"kernel_size": 1, "stride": 1})
    assert (gx.dtype, gb.dtype) == (np.float16, np.float16)
    np.testing.assert_allclose(gb, np.float64(gx).sum(), rtol=1e-3)  # float16 sums would stop near 1,000


@ORDERS
def test_errors_name_rule_and_values(run, order):
    function, name = getattr(block, f"bias_relu_{order}"), f"bias_relu_{order}"
    x, b = np.ones((1, 4, 6, 6)), np.ones(4)
    with pytest.raises(
        ShapeError, match=rf"{name}: b must have one element for each channel, got b=\(3,\), channels=4"
    ):
        run(function, x, b[:3])
    with pytest.raises(ShapeError, match=rf"{name}: x must have the 4 dimensions .*, got shape=\(4, 6, 6\)"):
        run(function, x[0], b)
    with pytest.raises(ArgumentError, match=rf"{name}: size must be an integer of at least 1, got size=0"):
        run(function, x, b, size=0)
    with pytest.raises(ArgumentError, match=rf"{name}: padding must be at most half of the window's extent"):
        run(function, x, b, padding=2)
    with pytest.raises(DtypeError, match=f"{name}: arrays must have one dtype"):
        run(function, x, b.astype(np.float32))
    y, kept = forward(run, order, x, b, {})
    with pytest.raises(
        ShapeError, match=rf"{name}_backward: gy must have shape \(1, 4, 2, 2\), got shape=\(1, 4, 2, 1\)"
    ):
        backward(run, order, y[..., :1], kept, {})
    position = 1 if order == "pool_lrn" else 2
    wide = (*kept[:position], kept[position].astype(np.int32), *kept[position + 1 :])
    with pytest.raises(DtypeError, match=rf"{name}_backward: place must be uint8, got dtype='int32'"):
        backward(run, order, y, wide, {})
    kept = (*kept[:position], kept[position][:, :2], *kept[position + 1 :])
    with pytest.raises(ShapeError, match=rf"{name}_backward: place must have shape \(1, 4, 2, 2\)"):
        backward(run, order, y, kept, {})


@pytest.mark.peer("bias_relu_pool_lrn", "bias_relu_lrn_pool")
@ORDERS
@pytest.mark.parametrize("seed", range(60))
def test_matches_pytorch(run, seed, order):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(6000 + seed)
    shape = (int(rng.integers(1, 4)), int(rng.integers(1, 50)), *map(int, rng.integers(3, 22, 2)))
    settings = {"padding": int(rng.integers(2)), "alpha": float(rng.uniform(0, 1)), "k": float(rng.uniform(0.5, 2))}
    x, b = draw(rng, shape, np.float32)
    leaves = [torch.tensor(a, dtype=torch.float64, requires_grad=True) for a in (x, b)]
    pool = lambda v: torch.nn.functional.max_pool2d(v, 3, 2, settings["padding"])  # noqa: E731
    norm = lambda v: torch.nn.functional.local_response_norm(v, 5, settings["alpha"], 0.75, settings["k"])  # noqa: E731
    r = torch.relu(leaves[0] + leaves[1][:, None, None])
    wanted = norm(pool(r)) if order == "pool_lrn" else pool(norm(r))
    y, kept = forward(run, order, x, b, settings | {"alpha_mode": "mean"})
    oracles.assert_close(y, wanted.detach().numpy(), 5)
    gy = rng.standard_normal(y.shape).astype(np.float32)
    wanted.backward(torch.tensor(gy, dtype=torch.float64))
    gx, gb = backward(run, order, gy, kept, settings | {"alpha_mode": "mean"})
    oracles.assert_close(gx, leaves[0].grad.numpy(), 9)
    oracles.assert_close(gb, leaves[1].grad.numpy(), y.size // y.shape[1])
