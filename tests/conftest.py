"""What every test shares: the three ways to run an operation, and a kernel cache that outlives one test."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest

from gpunn import backend, cuda


class Runner:
    """Runs operations on NumPy, on NumPy through the emulated kernels, or on CuPy, with NumPy arrays in and out."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name

    def __call__(self, function, *args, **settings):
        place = backend.to_gpu if self.name == "cupy" else np.asarray
        args = [place(a) if isinstance(a, np.ndarray) else a for a in args]
        with cuda.emulate() if self.name == "emulated" else contextlib.nullcontext():
            result = function(*args, **settings)
        return tuple(map(backend.to_cpu, result)) if isinstance(result, tuple) else backend.to_cpu(result)


CASES = ["numpy", "emulated", pytest.param("cupy", marks=pytest.mark.gpu)]


@pytest.fixture(params=CASES)
def run(request) -> Runner:
    return Runner(request.param)


@pytest.fixture
def rng() -> np.random.Generator:
    return backend.random_generator(0)


def pytest_collection_modifyitems(items):
    reason = backend.why_no_gpu()
    if reason:
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason=reason))
