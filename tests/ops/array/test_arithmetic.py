import array_case
import numpy as np
import pytest
from array_case import Case

from gpunn import functional as F
from gpunn import tensor
from gpunn.errors import DtypeError, ShapeError


def draw_pair(rng):
    return [array_case.distinct(rng, shape) for shape in array_case.broadcast_pair(rng)], {}


def draw_powers(rng):
    """A positive base to any exponent."""
    (a, b), _ = draw_pair(rng)
    return [abs(a) + 0.1, b], {}


def draw_number(rng):
    x = abs(array_case.distinct(rng, array_case.shape(rng))) + 0.1
    return [x], {"number": [0, 1, 2, -1, 0.5, 2.5][rng.integers(6)]}


def draw_matrices(rng):
    n, k, m = map(int, rng.integers(1, 5, 3))
    kind = rng.integers(4)
    before = [[(), ()], [(3,), ()], [(1, 2), (3, 1)], [(2,), (2,)]][rng.integers(4)]
    left, right = (*before[0], n, k), (*before[1], k, m)
    shapes = [(left, right), ((k,), right), (left, (k,)), ((k,), (k,))][kind]
    return [array_case.distinct(rng, shape) for shape in shapes], {}


def broadcast(function):
    """``function`` of two numbers, at every place of the shape that both broadcast to."""

    def loop(a, b):
        a, b = np.broadcast_arrays(a, b)
        y = np.empty(a.shape)
        for place in np.ndindex(a.shape):
            y[place] = function(float(a[place]), float(b[place]))
        return y

    return loop


def matmul_loop(a, b):
    rows, columns = a if a.ndim > 1 else a[None], b if b.ndim > 1 else b[:, None]
    before = np.broadcast_shapes(rows.shape[:-2], columns.shape[:-2])
    left, right = (np.broadcast_to(m, (*before, *m.shape[-2:])) for m in (rows, columns))
    y = np.zeros((*before, rows.shape[-2], columns.shape[-1]))
    for place in np.ndindex(y.shape):
        *batch, i, j = place
        y[place] = sum(
            float(p) * float(q) for p, q in zip(left[(*batch, i)], right[(*batch, slice(None), j)], strict=True)
        )
    y = y if a.ndim > 1 else y[..., 0, :]
    return y if b.ndim > 1 else y[..., 0]


def operator(draw, function):
    return Case(draw, function, broadcast(function), lambda t, a, b: function(a, b))


CASES = {
    "add": operator(draw_pair, lambda a, b: a + b),
    "subtract": operator(draw_pair, lambda a, b: a - b),
    "multiply": operator(draw_pair, lambda a, b: a * b),
    "divide": operator(draw_powers, lambda a, b: b / a),
    "power of a tensor": operator(draw_powers, lambda a, b: a**b),
    "power of a number": Case(
        draw_number, lambda x, number: x**number, lambda x, number: x**number, lambda t, x, number: x**number
    ),
    "number to a power": Case(
        draw_number,
        lambda x, number: abs(number) ** x,
        lambda x, number: abs(number) ** x,
        lambda t, x, number: abs(number) ** x,
    ),
    "matmul": Case(draw_matrices, F.matmul, matmul_loop, lambda t, a, b: t.matmul(a, b)),
}
(
    test_forward_is_the_naive_loop,
    test_backward_is_the_directional_difference,
    test_gradients_keep_the_dtype,
    test_matches_pytorch,
) = array_case.tests_of(CASES)


def test_powers_at_zero_and_of_negative_numbers(run_xp):
    def gradients(x, n):
        base, exponent = tensor(x, requires_grad=True), tensor(n, requires_grad=True)
        (base**exponent).sum().backward()
        return base.grad, exponent.grad

    base, exponent = run_xp(gradients, np.array([0.0, 0, 0, -2, -2]), np.array([0.0, 1, 2, 2, 3]))
    np.testing.assert_array_equal(base, [0, 1, 0, -4, 12])
    np.testing.assert_array_equal(exponent, [0, 0, 0, np.nan, np.nan])


def test_powers_of_integers_stay_integers():
    assert (tensor([1, 2, 3]) ** 2).data.tolist() == [1, 4, 9]
    assert (tensor([1, 2, 3]) ** 2).dtype == np.int64
    with pytest.raises(DtypeError, match="power: operands must have one dtype, got a='int64', b='float32'"):
        tensor([1, 2]) ** 0.5


def test_empty_and_single_elements(run_xp):
    assert run_xp(lambda a, b: F.matmul(a, b), np.zeros((0, 3)), np.ones((3, 2))).shape == (0, 2)
    assert run_xp(lambda a, b: F.matmul(a, b), np.zeros((2, 0)), np.ones((0, 2))).tolist() == [[0, 0], [0, 0]]
    leaf = tensor(np.zeros((0, 3)), requires_grad=True)
    (leaf @ np.ones((3, 2))).sum().backward()
    assert leaf.grad.shape == (0, 3)
    assert (tensor(2.0) * 3 + 1).data.shape == ()


def test_plain_arrays_in_plain_arrays_out():
    y = F.matmul(np.ones(3, np.float32), np.ones(3, np.float32))
    assert isinstance(y, np.ndarray)
    assert (y.dtype, y.shape, y.item()) == (np.float32, (), 3)
    assert (np.ones((1, 2)) @ tensor(np.ones((2, 1)))).item() == 2


def test_errors_name_rule_and_values():
    a, b = np.ones((2, 3)), np.ones((2, 3))
    with pytest.raises(ShapeError, match=r"matmul: the inner dimensions must agree, got a=\(2, 3\), b=\(2, 3\)"):
        F.matmul(a, b)
    with pytest.raises(ShapeError, match=r"the axes before the last two must broadcast, got a=\(2, 1, 1\), b=\(3, 1"):
        F.matmul(np.ones((2, 1, 1)), tensor(np.ones((3, 1, 1))))
    with pytest.raises(ShapeError, match=r"matmul: the inner dimensions must agree, got a=\(2, 3\), b=\(\)"):
        tensor(a) @ 2.0
    with pytest.raises(DtypeError, match="matmul: operands must have one dtype, got a='float64', b='float32'"):
        F.matmul(a, b.T.astype(np.float32))
    with pytest.raises(DtypeError, match="multiply: operands must have one dtype, got a='bool', b='int64'"):
        (tensor(a) > 0) * 2
