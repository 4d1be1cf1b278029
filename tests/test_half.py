"""float16 and bfloat16 as dtypes to compute in: every function and method keeps them, and rounds little."""

import contextlib
import sys

import numpy as np
import pytest
from optimizers import BY_NAME
from test_functional import FUNCTIONS
from test_methods import METHODS

from gpunn import backend, cuda, nn, optim, tensor
from gpunn import functional as F
from gpunn.backend import half_dtype
from gpunn.data import default_collate
from gpunn.errors import ArgumentError, DtypeError, PackageError
from gpunn.ops.array import arithmetic

HALVES = {name: half_dtype("test", name) for name in ("fp16", "bf16")}
BFLOAT16 = HALVES["bf16"]
EPS = {"fp16": 2**-10, "bf16": 2**-7}
# They take arrays of float64 beside their argument.
EVERY = {name: case for name, case in {**FUNCTIONS, **METHODS}.items() if name not in ("astype", "__rmatmul__")}


# Where they round the two largest of a window to one number, the gradient goes to the other of them.
NEARLY_TIED = {"bias_relu_lrn_pool"}


@pytest.fixture(params=HALVES)
def half(request):
    return request.param


@pytest.fixture(params=["cpu", pytest.param("gpu", marks=pytest.mark.gpu)])
def device(request):
    return request.param


def result_and_gradients(function, arrays, device="cpu"):
    leaves = [tensor(a.copy(), requires_grad=True, device=device) for a in arrays]
    y = function(*leaves)
    y = sum(each.sum() for each in y) if isinstance(y, list | tuple) else y
    rng = np.random.default_rng(1)
    y.backward(backend.asarray(np.asarray(rng.integers(-2, 3, y.shape), y.dtype), y.device))
    return [backend.to_cpu(a) for a in (y.data, *(leaf.grad for leaf in leaves))]


# Each operation is tested on CuPy in float16 by itself: here it is for the slow tier, as CuPy compiles for each dtype.
EVERYWHERE = [
    pytest.param(half, device, marks=marks)
    for half in HALVES
    for device, marks in (("cpu", ()), ("gpu", (pytest.mark.gpu, *([pytest.mark.slow] if half == "fp16" else []))))
]


@pytest.mark.parametrize(("half", "device"), EVERYWHERE)
@pytest.mark.parametrize("name", EVERY)
def test_every_function_and_method_keeps_the_dtype_and_is_near_float32(name, half, device, rng):
    function, shapes = EVERY[name]
    arrays = [np.asarray(rng.standard_normal(shape), HALVES[half]) for shape in shapes]
    found = result_and_gradients(function, arrays, device)
    wanted = result_and_gradients(function, [a.astype(np.float32) for a in arrays])
    for number, (y, exact) in enumerate(zip(found, wanted, strict=True)):
        assert y.dtype == HALVES[half]
        if name in NEARLY_TIED and number:
            continue
        # A few roundings of intermediate results, each of which the next step may double.
        scale = max(1.0, float(np.abs(exact).max()))
        np.testing.assert_allclose(np.float32(y), exact, rtol=0, atol=8 * EPS[half] * scale)


@pytest.mark.parametrize("size", [1, 3000])
def test_products_are_summed_in_float32_and_rounded_once(half, size, rng):
    a, b = (rng.standard_normal(shape).astype(HALVES[half]) for shape in ((3, size), (size, 4)))
    exact = np.float32(a) @ np.float32(b)
    x, w = (
        rng.standard_normal((2, 3, 5, 5)).astype(HALVES[half]),
        rng.standard_normal((4, 3, 3, 3)).astype(HALVES[half]),
    )
    np.testing.assert_array_equal(arithmetic.matmul(a, b), exact.astype(HALVES[half]))
    np.testing.assert_array_equal(F.linear(a, b.T.copy()), exact.astype(HALVES[half]))
    np.testing.assert_array_equal(F.conv2d(x, w), F.conv2d(np.float32(x), np.float32(w)).astype(HALVES[half]))


def test_sums_do_not_stop_growing(half):
    ones = tensor(np.ones(3000, HALVES[half]), requires_grad=True)
    assert float(ones.mean()) == 1
    one = tensor(np.ones(1, HALVES[half]), requires_grad=True)
    (one * np.ones(3000, HALVES[half])).backward(np.ones(3000, HALVES[half]))
    assert abs(float(one.grad[0]) - 3000) <= 3000 * EPS[half]  # one by one in bfloat16 it would stop at 256
    assert backend.accumulation_dtype(HALVES[half]) == np.float32


def test_casts_pass_gradients_back_in_the_dtype_they_came_from(half):
    x = tensor([1.0, 2.5], requires_grad=True)
    y = x.astype(HALVES[half])
    assert y.dtype == HALVES[half]
    (y * y).backward(np.asarray([1, 0.5], HALVES[half]))
    assert x.grad.dtype == np.float32
    np.testing.assert_array_equal(x.grad, [2, 2.5])
    assert tensor([1, 2]).astype(HALVES[half]).dtype == HALVES[half]
    assert not np.shares_memory(y.astype(HALVES[half]).data, y.data)


def test_numbers_of_python_leave_bfloat16_as_it_is(device):
    x = tensor(np.asarray([1.0, -2.0], BFLOAT16), device=device)
    for y in (
        x * 0.3,
        0.3 + x,
        1.0 / x,
        x**2,
        x**0.0,
        x - 1,
        x.clip(-0.5, 0.5),
        F.leaky_relu(x, 0.1),
        F.maximum(x, 0.5),
        F.where(x > 0, x, 0.5),
        *(getattr(F, name)(x) for name in ("relu", "abs", "silu", "gelu", "softplus", "elu", "selu", "hardsigmoid")),
    ):
        assert y.dtype == BFLOAT16
    assert (x > 0.5).data.tolist() == [True, False]
    assert x.sum().item() == -1.0


def test_integers_and_bfloat16_do_not_mix():
    with pytest.raises(DtypeError, match="add: operands must have one dtype, got a='bfloat16', b='float16'"):
        tensor(np.ones(2, BFLOAT16)) + tensor(np.ones(2, np.float16))
    with pytest.raises(DtypeError, match="linear: x must be a floating array, got dtype='int64'"):
        F.linear(np.ones((1, 2), np.int64), np.ones((1, 2), BFLOAT16))


@pytest.mark.parametrize("kind", BY_NAME)
def test_optimizers_keep_float32_states_for_half_parameters(kind, half, device):
    p = tensor(np.ones((2, 2), HALVES[half]), requires_grad=True, device=device)
    wide = tensor(np.ones((2, 2), np.float32), requires_grad=True, device=device)
    row = BY_NAME[kind]
    optimizers = [row.make([each], lr=0.25, l2=1e-3, **row.half) for each in (p, wide)]
    for _ in range(3):
        for each, optimizer in zip((p, wide), optimizers, strict=True):
            each.grad = backend.asarray(np.asarray([[1, -1], [0.5, 2]], each.dtype), device)
            optimizer.step()
    assert p.dtype == HALVES[half]
    arrays = [a for a in optimizers[0].state_dict().values() if backend.is_array(a)]
    assert {a.dtype for a in arrays} == {np.dtype(np.float32)}
    np.testing.assert_allclose(np.float32(p.numpy()), wide.numpy(), atol=6 * EPS[half])


def test_clipping_and_averages_of_bfloat16(device):
    p = tensor(np.ones(4, BFLOAT16), requires_grad=True, device=device)
    p.grad = backend.asarray(np.asarray([3, 4, 0, 0], BFLOAT16), device)
    assert float(optim.clip_grad_norm([p], 2.5)) == 5
    assert (p.grad.dtype, p.grad.tolist()) == (BFLOAT16, [1.5, 2, 0, 0])
    optim.clip_grad_value([p], 1.75)
    assert (p.grad.dtype, p.grad.tolist()) == (BFLOAT16, [1.5, 1.75, 0, 0])
    ema = optim.EMA([p], decay=0.5)
    p.data[:] = 2
    ema.update()
    assert ema.state_dict()["averages.0"].dtype == np.float32
    with ema.averages():
        assert p.data.tolist() == [1.5] * 4


def test_samples_are_collated():
    batch = default_collate([(np.ones(2, BFLOAT16), BFLOAT16.type(0.5)), (np.ones(2, BFLOAT16), BFLOAT16.type(1.5))])
    assert [(x.dtype, x.shape) for x in batch] == [(BFLOAT16, (2, 2)), (BFLOAT16, (2,))]


def test_a_whole_network_of_half_parameters(half, rng):
    """Through the kernels and without, the same step but for rounding."""
    results = []
    for context in (cuda.emulate, lambda: backend.matmul_precision("fp32")):
        generator = backend.random_generator(0)
        model = nn.Sequential(
            nn.Conv2d(1, 4, 3, generator=generator), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
            nn.Linear(36, 3, generator=generator),
        )  # fmt: skip
        for parameter in [*model.parameters(), *(b for _, b in model.named_buffers())]:
            parameter.data = parameter.data.astype(HALVES[half])
        x = tensor(np.random.default_rng(3).standard_normal((5, 1, 8, 8)).astype(HALVES[half]))
        with context():
            loss = F.cross_entropy(model(x), np.arange(5) % 3)
            loss.backward()
        assert loss.dtype == HALVES[half]
        assert all(p.grad.dtype == HALVES[half] for p in model.parameters())
        results.append([np.float32(loss.data), *(np.float32(p.grad) for p in model.parameters())])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=16 * EPS[half] * max(1, np.abs(a).max()))


def test_names_of_half_types(monkeypatch):
    assert half_dtype("op", "fp16") == np.float16
    assert half_dtype("op", "bf16").name == "bfloat16"
    with pytest.raises(ArgumentError, match="op: the half type must be one of bf16, fp16, got name='fp8'"):
        half_dtype("op", "fp8")
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(PackageError, match=r"op: bf16 needs ml_dtypes \(.*\): pip install .*\[train\]"):
        half_dtype("op", "bf16")


def test_a_cupy_without_bfloat16_is_told_of(monkeypatch):
    class Array:
        dtype = np.dtype(np.float32)
        device = contextlib.nullcontext()

        def astype(self, dtype, copy):
            raise TypeError("Unsupported dtype bfloat16")

    monkeypatch.setitem(sys.modules, "cupy", type("cupy", (), {"ndarray": Array}))
    message = r"cast: this CuPy does not take the dtype \(Unsupported .*\); compute in float16 .*, got dtype='bfloat16'"
    with pytest.raises(DtypeError, match=message):
        backend.cast(Array(), BFLOAT16)
