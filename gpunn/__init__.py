"""Neural networks on NumPy and CuPy arrays, with CUDA kernels that can be read, and that run on a CPU in tests."""

import importlib
from typing import TYPE_CHECKING, Any

from gpunn import backend, cuda, errors, ops
from gpunn.backend import manual_seed
from gpunn.casting import autocast
from gpunn.tensor import Tensor, from_dlpack, no_grad, tensor

if TYPE_CHECKING:
    from gpunn import functional, nn, optim, testing
    from gpunn.functional.record import differentiable, kept
    from gpunn.profiler import profile

__version__ = "0.1.0"

__all__ = [
    "Tensor",
    "autocast",
    "backend",
    "cuda",
    "differentiable",
    "errors",
    "from_dlpack",
    "functional",
    "kept",
    "manual_seed",
    "nn",
    "no_grad",
    "ops",
    "optim",
    "profile",
    "tensor",
    "testing",
]

_WHEN_USED = ("functional", "nn", "optim", "testing")  # half of the time of the import, which CI and commands feel


def __getattr__(name: str) -> Any:
    if name in _WHEN_USED:
        return importlib.import_module(f"gpunn.{name}")
    if name in ("differentiable", "kept"):
        return getattr(importlib.import_module("gpunn.functional.record"), name)
    if name == "profile":
        return importlib.import_module("gpunn.profiler").profile
    raise AttributeError(f"module 'gpunn' has no attribute {name!r}")
