"""The library native/algorithms.cpp, called on CuPy's current stream."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
from cupy_backends.cuda.api import runtime

from gpunn.cuda.device import host

NAME = "libgpunn_algorithms.so"

_NAMES = (
    *("bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"),
    *("float16", "bfloat16", "float32", "float64", "complex64", "complex128"),
)
_TYPES = {name: number for number, name in enumerate(_NAMES)}

_library = ctypes.CDLL(NAME)  # loaded when the device was started
_size, _pointer, _int = ctypes.c_size_t, ctypes.c_void_p, ctypes.c_int


def _call(name: str, *types: type) -> Any:
    function = getattr(_library, f"gpunn_algorithm_{name}")
    function.argtypes = ctypes.c_ssize_t, _int, *types
    return function


_calls = {
    "sort": _call("sort", _pointer, _size, _size),
    "argsort": _call("argsort", _pointer, _pointer, _size, _size),
    "lexsort": _call("lexsort", _pointer, _pointer, _size, _size),
    "reduce": _call("reduce", _int, _pointer, _pointer, _size, _size),
    "scan": _call("scan", _int, _pointer, _size),
    "histogram": _call("histogram", _pointer, _size, _pointer, _size, _pointer, _size),
}


def enqueue(name: str, dtype: Any, *arguments: int) -> None:
    """Have an algorithm work on elements of ``dtype``, in the order of the current stream."""
    kind = np.dtype(dtype).name
    if kind not in _TYPES:
        raise NotImplementedError(f"the emulated device does not serve {name} of {kind}")
    runtime.check_status(_calls[name](host.current_stream(), _TYPES[kind], *arguments))


def cub_calls(*functions: Callable[..., object]) -> object:
    """What CuPy's compiled modules look for in ``cupy.cuda.cub``: its functions, for C."""
    function = ctypes.PyDLL(NAME).gpunn_cub_calls
    function.argtypes, function.restype = [ctypes.py_object] * 3, ctypes.py_object
    return function(*functions)
