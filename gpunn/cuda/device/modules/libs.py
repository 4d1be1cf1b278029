"""``cupy_backends.cuda.libs``: the package of the wheel's bindings, with libraries of ours behind some of them.

The wheel's own package looks for NVIDIA's libraries before it imports a binding, and so does ``cupy.cuda`` for cuFFT.
What is found first are libraries that this process has loaded: for cuSOLVER, cuSPARSE and cuFFT they have next to
nothing in them, since modules in Python stand in the place of the bindings.
"""

from __future__ import annotations

import ctypes
import importlib
from pathlib import Path
from typing import Any

import cupy_backends.cuda

from gpunn.cuda.device import libraries, wheel

__path__ = [str(Path(folder) / "libs") for folder in cupy_backends.cuda.__path__]

_SERVED = ("cublas", "curand", "cusolver", "cusparse", "nvrtc", "nvtx")
_NOT_SERVED = ("nccl", "cutensor", "cusparselt")

_NAMES = {
    12: ("libcusolver.so.11", "libcusparse.so.12", "libcufft.so.11"),
    13: ("libcusolver.so.12", "libcusparse.so.12", "libcufft.so.12"),
}


def _loaded() -> ctypes.CDLL:
    """Load the libraries; return cuSOLVER's."""
    sources = ("cusolver.cpp",), ("named.cpp",), ("named.cpp",)
    named = zip(_NAMES[wheel.installed().cuda], sources, strict=True)
    made = [libraries.Library(name, source, options=libraries._VERSIONED) for name, source in named]
    cusolver, *_ = [ctypes.CDLL(str(libraries._built(library, [])), ctypes.RTLD_GLOBAL) for library in made]
    return cusolver


gpunn_cusolver = _loaded()


def __getattr__(name: str) -> Any:
    if name in _SERVED:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _NOT_SERVED:
        raise ImportError(f"{name} is not served by the emulated device")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
