"""Plain float64 loops that say what an operation is, and the tolerance to compare with them."""

from __future__ import annotations

import itertools
import math

import numpy as np


def assert_close(actual, expected, terms: int = 1) -> None:
    """``actual`` is ``expected`` up to rounding in sums of ``terms`` products in the dtype of ``actual``.

    Each of the ``terms`` additions rounds a partial sum that grows like a random walk, which leaves an error of about
    eps * sqrt(terms) times the size of the result; 8 for the few operations around the sum.
    """
    assert actual.shape == expected.shape
    scale = max(1.0, float(np.abs(expected).max(initial=0)))
    tolerance = np.finfo(actual.dtype).eps * (8 + 2 * math.sqrt(terms)) * scale
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance)


def assert_gradient(forward, backward, x, rng) -> None:
    """``backward(gy)`` agrees with the change of ``sum(gy * forward(x))`` along one random direction (float64)."""
    direction = np.asarray(rng.standard_normal(x.shape))
    gy = np.asarray(rng.standard_normal(forward(x).shape))
    step = 1e-6
    ahead, behind = (forward(np.asarray(x + sign * step * direction)) for sign in (1, -1))
    change = float(((ahead - behind) * gy).sum()) / (2 * step)
    slope = float((backward(gy) * direction).sum())
    # The central difference is off by step^2 (third derivative) and by rounding / step: both near 1e-9 here.
    assert abs(slope - change) <= 1e-6 * max(1.0, abs(change)), (slope, change)


def assert_gradient_of_argument(run, forward, backward, arguments, number, rng, **settings) -> None:
    """:func:`assert_gradient` of ``forward(*arguments)`` and ``backward(gy, *arguments)`` for one of the arguments."""

    def with_argument(v):
        return run(forward, *arguments[:number], v, *arguments[number + 1 :], **settings)

    assert_gradient(with_argument, lambda gy: run(backward, gy, *arguments, **settings), arguments[number], rng)


def positions(start: int, count: int, apart: int, length: int):
    """The window's elements along one axis that lie inside the image, as (place in the window, position)."""
    return [(i, start + i * apart) for i in range(count) if 0 <= start + i * apart < length]


def windows(shape, out, kernel, stride, padding, dilation):
    """Every window: its output position, and its elements inside the image as (r, s, h, w)."""
    for oh, ow in itertools.product(*map(range, out)):
        rows = positions(oh * stride[0] - padding[0], kernel[0], dilation[0], shape[0])
        columns = positions(ow * stride[1] - padding[1], kernel[1], dilation[1], shape[1])
        yield oh, ow, [(r, s, h, w) for (r, h), (s, w) in itertools.product(rows, columns)]


def conv2d(x, w, b, stride, padding, dilation, groups):
    x, w = np.float64(x), np.float64(w)
    n, _, height, width = x.shape
    k, per_group, kh, kw = w.shape
    size = [
        (length + 2 * p - d * (f - 1) - 1) // s + 1
        for length, p, d, f, s in zip((height, width), padding, dilation, (kh, kw), stride, strict=True)
    ]
    y = np.zeros((n, k, *size))
    for oh, ow, elements in windows((height, width), size, (kh, kw), stride, padding, dilation):
        for out in range(k):
            first = out // (k // groups) * per_group
            for r, s, h, v in elements:
                y[:, out, oh, ow] += x[:, first : first + per_group, h, v] @ w[out, :, r, s]
    return y if b is None else y + np.float64(b)[:, None, None]


def windows_nd(shape, out, kernel, stride, padding, dilation):
    """:func:`windows` over any number of axes: each output position, and the elements as (place, position) pairs."""
    for at in itertools.product(*map(range, out)):
        axes = zip(at, shape, kernel, stride, padding, dilation, strict=True)
        inside = [positions(o * s - p, k, d, n) for o, n, k, s, p, d in axes]
        yield at, [tuple(zip(*element, strict=True)) for element in itertools.product(*inside)]


def each(value, rank):
    return value if isinstance(value, tuple) else (value,) * rank


def conv_nd(x, w, b=None, stride=1, padding=0, dilation=1, groups=1):
    x, w = np.float64(x), np.float64(w)
    kernel, shape = w.shape[2:], x.shape[2:]
    stride, padding, dilation = (each(v, len(kernel)) for v in (stride, padding, dilation))
    axes = zip(shape, padding, dilation, kernel, stride, strict=True)
    out = [(n + 2 * p - d * (f - 1) - 1) // s + 1 for n, p, d, f, s in axes]
    y = np.zeros((len(x), len(w), *out))
    for at, elements in windows_nd(shape, out, kernel, stride, padding, dilation):
        for k in range(len(w)):
            first = k // (len(w) // groups) * w.shape[1]
            seen = x[:, first : first + w.shape[1]]
            for tap, position in elements:
                y[(slice(None), k, *at)] += seen[(..., *position)] @ w[(k, ..., *tap)]
    return y if b is None else y + np.float64(b).reshape(-1, *(1,) * len(kernel))


def conv_transpose(x, w, b=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    """Each element of x spread over its window of an output that is cut to size afterwards."""
    x, w = np.float64(x), np.float64(w)
    kernel, shape = w.shape[2:], x.shape[2:]
    stride, padding, more, dilation = (each(v, len(kernel)) for v in (stride, padding, output_padding, dilation))
    axes = zip(shape, stride, dilation, kernel, more, strict=True)
    full = np.zeros((len(x), w.shape[1] * groups, *((n - 1) * s + d * (f - 1) + 1 + m for n, s, d, f, m in axes)))
    for c in range(x.shape[1]):
        first = c // (x.shape[1] // groups) * w.shape[1]
        for at, tap in itertools.product(np.ndindex(shape), np.ndindex(kernel)):
            place = tuple(i * s + r * d for i, s, r, d in zip(at, stride, tap, dilation, strict=True))
            value = x[(slice(None), c, *at)][:, None] * w[(c, slice(None), *tap)]
            full[(slice(None), slice(first, first + w.shape[1]), *place)] += value
    y = full[(..., *(slice(p, n - p) for p, n in zip(padding, full.shape[2:], strict=True)))]
    return y if b is None else y + np.float64(b).reshape(-1, *(1,) * len(kernel))


def max_pool2d(x, out, kernel, stride, padding, dilation):
    y = np.full((*x.shape[:2], *out), -np.inf)
    place = np.zeros(y.shape, int)
    for oh, ow, elements in windows(x.shape[2:], out, kernel, stride, padding, dilation):
        for n, c in itertools.product(*map(range, x.shape[:2])):
            for number, (r, s, h, w) in enumerate(elements):
                v = x[n, c, h, w]
                if number == 0 or v > y[n, c, oh, ow] or math.isnan(v):
                    y[n, c, oh, ow], place[n, c, oh, ow] = v, r * kernel[1] + s
    return y, place


def avg_pool2d(x, out, kernel, stride, padding, count_include_pad):
    y = np.zeros((*x.shape[:2], *out))
    height, width = x.shape[2:]
    for oh, ow, elements in windows((height, width), out, kernel, stride, padding, (1, 1)):
        top, left = oh * stride[0] - padding[0], ow * stride[1] - padding[1]
        # Positions inside the explicit padding count; what ceil_mode hangs over beyond it does not.
        rows = [h for h in range(top, top + kernel[0]) if h < height + padding[0]]
        columns = [w for w in range(left, left + kernel[1]) if w < width + padding[1]]
        divisor = len(rows) * len(columns) if count_include_pad else len(elements)
        y[:, :, oh, ow] = sum(np.float64(x[:, :, h, w]) for _, _, h, w in elements) / divisor
    return y


def max_pool_nd(x, out, kernel, stride, padding, dilation):
    """The maxima, and their indices in the flattened image."""
    y, index = np.full((*x.shape[:2], *out), -np.inf), np.zeros((*x.shape[:2], *out), int)
    for at, elements in windows_nd(x.shape[2:], out, kernel, stride, padding, dilation):
        for n, c in np.ndindex(x.shape[:2]):
            for number, (_, position) in enumerate(elements):
                v = x[(n, c, *position)]
                if number == 0 or v > y[(n, c, *at)] or math.isnan(v):
                    y[(n, c, *at)], index[(n, c, *at)] = v, np.ravel_multi_index(position, x.shape[2:])
    return y, index


def avg_pool_nd(x, out, kernel, stride, padding, count_include_pad):
    y, shape = np.zeros((*x.shape[:2], *out)), x.shape[2:]
    for at, elements in windows_nd(shape, out, kernel, stride, padding, (1,) * len(out)):
        # Positions inside the explicit padding count; what ceil_mode hangs over beyond it does not.
        starts = [o * s - p for o, s, p in zip(at, stride, padding, strict=True)]
        spans = [min(a + k, n + p) - a for a, k, n, p in zip(starts, kernel, shape, padding, strict=True)]
        total = sum(np.float64(x[(..., *position)]) for _, position in elements)
        y[(..., *at)] = total / (math.prod(spans) if count_include_pad else len(elements))
    return y


def bins(shape, out):
    """Every bin of adaptive pooling: its output position, and its slices of the image."""
    for at in np.ndindex(*out):
        axes = zip(at, shape, out, strict=True)
        yield at, tuple(slice(math.floor(i * n / o), math.ceil((i + 1) * n / o)) for i, n, o in axes)


def local_response_norm(x, size, a, beta, k):
    x = np.float64(x)
    y = np.empty_like(x)
    channels = x.shape[1]
    for c in range(channels):
        first, last = max(0, c - size // 2), min(channels - 1, c + (size - 1) // 2)
        y[:, c] = x[:, c] / (k + a * sum(x[:, j] ** 2 for j in range(first, last + 1))) ** beta
    return y


def batch_norm_statistics(x):
    x = np.float64(x)
    columns = [x[:, c].ravel().tolist() for c in range(x.shape[1])]
    means = [math.fsum(values) / len(values) for values in columns]
    pairs = zip(columns, means, strict=True)
    variances = [math.fsum((v - mean) ** 2 for v in values) / len(values) for values, mean in pairs]
    return np.array(means), np.array(variances)


def batch_norm(x, mean, var, weight, bias, eps):
    y = np.array(x, np.float64)
    for n, c in itertools.product(range(x.shape[0]), range(x.shape[1])):
        y[n, c] = weight[c] * (y[n, c] - mean[c]) / math.sqrt(var[c] + eps) + bias[c]
    return y


def normalize(rows, eps):
    """Each of ``rows`` (rows, elements) less its mean, divided by the root of its biased variance plus eps."""
    y = np.array(rows, np.float64)
    for row in y:
        mean = math.fsum(row) / len(row)
        var = math.fsum((v - mean) ** 2 for v in row) / len(row)
        row[:] = [(v - mean) / math.sqrt(var + eps) for v in row]
    return y


def logistic(x):
    return 0.0 if x < -700 else 1 / (1 + math.exp(-x))


def lstm_cell(gates, c):
    h_next, c_next = np.empty(c.shape), np.empty(c.shape)
    for row, unit in np.ndindex(c.shape):
        i, f, g, o = np.float64(gates[row]).reshape(4, -1)[:, unit]
        c_next[row, unit] = logistic(f) * float(c[row, unit]) + logistic(i) * math.tanh(g)
        h_next[row, unit] = logistic(o) * math.tanh(c_next[row, unit])
    return np.stack([h_next, c_next])


def gru_cell(x_gates, h_gates, h):
    y = np.empty(h.shape)
    for row, unit in np.ndindex(h.shape):
        (xr, xz, xn), (hr, hz, hn) = (np.float64(a[row]).reshape(3, -1)[:, unit] for a in (x_gates, h_gates))
        z, n = logistic(xz + hz), math.tanh(xn + logistic(xr + hr) * hn)
        y[row, unit] = (1 - z) * n + z * float(h[row, unit])
    return y


def gru_cell_reset_before(x_gates, h, w_hh, b_hh):
    """The candidate sees the product of r h, not r times the product of h."""
    y, hidden = np.empty(h.shape), h.shape[1]
    for row in range(len(h)):
        state = np.float64(h[row])
        xr, xz, xn = np.float64(x_gates[row]).reshape(3, -1)
        (wr, wz, wn), (br, bz, bn) = w_hh.reshape(3, hidden, hidden), b_hh.reshape(3, hidden)
        r = np.array([logistic(v) for v in xr + wr @ state + br])
        z = np.array([logistic(v) for v in xz + wz @ state + bz])
        y[row] = (1 - z) * np.tanh(xn + wn @ (r * state) + bn) + z * state
    return y


def recurrence(kind, x, state, w_ih, w_hh, b_ih, b_hh):
    """A sequence x (T, in) through "tanh", "relu", "lstm", "gru" or "gru before", step by step: every h, last state."""
    h, rows = np.float64(state[0])[None], []
    c = np.float64(state[-1])[None]
    for step in x:
        of_x, of_h = (w_ih @ step + b_ih)[None], (w_hh @ h[0] + b_hh)[None]
        if kind in ("tanh", "relu"):
            h = np.tanh(of_x + of_h) if kind == "tanh" else np.maximum(of_x + of_h, 0)
        elif kind == "lstm":
            h, c = lstm_cell(of_x + of_h, c)
        else:
            h = gru_cell(of_x, of_h, h) if kind == "gru" else gru_cell_reset_before(of_x, h, w_hh, b_hh)
        rows.append(h[0])
    return np.array(rows), np.concatenate([h, c] if kind == "lstm" else [h])
