import contextlib
import threading

import numpy as np
import oracles
import pytest
from conv_case import ConvCase
from planned import conv

from gpunn import backend, cuda
from gpunn.errors import ArgumentError, DeviceError, ShapeError
from gpunn.ops.conv import tensor_core_launch

BFLOAT16 = backend.half_dtype("test", "bf16")
# The precision that is asked for, and the dtype of the arrays: half arrays need not ask.
KINDS = {
    "tf32": ("tf32", np.float32),
    "bf16": ("bf16", np.float32),
    "fp16": ("fp16", np.float32),
    "float16": ("fp32", np.float16),
    "bfloat16": ("fp32", BFLOAT16),
}
# Of the error's norm to the result's: somewhat more than the 2**-12 (10 bits of mantissa kept) or 2**-9 (7 bits) that
# rounding both operands leaves on average.
LIMITS = {"tf32": 1e-3, "bf16": 1e-2, "fp16": 1e-3, "float16": 1e-3, "bfloat16": 1e-2}


class Case(ConvCase):
    def arrays(self, draw):
        """x, w, b and gy."""
        x, w = draw(self.x), draw(self.w)
        b = draw(self.w[:1]) if self.bias else None
        return x, w, b, draw(conv.conv2d(x, w, **self.settings()).shape)


def normal(rng, dtype=np.float32):
    return lambda shape: rng.standard_normal(shape).astype(dtype)


def whole_numbers(rng, dtype=np.float32):
    """Few bits: every precision has these numbers, and the dtype their sums (float16 up to 2048), exactly."""
    largest = 1 if dtype == np.float16 else 3
    return lambda shape: rng.integers(-largest, largest + 1, shape).astype(dtype)


def few_ones(rng, dtype):
    """Mostly zeros: bfloat16 has whole numbers up to 256 only."""
    return lambda shape: (rng.integers(-1, 2, shape) * (rng.random(shape) < 0.3)).astype(dtype)


# The kernel is compiled for 32, 64 and 128 rows a tile, by the number of filters.
AWKWARD = {
    "one pixel": Case((1, 1, 1, 1), (1, 1, 1, 1)),
    "primes": Case((3, 5, 13, 11), (7, 5, 3, 3), padding=(1, 1)),
    "no image": Case((0, 2, 5, 5), (3, 2, 3, 3)),
    "stride passes over pixels": Case((1, 2, 8, 8), (2, 2, 1, 1), stride=(3, 3)),
    "stride and dilation share a factor": Case((2, 3, 13, 14), (5, 3, 3, 2), stride=(4, 2), dilation=(2, 4)),
    "more padding than image": Case((1, 1, 2, 2), (2, 1, 5, 5), padding=(3, 3)),
    "groups of few channels": Case((2, 6, 7, 7), (9, 2, 3, 3), groups=3),
    "first layer, 11 x 11 at stride 4": Case((2, 3, 27, 23), (8, 3, 11, 11), stride=(4, 4)),
    "first layer, 7 x 7 at stride 2": Case((2, 3, 13, 16), (8, 3, 7, 7), stride=(2, 2), padding=(3, 3)),
    "first layer, one channel": Case((3, 1, 9, 8), (4, 1, 5, 5), padding=(2, 2)),
    "two channels, dilation, more than one tile of taps": Case((1, 2, 17, 14), (5, 2, 9, 8), dilation=(2, 1)),
    "groups of three channels": Case((2, 6, 7, 8), (4, 3, 3, 3), padding=(1, 0), groups=2),
    "a chunk and one more channel": Case((1, 9, 5, 6), (3, 9, 2, 2)),
    "tiles of 64 rows": Case((1, 3, 5, 5), (61, 3, 3, 3)),
    "more than one tile of 128 rows": Case((1, 3, 5, 5), (131, 3, 3, 3), bias=False),
    "more than one tile of columns, several splits": Case((4, 17, 12, 13), (3, 17, 3, 3), padding=(1, 1)),
}


def random_case(rng) -> Case:
    groups = int(rng.choice([1, 1, 2, 3]))
    kernel = tuple(map(int, rng.integers(1, 5, 2)))
    stride, dilation, padding = (tuple(map(int, rng.integers(low, high, 2))) for low, high in ((1, 5), (1, 4), (0, 4)))
    extent = [d * (f - 1) + 1 for d, f in zip(dilation, kernel, strict=True)]
    size = [int(rng.integers(max(1, e - 2 * p), e + 9)) for e, p in zip(extent, padding, strict=True)]
    n, channels, filters = (int(v) for v in rng.integers((1, 2, 1), (5, 19, 13)))
    shapes = (n, channels * groups, *size), (filters * groups, channels, *kernel)
    return Case(*shapes, bool(rng.integers(2)), stride, padding, dilation, groups)


def rounded(x, kind):
    """x as the tensor cores get it, in float32; of the random numbers here, none is a NaN or near the ends."""
    if kind in ("fp16", "float16"):
        return x.astype(np.float16).astype(np.float32)
    if kind == "bfloat16":
        return x.astype(np.float32)
    bits = x.view(np.uint32)
    if kind == "tf32":
        return ((bits + 0x1000) & np.uint32(0xFFFFE000)).view(np.float32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) & np.uint32(0xFFFF0000)).view(np.float32)


def error(actual, exact):
    assert actual.shape == exact.shape
    return np.linalg.norm(actual - exact) / max(np.linalg.norm(exact), 1e-30)


def directly(function, *args, **settings):
    return function(*args, **settings)


def passes(run, case, kind, x, w, b, gy):
    with backend.matmul_precision(kind):
        return (
            run(conv.conv2d, x, w, b, **case.settings()),
            run(conv.conv2d_backward_x, gy, w, x.shape, **case.settings()),
            run(conv.conv2d_backward_w, gy, x, w.shape, **case.settings()),
        )


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", AWKWARD.values(), ids=AWKWARD.keys())
def test_near_float64_and_near_what_rounded_operands_give(run, case, kind, rng):
    precision, dtype = KINDS[kind]
    arrays = case.arrays(normal(rng, dtype))
    each = lambda change: [a if a is None else change(a) for a in arrays]  # noqa: E731
    exact = passes(directly, case, "fp32", *each(np.float64))
    reference = passes(directly, case, "fp32", *each(lambda a: rounded(a, kind)))
    x, w, b, _ = arrays
    # The oracle of the forward pass; the gradients have theirs below.
    oracles.assert_close(exact[0], oracles.conv2d(x, w, b, **case.settings()), case.w[1] * case.w[2] * case.w[3])
    for actual, wanted, same_precision in zip(passes(run, case, precision, *arrays), exact, reference, strict=True):
        assert actual.dtype == dtype
        off = error(actual.astype(np.float64), wanted)
        assert off <= LIMITS[kind]
        # A half result is rounded too; of few numbers one can be off by chance where the other is not.
        assert off <= 2 * error(same_precision.astype(dtype).astype(np.float64), wanted) + 2e-5


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(6))
def test_backward_is_the_directional_difference(run, seed, kind):
    rng = np.random.default_rng(seed)
    case = random_case(rng)
    precision, dtype = KINDS[kind]
    draw = few_ones(rng, dtype) if dtype == BFLOAT16 else whole_numbers(rng, dtype)
    (x, w, _, gy), dx, dw = case.arrays(draw), draw(case.x), draw(case.w)
    # y is linear in x and in w, and nothing is rounded here: difference and slope are the same number.
    product = lambda a, b: float((a.astype(np.float64) * b.astype(np.float64)).sum())  # noqa: E731
    with backend.matmul_precision(precision):
        gx = run(conv.conv2d_backward_x, gy, w, x.shape, **case.settings())
        gw = run(conv.conv2d_backward_w, gy, x, w.shape, **case.settings())
        assert product(gx, dx) == product(gy, run(conv.conv2d, dx, w, **case.settings()))
        assert product(gw, dw) == product(gy, run(conv.conv2d, x, dw, **case.settings()))


@pytest.mark.peer("conv2d")
@pytest.mark.parametrize("seed", range(60))
def test_matches_pytorch(run, seed):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(1000 + seed)
    case, kind = random_case(rng), ("tf32", "bf16", "fp16")[seed % 3]
    x, w, b, gy = case.arrays(whole_numbers(rng))
    leaves = [torch.tensor(a, dtype=torch.float64, requires_grad=True) for a in (x, w, b) if a is not None]
    expected = torch.nn.functional.conv2d(*leaves, **case.settings())
    expected.backward(torch.tensor(gy, dtype=torch.float64))
    wanted = [expected.detach(), leaves[0].grad, leaves[1].grad]
    for actual, exact in zip(passes(run, case, kind, x, w, b, gy), wanted, strict=True):
        np.testing.assert_array_equal(actual, exact.numpy())


def test_non_contiguous_arrays_are_read_right(run, rng):
    x, w = rng.standard_normal((2, 9, 8, 3)).transpose(0, 3, 1, 2), rng.standard_normal((3, 3, 3, 4)).T[::2]
    gy = rng.standard_normal((6, 7, 2, 2)).T
    for dtype in (np.float32, np.float16, BFLOAT16):
        strided = [a.astype(dtype, order="K") for a in (x, w, gy)]
        assert not any(a.flags.c_contiguous for a in (strided[0], strided[2]))
        packed = [np.ascontiguousarray(a) for a in strided]
        case, b = Case(x.shape, w.shape), np.ones(len(w), dtype)
        results = (passes(run, case, "tf32", a[0], a[1], b, a[2]) for a in (strided, packed))
        for actual, wanted in zip(*results, strict=True):
            # NumPy's products may sum in another order, and round to another neighbour then.
            off = 2**-7 if dtype == BFLOAT16 else 1e-5
            np.testing.assert_allclose(np.float64(actual), np.float64(wanted), rtol=off, atol=off)


def test_relu_cuts_off_below_zero(run, rng):
    x, w, b, _ = AWKWARD["primes"].arrays(whole_numbers(rng))
    with backend.matmul_precision("bf16"):
        y = run(conv.conv2d_bias_relu, x, w, b, padding=1)
    np.testing.assert_array_equal(y, np.maximum(conv.conv2d(x, w, b, padding=1), 0))


def test_not_a_number_and_infinity_come_through(run):
    x = np.float32([1, np.inf, np.nan, -np.inf, 65504, 1e-30]).reshape(6, 1, 1, 1)
    with backend.matmul_precision("tf32"):
        y = run(conv.conv2d_bias_relu, x, np.ones((1, 1, 1, 1), np.float32))
    np.testing.assert_allclose(y.ravel(), [1, np.inf, np.nan, 0, 65504, 1e-30], rtol=2**-11)


def test_wide_index_gives_the_same_bits(monkeypatch, rng):
    case = AWKWARD["primes"]
    arrays = case.arrays(normal(rng))

    def emulated(f, *args, **settings):
        with cuda.emulate():
            return f(*args, **settings)

    narrow = passes(emulated, case, "bf16", *arrays)
    monkeypatch.setattr(cuda, "index_type", lambda *sizes: "long long")
    for wide, wanted in zip(passes(emulated, case, "bf16", *arrays), narrow, strict=True):
        np.testing.assert_array_equal(wide, wanted)


# --- what is sent here, and the precision -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("precision", "dtype", "here"),
    [
        ("fp32", np.float32, False),
        ("fp32", np.float16, True),
        ("fp32", BFLOAT16, True),
        ("tf32", np.float32, True),
        ("tf32", np.float16, True),
        ("tf32", np.float64, False),
    ],
)
def test_what_goes_to_the_tensor_cores(precision, dtype, here, monkeypatch, rng):
    case = AWKWARD["primes"]
    arrays = case.arrays(normal(rng, dtype))
    files, launch = [], cuda.launch
    monkeypatch.setattr(cuda, "launch", lambda file, *rest: (files.append(file), launch(file, *rest)))
    plain = passes(directly, case, precision, *arrays)
    assert files == []
    with cuda.emulate():
        emulated = passes(directly, case, precision, *arrays)
    assert {file == "conv_mma.cu" for file in files} == {here}
    off = error(emulated[0].astype(np.float64), plain[0].astype(np.float64))
    assert (off > 1e-5) == (precision == "tf32" and dtype == np.float32), (
        "operands are rounded if and only if asked for"
    )


def test_the_precision_is_that_of_the_innermost_context():
    seen = []
    assert backend.chosen_matmul_precision() == "fp32"
    with backend.matmul_precision("tf32"):
        with contextlib.suppress(ZeroDivisionError), backend.matmul_precision("bf16"):
            assert backend.chosen_matmul_precision() == "bf16"
            raise ZeroDivisionError
        assert backend.chosen_matmul_precision() == "tf32"
        thread = threading.Thread(target=lambda: seen.append(backend.chosen_matmul_precision()))
        thread.start()
        thread.join()
    assert backend.chosen_matmul_precision() == "fp32"
    assert seen == ["fp32"]


def test_errors_name_rule_and_values(monkeypatch):
    with (
        pytest.raises(ArgumentError, match="matmul_precision: .* one of fp32, tf32, bf16, fp16, got name='int8'"),
        backend.matmul_precision("int8"),
    ):
        pass
    x = np.ones((1, 1 << 16, 1, 1), np.float16)
    with cuda.emulate(), pytest.raises(ShapeError, match=r"conv2d: CUDA takes at most 65535 groups, .*65536"):
        conv.conv2d(np.concatenate([x, x], 1), np.ones((1 << 17, 2, 1, 1), np.float16), groups=1 << 16)


@pytest.mark.parametrize("kind", KINDS)
def test_an_old_gpu_is_refused_where_it_has_no_such_instruction(kind, monkeypatch):
    class Old:
        class cuda:
            class Device:
                compute_capability = "75"

    monkeypatch.setattr(tensor_core_launch, "get_array_module", lambda *arrays: Old)
    precision, dtype = KINDS[kind]
    with backend.matmul_precision(precision):
        if kind in ("fp16", "float16"):
            assert tensor_core_launch.find_setting("conv2d", np.ones(1, dtype)).precision == "f16"
        else:
            name = "bf16" if kind == "bfloat16" else kind
            message = rf"conv2d: {name} needs a GPU of compute capability 8.0, got capability=75"
            with pytest.raises(DeviceError, match=message):
                tensor_core_launch.find_setting("conv2d", np.ones(1, dtype))
