"""Other programs: models as ONNX files (:mod:`gpunn.interop.onnx`), the weights of other libraries (``load_state``),
functions among those of PyTorch (:mod:`gpunn.interop.torch`), the calls that CuPy had of cuDNN
(:mod:`gpunn.interop.cudnn`)."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gpunn.interop.weights import load_state

__all__ = ["load_state"]


def __getattr__(name: str) -> Any:
    if name in __all__:  # layers and readers of files, which who wants a function of cuDNN's need not wait for
        globals()[name] = getattr(importlib.import_module("gpunn.interop.weights"), name)
        return globals()[name]
    raise AttributeError(f"module 'gpunn.interop' has no attribute {name!r}")
