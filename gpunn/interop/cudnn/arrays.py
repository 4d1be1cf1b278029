"""What the calls have in common: their arrays checked, their results written, their device made the current one."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from gpunn.backend import Array, device_context, device_of, get_array_module, operands
from gpunn.errors import ArgumentError, DeviceError, DtypeError, check, fail
from gpunn.interop.cudnn.constants import CUDNN_TENSOR_NCHW, CUDNN_TENSOR_NHWC


def on_device(op: str, **arrays: Array | None) -> AbstractContextManager[Any]:
    """A context on the device of the arrays, which must be of one floating dtype and on one device; None is left out.

    >>> with on_device("cudnn.pooling_forward", x=np.ones(2), y=None):
    ...     pass
    """
    given = {name: array for name, array in arrays.items() if array is not None}
    operands(op, **given)
    for name, array in given.items():
        if array.dtype.kind != "f":
            fail(DtypeError, op, f"{name} must be of float16, float32 or float64", dtype=str(array.dtype))
    devices = {name: device_of(array) for name, array in given.items()}
    check(len(set(devices.values())) == 1, DeviceError, op, "arrays must be on one device", **devices)
    return device_context(next(iter(given.values())))


def write(op: str, name: str, out: Array, value: Array) -> None:
    """Write ``value`` to ``out``, which has its shape and dtype, in place."""
    if type(out) is np.ndarray and not out.flags.writeable:
        fail(ArgumentError, op, f"{name} is written, and must not be read-only", shape=out.shape)
    out[...] = value


def channels_first(op: str, name: str, array: Array, layout: int) -> Array:
    """A view (N, C, ...) of an array of this layout: of NHWC the last axis comes second.

    >>> channels_first("cudnn.convolution_forward", "x", np.ones((2, 5, 6, 3)), CUDNN_TENSOR_NHWC).shape
    (2, 3, 5, 6)
    """
    rule = f"the layout of {name} must be CUDNN_TENSOR_NCHW (0) or CUDNN_TENSOR_NHWC (1)"
    check(layout in (CUDNN_TENSOR_NCHW, CUDNN_TENSOR_NHWC), ArgumentError, op, rule, layout=layout)
    return array if layout == CUDNN_TENSOR_NCHW else get_array_module(array).moveaxis(array, -1, 1)
