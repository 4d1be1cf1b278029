"""Operations on floats that make a NaN or an infinity of other numbers: `check="nan"` and `check="infinity"`."""

import os
import platform

import numpy as np
import pytest

from gpunn import cuda
from gpunn.cuda.emulator import CheckError, RawKernel, RawModule, __main__
from gpunn.errors import ArgumentError

f32, f64 = np.float32, np.float64
nan, inf = np.nan, np.inf

pytestmark = pytest.mark.skipif(
    platform.machine() != "x86_64" or "GPUNN_EMULATOR_UCONTEXT" in os.environ,
    reason="the processor cannot stop at an operation, or the emulator runs as on one that cannot",
)

CODE = r"""
#define KERNEL(name, T, expression)                                       \
    extern "C" __global__ void name(const T* a, const T* b, T* y) {       \
        const int i = threadIdx.x;                                        \
        y[i] = expression;                                                \
    }
KERNEL(sum, float, a[i] + b[i])
KERNEL(difference, float, a[i] - b[i])
KERNEL(product, float, a[i] * b[i])
KERNEL(quotient, float, a[i] / b[i])
KERNEL(fused, float, fmaf(a[i], b[i], 1.0f))
KERNEL(root, float, sqrtf(a[i]))
KERNEL(sums, double, a[i] + b[i])
KERNEL(quotients, double, a[i] / b[i])
KERNEL(roots, double, sqrt(a[i]))
KERNEL(logarithm, float, logf(a[i]))
KERNEL(power, double, pow(a[i], b[i]))
KERNEL(exponential, float, expf(a[i]))
KERNEL(remainder_of, float, fmodf(a[i], b[i]))
KERNEL(narrowed, double, (double)(float)a[i])
KERNEL(compared, float, (a[i] < b[i]) + 2 * (a[i] >= b[i]) + 4 * (a[i] == b[i]))
KERNEL(extremes, float, fminf(a[i], 1) + fmaxf(b[i], 1) + (a[i] < b[i] ? a[i] : b[i]))
KERNEL(is_nan, float, isnan(a[i]) + 2 * (b[i] != b[i]))
KERNEL(whole, float, __float2int_rz(a[i]) + __float2ull_rn(b[i]))
KERNEL(rounded, float, rintf(a[i]) + floorf(b[i]) + truncf(a[i]))
KERNEL(guarded, float, b[i] != 0 ? a[i] / b[i] : 0)
KERNEL(made, float, nanf("") + __int_as_float(0x7fffffff) + a[i])

extern "C" __global__ void compared_first(const float* a, const float* b, float* y) {
    if (a[0] > b[0]) y[0] = 1;
    y[0] = b[0] / y[0];
}
extern "C" __global__ void in_every_block(const float* a, const float* b, float* y) {
    y[blockIdx.x] = a[blockIdx.x] / b[blockIdx.x];
}
__device__ __noinline__ float deep(const float* x, int n) {
    volatile float more[1000];
    more[n % 1000] = n;
    return n ? deep(x, n - 1) + more[n % 1000] : x[0];
}
extern "C" __global__ void full_stack_first(const float* a, const float* b, float* y) {
    if (blockIdx.x == 0) y[0] = deep(a, 1 << 20);
    else y[1] = a[1] / b[1];
}
extern "C" __global__ void lasts(const float* a, const float* b, float* y) {
    for (long long begin = clock64(); clock64() - begin < 100000000;) {}
    y[0] = a[0] / b[0];
}
"""


@pytest.fixture(scope="module")
def modules():
    return {check: RawModule(CODE, filename="k.cu", check=check) for check in (True, "nan", "infinity")}


def line_of(name):
    (line,) = [i for i, text in enumerate(CODE.split("\n"), 1) if f"KERNEL({name}, " in text]
    return line


def run(module, name, a, b, grid=1, block=1):
    """The kinds, lines and threads that are told, and the result."""
    dtype = f64 if name in ("sums", "quotients", "roots", "power", "narrowed") else f32
    a, b, y = np.array(a, dtype, ndmin=1), np.array(b, dtype, ndmin=1), np.zeros(4, dtype)
    try:
        module.get_function(name)(grid, block, (a, b, y))
    except CheckError as error:
        return error.reports, y
    return [], y


NANS = [
    ("sum", inf, -inf, "a sum"), ("difference", inf, inf, "a difference"), ("product", 0, inf, "a product"),
    ("quotient", 0, 0, "a quotient"), ("quotient", inf, -inf, "a quotient"), ("root", -1, 0, "a square root"),
    ("fused", inf, 0, ""), ("sums", inf, -inf, "a sum"), ("quotients", 0, 0, "a quotient"),
    ("roots", -2, 0, "a square root"), ("logarithm", -1, 0, "a function"), ("power", -1, 0.5, "a function"),
    ("remainder_of", 1, 0, "a function"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "a", "b", "what"), NANS)
def test_the_operation_that_makes_a_nan_is_told(modules, name, a, b, what):
    for check in ("nan", "infinity"):
        reports, y = run(modules[check], name, a, b)
        assert np.isnan(y[0])
        (found,) = reports
        assert (found.kind, found.file, found.line, found.harmless) == ("nan", "k.cu", line_of(name), False)
        assert what in found.message
        assert found.message.endswith(" of numbers is a NaN")
    assert run(modules[True], name, a, b)[0] == []


@pytest.mark.parametrize(("name", "a", "b"), [(name, *numbers) for name in (
    "sum", "difference", "product", "quotient", "fused", "root", "sums", "quotients", "roots", "logarithm", "power",
    "exponential", "remainder_of", "compared", "extremes", "is_nan", "whole", "rounded", "made",
) for numbers in ((nan, 2), (2, nan), (nan, nan))])  # fmt: skip
def test_a_nan_that_is_there_already_is_not_told(modules, name, a, b):
    for check in ("nan", "infinity"):
        reports, y = run(modules[check], name, a, b)
        assert reports == []
        np.testing.assert_array_equal(y, run(modules[True], name, a, b)[1])


@pytest.mark.parametrize(("name", "a", "b"), [("guarded", 0, 0), ("quotient", 1, 0), ("exponential", 1000, 0),
                                              ("logarithm", 0, 0), ("product", 1e30, 1e30)])  # fmt: skip
def test_what_makes_no_nan_is_not_told(modules, name, a, b):
    assert run(modules["nan"], name, a, b)[0] == []


@pytest.mark.parametrize(
    ("name", "a", "b", "what"),
    [("sum", 3e38, 3e38, "a sum"), ("product", 1e30, -1e30, "a product"), ("quotient", 1, 0, "a quotient"),
     ("quotient", 1e30, 1e-30, "a quotient"), ("exponential", 1000, 0, "a function"), ("logarithm", 0, 0, "a function"),
     ("narrowed", 1e300, 0, "a conversion")],
)  # fmt: skip
def test_the_operation_that_makes_an_infinity_is_told_if_asked(modules, name, a, b, what):
    (found,), y = run(modules["infinity"], name, a, b)
    assert np.isinf(y[0])
    assert (found.kind, found.line) == ("infinity", line_of(name))
    assert found.message == f"{what} of finite numbers is infinite"
    for check in (True, "nan"):
        assert run(modules[check], name, a, b)[0] == []


def test_an_infinity_that_is_there_already_is_not_told(modules):
    for name in ("sum", "difference", "product", "quotient", "exponential", "narrowed"):
        reports, y = run(modules["infinity"], name, inf, 2)
        assert reports == []
        assert y[0] == inf


def test_it_goes_on_after_a_comparison_with_a_nan(modules):
    for kind in ("nan", "infinity"):
        reports, _ = run(modules[kind], "compared_first", nan, 0)
        assert [(each.kind, each.line) for each in reports] == [("nan", 1 + CODE.split("\n").index(
            "    y[0] = b[0] / y[0];"))]  # fmt: skip


def test_each_block_is_watched(modules):
    for order in range(3):
        a, b = np.ones(4, f32), np.ones(4, f32)
        a[order] = b[order] = 0
        (found,), y = run(modules["nan"], "in_every_block", a, b, grid=4)
        assert found.block == (order, 0, 0)
        np.testing.assert_array_equal(y, np.where(a, 1, nan))


def test_blocks_after_one_that_was_given_up_are_watched(modules):
    reports, _ = run(modules["nan"], "full_stack_first", [1, 0], [1, 0], grid=2)
    assert [each.kind for each in reports] == ["fault", "nan"]


def test_a_kernel_that_was_interrupted_is_watched(modules):
    (found,), _ = run(modules["nan"], "lasts", 0, 0)
    assert found.kind == "nan"
    with np.errstate(all="ignore"):
        assert np.isnan(np.float64(0) / np.float64(0))  # the host's own are not


def test_called_functions_are_named():
    code = """__device__ float inverse(float x) {
    return (x - x) / x;
}
extern "C" __global__ void k(float* y) {
    y[0] = inverse(y[0]);
}"""
    with pytest.raises(CheckError) as caught:
        RawKernel(code, "k", filename="k.cu", check="nan")((1,), (1,), (np.zeros(1, f32),))
    assert str(caught.value) == (
        "k: nan: k.cu:2: block (0,0,0) thread (0,0,0): a quotient of numbers is a NaN, called from k.cu:5"
    )


def test_gpunns_own_kernels_are_watched():
    x, target = np.array([[-inf, -inf]], f32), np.zeros(1, np.int64)
    from gpunn.ops import loss

    with cuda.emulate(check="nan"), pytest.raises(CheckError) as caught:
        loss.cross_entropy(x, target)
    assert {each.kind for each in caught.value.reports} == {"nan"}
    assert {each.file for each in caught.value.reports} == {"loss.cu"}


def test_the_command(tmp_path, capsys):
    (tmp_path / "k.cu").write_text(CODE)
    command = [str(tmp_path / "k.cu"), "--kernel=quotient", *["--arg=float32[1]=0"] * 3]
    assert __main__.main(["check", *command]) == 0
    assert __main__.main(["check", *command, "--floats=nan"]) == 1
    assert f"quotient: nan: k.cu:{line_of('quotient')}: " in capsys.readouterr().out
    assert __main__.main(["run", *command, "--floats=nan"]) == 2
    assert "--floats needs check" in capsys.readouterr().err


def test_what_is_refused(monkeypatch):
    with pytest.raises(ArgumentError, match='check must be True, False, "nan" or "infinity", got check=\'inf\''):
        RawModule("", check="inf")
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    with pytest.raises(ArgumentError, match="check='nan' needs an x86-64 processor.*aarch64: use check=True"):
        RawModule("", check="nan")
