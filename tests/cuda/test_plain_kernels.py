"""The plain kernels, which stand in comments of the kernel files, compute what the library's own do."""

import re

import numpy as np
import oracles
import pytest
from planned import conv, global_pool, lrn, pooling

from gpunn import backend, cuda
from gpunn.cuda import source
from gpunn.cuda.emulator import RawKernel

_COMMENT = re.compile(r"^// The plain kernel\b.*:\n//\n((?://   .*\n)+)//\n", re.M)


def run_plain(file, *args, threads):
    """Run the kernel that stands in the comment of ``file``; integers and floats are passed as CUDA's."""
    text = (source.kernels_folder() / file).read_text(encoding="utf-8")
    (comment,) = _COMMENT.findall(text)
    code = re.sub(r"^//   ", "", comment, flags=re.M).replace("__global__", 'extern "C" __global__')
    (name,) = source.kernel_names(code)
    as_cuda = {int: np.int32, float: np.float32}
    args = [as_cuda[type(a)](a) if type(a) in as_cuda else a for a in args]
    RawKernel(code, name, filename=file, check=True)((-(-threads // 64),), (64,), tuple(args))


def numbers(rng, *shapes):
    return [rng.standard_normal(shape).astype(np.float32) for shape in shapes]


def assert_conv(file, x, w, b, sizes, stride, padding, dilation, groups):
    """The plain kernel takes the arrays, ``sizes``, those of the window and of y, and the settings."""
    with cuda.emulate():
        wanted = conv.conv2d(x, w, b, stride, padding, dilation, groups)
    y = np.empty_like(wanted)
    run_plain(file, x, w, b, y, *sizes, *w.shape[2:], *y.shape[2:], *stride, *padding, *dilation, threads=y.size)
    oracles.assert_close(y, wanted, terms=w[0].size)


CASES = [((2, 2), (1, 2), (2, 1)), ((1, 3), (2, 0), (1, 1))]


@pytest.mark.parametrize(("stride", "padding", "dilation"), CASES)
def test_conv(stride, padding, dilation, rng):
    x, w, b = numbers(rng, (2, 6, 9, 7), (4, 3, 3, 2), 4)
    assert_conv("conv.cu", x, w, b, (2, *x.shape, 4), stride, padding, dilation, groups=2)


@pytest.mark.parametrize(("stride", "padding", "dilation"), CASES)
def test_conv_depthwise(stride, padding, dilation, rng):
    x, w, b = numbers(rng, (2, 3, 9, 7), (6, 1, 3, 2), 6)
    assert_conv("conv_depthwise.cu", x, w, b, (*x.shape, 2), stride, padding, dilation, groups=3)


def test_conv_mma(rng):
    x, w, b = numbers(rng, (2, 9, 9, 7), (4, 9, 3, 2), 4)
    with cuda.emulate(), backend.matmul_precision("bf16"):
        wanted = conv.conv2d(x, w, b, (2, 1), (1, 2))
    y = np.empty_like(wanted)
    run_plain("conv_mma.cu", x, w, b, y, *x.shape, 4, 3, 2, *y.shape[2:], 2, 1, 1, 2, threads=y.size)
    oracles.assert_close(y, wanted, terms=54)


@pytest.mark.parametrize(("stride", "padding", "dilation"), [((2, 2), (1, 1), (1, 2)), ((1, 3), (1, 0), (2, 1))])
def test_pool(stride, padding, dilation, rng):
    x = rng.integers(-2, 3, (2, 3, 9, 8)).astype(np.float32)  # ties
    x[0, 0, 3:5, 3:5], x[1, 1, 4, 4] = -np.inf, np.nan
    with cuda.emulate():
        wanted = pooling.max_pool2d(x, (3, 2), stride, padding, dilation)
    y, place = map(np.empty_like, wanted)
    sizes = (6, 9, 8, 3, 2, *y.shape[2:], *stride, *padding, *dilation)
    run_plain("pool.cu", x, y, place, *sizes, threads=y.size)
    np.testing.assert_array_equal(y, wanted[0])
    np.testing.assert_array_equal(place, wanted[1])


def test_global_pool(rng):
    x = rng.integers(-2, 3, (3, 2, 5, 7)).astype(np.float32)
    x[0, 0, 2, 2:4], x[0, 1] = np.nan, -np.inf
    with cuda.emulate():
        average, (most, place) = global_pool.global_avg_pool2d(x), global_pool.global_max_pool2d(x)
    found = [np.empty_like(a) for a in (average, most, place)]
    run_plain("global_pool.cu", x, *found, 6, 35, threads=6)
    np.testing.assert_allclose(found[0], average, rtol=1e-5)
    np.testing.assert_array_equal(found[1], most)
    np.testing.assert_array_equal(found[2], place)


@pytest.mark.parametrize(("size", "beta"), [(5, 0.75), (4, 0.6)])
def test_lrn(size, beta, rng):
    (x,) = numbers(rng, (2, 7, 3, 5))
    with cuda.emulate():
        wanted = lrn.local_response_norm(x, size, 0.5, beta, 2.0)
    y = np.empty_like(x)
    run_plain("lrn.cu", x, y, 2, 7, 15, size, 0.5 / size, beta, 2.0, threads=y.size)
    oracles.assert_close(y, wanted, terms=size)
