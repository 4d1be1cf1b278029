"""Batches moved to a device; to a GPU through pinned memory, on a stream of their own, one batch ahead of its use."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from contextlib import closing
from typing import Any

import numpy as np

from gpunn.backend import to_cpu, to_gpu, use_device


def staged(batches: Generator[Any, None, None], device: str) -> Generator[Any, None, None]:
    """Each batch with its arrays on ``device``, ``"cpu"`` or ``"gpu:N"``; what is no array stays as it is.

    >>> next(staged((batch for batch in [(np.zeros(2), "name")]), "cpu"))
    (array([0., 0.]), 'name')
    """
    return _on_cpu(batches) if device == "cpu" else _on_gpu(batches, device)


def _on_cpu(batches: Generator[Any, None, None]) -> Generator[Any, None, None]:
    with closing(batches):
        for batch in batches:
            yield map_arrays(to_cpu, batch)


def _on_gpu(batches: Generator[Any, None, None], device: str) -> Generator[Any, None, None]:
    """A copy of batch k + 1 runs beside the computation on batch k.

    Memory: the new arrays are allocated on the caller's stream, so their blocks may still be in use by kernels queued
    there; hence the copy first waits for that stream, as it is before batch k is handed out. The host waits for a copy
    before it hands its batch out. A pinned buffer lives until its copy has ended.
    """
    with use_device(device):
        cupy = sys.modules["cupy"]
        copies = cupy.cuda.Stream(non_blocking=True)
    ahead: tuple[Any, Any, list[Any]] | None = None
    try:
        for batch in batches:
            with use_device(device):
                following = _begin_copy(cupy, copies, batch, device)
                ready, ahead = ahead, following
            if ready is not None:
                yield _hand_out(*ready)
            del batch, ready
        if ahead is not None:
            ready, ahead = ahead, None
            yield _hand_out(*ready)
    finally:
        copies.synchronize()  # where the loop is left early, a copy may still run into memory about to be freed
        batches.close()


def _begin_copy(cupy: Any, copies: Any, batch: Any, device: str) -> tuple[Any, Any, list[Any]]:
    import cupyx

    copies.wait_event(cupy.cuda.get_current_stream().record())
    pinned: list[Any] = []

    def copy(x: Any) -> Any:
        if not isinstance(x, np.ndarray) or x.size == 0:
            return to_gpu(x, device)
        buffer = cupyx.empty_pinned(x.shape, x.dtype)
        buffer[...] = x
        pinned.append(buffer)
        y = cupy.empty(x.shape, x.dtype)
        y.set(buffer, stream=copies)
        return y

    return map_arrays(copy, batch), copies.record(), pinned


def _hand_out(batch: Any, copied: Any, pinned: list[Any]) -> Any:
    copied.synchronize()  # ended long ago, but in the first batch: only now may the pinned buffers go
    pinned.clear()
    return batch


def map_arrays(function: Callable[[Any], Any], batch: Any) -> Any:
    """``batch``, of nested dicts, tuples and lists, with ``function`` of each of its arrays in place of that.

    >>> map_arrays(len, {"x": (np.zeros(3), "name")})
    {'x': (3, 'name')}
    """
    if isinstance(batch, dict):
        return {key: map_arrays(function, value) for key, value in batch.items()}
    if isinstance(batch, tuple | list):
        parts = [map_arrays(function, part) for part in batch]
        return type(batch)(*parts) if hasattr(batch, "_fields") else type(batch)(parts)
    return function(batch) if hasattr(batch, "dtype") and hasattr(batch, "shape") else batch
