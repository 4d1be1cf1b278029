"""The ways to run an operation: on NumPy, on NumPy through the emulated kernels, and on CuPy."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest

from gpunn import backend, cuda


class Runner:
    """Runs operations with NumPy arrays in and out, wherever they are computed."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, function, *args, **settings):
        place = backend.to_gpu if self.name == "cupy" else np.asarray
        args = [place(a) if isinstance(a, np.ndarray) else a for a in args]
        with cuda.emulate() if self.name == "emulated" else contextlib.nullcontext():
            result = function(*args, **settings)
        return tuple(map(backend.to_cpu, result)) if isinstance(result, tuple) else backend.to_cpu(result)


CUPY = pytest.param("cupy", marks=pytest.mark.gpu)
WITH_KERNEL = ["numpy", "emulated", CUPY]
WITHOUT_KERNEL = ["numpy", CUPY]
