"""What holds for every kernel of the library, on the cases in tests/kernel_cases/, a file for each kernel file."""

import importlib
import threading

import numpy as np
import pytest

from gpunn import backend, cuda
from gpunn.cuda import source
from gpunn.cuda.launch import index_type, takes

STEMS = [name.removesuffix(".cu") for name in source.sources()]


def run(stem):
    return list(importlib.import_module(f"kernel_cases.{stem}").run())


def assert_same_bits(actual, expected):
    for a, e in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(a.view(np.uint8), e.view(np.uint8))


@pytest.fixture(params=STEMS, scope="module")
def stem_and_bits(request):
    with cuda.emulate():
        return request.param, run(request.param)


@pytest.mark.parametrize("stem", STEMS)
def test_the_cases_launch_every_kernel_of_their_file(stem, monkeypatch):
    launched = set()
    launch = cuda.launch
    monkeypatch.setattr(cuda, "launch", lambda file, kernel, *rest: (launched.add(kernel), launch(file, kernel, *rest)))
    with cuda.emulate():
        run(stem)
    assert launched >= set(source.kernel_names(source.flatten(f"{stem}.cu")))


@pytest.mark.parametrize("order", ["reverse", *range(20)])
def test_every_order_of_threads_gives_the_same_bits(stem_and_bits, order):
    stem, expected = stem_and_bits
    with cuda.emulate(order=order):
        assert_same_bits(run(stem), expected)


def test_every_kernel_is_clean_under_check_and_near_the_xp_path(stem_and_bits):
    stem, _ = stem_and_bits
    with cuda.emulate(check=True):
        checked = run(stem)
    for actual, wanted in zip(checked, run(stem), strict=True):
        np.testing.assert_allclose(actual, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.parametrize("stem", STEMS)
def test_two_runs_on_the_gpu_give_the_same_bits_near_the_cpu(stem):
    wanted = run(stem)
    runs = [[backend.to_cpu(a) for a in run_on_gpu(stem)] for _ in range(2)]
    assert_same_bits(*runs)
    for actual, expected in zip(runs[0], wanted, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)


def run_on_gpu(stem):
    """The same cases with every NumPy array that an operation is given moved to the GPU first."""
    operations = importlib.import_module(f"gpunn.ops.{stem}")
    module = importlib.import_module(f"kernel_cases.{stem}")

    class Moved:
        def __getattr__(self, name):
            function = getattr(operations, name)
            move = lambda a: backend.to_gpu(a) if isinstance(a, np.ndarray) else a  # noqa: E731
            return lambda *args, **settings: function(*map(move, args), **settings)

    original = getattr(module, stem)
    setattr(module, stem, Moved())
    try:
        return list(module.run())
    finally:
        setattr(module, stem, original)


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


def test_a_thread_has_its_own_emulation():
    seen = []
    with cuda.emulate():
        thread = threading.Thread(target=lambda: seen.append(takes(np.ones(1, np.float32))))
        thread.start()
        thread.join()
    assert seen == [False]
