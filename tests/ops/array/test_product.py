import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpunn import cuda, nn, tensor
from gpunn import functional as F
from gpunn.cpu import onednn
from gpunn.cuda.capture import rehearsing
from gpunn.ops.array import product_onednn
from gpunn.ops.array.product import of_stacks, product
from gpunn.ops.linear.affine import linear, linear_backward_w, linear_backward_x

SHAPES = [(1, 1, 1), (2, 3, 4), (65, 17, 129), (7, 200, 1), (1, 33, 64), (0, 3, 2), (3, 0, 2), (3, 2, 0)]


def laid_out(a, layout):
    """a, contiguous, or its matrices as the transpose of what is, or with gaps, or with the last axis first."""
    if layout == "transposed":
        return np.ascontiguousarray(a.swapaxes(-1, -2)).swapaxes(-1, -2)
    if layout == "last first":
        return np.asfortranarray(a)
    return np.repeat(a, 2, axis=-1)[..., ::2] if layout == "gaps" else a


@pytest.fixture
def launched(monkeypatch):
    """The names of the kernels that are launched."""
    names, launch = [], cuda.launch
    monkeypatch.setattr(cuda, "launch", lambda file, kernel, *rest: (names.append(kernel), launch(file, kernel, *rest)))
    return names


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_captured_product_is_that_of_numpy(shape, dtype, rng, launched):
    n, k, m = shape
    a, b = rng.standard_normal((n, k)).astype(dtype), rng.standard_normal((k, m)).astype(dtype)
    expected = a.astype(np.float64) @ b.astype(np.float64)
    for first in ("plain", "transposed", "gaps"):
        for second in ("plain", "transposed", "gaps"):
            with cuda.emulate(), rehearsing():
                y = product(laid_out(a, first), laid_out(b, second))
                out = np.full((n, m), np.nan, dtype)
                assert product(laid_out(a, first), laid_out(b, second), out) is out
            assert (y.shape, y.dtype) == ((n, m), dtype)
            np.testing.assert_array_equal(out, y)
            oracles.assert_close(y, expected, max(1, k))
    wanted = {"conv2d_forward", "conv2d_backward_x", "conv2d_backward_w"} if min(shape) > 1 else set()
    assert set(launched) >= wanted


def test_outside_of_captures_and_for_half_precision_no_kernel_is_launched(launched):
    with cuda.emulate():
        product(np.ones((2, 3), np.float32), np.ones((3, 4), np.float32))
        with rehearsing():
            product(np.ones((2, 3), np.float16), np.ones((3, 4), np.float16))
    with rehearsing():
        product(np.ones((2, 3), np.float32), np.ones((3, 4), np.float32))
    assert launched == []


@pytest.mark.parametrize("rows", [(5,), (), (3, 0), (2, 3)], ids=str)
def test_a_captured_linear_layer_and_its_gradients(rows, rng, launched):
    x, gy = rng.standard_normal((*rows, 7)).astype(np.float32), rng.standard_normal((*rows, 4)).astype(np.float32)
    w, b = rng.standard_normal((4, 7)).astype(np.float32), rng.standard_normal(4).astype(np.float32)
    calls = (lambda: linear(x, w, b), lambda: linear_backward_x(gy, w), lambda: linear_backward_w(gy, x))
    with cuda.emulate(), rehearsing():
        captured = [call() for call in calls]
    for actual, call, terms in zip(captured, calls, (7, 4, max(1, len(x.reshape(-1, 7)))), strict=True):
        oracles.assert_close(actual, call(), terms)
    assert bool(launched) == (0 not in rows)


@pytest.mark.parametrize("function", ["matmul", "conv1x1"])
def test_gradients_of_captured_products_are_directional_differences(function, rng, launched):
    a, b = rng.standard_normal((5, 3)), rng.standard_normal((3, 4))
    if function == "conv1x1":
        a, b = rng.standard_normal((2, 3, 4, 5)), rng.standard_normal((6, 3, 1, 1))
    compute = {"matmul": F.matmul, "conv1x1": F.conv2d}[function]

    def backward(gy):
        leaf = tensor(a, requires_grad=True)
        with cuda.emulate(), rehearsing():
            compute(leaf, tensor(b)).backward(gy)
        return leaf.grad

    def forward(v):
        with cuda.emulate(), rehearsing():
            return compute(v, b)

    oracles.assert_gradient(forward, backward, a, rng)
    oracles.assert_close(forward(a), compute(a, b), 3)
    assert launched


@pytest.mark.parametrize("layer", [nn.RNN, nn.LSTM, nn.GRU, lambda *a, **k: nn.GRU(*a, reset_after=False, **k)])
def test_captured_recurrent_layers(layer, rng, launched):
    from gpunn.backend import random_generator

    x, results = rng.standard_normal((6, 3, 5)).astype(np.float32), []
    for captured in (False, True):
        module = layer(5, 4, generator=random_generator(0))
        leaf = tensor(x, requires_grad=True)
        with cuda.emulate():
            if captured:
                with rehearsing():
                    module(leaf)[0].sum().backward()
            else:
                module(leaf)[0].sum().backward()
        results.append([leaf.grad, *(p.grad for p in module.parameters())])
    for plain, other in zip(*results, strict=True):
        oracles.assert_close(other, plain, 200)
    assert "conv2d_forward" in launched


# ---- oneDNN ---------------------------------------------------------------------------------------------------------

SIZES = st.integers(1, 9)
LAYOUTS = st.sampled_from(["plain", "transposed", "gaps", "last first"])
STACKS = st.sampled_from([((), ()), ((3,), (3,)), ((2, 1), (4,)), ((), (2, 3))])
needs_library = pytest.mark.skipif(onednn.found()[0] is None, reason=onednn.found()[1])


@needs_library
@given(st.tuples(SIZES, SIZES, SIZES), STACKS, st.tuples(LAYOUTS, LAYOUTS, LAYOUTS), st.integers(0, 99))
@settings(deadline=None)
def test_stacks_in_any_order_of_memory_by_onednn(sizes, stacks, layouts, seed):
    rng, (n, k, m) = np.random.default_rng(seed), sizes
    a = rng.standard_normal((*stacks[0], n, k), dtype=np.float32)
    b = rng.standard_normal((*stacks[1], k, m), dtype=np.float32)
    wanted = a.astype(float) @ b
    out = laid_out(np.empty(wanted.shape, np.float32), layouts[2])
    a, b = laid_out(a, layouts[0]), laid_out(b, layouts[1])
    np.testing.assert_allclose(product_onednn.multiply(a, b), wanted, rtol=1e-5, atol=1e-5)
    assert product_onednn.multiply(a, b, out) is out
    np.testing.assert_allclose(out, wanted, rtol=1e-5, atol=1e-5)


@needs_library
def test_only_large_products_of_matrices_of_float32_are_onednns():
    large, small = np.ones((256, 256), np.float32), np.ones((64, 64), np.float32)
    assert product_onednn.takes(large, large)
    assert not product_onednn.takes(small, small)
    assert not product_onednn.takes(large.astype(float), large.astype(float))
    assert not product_onednn.takes(large, large.astype(float))
    assert not product_onednn.takes(np.ones((1, 1 << 22), np.float32), np.ones(1 << 22, np.float32))
    assert not product_onednn.takes(np.ones((1 << 22, 0), np.float32), np.ones((0, 1 << 22), np.float32))
    np.testing.assert_array_equal(of_stacks(large, large), 256)
    deep = large.reshape((1,) * 11 + large.shape)  # oneDNN has 12 axes
    np.testing.assert_array_equal(of_stacks(deep, large), np.full(deep.shape, 256))
    long = np.ones((1 << 20, 8), np.float32)
    assert not product_onednn.takes(long, np.ones((8, 1), np.float32))
    assert not product_onednn.takes(np.ones((1, 1 << 20), np.float32), long)
