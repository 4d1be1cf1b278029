from collections.abc import Iterator
from importlib import metadata

import peer
import pytest


@pytest.fixture(params=[(device, side) for device in peer.DEVICES for side in peer.SIDES], ids="-".join)
def bench(request) -> Iterator[peer.Bench]:
    """Each side on each device; what this machine does not have is skipped."""
    device, side = request.param
    if reason := peer.why_not(device, "gpunn"):
        pytest.skip(reason)
    yield peer.Bench(lambda: request.getfixturevalue("benchmark"), device, side)
    if device == "gpu":
        peer.free_memory()


def pytest_benchmark_update_machine_info(config, machine_info) -> None:
    del machine_info["node"]  # a host's name says nothing of its speed
    installed = {dist.name for dist in metadata.distributions()}
    packages = ("numpy", "cupy-cuda12x", "cupy-cuda13x", "torch", "scikit-image")
    machine_info["packages"] = {name: metadata.version(name) for name in packages if name in installed}


@pytest.fixture(scope="session", autouse=True)
def settings_of_pytorch():
    """Full float32 everywhere, and the convolution algorithms that its own trials find fastest."""
    torch = pytest.importorskip("torch")
    peer.torch_precision("fp32")
    torch.backends.cudnn.benchmark = True
