import agreement
import numpy as np
import oracles
import pytest

import gpunn.functional as F
from gpunn.errors import ArgumentError, DtypeError, ShapeError
from gpunn.ops.resample import grid as ops

MODES = [
    (mode, padding) for mode in ("bilinear", "nearest", "bicubic") for padding in ("zeros", "border", "reflection")
]


def weight(mode, d):
    d = abs(d)
    if mode == "bilinear":
        return max(0.0, 1 - d)
    if mode == "nearest":
        return float(d < 0.5)
    return 1.25 * d**3 - 2.25 * d**2 + 1 if d <= 1 else -0.75 * (d**3 - 5 * d**2 + 8 * d - 4) if d < 2 else 0.0


def into(i, length, padding, align):
    """The element that stands for i, or None."""
    while padding == "reflection" and not 0 <= i < length:
        low, high = (0, length - 1) if align else (-0.5, length - 0.5)
        if low == high:
            return 0
        i = 2 * low - i if i < low else 2 * high - i
    if padding == "zeros" and not 0 <= i < length:
        return None
    return int(min(max(i, 0), length - 1))


def naive(x, grid, mode, padding, align):
    """One image of one channel, place by place."""
    y = np.zeros(grid.shape[:-1])
    height, width = x.shape
    for at in np.ndindex(y.shape):
        u, v = (
            ((g + 1) * (n - 1) if align else (g + 1) * n - 1) / 2
            for g, n in zip(grid[at], (width, height), strict=True)
        )
        for i in range(int(np.floor(v)) - 3, int(np.floor(v)) + 5):
            for j in range(int(np.floor(u)) - 3, int(np.floor(u)) + 5):
                row, column = into(i, height, padding, align), into(j, width, padding, align)
                if row is not None and column is not None:
                    y[at] += weight(mode, v - i) * weight(mode, u - j) * x[row, column]
    return y


@pytest.mark.parametrize(("mode", "padding"), MODES)
def test_each_place_is_a_sum_around_it(run_xp, mode, padding, rng):
    for (height, width), align in (((4, 5), True), ((3, 1), False), ((1, 2), True)):
        x, grid = rng.standard_normal((2, 3, height, width)), rng.uniform(-1.6, 1.6, (2, 6, 4, 2))
        y = run_xp(ops.grid_sample, x, grid, mode, padding, align)
        for n, c in np.ndindex(2, 3):
            wanted = naive(x[n, c], grid[n], mode, padding, align)
            np.testing.assert_allclose(y[n, c], wanted, atol=1e-12, err_msg=f"{height} {width}")
        for dtype in (np.float32, np.float16):
            narrow = [np.zeros_like(a, dtype) + a.astype(dtype) for a in (x, grid)]
            exact = ops.grid_sample(*map(np.float64, narrow), mode, padding, align)
            found = run_xp(ops.grid_sample, *narrow, mode, padding, align)
            assert found.dtype == dtype
            if mode != "nearest":  # what is half way may be rounded either way
                np.testing.assert_allclose(found, exact, atol=32 * max(np.finfo(dtype).eps, 2e-7))


@pytest.mark.parametrize(("mode", "padding"), MODES)
def test_backward_is_the_directional_difference(run_xp, mode, padding, rng):
    x, grid = rng.standard_normal((2, 2, 4, 5)), rng.uniform(-1.4, 1.4, (2, 3, 4, 2))
    settings = mode, padding, False
    oracles.assert_gradient(
        lambda v: run_xp(ops.grid_sample, v, grid, *settings),
        lambda gy: run_xp(lambda *a: ops.grid_sample_backward(*a, *settings)[0], gy, x, grid), x, rng,
    )  # fmt: skip
    oracles.assert_gradient(
        lambda v: run_xp(ops.grid_sample, x, v, *settings),
        lambda gy: run_xp(lambda *a: ops.grid_sample_backward(*a, *settings)[1], gy, x, grid), grid, rng,
    )  # fmt: skip


def test_an_infinity_outside_of_every_window_is_not_read():
    x = np.array([[[[np.inf, 1.0, 2.0]]]])
    assert ops.grid_sample(x, np.array([[[[2.5, 0.0], [1.0, 0.0]]]]), align_corners=True).tolist() == [[[[0.0, 2.0]]]]


def test_places_far_out_and_no_numbers():
    x = np.array([[[[1.0, 3.0]]]])
    grid = np.array([[[[1e30, 0.0], [-1e30, 0.0], [np.nan, 0.0]]]])
    assert ops.grid_sample(x, grid).tolist() == [[[[0.0, 0.0, 0.5]]]]
    assert ops.grid_sample(x, grid, "bilinear", "border").tolist() == [[[[3.0, 1.0, 1.0]]]]


X, GRID = np.ones((2, 3, 4, 5)), np.ones((2, 6, 7, 2))
REFUSED = {
    "mode": (lambda: F.grid_sample(X, GRID, "linear"), ArgumentError, 'mode must be "bilinear", "nearest" or "bic'),
    "padding": (lambda: F.grid_sample(X, GRID, padding_mode="zero"), ArgumentError, 'padding_mode must be "zeros", "'),
    "image": (lambda: F.grid_sample(X[0], GRID), ShapeError, r"x must have the dimensions \(N, C, H, W\) or \(N, C"),
    "grid": (lambda: F.grid_sample(X, GRID[..., :1]), ShapeError, r"grid must have the dimensions \(N, ..., 2\), as"),
    "batch": (lambda: F.grid_sample(X, GRID[:1]), ShapeError, r"got grid=\(1, 6, 7, 2\), x=\(2, 3, 4, 5\)"),
    "no pixels": (lambda: F.grid_sample(X[:, :, :0], GRID), ShapeError, "x must have elements along each axis, got"),
    "cubic volumes": (
        lambda: F.grid_sample(X[..., None], np.ones((2, 1, 1, 1, 3)), "bicubic"), ShapeError, "is for images",
    ),
    "dtypes": (lambda: F.grid_sample(X, GRID.astype(np.float32)), DtypeError, "arrays must have one dtype, got x="),
    "size": (lambda: F.affine_grid(GRID[:, 0], (2, 3, 4)), ArgumentError, r"size must be \(N, C, H, W\) or \(N, C"),
    "a size": (lambda: F.affine_grid(GRID[:, 0], (2, 3, 0, 4)), ArgumentError, "size must be an integer of at least 1"),
    "theta": (lambda: F.affine_grid(GRID[:, 0], (2, 3, 4, 5)), ShapeError, r"theta must have shape \(2, 2, 3\), got"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_errors_name_rule_and_values(name):
    call, kind, message = REFUSED[name]
    with pytest.raises(kind, match=message):
        call()


@pytest.mark.filterwarnings("ignore:Since version 1.3.0, affine_grid behavior:UserWarning")
@pytest.mark.peer("grid_sample", "affine_grid")
@pytest.mark.parametrize(("mode", "padding"), MODES)
def test_matches_pytorch(run_xp, mode, padding):
    torch = pytest.importorskip("torch")
    for seed in range(50):
        rng = np.random.default_rng(seed)
        rank = 2 if mode == "bicubic" else int(rng.integers(2, 4))
        n, c, *image = map(int, rng.integers(1, 6, rank + 2))
        out = tuple(map(int, rng.integers(1, 5, rank)))
        settings = {"mode": mode, "padding_mode": padding, "align_corners": bool(seed % 2)}
        arrays = [rng.standard_normal((n, c, *image)), rng.uniform(-1.7, 1.7, (n, *out, rank))]
        both = agreement.both(torch, "grid_sample", **settings)
        agreement.assert_agrees(run_xp, torch, *both, arrays, where=f"{seed=} {image} {out} {settings}")
        theta = rng.standard_normal((n, rank, rank + 1))
        both = agreement.both(torch, "affine_grid", size=[n, c, *image], align_corners=bool(seed % 2))
        agreement.assert_agrees(run_xp, torch, *both, [theta], where=f"affine {seed=} {image}")


def test_places_at_infinity_are_at_the_edge(run_xp):
    x = np.arange(4.0, dtype=np.float32).reshape(1, 1, 2, 2)
    grid = np.array([[[[np.inf, -np.inf], [-np.inf, np.inf]]]], np.float32)
    for mode in ("bilinear", "nearest", "bicubic"):
        y = run_xp(lambda x, grid, mode=mode: F.grid_sample(x, grid, mode, "border"), x, grid)
        np.testing.assert_array_equal(y.ravel(), [1, 2], mode)
