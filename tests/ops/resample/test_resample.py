import agreement
import numpy as np
import oracles
import pytest

import gpunn.functional as F
from gpunn import nn
from gpunn.errors import ArgumentError, DtypeError, ShapeError
from gpunn.ops import resample as ops
from gpunn.ops.resample import table

FLOAT64 = np.dtype(np.float64)


def weight_of(kind, d, a):
    d = abs(d)
    if kind == "linear":
        return max(0.0, 1 - d)
    if d <= 1:
        return (a + 2) * d**3 - (a + 3) * d**2 + 1
    return a * (d**3 - 5 * d**2 + 8 * d - 4) if d < 2 else 0.0


def center_of(o, length, size, coordinates, scale):
    s = size / length if scale is None else scale
    if coordinates == "align_corners":
        return o * (length - 1) / (s * length - 1) if size > 1 else 0.0
    if coordinates == "asymmetric":
        return o / s
    if coordinates == "pytorch_half_pixel" and size == 1:
        return 0.0
    moved = length / 2 * (1 - size / (s * length)) if coordinates == "half_pixel_symmetric" else 0.0
    return (o + 0.5) / s - 0.5 + moved


def naive(x, size, kind, coordinates, scale, a, exclude_outside):
    """Of a signal (L,): each element of y by the formulas, element by element."""
    y, length = np.zeros(size), len(x)
    for o in range(size):
        c = center_of(o, length, size, coordinates, scale)
        taps = range(int(np.floor(c)) - 2, int(np.floor(c)) + 4)
        weights = {i: weight_of(kind, c - i, a) for i in taps if 0 <= i < length or not exclude_outside}
        total = sum(weights.values()) if exclude_outside else 1.0
        y[o] = sum(w / total * x[min(max(i, 0), length - 1)] for i, w in weights.items())
    return y


SIZES = [(5, 9, None), (9, 5, None), (7, 7, 1.1), (1, 4, None), (4, 1, None), (5, 12, 2.5), (5, 8, 1.7), (11, 3, 0.3)]


@pytest.mark.parametrize(
    "coordinates", ["half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "asymmetric", "align_corners"]
)
def test_each_element_is_the_sum_that_the_formulas_say(coordinates, rng):
    for (length, size, scale), kind, outside in [
        (case, kind, outside) for case in SIZES for kind in ("linear", "cubic") for outside in (False, True)
    ]:
        x = rng.standard_normal(length)
        settings = {"coordinates": coordinates, "scale": scale, "a": -0.6, "exclude_outside": outside}
        y = ops.resample(x[None, None], [table(length, size, kind, FLOAT64, **settings)])[0, 0]
        np.testing.assert_allclose(y, naive(x, size, kind, **settings), atol=1e-12, err_msg=f"{length} {size} {kind}")


ROUNDED = {
    "floor": [0, 0, 1, 1, 2, 2],
    "ceil": [0, 1, 1, 2, 2, 2],
    "round_prefer_floor": [0, 0, 1, 1, 2, 2],
    "round_prefer_ceil": [0, 1, 1, 2, 2, 2],
}


@pytest.mark.parametrize("rounding", ROUNDED)
def test_the_nearest_by_each_rounding(rounding):
    halves = table(3, 6, "nearest", FLOAT64, coordinates="asymmetric", rounding=rounding)
    assert halves.index.tolist() == [ROUNDED[rounding]]


# the shape of x, the size of y, the mode
AWKWARD = {
    "one element": ((1, 1, 1), (1,), "linear"),
    "from one element": ((1, 2, 1), (40,), "linear"),
    "primes": ((2, 3, 13), (5,), "nearest"),
    "no signal": ((0, 3, 5), (2,), "linear"),
    "image": ((2, 3, 5, 4), (8, 9), "bilinear"),
    "image, wider and shorter": ((1, 2, 7, 4), (3, 9), "bicubic"),
    "the same size": ((1, 2, 4, 3), (4, 3), "bilinear"),
    "volume": ((2, 2, 5, 4, 7), (2, 8, 3), "trilinear"),
    "volume, nearest": ((1, 2, 2, 3, 4), (3, 1, 5), "nearest-exact"),
}
CASES = pytest.mark.parametrize(("shape", "size", "mode"), AWKWARD.values(), ids=AWKWARD)


@CASES
def test_backward_is_the_directional_difference(run_xp, shape, size, mode, rng):
    tables = ops.plan(shape, FLOAT64, size, None, mode).tables
    x = rng.standard_normal(shape)
    before = x.copy()
    oracles.assert_gradient(
        lambda v: run_xp(ops.resample, v, tables), lambda gy: run_xp(ops.resample_backward, gy, tables), x, rng
    )
    np.testing.assert_array_equal(x, before)
    assert run_xp(ops.resample, x, tables).shape == (*shape[:2], *size)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@CASES
def test_small_dtypes_are_near_float64_and_stay(run_xp, shape, size, mode, dtype, rng):
    x = rng.standard_normal(shape).astype(dtype)
    y, exact = run_xp(F.interpolate, x, size, mode=mode), F.interpolate(np.float64(x), size, mode=mode)
    assert y.dtype == dtype
    oracles.assert_close(y, exact, 16)
    views = x.repeat(2, -1)[..., ::2]
    np.testing.assert_array_equal(run_xp(F.interpolate, views, size, mode=mode), y)


def test_an_infinity_stays_where_its_weights_are():
    tables = [table(4, 2, "nearest", FLOAT64, coordinates="asymmetric", rounding="floor")]
    assert ops.resample_backward(np.array([[[np.inf, 1.0]]]), tables).tolist() == [[[np.inf, 0.0, 1.0, 0.0]]]


REFUSED = {
    "no such mode": ({"mode": "cubic"}, ArgumentError, "mode must be one of nearest, .*, got mode='cubic'"),
    "a mode of volumes": ({"mode": "trilinear"}, ShapeError, r'dimensions \(N, C, D, H, W\) for mode="trilinear", got'),
    "corners": ({"align_corners": False}, ArgumentError, "align_corners belongs to mode=linear, .*, mode='nearest'"),
    "antialias": ({"antialias": True}, ArgumentError, "antialias belongs to mode=bilinear, bicubic, got antialias"),
    "neither": ({"size": None}, ArgumentError, "either size or scale_factor must be given, got size=None, scale_fac"),
    "both": ({"scale_factor": 2}, ArgumentError, "either size or scale_factor must be given, got size=3, scale_fact"),
    "a factor again": ({"recompute_scale_factor": True}, ArgumentError, "belongs to scale_factor, not to size"),
    "three sizes": ({"size": (1, 2, 3)}, ArgumentError, "size must be an integer of at least 1, or a pair of them"),
    "no factor": ({"size": None, "scale_factor": 0.0}, ArgumentError, "scale_factor must be above 0 and finite"),
    "a factor of text": ({"size": None, "scale_factor": "2"}, ArgumentError, "scale_factor must be a number"),
    "three factors": ({"size": None, "scale_factor": [1.0] * 3}, ArgumentError, "must be one, or 2 of them, got sc"),
    "nothing left": ({"size": None, "scale_factor": 0.1}, ArgumentError, r"must leave an element .*, got size=\(0, 0"),
    "no pixels": ({"x": np.ones((1, 2, 0, 3))}, ShapeError, r"elements along each axis, got shape=\(1, 2, 0, 3\)"),
    "integers": ({"x": np.ones((1, 1, 2, 2), int)}, DtypeError, "x must be a floating array, got dtype='int64'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_errors_name_rule_and_values(name):
    settings, kind, message = REFUSED[name]
    with pytest.raises(kind, match=f"interpolate: .*{message}"):
        F.interpolate(**{"x": np.ones((1, 2, 4, 5)), "size": 3, **settings})


def test_layers_are_their_function(rng):
    x = rng.standard_normal((2, 3, 4, 5))
    layer, settings = nn.Upsample(None, 1.7, "bilinear", True, True), {"scale_factor": 1.7, "align_corners": True}
    wanted = F.interpolate(x, mode="bilinear", recompute_scale_factor=True, **settings)
    np.testing.assert_array_equal(layer(x), wanted)
    np.testing.assert_array_equal(nn.UpsamplingNearest2d((6, 7))(x), F.interpolate(x, (6, 7)))
    right = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
    np.testing.assert_array_equal(nn.UpsamplingBilinear2d(scale_factor=2)(x), right)


MODES = [
    (rank, mode) for rank, modes in
    enumerate([("linear",), ("bilinear", "bicubic", "bilinear, antialias", "bicubic, antialias"), ("trilinear",)], 1)
    for mode in ("nearest", "nearest-exact", "area", *modes)
]  # fmt: skip


@pytest.mark.peer("interpolate")
@pytest.mark.parametrize(("rank", "mode"), MODES)
def test_matches_pytorch(run_xp, rank, mode):
    torch = pytest.importorskip("torch")
    for seed in range(50):
        rng = np.random.default_rng(seed)
        shape = (*map(int, rng.integers(1, 4, 2)), *map(int, rng.integers(1, 11, rank)))
        # PyTorch's antialiased result of one column is not the function that its gradient belongs to, and its nearest
        # neighbour for a factor that leaves the size as it is depends on the order of axes in memory.
        settings = {"mode": mode.split(",")[0], "size": tuple(map(int, rng.integers(2, 13, rank)))}
        factor = float(rng.choice([0.5, 0.7, 1.5, 2.0, 3.0]))
        if seed % 2 and min(shape[2:]) * factor >= 2:
            settings |= {"size": None, "scale_factor": factor, "recompute_scale_factor": seed % 4 == 1}
        if mode.endswith("antialias"):
            settings["antialias"] = True
        if "linear" in mode or "cubic" in mode:
            settings["align_corners"] = seed % 3 == 0
        x = rng.standard_normal(shape)
        both = agreement.both(torch, "interpolate", **settings)
        agreement.assert_agrees(run_xp, torch, *both, [x], where=f"{seed=} {shape} {settings}")
