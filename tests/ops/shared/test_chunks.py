"""What is computed chunk by chunk is the same as all at once: a small chunk cuts the arrays of every case."""

import numpy as np
import pytest
from planned import conv, pooling

from gpunn.ops import activation, dropout
from gpunn.ops.conv import depthwise, plan
from gpunn.ops.shared import chunks


def normal(*shape, dtype=np.float32):
    return np.random.default_rng(0).standard_normal(shape).astype(dtype)


X, GY = normal(3, 4, 11, 7), normal(3, 4, 5, 3)
FILTERS = normal(8, 1, 3, 3)  # depthwise: two for each channel of X
CASES = {
    "max": lambda: pooling.max_pool(2, X, 3, 2),
    "max, padded": lambda: pooling.max_pool(2, X, 3, 2, 1, 1, True),
    "max backward": lambda: [pooling.max_pool_backward(2, GY, pooling.max_pool(2, X, 3, 2)[1], X.shape, 3, 2)],
    "avg": lambda: [pooling.avg_pool(2, X, 3, 2)],
    "avg backward": lambda: [pooling.avg_pool_backward(2, GY, X.shape, 3, 2)],
    "depthwise": lambda: [conv.conv(2, X, FILTERS, np.ones(8, np.float32), 2, 1, 1, 4)],
    "depthwise backward x": lambda: [conv.conv_backward_x(2, normal(3, 8, 6, 4), FILTERS, X.shape, 2, 1, 1, 4)],
    "depthwise backward w": lambda: [conv.conv_backward_w(2, normal(3, 8, 6, 4), X, FILTERS.shape, 2, 1, 1, 4)],
    "dropout": lambda: [dropout.dropout(X, 0.3, 5)],
    "dropout2d": lambda: [dropout.dropout2d(X, 0.3, 5)],
    "gelu": lambda: [activation.gelu(X)],
    "gelu backward": lambda: [activation.gelu_backward(X, X)],
}


@pytest.mark.parametrize("name", CASES)
def test_small_chunks_give_the_same_bits(monkeypatch, name):
    whole = CASES[name]()
    assert depthwise.is_depthwise(plan(2, X.shape, FILTERS.shape, 2, 1, 1, 4))
    monkeypatch.setattr(chunks, "_CHUNK_BYTES", 700)
    for a, b in zip(CASES[name](), whole, strict=True):
        np.testing.assert_array_equal(a, b)


def test_slices_cover_everything_once(monkeypatch):
    monkeypatch.setattr(chunks, "_CHUNK_BYTES", 100)
    for count, nbytes in ((0, 8), (1, 8), (25, 8), (7, 1000), (5, 0)):
        each = [i for part in chunks.chunks(np, count, nbytes) for i in range(part.start, part.stop)]
        assert each == list(range(count)), (count, nbytes)


@pytest.mark.parametrize("chunk", [1, 3000, 10_000])
@pytest.mark.parametrize(("c", "k", "groups"), [(4, 6, 1), (4, 64, 1), (4, 6, 2)])
@pytest.mark.parametrize("stride", [1, 2])
def test_convolution_in_chunks_of_rows_and_of_images(monkeypatch, chunk, c, k, groups, stride):
    x, w, b, settings = normal(3, c, 11, 7), normal(k, c // groups, 3, 2), normal(k), (stride, 1, 1, groups)

    def passes():
        y = conv.conv(2, x, w, b, *settings, relu=True)
        gy = np.random.default_rng(1).standard_normal(y.shape, dtype=np.float32)
        gx = conv.conv_backward_x(2, gy, w, x.shape, *settings)
        return y, gx, conv.conv_backward_w(2, gy, x, w.shape, *settings)

    whole = passes()
    monkeypatch.setattr(chunks, "_CHUNK_BYTES", chunk)
    for a, b_ in zip(passes(), whole, strict=True):
        np.testing.assert_allclose(a, b_, rtol=1e-4, atol=1e-4)
