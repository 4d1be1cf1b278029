import dataclasses

import numpy as np
import oracles
import pytest
from conv_case import ConvCase
from planned import conv

from gpunn import cuda
from gpunn.errors import ArgumentError, DtypeError, ShapeError
from gpunn.ops.conv import tiled, tiles

# A handful of filters that covers square, flat, tall, even and 1 x 1.
FILTERS = [(1, 1), (3, 3), (5, 5), (2, 3), (3, 1)]


class Case(ConvCase):
    def arrays(self, rng, dtype):
        draw = lambda shape: rng.standard_normal(shape).astype(dtype)  # noqa: E731
        return draw(self.x), draw(self.w), draw(self.w[0]) if self.bias else None


def random_case(rng) -> Case:
    groups = int(rng.choice([1, 1, 2, 3]))
    kernel = FILTERS[rng.integers(len(FILTERS))]
    stride, dilation, padding = (tuple(map(int, rng.integers(low, high, 2))) for low, high in ((1, 4), (1, 3), (0, 4)))
    extent = [d * (f - 1) + 1 for d, f in zip(dilation, kernel, strict=True)]
    size = [int(rng.integers(max(1, e - 2 * p), e + 9)) for e, p in zip(extent, padding, strict=True)]
    n, channels, filters = (int(v) for v in rng.integers(1, 5, 3))
    shapes = (n, channels * groups, *size), (filters * groups, channels, *kernel)
    return Case(*shapes, bool(rng.integers(2)), stride, padding, dilation, groups)


AWKWARD = {
    "one pixel": Case((1, 1, 1, 1), (1, 1, 1, 1)),
    "primes": Case((3, 5, 13, 11), (7, 5, 3, 3), padding=(1, 1)),
    "no image": Case((0, 2, 5, 5), (3, 2, 3, 3)),
    "stride passes over pixels": Case((1, 2, 8, 8), (2, 2, 1, 1), stride=(3, 3)),
    "more padding than image": Case((1, 1, 2, 2), (2, 1, 5, 5), padding=(3, 3)),
    "depthwise": Case((2, 6, 7, 7), (6, 1, 3, 3), groups=6),
    "more than one tile of rows": Case((1, 3, 5, 5), (67, 3, 3, 3)),
    "more than one tile of columns": Case((2, 2, 9, 9), (3, 2, 3, 3)),
    "more terms than one step": Case((1, 23, 4, 4), (2, 23, 3, 3), padding=(1, 1)),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", AWKWARD.values(), ids=AWKWARD.keys())
def test_forward_is_the_naive_loop(run, case, dtype, rng):
    x, w, b = case.arrays(rng, dtype)
    y = run(conv.conv2d, x, w, b, **case.settings())
    assert y.dtype == dtype
    oracles.assert_close(y, oracles.conv2d(x, w, b, **case.settings()), case.terms())


@pytest.mark.parametrize("seed", range(12))
def test_backward_is_the_directional_difference(run, seed):
    rng = np.random.default_rng(seed)
    case = random_case(rng)
    x, w, b = case.arrays(rng, np.float64)
    b = np.zeros(w.shape[0]) if b is None else b
    set_ = case.settings()
    forward = lambda x, w, b: run(conv.conv2d, x, w, b, **set_)  # noqa: E731
    oracles.assert_gradient(
        lambda v: forward(v, w, b), lambda g: run(conv.conv2d_backward_x, g, w, x.shape, **set_), x, rng
    )
    oracles.assert_gradient(
        lambda v: forward(x, v, b), lambda g: run(conv.conv2d_backward_w, g, x, w.shape, **set_), w, rng
    )
    oracles.assert_gradient(lambda v: forward(x, w, v), lambda g: run(conv.conv_backward_b, g), b, rng)


@pytest.mark.parametrize("case", AWKWARD.values(), ids=AWKWARD.keys())
def test_every_backend_gives_the_same_gradients(run, case, rng):
    x, w, b = case.arrays(rng, np.float32)
    gy = rng.standard_normal(conv.conv2d(x, w, b, **case.settings()).shape).astype(np.float32)
    for function, other, shape, terms in (
        (conv.conv2d_backward_x, w, x.shape, case.w[0] * case.w[2] * case.w[3]),
        (conv.conv2d_backward_w, x, w.shape, gy[:, 0].size),
    ):
        exact = function(gy.astype(np.float64), other.astype(np.float64), shape, **case.settings())
        oracles.assert_close(run(function, gy, other, shape, **case.settings()), exact, terms)


def test_non_contiguous_arrays_are_read_right(run, rng):
    x, w = rng.standard_normal((2, 9, 8, 3)).transpose(0, 3, 1, 2), rng.standard_normal((3, 3, 3, 4)).T[::2]
    gy = rng.standard_normal((6, 7, 2, 2)).T
    packed = [np.ascontiguousarray(a) for a in (x, w, gy)]
    assert not any(a.flags.c_contiguous for a in (x, w, gy))
    oracles.assert_close(run(conv.conv2d, x, w), conv.conv2d(packed[0], packed[1]), 27)
    oracles.assert_close(
        run(conv.conv2d_backward_x, gy, w, x.shape), conv.conv2d_backward_x(packed[2], packed[1], x.shape), 18
    )
    oracles.assert_close(
        run(conv.conv2d_backward_w, gy, x, w.shape), conv.conv2d_backward_w(packed[2], packed[0], w.shape), 84
    )


def test_padding_in_words_and_on_one_side(run, rng):
    x, w = rng.standard_normal((1, 2, 6, 7)), rng.standard_normal((2, 2, 2, 3))
    assert run(conv.conv2d, x, w, padding="same").shape == (1, 2, 6, 7)
    assert run(conv.conv2d, x, w, padding="valid").shape == (1, 2, 5, 5)
    padded = np.pad(x, ((0, 0), (0, 0), (2, 0), (1, 3)))
    uneven = run(conv.conv2d, x, w, padding=((2, 0), (1, 3)))
    oracles.assert_close(uneven, conv.conv2d(padded, w), 12)
    gy = rng.standard_normal(uneven.shape)
    gx = run(conv.conv2d_backward_x, gy, w, x.shape, padding=((2, 0), (1, 3)))
    oracles.assert_close(gx, conv.conv2d_backward_x(gy, w, padded.shape)[:, :, 2:, 1:-3], 12)


def close_to_float64(x, w, b, settings):
    """All three passes of float32, emulated, against the same in float64 without the kernels."""
    gy = conv.conv2d(x, w, b, **settings)
    arguments = {
        conv.conv2d: (x, w, b, w[0].size),
        conv.conv2d_backward_x: (gy, w, x.shape, w[:, 0].size),
        conv.conv2d_backward_w: (gy, x, w.shape, gy[:, 0].size),
    }
    for function, (*args, terms) in arguments.items():
        exact = function(*(np.float64(a) if isinstance(a, np.ndarray) else a for a in args), **settings)
        with cuda.emulate():
            oracles.assert_close(function(*args, **settings), exact, terms)


# One row and one column more than a tile, so that the next one is nearly empty; a step of terms that is not full.
TILED = [
    Case((1, 3, 12, 11), (129, 3, 3, 3), padding=(1, 1)),
    Case((2, 65, 9, 9), (17, 65, 3, 2), stride=(2, 1), padding=(2, 0), dilation=(1, 2)),
    Case((1, 66, 7, 20), (34, 33, 1, 3), stride=(1, 3), groups=2),
]


@pytest.mark.parametrize("tile", tiles.FLOAT, ids=lambda tile: f"{tile.rows}x{tile.columns}")
@pytest.mark.parametrize("case", TILED, ids=["wide", "strided", "grouped"])
def test_every_tile_computes_every_pass(case, tile, monkeypatch, rng):
    monkeypatch.setattr(tiled, "choose", lambda *shape: tile)
    close_to_float64(*case.arrays(rng, np.float32), case.settings())


@pytest.mark.parametrize("splits", [2, 3, 5])
def test_partial_sums_are_added_up_whatever_their_number(splits, monkeypatch, rng):
    tile = dataclasses.replace(tiles.FLOAT[-1], splits=splits)
    monkeypatch.setattr(tiled, "choose", lambda *shape: tile)
    x, gy = (rng.standard_normal(s).astype(np.float32) for s in ((3, 4, 7, 9), (3, 5, 7, 9)))
    exact = conv.conv2d_backward_w(np.float64(gy), np.float64(x), (5, 4, 3, 3), padding=1)
    with cuda.emulate():
        actual = conv.conv2d_backward_w(gy, x, (5, 4, 3, 3), padding=1)
    oracles.assert_close(actual, exact, gy[:, 0].size)


@pytest.mark.parametrize("c", [20, 120, 270])
def test_chosen_tiles_compute_every_pass(c, rng):
    """Layers with few, more and many channels, whose tiles the heuristic chooses."""
    x, w = (rng.standard_normal(s).astype(np.float32) for s in ((1, c, 11, 13), (c + 3, c, 3, 3)))
    close_to_float64(x, w, None, {"padding": 1})


def test_strided_gradients_of_every_sub_lattice(run):
    """Strides that share a factor with the dilation, or exceed the filter: some pixels are met by no tap at all."""
    rng = np.random.default_rng(5)
    for stride, dilation, kernel in (((4, 2), (2, 3), (3, 2)), ((3, 4), (1, 4), (2, 3)), ((6, 1), (4, 1), (4, 1))):
        case = Case((2, 3, 14, 13), (4, 3, *kernel), False, stride, (3, 2), dilation)
        x, w, _ = case.arrays(rng, np.float64)
        gy = rng.standard_normal(conv.conv2d(x, w, **case.settings()).shape)
        expected = conv.conv2d_backward_x(gy, w, x.shape, **case.settings())
        actual = run(conv.conv2d_backward_x, gy, w, x.shape, **case.settings())
        oracles.assert_close(actual, expected, w[:, 0].size)
        oracles.assert_gradient(
            lambda v, w=w, case=case: conv.conv2d(v, w, **case.settings()),
            lambda g, x=x, w=w, case=case: run(conv.conv2d_backward_x, g, w, x.shape, **case.settings()),
            x,
            rng,
        )


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("bias", [True, False])
def test_bias_and_relu_in_one_pass(run, groups, bias, rng):
    case = Case((2, 4, 6, 5), (8, 4 // groups, 3, 3), bias, padding=(1, 0), groups=groups)
    x, w, b = case.arrays(rng, np.float32)
    x[0, 0, 2, 2] = np.nan
    exact = conv.conv2d(np.float64(x), np.float64(w), None if b is None else np.float64(b), **case.settings())
    y = run(conv.conv2d_bias_relu, x, w, b, **case.settings())
    np.testing.assert_array_equal(np.isnan(y), np.isnan(exact))
    assert np.isnan(y).any()
    oracles.assert_close(np.nan_to_num(y), np.nan_to_num(np.maximum(exact, 0)), case.terms())
    gy = rng.standard_normal(y.shape).astype(np.float32)
    np.testing.assert_array_equal(run(conv.conv2d_bias_relu_backward, gy, y), np.where(y <= 0, 0, gy))
    with pytest.raises(ShapeError, match=r"conv2d_bias_relu: b must have shape \(8,\), got shape=\(7,\)"):
        run(conv.conv2d_bias_relu, x, w, np.ones(7, np.float32), **case.settings())
    with pytest.raises(ShapeError, match="relu_backward: gy must have shape"):
        run(conv.conv2d_bias_relu_backward, gy[:1], y)


def test_wide_index_gives_the_same_bits(monkeypatch, rng):
    x, w, _ = AWKWARD["primes"].arrays(rng, np.float32)
    with cuda.emulate():
        narrow = conv.conv2d(x, w, padding=1)
        gy = narrow + 1
        gradients = conv.conv2d_backward_x(gy, w, x.shape, padding=1), conv.conv2d_backward_w(gy, x, w.shape, padding=1)
        monkeypatch.setattr(cuda, "index_type", lambda *sizes: "long long")
        np.testing.assert_array_equal(conv.conv2d(x, w, padding=1), narrow)
        np.testing.assert_array_equal(conv.conv2d_backward_x(gy, w, x.shape, padding=1), gradients[0])
        np.testing.assert_array_equal(conv.conv2d_backward_w(gy, x, w.shape, padding=1), gradients[1])


def test_float16_is_summed_in_float32(rng):
    x, w = np.full((1, 64, 8, 8), 0.1, np.float16), np.full((1, 64, 3, 3), 0.1, np.float16)
    y = conv.conv2d(x, w)
    assert y.dtype == np.float16
    # One rounding of the exact sum; sums in float16 would be off by several.
    np.testing.assert_array_equal(y, conv.conv2d(np.float64(x), np.float64(w)).astype(np.float16))


IMAGE, FILTER = (1, 1, 5, 5), (1, 1, 3, 3)
WRONG = [
    ((2, 8, 5), FILTER, {}, ShapeError, r"x must have the 4 dimensions \(N, C, H, W\), got shape=\(2, 8, 5\)"),
    (IMAGE, (4, 8, 3), {}, ShapeError, r"w must have the 4 dimensions .*, got shape=\(4, 8, 3\)"),
    ((1, 8, 5, 5), (6, 8, 3, 3), {"groups": 3}, ShapeError, "must divide in_channels, got groups=3, in_channels=8"),
    ((1, 9, 5, 5), (4, 3, 3, 3), {"groups": 3}, ShapeError, "must divide out_channels, got groups=3, out_channels=4"),
    ((1, 8, 5, 5), (4, 7, 3, 3), {}, ShapeError, "in_channels / groups channels, got w=7, in_channels=8, groups=1"),
    (
        IMAGE,
        (1, 1, 8, 3),
        {"padding": 1},
        ShapeError,
        r"fit into the padded image, got window=\(8, 3\), image=\(5, 5\)",
    ),
    (IMAGE, FILTER, {"stride": 0}, ArgumentError, "stride must be an integer of at least 1, or .*, got stride=0"),
    (IMAGE, FILTER, {"stride": (1, 2, 3)}, ArgumentError, r"or a pair of them, got stride=\(1, 2, 3\)"),
    (IMAGE, FILTER, {"padding": -1}, ArgumentError, "padding must be an integer of at least 0, or .*, got padding=-1"),
    (IMAGE, FILTER, {"padding": "full"}, ArgumentError, '"same" or "valid", got padding=\'full\''),
    (
        IMAGE,
        FILTER,
        {"padding": "same", "stride": 2},
        ArgumentError,
        r'padding="same" needs stride 1, got stride=\(2, 2\)',
    ),
    ((1, 0, 5, 5), (2, 0, 3, 3), {}, ShapeError, "at least one channel, got in_channels=0, out_channels=2"),
    (IMAGE, FILTER, {"groups": 0}, ArgumentError, "groups must be an integer of at least 1, got groups=0"),
]


@pytest.mark.parametrize(("x", "w", "settings", "kind", "message"), WRONG)
def test_errors_name_rule_and_values(run, x, w, settings, kind, message):
    with pytest.raises(kind, match=f"conv2d: .*{message}"):
        run(conv.conv2d, np.ones(x), np.ones(w), **settings)


def test_errors_about_dtypes_and_gradients():
    x, w = np.ones((1, 1, 4, 4)), np.ones((1, 1, 3, 3))
    with pytest.raises(DtypeError, match="conv2d: x must be a floating array, got dtype='uint8'"):
        conv.conv2d(x.astype(np.uint8), w)
    with pytest.raises(DtypeError, match="arrays must have one dtype, got x='float64', w='float32'"):
        conv.conv2d(x, w.astype(np.float32))
    with pytest.raises(DtypeError, match="x must be a NumPy or CuPy array, got type='list'"):
        conv.conv2d([[1.0]], w)
    with pytest.raises(ShapeError, match=r"gy must have shape \(1, 1, 2, 2\), got shape=\(1, 1, 3, 3\)"):
        conv.conv2d_backward_x(np.ones((1, 1, 3, 3)), w, x.shape)
    with pytest.raises(ShapeError, match=r"b must have shape \(1,\), got shape=\(2,\)"):
        conv.conv2d(x, w, np.ones(2))


@pytest.mark.peer("conv2d")
@pytest.mark.parametrize("seed", range(200))
def test_matches_pytorch(run, seed):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(1000 + seed)
    case = random_case(rng)
    x, w, b = case.arrays(rng, np.float32)
    leaves = [torch.tensor(a, dtype=torch.float64, requires_grad=True) for a in (x, w, b) if a is not None]
    expected = torch.nn.functional.conv2d(*leaves, **case.settings())
    gy = rng.standard_normal(expected.shape).astype(np.float32)
    expected.backward(torch.tensor(gy, dtype=torch.float64))
    gradients = [leaf.grad.numpy() for leaf in leaves]

    settings = case.settings()
    oracles.assert_close(run(conv.conv2d, x, w, b, **settings), expected.detach().numpy(), case.terms())
    x_terms = case.w[0] * case.w[2] * case.w[3]
    oracles.assert_close(run(conv.conv2d_backward_x, gy, w, x.shape, **settings), gradients[0], x_terms)
    oracles.assert_close(run(conv.conv2d_backward_w, gy, x, w.shape, **settings), gradients[1], gy[:, 0].size)
    if b is not None:
        oracles.assert_close(run(conv.conv_backward_b, gy), gradients[2], gy[:, 0].size)
