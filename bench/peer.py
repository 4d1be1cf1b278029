"""Runs a job in gpunn and in PyTorch, side by side in one process."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

SIDES = ["gpunn", "pytorch"]


def arrays(*shapes: tuple[int, ...]) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [generator.standard_normal(shape, dtype=np.float32) for shape in shapes]


def tensors(*values: np.ndarray) -> list:
    torch = pytest.importorskip("torch")
    return [torch.from_numpy(v) for v in values]


def measure(benchmark, side: str, job: str, shape: str, sides: dict[str, Callable[[], object]]) -> None:
    """Time one side; ``bench/report.py`` pairs the sides of a job and shape."""
    benchmark.extra_info.update(side=side, job=job, shape=shape)
    benchmark.group = f"{job} {shape}"
    benchmark.pedantic(sides[side], warmup_rounds=3, rounds=15, iterations=1)
