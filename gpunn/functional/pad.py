"""Differentiable padding; see :mod:`gpunn.ops.pad`."""

from __future__ import annotations

from typing import Any

from gpunn.functional.record import differentiable, raw
from gpunn.ops import pad as ops
from gpunn.ops.pad import PadMode


def pad(x: Any, pads: tuple[int, ...], mode: PadMode = "constant", value: float = 0.0) -> Any:
    """x with elements added along its last axes: ``pads`` is (left, right), or (left, right, top, bottom), and so on.

    ``mode`` is ``"constant"`` (``value``; negative pads take away), ``"reflect"`` (mirrored at the outermost element),
    ``"replicate"`` (the outermost element) or ``"circular"`` (from the other end).

    >>> import numpy as np
    >>> pad(np.array([[1.0, 2.0, 3.0]]), (2, 1), "reflect").tolist()
    [[3.0, 2.0, 1.0, 2.0, 3.0, 2.0]]
    """
    y = ops.pad(raw(x), pads, mode, value)
    shape, kept_pads = x.shape, tuple(pads)
    return differentiable(y, (x,), lambda gy, _: (ops.pad_backward(gy, shape, kept_pads, mode),))
