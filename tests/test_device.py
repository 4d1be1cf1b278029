import numpy as np
import pytest

from gpunn import Tensor, backend, tensor
from gpunn import functional as F
from gpunn.errors import ArgumentError, DeviceError
from gpunn.functional import device as page


def test_on_its_own_device_it_is_returned_itself():
    x, leaf = np.ones(2), tensor([1.0], requires_grad=True)
    assert F.to_device(x, "cpu") is x
    assert F.to_device(leaf, "cpu") is leaf


class Elsewhere(np.ndarray):
    """Stands for an array on a GPU where there is none: only its type says where it is."""


@pytest.fixture
def pretended_gpu(monkeypatch):
    moves = []

    def move(x, device):
        moves.append(device)
        return x.view(Elsewhere if device == "gpu:1" else np.ndarray)

    monkeypatch.setattr(page, "asarray", move)
    monkeypatch.setattr(page, "check_device", lambda device: device)
    monkeypatch.setattr(page, "device_of", lambda x: "gpu:1" if isinstance(x, Elsewhere) else "cpu")
    return moves


def test_the_gradient_goes_back_to_where_the_array_was(pretended_gpu):
    x = tensor([1.0, 2.0], requires_grad=True)
    there = F.to_device(x * 1, "gpu:1")
    assert isinstance(there.data, Elsewhere)
    (there * there).sum().backward()
    assert pretended_gpu == ["gpu:1", "cpu"]
    assert (type(x.grad), x.grad.tolist()) == (np.ndarray, [2, 4])
    assert isinstance(F.to_device(np.ones(1), "gpu:1"), Elsewhere)


@pytest.mark.gpu
def test_to_the_gpu_and_back(rng):
    x = rng.standard_normal((3, 4)).astype(np.float32)
    leaf = tensor(x, requires_grad=True)
    y = F.to_device(F.to_device(leaf, "gpu") * 2, "cpu")
    assert (y.device, leaf.device) == ("cpu", "cpu")
    y.backward(x)
    assert isinstance(leaf.grad, np.ndarray)
    np.testing.assert_array_equal(leaf.grad, 2 * x)
    assert backend.device_of(F.to_device(x, "gpu")) == "gpu:0"


@pytest.mark.gpu
def test_between_two_gpus(rng):
    if backend.gpu_count() < 2:
        pytest.skip("needs two GPUs")
    leaf = tensor(rng.standard_normal(5).astype(np.float32), requires_grad=True, device="gpu:0")
    there = F.to_device(leaf * 3, "gpu:1")
    with backend.use_device("gpu:1"):
        y = (there * there).sum()
    y.backward()
    assert backend.device_of(leaf.grad) == "gpu:0"
    np.testing.assert_allclose(backend.to_cpu(leaf.grad), 18 * leaf.numpy(), rtol=1e-6)


@pytest.mark.gpu
def test_a_copy_between_two_gpus_is_in_turn_with_the_work_of_both(rng):
    """Of an array with gaps, written just before in a stream of its GPU, whose memory is taken again just after."""
    import cupy

    if backend.gpu_count() < 2:
        pytest.skip("needs two GPUs")
    x = rng.standard_normal((64, 64)).astype(np.float32)
    for origin, target in ((0, 1), (1, 0)):
        with cupy.cuda.Device(origin):
            stream = cupy.cuda.Stream(non_blocking=True)
            source = cupy.asarray(x)
            cupy.cuda.Device().synchronize()
        for view in (lambda a: a, lambda a: a[::2, 3:].T):
            with cupy.cuda.Device(origin), stream:
                y = source * 2
                for _ in range(3):
                    y = y * 1
                there = backend.to_gpu(view(y), f"gpu:{target}")
                del y
                for _ in range(4):
                    cupy.full((64, 64), np.nan, np.float32)
            with cupy.cuda.Device(target):
                np.testing.assert_array_equal(backend.to_cpu(there * 1), view(2 * x))


def test_errors_name_rule_and_values(monkeypatch):
    monkeypatch.setattr(backend, "_cupy_or_reason", lambda: (None, "CuPy is not installed"))
    with pytest.raises(DeviceError, match="device 'gpu': CuPy is not installed"):
        F.to_device(tensor([1.0]), "gpu")
    with pytest.raises(ArgumentError, match="""a device is "cpu", "gpu" or "gpu:N", got device='tpu'"""):
        F.to_device(np.ones(1), "tpu")
    assert isinstance(F.to_device(tensor([1.0]), "cpu"), Tensor)
