import agreement
import numpy as np
import oracles
import pytest

import gpunn.functional as F
from gpunn import nn
from gpunn.errors import ArgumentError, DtypeError, ShapeError
from gpunn.ops import image as ops
from gpunn.ops.shared.window import output_size, window

# the shape of x, then kernel, stride, padding and dilation
AWKWARD = {
    "one pixel": ((1, 1, 1, 1), 1, 1, 0, 1),
    "primes": ((2, 3, 7, 5), (3, 2), (2, 1), (1, 0), 1),
    "overlap and dilation": ((1, 2, 9, 8), 3, 2, 2, (2, 3)),
    "nothing but padding": ((1, 1, 1, 1), 2, 3, 3, 1),
    "no image": ((0, 2, 4, 4), 2, 2, 0, 1),
    "signal": ((2, 3, 11), 4, 3, 1, 2),
    "volume": ((1, 2, 4, 5, 3), 2, (2, 1, 1), 1, 1),
}
CASES = pytest.mark.parametrize(("shape", "kernel", "stride", "padding", "dilation"), AWKWARD.values(), ids=AWKWARD)


def naive(x, win):
    """The columns of x, window by window."""
    out = output_size("unfold", x.shape[2:], win)
    columns = np.zeros((*x.shape[:2], int(np.prod(win.kernel)), *out))
    before = tuple(pad for pad, _ in win.pads)
    for at, elements in oracles.windows_nd(x.shape[2:], out, win.kernel, win.stride, before, win.dilation):
        for tap, position in elements:
            columns[(slice(None), slice(None), np.ravel_multi_index(tap, win.kernel), *at)] = x[(..., *position)]
    return columns.reshape(len(x), x.shape[1] * columns.shape[2], int(np.prod(out)))


@CASES
def test_windows_are_columns_and_back(run_xp, shape, kernel, stride, padding, dilation, rng):
    win = window("unfold", kernel, stride, padding, dilation, len(shape) - 2)
    x = rng.standard_normal(shape)
    columns = run_xp(ops.unfold, x, win)
    np.testing.assert_array_equal(columns, naive(x, win))
    oracles.assert_gradient(lambda v: run_xp(ops.unfold, v, win), lambda g: run_xp(ops.fold, g, win, shape[2:]), x, rng)
    oracles.assert_gradient(
        lambda v: run_xp(ops.fold, v, win, shape[2:]), lambda g: run_xp(ops.unfold, g, win), columns, rng
    )


def test_overlaps_of_float16_are_summed_in_float32():
    win = window("fold", 64, 1, 0, rank=1)
    y = ops.fold(np.full((1, 64, 64), 1 / 3, np.float16), win, (127,))
    assert (y.dtype, y[0, 0, 63]) == (np.float16, np.float16(64 * np.float64(np.float16(1 / 3))))


def test_a_convolution_is_a_product_with_columns(rng):
    x, w = rng.standard_normal((2, 3, 7, 6)), rng.standard_normal((4, 3, 3, 2))
    y = F.conv2d(x, w, stride=2, padding=1)
    np.testing.assert_allclose(w.reshape(4, -1) @ F.unfold(x, (3, 2), 1, 1, 2), y.reshape(2, 4, -1), atol=1e-12)


X = np.ones((1, 4, 5, 6))
REFUSED = {
    "x of unfold": (lambda: F.unfold(X[0, 0], 2), ShapeError, r"unfold: x must have the dimensions \(N, C, H, W\) or"),
    "no pixels": (lambda: F.unfold(X[:, :, :0], 2), ShapeError, r"with elements, got shape=\(1, 4, 0, 6\)"),
    "window": (lambda: F.unfold(X, 7), ShapeError, "unfold: the window must fit into the padded image"),
    "kernel": (lambda: F.unfold(X, (1, 2, 3)), ArgumentError, "unfold: kernel_size must be an integer of at least 1"),
    "stride": (lambda: F.fold(X[0], (5, 5), 2, stride=0), ArgumentError, "fold: stride must be an integer of at least"),
    "x of fold": (lambda: F.fold(X, (5, 5), 2), ShapeError, r"fold: x must have the dimensions \(N, C kh kw, L\) or"),
    "channels": (lambda: F.fold(X[0, 0][None], (5, 5), 2), ShapeError, r"fold: x must be \(N, C K, L\) with K = 4"),
    "columns": (lambda: F.fold(X[0], (3, 3), (5, 1)), ShapeError, "fold: the window must fit"),
    "number": (lambda: F.fold(X[0], (5, 5), (5, 1)), ShapeError, r"fold: x must have shape \(4, 5, 5\), got shape=\(4"),
    "integers": (lambda: F.unfold(X.astype(int), 2), DtypeError, "unfold: x must be a floating array, got dtype='int"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_errors_name_rule_and_values(name):
    call, kind, message = REFUSED[name]
    with pytest.raises(kind, match=message):
        call()


def test_layers_are_their_function(rng):
    x = rng.standard_normal((2, 3, 7, 6))
    columns = nn.Unfold((3, 2), 2, 1, 2)(x)
    np.testing.assert_array_equal(columns, F.unfold(x, (3, 2), 2, 1, 2))
    np.testing.assert_array_equal(nn.Fold((7, 6), (3, 2), 2, 1, 2)(columns), F.fold(columns, (7, 6), (3, 2), 2, 1, 2))


@pytest.mark.peer("unfold", "fold")
def test_matches_pytorch(run_xp):
    torch = pytest.importorskip("torch")
    for seed in range(60):
        rng = np.random.default_rng(seed)
        kernel, stride, dilation, padding = (tuple(map(int, rng.integers(least, 4, 2))) for least in (1, 1, 1, 0))
        more = map(int, rng.integers(0, 5, 2))
        image = tuple(d * (k - 1) + 1 + m for d, k, m in zip(dilation, kernel, more, strict=True))
        shape = tuple(map(int, rng.integers(1, 4, seed % 2 + 1)))
        settings = {"kernel_size": kernel, "dilation": dilation, "padding": padding, "stride": stride}
        x = rng.standard_normal((*shape, *image))
        both = agreement.both(torch, "unfold", **settings)
        agreement.assert_agrees(run_xp, torch, *both, [x], where=f"{seed=} {x.shape} {settings}")
        columns = rng.standard_normal(F.unfold(x, **settings).shape)
        both = agreement.both(torch, "fold", output_size=image, **settings)
        agreement.assert_agrees(run_xp, torch, *both, [columns], where=f"fold {seed=} {image} {settings}")
