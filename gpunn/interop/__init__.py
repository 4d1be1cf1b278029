"""Other programs: models as ONNX files (:mod:`gpunn.interop.onnx`), the weights of other libraries (``load_state``),
functions among those of PyTorch (:mod:`gpunn.interop.torch`), the calls that CuPy had of cuDNN
(:mod:`gpunn.interop.cudnn`)."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gpunn.interop import cudnn, onnx, torch
    from gpunn.interop.weights import load_state

__all__ = ["cudnn", "load_state", "onnx", "torch"]


if not TYPE_CHECKING:  # who checks types is told of the names above, and of no others

    def __getattr__(name: str) -> Any:
        # When used: who wants a function of cuDNN's need not wait for layers and readers of files.
        if name == "load_state":
            globals()[name] = importlib.import_module("gpunn.interop.weights").load_state
            return globals()[name]
        if name in __all__:
            return importlib.import_module(f"gpunn.interop.{name}")
        raise AttributeError(f"module 'gpunn.interop' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
