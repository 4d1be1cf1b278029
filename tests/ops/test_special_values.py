"""Element-wise functions at NaN, the infinities and the zeros: forward and gradient, as stated here and as PyTorch's.

A gradient of 0 at NaN would hide it: of PyTorch's slopes those are the ones that are not taken over, and those that are
NaN where the slope has a limit.
"""

import math

import numpy as np
import pytest

from gpunn import functional as F
from gpunn import tensor
from gpunn.backend import get_array_module, to_gpu
from gpunn.ops.array import math as elementwise
from gpunn.ops.loss import margin as margin_loss
from gpunn.ops.norm import batch as batch_norm

INF, NAN = math.inf, math.nan
X = np.array([-INF, -2.0, -0.0, 0.0, 2.0, INF, NAN])
S = 1 / (1 + math.exp(2))  # sigmoid(-2)
T = 1 - math.tanh(2) ** 2
PHI, DENSITY = math.erfc(2 / math.sqrt(2)) / 2, math.exp(-2) / math.sqrt(2 * math.pi)
E = math.exp(-2)
SCALE, ALPHA = 1.0507009873554805, 1.6732632423543772

# name: (gpunn's, PyTorch's, the results at X, the slopes at X)
ONE = {
    "relu": (F.relu, lambda t, x: t.relu(x), [0, 0, 0, 0, 2, INF, NAN], [0, 0, 0, 0, 1, 1, 1]),
    "leaky_relu": (lambda x: F.leaky_relu(x, 0.5), lambda t, x: t.nn.functional.leaky_relu(x, 0.5),
                   [-INF, -1, 0, 0, 2, INF, NAN], [0.5, 0.5, 0.5, 0.5, 1, 1, 0.5]),
    "hardsigmoid": (F.hardsigmoid, lambda t, x: t.nn.functional.hardsigmoid(x),
                    [0, 1 / 6, 0.5, 0.5, 5 / 6, 1, NAN], [0, 1 / 6, 1 / 6, 1 / 6, 1 / 6, 0, 1 / 6]),
    "sigmoid": (F.sigmoid, lambda t, x: t.sigmoid(x),
                [0, S, 0.5, 0.5, 1 - S, 1, NAN], [0, S - S * S, 0.25, 0.25, S - S * S, 0, NAN]),
    "tanh": (F.tanh, lambda t, x: t.tanh(x), [-1, -math.tanh(2), 0, 0, math.tanh(2), 1, NAN], [0, T, 1, 1, T, 0, NAN]),
    "silu": (F.silu, lambda t, x: t.nn.functional.silu(x), [0, -2 * S, 0, 0, 2 - 2 * S, INF, NAN],
             [0, S - 2 * (S - S * S), 0.5, 0.5, 1 - S + 2 * (S - S * S), 1, NAN]),
    "gelu": (F.gelu, lambda t, x: t.nn.functional.gelu(x), [0, -2 * PHI, 0, 0, 2 - 2 * PHI, INF, NAN],
             [0, PHI - 2 * DENSITY, 0.5, 0.5, 1 - PHI + 2 * DENSITY, 1, NAN]),
    "softplus": (F.softplus, lambda t, x: t.nn.functional.softplus(x),
                 [0, math.log1p(E), math.log(2), math.log(2), 2 + math.log1p(E), INF, NAN],
                 [0, S, 0.5, 0.5, 1 - S, 1, NAN]),
    "elu": (F.elu, lambda t, x: t.nn.functional.elu(x), [-1, E - 1, 0, 0, 2, INF, NAN], [0, E, 1, 1, 1, 1, NAN]),
    "selu": (F.selu, lambda t, x: t.nn.functional.selu(x),
             [-SCALE * ALPHA, SCALE * ALPHA * (E - 1), 0, 0, 2 * SCALE, INF, NAN],
             [0, SCALE * ALPHA * E, SCALE * ALPHA, SCALE * ALPHA, SCALE, SCALE, NAN]),
    "exp": (F.exp, lambda t, x: t.exp(x), [0, E, 1, 1, math.exp(2), INF, NAN], [0, E, 1, 1, math.exp(2), INF, NAN]),
    "log": (F.log, lambda t, x: t.log(x), [NAN, NAN, -INF, -INF, math.log(2), INF, NAN],
            [0, -0.5, -INF, INF, 0.5, 0, NAN]),
    "sqrt": (F.sqrt, lambda t, x: t.sqrt(x), [NAN, NAN, 0, 0, math.sqrt(2), INF, NAN],
             [NAN, NAN, -INF, INF, 0.5 / math.sqrt(2), 0, NAN]),
    "abs": (F.abs, lambda t, x: t.abs(x), [INF, 2, 0, 0, 2, INF, NAN], [-1, -1, 0, 0, 1, 1, NAN]),
    "clip": (lambda x: F.clip(x, -1, 2), lambda t, x: t.clamp(x, -1, 2), [-1, -1, 0, 0, 2, 2, NAN],
             [0, 0, 1, 1, 1, 0, 1]),
    "clip below": (lambda x: F.clip(x, min=0), lambda t, x: t.clamp(x, min=0), [0, 0, 0, 0, 2, INF, NAN],
                   [0, 0, 1, 1, 1, 1, 1]),
    "clip above": (lambda x: F.clip(x, max=0), lambda t, x: t.clamp(x, max=0), [-INF, -2, 0, 0, 0, 0, NAN],
                   [1, 1, 1, 1, 0, 0, 1]),
    "square": (lambda x: x**2, lambda t, x: x**2, [INF, 4, 0, 0, 4, INF, NAN], [-INF, -4, 0, 0, 4, INF, NAN]),
    "reciprocal": (lambda x: x**-1, lambda t, x: x**-1, [0, -0.5, -INF, INF, 0.5, 0, NAN],
                   [0, -0.25, -INF, -INF, -0.25, 0, NAN]),
    "to the 0": (lambda x: x**0, lambda t, x: x**0, [1] * 7, [0] * 7),
}  # fmt: skip

A = np.array([1.0, 2.0, 1.0, INF, -INF, 0.0, NAN, 1.0, NAN, NAN, INF])
B = np.array([2.0, 1.0, 1.0, INF, INF, -0.0, 1.0, NAN, NAN, INF, NAN])

# name: (gpunn's, PyTorch's, the results at (A, B), the slopes of A, the slopes of B)
TWO = {
    "maximum": (F.maximum, lambda t, a, b: t.maximum(a, b), [2, 2, 1, INF, INF, 0, *[NAN] * 5],
                [0, 1, 0.5, 0.5, 0, 0.5, *[1] * 5], [1, 0, 0.5, 0.5, 1, 0.5, *[1] * 5]),
    "minimum": (F.minimum, lambda t, a, b: t.minimum(a, b), [1, 1, 1, INF, -INF, 0, *[NAN] * 5],
                [1, 0, 0.5, 0.5, 1, 0.5, *[1] * 5], [0, 1, 0.5, 0.5, 0, 0.5, *[1] * 5]),
}  # fmt: skip


def both_ways(function, *xs):
    leaves = [tensor(x, requires_grad=True) for x in xs]
    with np.errstate(all="ignore"):  # roots and logarithms outside their range
        y = function(*leaves)
        y.backward(get_array_module(y.data).ones(y.shape, y.dtype))
    return y.data, *(leaf.grad for leaf in leaves)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("name", ONE)
def test_functions_of_one_array(run, name, dtype):
    ours, _, *wanted = ONE[name]
    for actual, right in zip(run(lambda x: both_ways(ours, x), X.astype(dtype)), wanted, strict=True):
        np.testing.assert_allclose(actual, right, rtol=4 * np.finfo(dtype).eps, atol=4 * np.finfo(dtype).eps)


@pytest.mark.parametrize("name", TWO)
def test_functions_of_two_arrays(run_xp, name):
    ours, _, *wanted = TWO[name]
    np.testing.assert_array_equal(run_xp(lambda a, b: both_ways(ours, a, b), A, B), wanted)


def test_to_the_0_is_a_constant(run_xp):
    y, slope, _ = run_xp(lambda x, n: both_ways(lambda x, n: x**n, x, n), X, np.zeros(7))
    np.testing.assert_array_equal(y, np.ones(7))
    np.testing.assert_array_equal(slope, np.zeros(7))


def test_the_relu_of_a_batch_norm_passes_nan_on(run):
    x, mean, var = np.array([[[NAN]], [[-1.0]], [[1.0]]]), np.zeros(1), np.ones(1)
    gx, _, gb = run(batch_norm.batch_norm_backward, np.ones((3, 1, 1)), x, mean, var, relu=True, training=False)
    assert np.isnan(gx[0])
    assert gb == 2


def test_the_margin_of_a_loss_does_not_hide_nan(run_xp):
    near = run_xp(margin_loss.hinge_embedding_loss_backward, np.ones(1), np.array([NAN]), np.array([-1]), 1.0, "none")
    assert near.tolist() == [-1]
    x, one = np.array([[NAN, 1.0], [1.0, NAN]]), np.array([0, 0])
    gx = run_xp(margin_loss.multi_margin_loss_backward, np.ones(2), x, one, reduction="none")
    np.testing.assert_array_equal(gx, [[-0.5, 0.5], [-0.5, 0.5]])


@pytest.mark.gpu
def test_on_cupy_the_sign_of_nan_is_nan():
    x, gy = map(to_gpu, (X, np.ones(7)))
    np.testing.assert_array_equal(elementwise.abs_backward(gy, x).get(), [-1, -1, 0, 0, 1, 1, NAN])


def pytorch_both_ways(theirs, *xs):
    torch = pytest.importorskip("torch")
    leaves = [torch.tensor(x, requires_grad=True) for x in xs]
    expected = theirs(torch, *leaves)
    expected.sum().backward()
    return [expected.detach().numpy(), *(leaf.grad.numpy() for leaf in leaves)]


@pytest.mark.peer
@pytest.mark.parametrize("name", ONE)
def test_functions_of_one_array_match_pytorch(name):
    ours, theirs, *_ = ONE[name]
    (y, gx), (expected, slopes) = both_ways(ours, X), pytorch_both_ways(theirs, X)
    for actual, right in ((y, expected), (gx[:-1], slopes[:-1])):
        no_limit = ~np.isnan(right) | np.isnan(y[: len(right)])
        np.testing.assert_allclose(actual[no_limit], right[no_limit], rtol=1e-6, atol=1e-12)
    assert gx[-1] == slopes[-1] or slopes[-1] == 0 or np.isnan(gx[-1])


@pytest.mark.peer
@pytest.mark.parametrize("name", TWO)
def test_functions_of_two_arrays_match_pytorch(name):
    ours, theirs, *_ = TWO[name]
    np.testing.assert_array_equal(both_ways(ours, A, B), pytorch_both_ways(theirs, A, B))
