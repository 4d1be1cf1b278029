"""Neural networks on NumPy and CuPy arrays, with CUDA kernels that can be read, and that run on a CPU in tests."""

import importlib
from typing import TYPE_CHECKING, Any

from gpunn import backend, cuda, errors, ops
from gpunn.backend import manual_seed
from gpunn.casting import autocast
from gpunn.tensor import Tensor, from_dlpack, no_grad, tensor

if TYPE_CHECKING:
    from gpunn import (
        checkpoint,
        data,
        distributed,
        functional,
        interop,
        models,
        nn,
        optim,
        plot,
        profiler,
        testing,
        train,
    )
    from gpunn import sklearn as sklearn
    from gpunn.functional.own import differentiable
    from gpunn.functional.record import kept
    from gpunn.profiler.profile import profile

__version__ = "0.1.0"

__all__ = [
    "Tensor",
    "autocast",
    "backend",
    "checkpoint",
    "cuda",
    "data",
    "differentiable",
    "distributed",
    "errors",
    "from_dlpack",
    "functional",
    "interop",
    "kept",
    "manual_seed",
    "models",
    "nn",
    "no_grad",
    "ops",
    "optim",
    "plot",
    "profile",
    "profiler",
    "tensor",
    "testing",
    "train",
]


_OF_FUNCTIONAL = {"differentiable": "own", "kept": "record"}

if not TYPE_CHECKING:  # who checks types is told of the names above, and of no others

    def __getattr__(name: str) -> Any:
        if name == "profile":
            return importlib.import_module("gpunn.profiler").profile
        if name in _OF_FUNCTIONAL:
            return getattr(importlib.import_module(f"gpunn.functional.{_OF_FUNCTIONAL[name]}"), name)
        if name in __all__:  # when used: half of the time of the import, which CI and commands feel
            return importlib.import_module(f"gpunn.{name}")
        if name == "sklearn":  # not in __all__: `from gpunn import *` does not need scikit-learn
            try:
                return importlib.import_module("gpunn.sklearn")
            except errors.PackageError as error:  # help() and the like look at all that dir() lists
                raise AttributeError(str(error)) from error
        raise AttributeError(f"module 'gpunn' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "sklearn"})
