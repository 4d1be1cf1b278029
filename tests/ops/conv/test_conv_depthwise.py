"""Depthwise convolution, through the public functions of gpunn.ops.conv."""

import numpy as np
import oracles
import pytest
from planned import conv

from gpunn.ops.conv import depthwise, plan

# channels, output channels to a channel, image, filter, stride, padding, dilation
CASES = {
    "square": (5, 1, (9, 8), (3, 3), 1, 1, 1),
    "strided": (3, 1, (11, 12), (3, 3), 2, (1, 0), 1),
    "two to a channel": (3, 2, (7, 9), (2, 3), (1, 2), (1, 3), (3, 1)),
    "stride passes over pixels": (2, 1, (8, 8), (1, 1), 3, 0, 1),
    "more padding than image": (2, 3, (1, 2), (3, 3), 1, 2, 1),
    "more pixels than a block owns": (2, 1, (27, 25), (3, 3), 1, 1, 1),
    "uneven padding": (2, 1, (6, 5), (2, 3), 1, ((2, 0), (0, 3)), 1),
}


@pytest.fixture(params=CASES.values(), ids=CASES.keys())
def case(request, rng):
    c, m, image, kernel, *settings = request.param
    x, w, b = rng.standard_normal((2, c, *image)), rng.standard_normal((c * m, 1, *kernel)), rng.standard_normal(c * m)
    assert depthwise.is_depthwise(plan(2, x.shape, w.shape, *settings, c))
    return x, w, b, dict(zip(("stride", "padding", "dilation"), settings, strict=True), groups=c)


def naive(x, w, b, stride, padding, dilation, groups):
    pair = lambda v: (v, v) if isinstance(v, int) else v  # noqa: E731
    if isinstance(padding, tuple) and isinstance(padding[0], tuple):
        x, padding = np.pad(x, ((0, 0), (0, 0), *padding)), 0
    return oracles.conv2d(x, w, b, pair(stride), pair(padding), pair(dilation), groups)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_forward_is_the_naive_loop(run, case, dtype):
    *arrays, settings = case
    x, w, b = (a.astype(dtype) for a in arrays)
    y = run(conv.conv2d, x, w, b, **settings)
    assert y.dtype == dtype
    oracles.assert_close(y, naive(x, w, b, **settings), w[0].size)
    oracles.assert_close(run(conv.conv2d, x, w, **settings), naive(x, w, None, **settings), w[0].size)


def test_backward_is_the_directional_difference(run, case, rng):
    x, w, _, set_ = case
    oracles.assert_gradient(
        lambda v: conv.conv2d(v, w, **set_), lambda g: run(conv.conv2d_backward_x, g, w, x.shape, **set_), x, rng
    )
    oracles.assert_gradient(
        lambda v: conv.conv2d(x, v, **set_), lambda g: run(conv.conv2d_backward_w, g, x, w.shape, **set_), w, rng
    )


def test_non_contiguous_arrays_are_read_right(run, rng):
    x, w = rng.standard_normal((2, 6, 5, 4)).transpose(0, 3, 1, 2), rng.standard_normal((3, 3, 1, 8)).T[::2]
    gy = rng.standard_normal((3, 4, 4, 2)).T
    packed = [np.ascontiguousarray(a) for a in (x, w, gy)]
    assert not any(a.flags.c_contiguous for a in (x, w, gy))
    np.testing.assert_array_equal(run(conv.conv2d, x, w, groups=4), run(conv.conv2d, packed[0], packed[1], groups=4))
    np.testing.assert_array_equal(
        run(conv.conv2d_backward_x, gy, w, x.shape, groups=4),
        run(conv.conv2d_backward_x, packed[2], packed[1], x.shape, groups=4),
    )
    np.testing.assert_array_equal(
        run(conv.conv2d_backward_w, gy, x, w.shape, groups=4),
        run(conv.conv2d_backward_w, packed[2], packed[0], w.shape, groups=4),
    )


def test_no_image(run):
    x, w, gy = np.ones((0, 3, 4, 4), np.float32), np.ones((3, 1, 3, 3), np.float32), np.ones((0, 3, 2, 2), np.float32)
    assert run(conv.conv2d, x, w, groups=3).shape == gy.shape
    assert run(conv.conv2d_backward_x, gy, w, x.shape, groups=3).shape == x.shape
    np.testing.assert_array_equal(run(conv.conv2d_backward_w, gy, x, w.shape, groups=3), np.zeros(w.shape))


@pytest.mark.parametrize(
    ("channels", "out_channels", "kernel", "groups"),
    [(1, 4, 3, 1), (6, 6, 3, 3), (6, 6, 9, 6), (2, 32, 3, 2)],
    ids=["one channel", "two channels to a group", "large filter", "many to a channel"],
)
def test_the_matrix_product_takes_the_rest(channels, out_channels, kernel, groups):
    filters = (out_channels, channels // groups, kernel, kernel)
    assert not depthwise.is_depthwise(plan(2, (1, channels, 9, 9), filters, groups=groups))


def test_errors_are_those_of_conv2d(run):
    with pytest.raises(ValueError, match="conv2d: w must have in_channels / groups channels, got w=2, in_channels=4"):
        run(conv.conv2d, np.ones((1, 4, 5, 5)), np.ones((4, 2, 3, 3)), groups=4)


@pytest.mark.peer("conv2d")
@pytest.mark.parametrize("seed", range(60))
def test_matches_pytorch(run, seed):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(seed)
    kernel = [(3, 3), (2, 3)][seed % 2]
    stride, dilation, padding = (tuple(map(int, rng.integers(low, high, 2))) for low, high in ((1, 4), (1, 3), (0, 4)))
    c, m = int(rng.integers(2, 5)), int(rng.integers(1, 4))
    size = [int(rng.integers(d * (f - 1) + 1, 12)) for d, f in zip(dilation, kernel, strict=True)]
    x, w, b = (rng.standard_normal(s).astype(np.float32) for s in ((2, c, *size), (c * m, 1, *kernel), (c * m,)))
    settings = {"stride": stride, "padding": padding, "dilation": dilation, "groups": c}
    leaves = [torch.tensor(a, dtype=torch.float64, requires_grad=True) for a in (x, w, b)]
    expected = torch.nn.functional.conv2d(*leaves, **settings)
    gy = rng.standard_normal(expected.shape).astype(np.float32)
    expected.backward(torch.tensor(gy, dtype=torch.float64))
    taps = kernel[0] * kernel[1]
    oracles.assert_close(run(conv.conv2d, x, w, b, **settings), expected.detach().numpy(), taps)
    gx = run(conv.conv2d_backward_x, gy, w, x.shape, **settings)
    oracles.assert_close(gx, leaves[0].grad.numpy(), taps * m)
    gw = run(conv.conv2d_backward_w, gy, x, w.shape, **settings)
    oracles.assert_close(gw, leaves[1].grad.numpy(), gy[:, 0].size)
