"""A CUDA device that is not there: the real CuPy, unmodified, runs on the emulator.

Libraries of ours with the names of CUDA's serve the driver's, NVRTC's, cuBLAS's and cuRAND's published API; modules of
CuPy's wheel that have NVIDIA's code linked into them, or stand on other libraries of NVIDIA's, are replaced when they
are imported. The installed wheel stays as it is, and nothing of NVIDIA's is run. README.md of gpunn/cuda/emulator says
how to use it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpunn.cuda.device.settings import Settings

if TYPE_CHECKING:
    from gpunn.cuda.device.process import Running

__all__ = ["Settings", "identity", "running", "start"]

_running: Running | None = None


def start(settings: Settings | None = None) -> None:
    """Start the device in this process, before CuPy is imported.

    Raises DeviceError if CuPy is there already, PackageError if it is not installed or not one that can be served, and
    CompileError without a compiler.
    """
    global _running
    import sys

    from gpunn.cuda.device import wheel
    from gpunn.errors import DeviceError

    if _running is not None:
        return
    if "cupy_backends.cuda.api.runtime" in sys.modules:
        raise DeviceError("device: CuPy has been imported already: start the device before that")
    from gpunn.cuda.device.process import Running

    _running = Running(settings or Settings(), wheel.installed())


def running() -> Settings | None:
    """How the device of this process is, or None if there is none."""
    return _running.settings if _running is not None else None


def identity() -> str:
    """What kernels compiled for the device of this process are good for; empty without one."""
    return _running.identity if _running is not None else ""


def fail(error: BaseException) -> None:
    """Leave the device broken by work of a stream that raised ``error``; in check mode its words alone."""
    assert _running is not None
    _running.fail(error)
