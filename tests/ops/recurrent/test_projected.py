"""The LSTM whose h is a projection; test_rnn.py has its layers against PyTorch's."""

import numpy as np
import oracles
import pytest

import gpunn.functional as F
from gpunn import nn
from gpunn.errors import ArgumentError, ShapeError
from gpunn.testing import check_gradients

BATCHES = {"one length": [3, 3, 3], "all different": [3, 2, 2, 1], "one step": [2]}
EACH = pytest.mark.parametrize("sizes", BATCHES.values(), ids=BATCHES.keys())


def drawn(rng, sizes, dtype=np.float64):
    """x, h, c, the weights, and W_hr: 2 inputs, 4 cells, 3 elements of h."""
    n = sizes[0]
    shapes = (sum(sizes), 2), (n, 3), (n, 4), (16, 2), (16, 3), (16,), (16,), (3, 4)
    return [(rng.standard_normal(shape) / 2).astype(dtype) for shape in shapes]


def call(sizes, reverse, x, h, c, *weights):
    y, ends = F.lstm(x, (h, c), *weights[:-1], sizes, reverse, weights[-1])
    return y, *ends


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("reverse", [False, True])
@EACH
def test_forward_is_the_naive_loop(run, sizes, reverse, dtype, rng):
    x, h0, c0, *weights, w_hr = given = drawn(rng, sizes, dtype)
    y, last_h, last_c = run(lambda *a: call(sizes, reverse, *a), *given)
    assert y.dtype == last_h.dtype == last_c.dtype == dtype
    starts, (w_ih, w_hh, b_ih, b_hh) = np.cumsum([0, *sizes]), map(np.float64, weights)
    for k in range(sizes[0]):
        rows = [starts[t] + k for t, size in enumerate(sizes) if size > k]
        h, c = np.float64(h0[k]), np.float64(c0[k])[None]
        for row in rows[::-1] if reverse else rows:
            z, c = oracles.lstm_cell((w_ih @ x[row] + b_ih + w_hh @ h + b_hh)[None], c)
            h = np.float64(w_hr) @ z[0]
            oracles.assert_close(y[row], h, 60)
        oracles.assert_close(last_h[k], h, 60)
        oracles.assert_close(last_c[k], c[0], 60)


@pytest.mark.parametrize("reverse", [False, True])
@EACH
def test_the_gradient_is_the_slope(sizes, reverse, rng):
    check_gradients(lambda *a: sum((part * part).sum() for part in call(sizes, reverse, *a)), drawn(rng, sizes))


def test_layers(rng):
    layer = nn.LSTM(2, 4, 2, batch_first=True, bidirectional=True, proj_size=3, generator=rng)
    assert [p.shape for name, p in layer.named_parameters() if "hr" in name] == [(3, 4)] * 4
    y, (h, c) = layer(np.zeros((5, 6, 2), np.float32))
    assert (y.shape, h.shape, c.shape) == ((5, 6, 6), (4, 5, 3), (4, 5, 4))
    with pytest.raises(ShapeError, match=r"LSTM: c must have shape \(4, 5, 4\), got shape=\(4, 5, 3\)"):
        layer(np.zeros((5, 6, 2), np.float32), (h, h))
    for wrong in (4, 9):
        with pytest.raises(ArgumentError, match=f"LSTM: proj_size must be less than hidden_size, .*={wrong}"):
            nn.LSTM(2, 4, proj_size=wrong)
    with pytest.raises(ArgumentError, match="LSTM: proj_size must be an integer of at least 0, got proj_size=-1"):
        nn.LSTM(2, 4, proj_size=-1)


def test_errors_name_rule_and_values(rng):
    *given, w_hr = drawn(rng, [2, 2])
    with pytest.raises(ShapeError, match="lstm: w_hr must have 2 dimensions"):
        call([2, 2], False, *given, w_hr[0])
    with pytest.raises(ShapeError, match=r"lstm: w_hr must have shape \(3, 4\), got shape=\(2, 4\)"):
        call([2, 2], False, *given, w_hr[1:])
    with pytest.raises(ShapeError, match=r"lstm: c0 must have shape \(2, 3\), got shape=\(2, 4\)"):
        call([2, 2], False, *given, w_hr[:, 1:])
