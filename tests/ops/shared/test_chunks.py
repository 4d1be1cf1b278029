"""What is computed chunk by chunk is the same as all at once: a small chunk cuts the arrays of every case."""

import numpy as np
import pytest
from planned import conv, pooling

from gpunn.ops import activation, dropout, loss, norm
from gpunn.ops.conv import columns, depthwise, plan, runs
from gpunn.ops.pool import global_pool
from gpunn.ops.shared import chunks


def normal(*shape, dtype=np.float32):
    return np.random.default_rng(0).standard_normal(shape).astype(dtype)


X, GY = normal(3, 4, 11, 7), normal(3, 4, 5, 3)
FILTERS = normal(8, 1, 3, 3)  # depthwise: two for each channel of X
MEAN_AND_VAR = normal(4), normal(4) ** 2
LABELS = np.arange(3 * 11 * 7).reshape(3, 11, 7) % 4
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
    "relu": lambda: [activation.relu(X)],
    "gelu": lambda: [activation.gelu(X)],
    "gelu backward": lambda: [activation.gelu_backward(X, X)],
}
SUMS = {  # BLAS adds the elements of a row in an order that depends on how many rows there are
    "softmax": lambda: [activation.softmax(X), activation.softmax(X, 1), activation.softmax_backward(X, X, 0)],
    "log softmax": lambda: [activation.log_softmax(X), activation.log_softmax_backward(X, X, 1)],
    "batch norm": lambda: norm.batch_norm_statistics(X),
    "batch norm, relu": lambda: [norm.batch_norm(X, *MEAN_AND_VAR, relu=True)],
    "batch norm backward": lambda: norm.batch_norm_backward(X, X, *MEAN_AND_VAR, relu=True),
    "layer norm": lambda: norm.layer_norm(X, (11, 7)),
    "layer norm backward": lambda: norm.layer_norm_backward(X, X, *norm.layer_norm(X, 7)[1:], 7)[:1],
    "group norm": lambda: norm.group_norm(X, 2),
    "group norm backward": lambda: norm.group_norm_backward(X, X, *norm.group_norm(X, 2)[1:], 2, normal(4)),
    "cross entropy": lambda: [
        loss.cross_entropy(X, LABELS),
        loss.cross_entropy_backward(np.ones((), np.float32), X, LABELS),
    ],
    "global average": lambda: [global_pool.global_avg_pool(2, X)],
}


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(chunks, "_CHUNK_BYTES", 700)
    for size in ("_BLOCK_BYTES", "_PART_BYTES", "_WORTH_THREADS", "_FEW"):
        monkeypatch.setattr(chunks, size, 700)
    monkeypatch.setattr(chunks, "_SMALL", 0)


@pytest.mark.parametrize("name", CASES)
def test_small_chunks_give_the_same_bits(name, request):
    whole = CASES[name]()
    assert depthwise.is_depthwise(plan(2, X.shape, FILTERS.shape, 2, 1, 1, 4))
    request.getfixturevalue("small_chunks")
    for a, b in zip(CASES[name](), whole, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", SUMS)
def test_small_chunks_give_the_same_sums(name, request):
    whole = SUMS[name]()
    request.getfixturevalue("small_chunks")
    for a, b in zip(SUMS[name](), whole, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


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


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("seed", range(30))
def test_convolution_by_runs_is_that_by_columns(monkeypatch, seed, dtype):
    rng = np.random.default_rng(seed)
    rank, groups = int(rng.integers(2, 4)), int(rng.choice([1, 1, 2]))
    n, c, k = (int(size) for size in rng.integers(1, 4, 3) * (1, groups, groups))
    kernel, stride, padding, dilation = (tuple(map(int, rng.integers(low, 4, rank))) for low in (1, 1, 0, 1))
    image = tuple(
        (size - 1) * apart + 1 + int(rng.integers(0, 6)) for size, apart in zip(kernel, dilation, strict=True)
    )
    job = plan(rank, (n, c, *image), (k, c // groups, *kernel), stride, padding, dilation, groups)
    x, w, b, gy = (rng.standard_normal(s).astype(dtype) for s in (job.x_shape, job.w_shape, (k,), job.y_shape))
    monkeypatch.setattr(chunks, "_CHUNK_BYTES", int(rng.choice([1, 1000, 100_000])))

    def passes(way):
        return way.forward(job, x, w, b, True), way.backward_x(job, gy, w), way.backward_w(job, gy, x)

    tolerance = 40 * np.finfo(dtype).eps  # for sums of up to a hundred terms, and half of them in float32
    for actual, expected in zip(passes(runs), passes(columns), strict=True):
        assert actual.dtype == dtype
        np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance * 10)


def test_runs_are_taken_where_they_pay():
    def taken(x_shape, w_shape, *settings):
        return runs.takes("forward", plan(2, x_shape, w_shape, *settings), np.ones(0, np.float32), False)

    assert taken((8, 64, 28, 28), (64, 64, 3, 3), 1, 1)
    assert not taken((8, 64, 28, 28), (64, 64, 1, 1))  # no columns
    assert not taken((8, 1, 28, 28), (64, 1, 3, 3), 1, 1)  # short runs
    assert not taken((8, 256, 13, 13), (384, 256, 3, 3), 1, 1)  # 2 of 15 columns for nothing
