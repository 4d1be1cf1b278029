import numpy as np
import pytest

from gpunn import cuda
from gpunn.cuda.launch import index_type, takes
from gpunn.ops import conv, lrn, pool


def test_only_emulated_numpy_arrays_of_the_kernels_dtypes_are_taken():
    x = np.ones(3, np.float32)
    assert not takes(x)
    with cuda.emulate():
        assert takes(x)
        assert takes(x.astype(np.float64))
        assert not takes(x.astype(np.float16))
        with cuda.emulate(check=True):
            assert takes(x)
        assert takes(x)
    assert not takes(x)


def test_index_is_wide_before_it_can_overflow():
    assert index_type(5) == "int"
    assert index_type(5, 2**31 - 2**23) == "long long"


def steps(x, w, gy):
    """Every kernel of the library once."""
    y, place = pool.max_pool2d(x, 3, 2, 1)
    return (
        conv.conv2d(x, w, padding=1),
        conv.conv2d_backward_x(gy, w, x.shape, padding=1),
        conv.conv2d_backward_w(gy, x, w.shape, padding=1),
        y,
        pool.max_pool2d_backward(y, place, x.shape, 3, 2, 1),
        pool.avg_pool2d(x, 3, 2, 1, True),
        pool.avg_pool2d_backward(pool.avg_pool2d(x, 3, 2), x.shape, 3, 2),
        lrn.local_response_norm(x, 5, 0.5),
        lrn.local_response_norm_backward(x, x, 5, 0.5),
    )


@pytest.fixture
def arrays(rng):
    return tuple(rng.standard_normal(s).astype(np.float32) for s in ((2, 5, 9, 7), (3, 5, 3, 3), (2, 3, 9, 7)))


@pytest.mark.parametrize("order", ["reverse", *range(20)])
def test_every_order_of_threads_gives_the_same_bits(arrays, order):
    with cuda.emulate():
        expected = steps(*arrays)
    with cuda.emulate(order=order):
        for actual, wanted in zip(steps(*arrays), expected, strict=True):
            np.testing.assert_array_equal(actual, wanted)


def test_every_kernel_is_clean_under_check(arrays):
    with cuda.emulate(check=True):
        checked = steps(*arrays)
    for actual, wanted in zip(checked, steps(*arrays), strict=True):
        np.testing.assert_allclose(actual, wanted, rtol=1e-5, atol=1e-5)


def test_a_thread_has_its_own_emulation():
    import threading

    seen = []
    with cuda.emulate():
        thread = threading.Thread(target=lambda: seen.append(takes(np.ones(1, np.float32))))
        thread.start()
        thread.join()
    assert seen == [False]


@pytest.mark.gpu
def test_two_runs_on_the_gpu_give_the_same_bits(arrays):
    from gpunn import backend

    there = [backend.to_gpu(a) for a in arrays]
    for first, second, wanted in zip(steps(*there), steps(*there), steps(*arrays), strict=True):
        np.testing.assert_array_equal(backend.to_cpu(first), backend.to_cpu(second))
        np.testing.assert_allclose(backend.to_cpu(first), wanted, rtol=1e-4, atol=1e-4)
