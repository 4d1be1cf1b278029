"""The ways to run an operation: on NumPy, by oneDNN, through the emulated kernels, and on CuPy; the kernels' cases."""

from __future__ import annotations

import contextlib
import importlib

import numpy as np
import pytest

from gpunn import backend, cuda
from gpunn.cpu import onednn
from gpunn.data.staging import map_arrays


def moved(values):
    """``values``, nested in tuples, lists and dicts, with each NumPy array on the GPU."""
    return map_arrays(lambda a: _moved(a) if isinstance(a, np.ndarray) else a, values)


def _moved(a):
    """An array that is not contiguous becomes one with gaps, and axes in the same order and direction."""
    copy = backend.to_gpu(a)
    if a.flags.c_contiguous or a.flags.f_contiguous:
        return copy
    xp = backend.get_array_module(copy)
    order = sorted(range(a.ndim), key=lambda axis: -abs(a.strides[axis]))
    whole = xp.empty([2 * a.shape[axis] for axis in order], a.dtype)
    steps = tuple(slice(None, None, -2 if a.strides[axis] < 0 else 2) for axis in order)
    y = whole[steps].transpose([order.index(axis) for axis in range(a.ndim)])
    y[...] = copy
    return y


class Runner:
    """Runs operations with NumPy arrays in and out, wherever they are computed; in settings and tuples, too."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, function, *args, **settings):
        if self.name == "cupy":
            args, settings = moved(args), moved(settings)
        if self.name == "onednn" and (reason := onednn.found()[1]):
            pytest.skip(reason)
        with self._context():
            result = function(*args, **settings)
        return tuple(map(backend.to_cpu, result)) if isinstance(result, tuple) else backend.to_cpu(result)

    def seeds(self, count: int) -> range:
        """For ``count`` random cases; a third of them on CuPy, which compiles for each dtype and number of axes."""
        return range(-(-count // 3) if self.name == "cupy" else count)

    def _context(self):
        if self.name in ("numpy", "onednn"):
            return onednn.engine(self.name)
        return cuda.emulate() if self.name == "emulated" else contextlib.nullcontext()


CUPY = pytest.param("cupy", marks=pytest.mark.gpu)
WITH_KERNEL = ["numpy", "onednn", "emulated", CUPY]
WITHOUT_KERNEL = ["numpy", "onednn", CUPY]


def run_kernel_cases(stem):
    """What the cases of ``kernels/<stem>.cu`` give."""
    return list(importlib.import_module(f"kernel_cases.{stem}").run())


def run_kernel_cases_on_gpu(stem):
    """The same with every NumPy array that an operation is given moved to the GPU first."""
    module = importlib.import_module(f"kernel_cases.{stem}")

    class Moved:
        def __getattr__(self, name):
            function = getattr(operations, name)
            return lambda *args, **settings: function(*moved(args), **moved(settings))

    operations, module.ops = module.ops, Moved()
    try:
        return list(module.run())
    finally:
        module.ops = operations
