import contextlib
import itertools
import os
import signal
import sys
import threading
import time
import types

import numpy as np
import pytest

import gpunn.functional as F
from gpunn import backend, nn, tensor
from gpunn.errors import ArgumentError, DeviceError, DtypeError


class CudaError(Exception):
    pass


class FakeArray:
    """Stands for a cupy.ndarray where there is no CuPy: it has what the checks look at."""

    def __init__(self, array):
        self.array, self.dtype, self.shape, self.ndim = array, array.dtype, array.shape, array.ndim
        self.device = types.SimpleNamespace(id=1)


def fake_cupy(monkeypatch, devices=2, error=None):
    def count():
        if error:
            raise CudaError(error)
        return devices

    runtime = types.SimpleNamespace(getDeviceCount=count, CUDARuntimeError=CudaError)
    cupy = types.ModuleType("cupy")
    cupy.ndarray, cupy.cuda, cupy.asnumpy = FakeArray, types.SimpleNamespace(runtime=runtime), lambda x: x.array
    cupy.__spec__ = types.SimpleNamespace(name="cupy")
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    return cupy


def test_get_array_module(monkeypatch):
    assert backend.get_array_module() is np
    assert backend.get_array_module(np.ones(2), 3.0, None) is np
    cupy = fake_cupy(monkeypatch)
    on_gpu = FakeArray(np.ones(2))
    assert backend.get_array_module(on_gpu, 3.0) is cupy
    with pytest.raises(
        DeviceError, match=r"arrays must be on one device; use to_gpu or to_cpu, got arrays=\['NumPy', 'CuPy'\]"
    ):
        backend.get_array_module(np.ones(2), on_gpu)


def test_mixed_arrays_are_refused_by_name(monkeypatch):
    fake_cupy(monkeypatch)
    with pytest.raises(
        DeviceError, match="conv2d: arrays must all be NumPy's or all be CuPy's, got x='NumPy', w='CuPy'"
    ):
        F.conv2d(np.ones((1, 1, 4, 4)), FakeArray(np.ones((1, 1, 3, 3))))
    with pytest.raises(DeviceError, match="add: operands must be on one device, got a='cpu', b='gpu:1'"):
        tensor(np.ones(2)) + FakeArray(np.ones(2))


def test_device_names(monkeypatch):
    assert backend.check_device("cpu") == "cpu"
    for wrong in ("cuda:", "cudagpu", "gpu:", "gpu:-1", "GPU", "cpu:0", 0):
        with pytest.raises(ArgumentError, match='a device is "cpu", "gpu" or "gpu:N", got device='):
            backend.check_device(wrong)
    fake_cupy(monkeypatch, devices=2)
    assert backend.check_device("gpu") == "gpu:0"
    assert backend.check_device("gpu:1") == "gpu:1"
    assert (backend.gpu_count(), backend.why_no_gpu()) == (2, "")
    with pytest.raises(DeviceError, match="there are 2 GPUs, counted from 0, got device='gpu:2'"):
        backend.check_device("gpu:2")


def test_why_there_is_no_gpu(monkeypatch):
    monkeypatch.setattr(backend.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DeviceError, match=r"device 'gpu': CuPy is not installed: pip install .*\[cuda13\]"):
        backend.check_device("gpu")
    assert backend.gpu_count() == 0
    monkeypatch.undo()
    for error, message in (
        (
            "cudaErrorInsufficientDriver: CUDA driver version is insufficient",
            "driver is missing or too old .*nvidia-smi",
        ),
        ("cudaErrorNoDevice: no CUDA-capable device is detected", "no CUDA device is visible"),
    ):
        fake_cupy(monkeypatch, error=error)
        with pytest.raises(DeviceError, match=message):
            backend.to_gpu(np.ones(2))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(DeviceError, match="with CUDA_VISIBLE_DEVICES='': unset CUDA_VISIBLE_DEVICES"):
        backend.check_device("gpu")


def test_default_device_comes_from_the_environment(monkeypatch):
    monkeypatch.delenv("GPUNN_DEVICE", raising=False)
    assert backend.default_device() == "cpu"
    monkeypatch.setenv("GPUNN_DEVICE", "gpu:1")
    fake_cupy(monkeypatch)
    assert backend.default_device() == "gpu:1"
    monkeypatch.setenv("GPUNN_DEVICE", "tpu")
    with pytest.raises(ArgumentError, match="got device='tpu'"):
        backend.default_device()


def test_where_an_array_is(monkeypatch):
    fake_cupy(monkeypatch)
    x = np.arange(3)
    assert (backend.device_of(x), backend.device_of(FakeArray(x))) == ("cpu", "gpu:1")
    assert backend.to_cpu(x) is x
    assert backend.to_cpu(FakeArray(x)) is x
    assert backend.asarray(FakeArray(x), device="cpu") is x
    assert backend.asarray(x) is x
    with pytest.raises(ArgumentError, match="to_gpu: device must be a GPU, got device='cpu'"):
        backend.to_gpu(x, "cpu")


def test_dtypes():
    assert backend.asarray(1.5).dtype == np.float32
    assert backend.asarray([[1.5, 2]]).dtype == np.float32
    assert backend.asarray(np.float64(1.5)).dtype == np.float64
    assert backend.asarray(True).dtype == bool
    assert backend.asarray([1, 2], dtype=np.float16).dtype == np.float16
    assert backend.accumulation_dtype(np.float16) == np.float32
    assert backend.accumulation_dtype(np.float64) == np.float64
    with pytest.raises(DtypeError, match="op: x must be a floating array, got dtype='complex64'"):
        backend.operands("op", x=np.ones(2, np.complex64))


def test_random_numbers_are_numpy_philox():
    ours = backend.random_generator(123).standard_normal(5)
    np.testing.assert_array_equal(ours, np.random.Generator(np.random.Philox(123)).standard_normal(5))
    backend.manual_seed(123)
    np.testing.assert_array_equal(backend.default_generator().standard_normal(5), ours)
    for wrong in (-1, 1.5, "1"):
        with pytest.raises(ArgumentError, match="seed must be an integer of at least 0"):
            backend.random_generator(wrong)


def test_default_generator_differs_between_processes(monkeypatch):
    monkeypatch.setattr(backend, "_default_generator", None)
    first = backend.default_generator().random()
    monkeypatch.setattr(backend, "_default_generator", None)
    assert backend.default_generator().random() != first


def forked_draws(count):
    """The first numbers of ``count`` forked children, each with those of a child of its own."""
    numbers = []
    for _ in range(count):
        read, write = os.pipe()
        if os.fork() == 0:
            try:
                grandchild = os.fork() == 0
                os.write(write, backend.default_generator().bytes(8))
                if not grandchild:
                    os.wait()
            finally:
                os._exit(0)
        os.close(write)
        with os.fdopen(read, "rb") as pipe:
            numbers += np.frombuffer(pipe.read(), np.uint64).tolist()
        os.wait()
    return numbers


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # other tests leave threads
@pytest.mark.parametrize("context", ["seeded", "used"])
def test_forked_children_draw_numbers_of_their_own(context, monkeypatch):
    def draws():
        monkeypatch.setattr(backend, "_forks", itertools.count(1))
        with contextlib.ExitStack() as stack:
            if context == "seeded":
                backend.manual_seed(7)
            else:
                stack.enter_context(backend.use_generator(backend.random_generator(7)))
            return forked_draws(3) + np.frombuffer(backend.default_generator().bytes(16), np.uint64).tolist()

    first = draws()
    assert len(set(first)) == 3 * 2 + 2
    assert sorted(first) == sorted(draws())  # decided by the seed
    assert first[-2:] == np.frombuffer(backend.random_generator(7).bytes(16), np.uint64).tolist()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork_while_another_thread_draws_does_not_hang():
    backend.manual_seed(1)
    lock, held, forked = backend.default_generator().bit_generator.lock, threading.Event(), threading.Event()

    def draw():
        with lock:
            held.set()
            forked.wait()

    thread = threading.Thread(target=draw)
    thread.start()
    held.wait()
    child = os.fork()
    if child == 0:
        backend.default_generator().random()
        os._exit(3)
    forked.set()
    thread.join()
    deadline = time.monotonic() + 10
    while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0) and time.monotonic() < deadline:
        time.sleep(0.01)
    if ended == (0, 0):
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert ended != (0, 0)
    assert os.waitstatus_to_exitcode(ended[1]) == 3


@pytest.mark.gpu
def test_a_round_trip_through_the_gpu():
    x = np.arange(6.0).reshape(2, 3)
    there = backend.to_gpu(x)
    assert backend.device_of(there) == "gpu:0"
    np.testing.assert_array_equal(backend.to_cpu(there), x)


@pytest.mark.parametrize("generator", [0, 7, np.random.RandomState(0), "seed"])
def test_what_draws_numbers_takes_generators_alone(generator):
    """The seed 0 would count as no generator, and another one be an error of Python's."""
    x = np.ones((2, 3), np.float32)
    for draws in (
        lambda: F.dropout(x, generator=generator),
        lambda: F.alpha_dropout(x, 0.5, True, generator=generator),
        lambda: F.rrelu(x, training=True, generator=generator),
        lambda: F.gumbel_softmax(x, generator=generator),
        lambda: F.rand_like(x, generator=generator),
        lambda: F.randn_like(x, generator=generator),
        lambda: nn.Linear(2, 3, generator=generator),
        lambda: nn.Embedding(2, 3, generator=generator),
        lambda: nn.init.orthogonal_(nn.Parameter(x), generator=generator),
    ):
        with pytest.raises(DtypeError, match=r"generator: a generator is a numpy.random.Generator, .*, got type="):
            draws()


@pytest.mark.parametrize("dtype", ["real", object(), object, "U3", {1: 2}])
def test_dtypes_are_those_of_numbers(dtype):
    x = tensor([1.0])
    for op, makes in (
        ("asarray", lambda: tensor([1.0], dtype=dtype)),
        ("astype", lambda: x.astype(dtype)),
        ("mean", lambda: F.mean(x, dtype=dtype)),
        ("softmax", lambda: F.softmax(x, dtype=dtype)),
        ("zeros_like", lambda: F.zeros_like(x, dtype=dtype)),
    ):
        with pytest.raises(DtypeError, match=f"{op}: a dtype must be one of NumPy's, of numbers, got dtype="):
            makes()
