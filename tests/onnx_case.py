"""Exported files, checked and run: by ONNX's reference implementation, and by onnxruntime where it is installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from gpunn import nn
from gpunn.functional.record import raw
from gpunn.interop.onnx import export
from gpunn.interop.trace import leaves
from gpunn.tensor import no_grad


class LRN(OpRun):
    """The formula of ONNX's operator; onnx 1.23 fills as many channels as there are examples."""

    def _run(self, x, alpha=None, beta=None, bias=None, size=None):
        squares = np.zeros_like(x)
        for c in range(x.shape[1]):
            squares[:, c] = (x[:, max(0, c - (size - 1) // 2) : c + size // 2 + 1] ** 2).sum(1)
        return ((x / (bias + alpha / size * squares) ** beta).astype(x.dtype),)


class Of(nn.Module):
    """A function as a model."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def forward(self, *xs: Any) -> Any:
        return self.function(*xs)


def _reference(path: Path, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
    return ReferenceEvaluator(str(path), new_ops=[LRN]).run(None, feed)


def _runtime(path: Path, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
    import onnxruntime

    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, feed)


RUN_BY = [_reference, *([_runtime] if importlib.util.find_spec("onnxruntime") else [])]


def drawn(shape: Sequence[int], seed: int, dtype: Any = np.float32, below: int = 5) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return rng.standard_normal(shape).astype(dtype)
    return rng.integers(0, 2 if dtype is bool else below, shape).astype(dtype)


def check_export(
    path: Path, model: nn.Module, shapes: Sequence[Sequence[int]], dtypes: Sequence[Any] = (), *, batches=(1, 2, 5),
    make: Callable[[np.ndarray], np.ndarray] = lambda x: x, run_by=tuple(RUN_BY), **settings: Any,
) -> onnx.ModelProto:  # fmt: skip
    """Export for inputs of ``shapes`` without the axis of examples, and compare on several numbers of examples."""
    dtypes = dtypes or [np.float32] * len(shapes)

    def inputs(n: int, seed: int) -> tuple[np.ndarray, ...]:
        return tuple(make(drawn((n, *s), seed + k, d)) for k, (s, d) in enumerate(zip(shapes, dtypes, strict=True)))

    export(model, inputs(batches[0], 0), path, **settings)
    onnx.checker.check_model(str(path), full_check=True)
    written = onnx.load(path)
    for n in batches:
        given = inputs(n, 10 + n)
        with no_grad(), model.evaluating():
            expected = [raw(y) for y in leaves(model(*given))]
        feed = {each.name: x for each, x in zip(written.graph.input, given, strict=True)}
        for run in run_by:
            results = run(path, feed)
            assert len(results) == len(expected)
            for got, y in zip(results, expected, strict=True):
                assert (got.shape, got.dtype) == (y.shape, y.dtype), run
                if y.dtype.kind == "f":
                    # Other orders of summation: some roundings of the largest elements.
                    largest = float(np.abs(y[np.isfinite(y)]).max(initial=0))
                    np.testing.assert_allclose(got, y, rtol=2e-5, atol=5e-6 * largest, err_msg=run.__name__)
                else:
                    np.testing.assert_array_equal(got, y, err_msg=run.__name__)
    return written
