"""Convolutions by wgmma and tensor maps: emulated for sm_90a, and on GPUs of compute capability 9.0."""

import numpy as np
import pytest
from conv_case import ConvCase
from planned import conv

from gpunn import backend, cuda
from gpunn.errors import ArgumentError

BFLOAT16 = backend.half_dtype("test", "bf16")
CASES = {
    "one image": ConvCase((1, 32, 9, 7), (33, 32, 3, 3), padding=(1, 1)),
    "strides": ConvCase((2, 40, 12, 19), (70, 40, 3, 2), stride=(2, 3), padding=(0, 1)),
    "two tiles of filters, no bias": ConvCase((1, 72, 5, 4), (140, 72, 1, 2), bias=False),
    "padding alone beside the image": ConvCase((1, 32, 2, 2), (32, 32, 4, 4), padding=(3, 3)),
}


def arrays(case, rng, dtype=np.float32):
    return [
        None if shape is None else rng.standard_normal(shape).astype(dtype)
        for shape in (case.x, case.w, case.w[:1] if case.bias else None)
    ]


def computed(case, x, w, b, relu=False):
    """y, and the kernel files that were launched."""
    files, launch = [], cuda.launch
    with pytest.MonkeyPatch.context() as patch, backend.matmul_precision("bf16"):
        patch.setattr(cuda, "launch", lambda file, *rest: (files.append(file), launch(file, *rest)))
        function = conv.conv2d_bias_relu if relu else conv.conv2d
        return function(x, w, b, **case.settings()), files


def rounded(x):
    return None if x is None else x.astype(BFLOAT16).astype(np.float64)


def check_values(case, y, x, w, b):
    """The operands are rounded to bf16, the sums are not: what is left are float32's roundings, of sums as long."""
    b = b if b is None else b.astype(np.float64)
    exact = conv.conv2d(rounded(x), rounded(w), b, **case.settings())
    scale = conv.conv2d(abs(rounded(x)), abs(rounded(w)), b if b is None else abs(b), **case.settings())
    assert (abs(y - exact) <= 1e-6 * scale).all()


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_values(case, rng):
    x, w, b = arrays(case, rng)
    with cuda.emulate():
        y, files = computed(case, x, w, b)
    assert files[-1] == "conv_hopper.cu"
    check_values(case, y, x, w, b)


@pytest.mark.gpu
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_on_a_gpu(case, rng):
    import cupy

    x, w, b = arrays(case, rng)
    y, files = computed(case, *(a if a is None else cupy.asarray(a) for a in (x, w, b)))
    assert ("conv_hopper.cu" in files) == (cupy.cuda.Device().compute_capability == "90")
    check_values(case, y.get(), x, w, b)


@pytest.mark.parametrize("dtype", [np.float32, BFLOAT16])
def test_relu_and_dtypes(dtype, rng):
    case = CASES["one image"]
    x, w, b = arrays(case, rng, dtype)
    with cuda.emulate():
        y, files = computed(case, x, w, b)
        cut, _ = computed(case, x, w, b, relu=True)
    with cuda.emulate(arch="sm_90"):
        other, others = computed(case, x, w, b)
    assert (files[-1], others[-1]) == ("conv_hopper.cu", "conv_mma.cu")
    assert y.dtype == cut.dtype == dtype
    np.testing.assert_array_equal(cut, np.where(y > 0, y, np.zeros_like(y)))
    np.testing.assert_allclose(y.astype(float), other.astype(float), rtol=2**-7 if dtype == BFLOAT16 else 0, atol=1e-4)


def test_every_order_gives_the_same_bits(rng):
    case = CASES["padding alone beside the image"]
    x, w, b = arrays(case, rng)
    results = []
    for order in ("forward", "reverse", *range(4)):
        with cuda.emulate(order=order):
            results.append(computed(case, x, w, b)[0])
    for other in results[1:]:
        np.testing.assert_array_equal(other, results[0])
    with cuda.emulate(check=True):
        np.testing.assert_array_equal(computed(case, x, w, b)[0], results[0])


@pytest.mark.parametrize(
    ("case", "dtype", "precision"),
    [
        (ConvCase((1, 31, 5, 5), (32, 31, 3, 3)), BFLOAT16, "fp32"),
        (ConvCase((1, 32, 5, 5), (31, 32, 3, 3)), BFLOAT16, "fp32"),
        (ConvCase((1, 64, 5, 5), (64, 32, 3, 3), groups=2), BFLOAT16, "fp32"),
        (ConvCase((1, 32, 5, 5), (32, 32, 2, 2), dilation=(2, 1)), BFLOAT16, "fp32"),
        (ConvCase((1, 32, 9, 9), (32, 32, 1, 1), stride=(9, 9)), BFLOAT16, "fp32"),
        (ConvCase((0, 32, 5, 5), (32, 32, 3, 3)), BFLOAT16, "fp32"),
        (ConvCase((1, 32, 5, 5), (32, 32, 3, 3)), np.float16, "fp32"),
        (ConvCase((1, 32, 5, 5), (32, 32, 3, 3)), np.float32, "tf32"),
    ],
)
def test_what_is_left_to_the_other_ways(case, dtype, precision, rng, monkeypatch):
    x, w, _ = arrays(case, rng)
    monkeypatch.setattr(cuda, "launch", lambda file, *_: pytest.fail(file) if file == "conv_hopper.cu" else None)
    with cuda.emulate(), backend.matmul_precision(precision), np.errstate(all="ignore"):
        conv.conv2d(x.astype(dtype), w.astype(dtype), **case.settings())


def test_an_architecture_is_written_as_nvcc_has_it():
    message = "emulate: arch must be written like sm_90, got arch='90'"
    with pytest.raises(ArgumentError, match=message), cuda.emulate(arch="90"):
        pass
