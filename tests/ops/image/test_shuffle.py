import agreement
import numpy as np
import pytest

import gpunn.functional as F
from gpunn import nn
from gpunn.errors import ArgumentError, DtypeError, ShapeError


def test_each_pixel_comes_from_its_channel(rng):
    x, r = rng.standard_normal((2, 12, 3, 5)), 2
    y = F.pixel_shuffle(x, r)
    for n, c, h, w in np.ndindex(y.shape):
        assert y[n, c, h, w] == x[n, (c * r + h % r) * r + w % r, h // r, w // r]
    np.testing.assert_array_equal(F.pixel_unshuffle(y, r), x)
    np.testing.assert_array_equal(nn.PixelUnshuffle(r)(nn.PixelShuffle(r)(x)), x)
    np.testing.assert_array_equal(nn.ChannelShuffle(4)(F.channel_shuffle(x, 3)), x)
    np.testing.assert_array_equal(F.channel_shuffle(x, 3)[:, :4], x[:, [0, 4, 8, 1]])


X = np.ones((2, 6, 4, 3))
REFUSED = {
    "channels": (lambda: F.pixel_shuffle(X, 2), ShapeError, "pixel_shuffle: upscale_factor.* must divide the channels"),
    "factor": (lambda: F.pixel_shuffle(X, 0), ArgumentError, "upscale_factor must be an integer of at least 1, got up"),
    "pixels": (lambda: F.pixel_unshuffle(X, 2), ShapeError, "pixel_unshuffle: downscale_factor must divide H and W"),
    "image": (lambda: F.pixel_shuffle(X[0, 0], 2), ShapeError, r"x must have the dimensions \(..., C, H, W\), got"),
    "groups": (
        lambda: F.channel_shuffle(X, 4),
        ShapeError,
        "groups must divide the channels, got groups=4, channels=6",
    ),
    "rows": (lambda: F.channel_shuffle(X[0, 0], 2), ShapeError, r"channel_shuffle: x must have .* \(N, C, ...\), got"),
    "a list": (lambda: F.channel_shuffle([1.0], 2), DtypeError, "channel_shuffle: x must be a NumPy or CuPy array"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_errors_name_rule_and_values(name):
    call, kind, message = REFUSED[name]
    with pytest.raises(kind, match=message):
        call()


@pytest.mark.peer("pixel_shuffle", "pixel_unshuffle", "channel_shuffle")
def test_matches_pytorch(run_xp):
    torch = pytest.importorskip("torch")
    for seed in range(50):
        rng = np.random.default_rng(seed)
        r, c, h, w = map(int, rng.integers(1, 4, 4))
        leading = tuple(map(int, rng.integers(1, 3, seed % 3)))
        for name, settings, shape in (
            ("pixel_shuffle", {"upscale_factor": r}, (*leading, c * r * r, h, w)),
            ("pixel_unshuffle", {"downscale_factor": r}, (*leading, c, h * r, w * r)),
            ("channel_shuffle", {"groups": r}, (h, c * r, w, h)[: 3 + seed % 2]),
        ):
            both, x = agreement.both(torch, name, **settings), rng.standard_normal(shape)
            agreement.assert_agrees(run_xp, torch, *both, [x], where=f"{name} {shape} {settings}")
