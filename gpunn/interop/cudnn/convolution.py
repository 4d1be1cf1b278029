"""Convolutions and their gradients, by :mod:`gpunn.ops.conv`."""

from __future__ import annotations

from gpunn.backend import Array
from gpunn.errors import ArgumentError, check
from gpunn.interop.cudnn.arrays import channels_first, on_device, write
from gpunn.interop.cudnn.constants import CUDNN_TENSOR_NCHW
from gpunn.ops import conv
from gpunn.ops.shared.checks import check_shape

Settings = tuple[int, ...]


def convolution_forward(
    x: Array, W: Array, b: Array | None, y: Array,
    pad: Settings, stride: Settings, dilation: Settings | None, groups: int, *,
    auto_tune: bool = True, tensor_core: str = "auto",
    d_layout: int = CUDNN_TENSOR_NCHW, w_layout: int = CUDNN_TENSOR_NCHW,
) -> None:  # fmt: skip
    """Write the cross-correlation of x (N, C, ...) with the filters W (K, C / groups, ...) to y (N, K, ...), plus b.

    One, two or three axes, with an entry of ``pad``, ``stride`` and ``dilation`` each. ``d_layout`` is that of x and y,
    ``w_layout`` that of W. ``auto_tune`` and ``tensor_core`` (``"always"``, ``"auto"`` or ``"never"``) only tune cuDNN,
    and change nothing here: :func:`gpunn.cuda.autotune` and :func:`gpunn.backend.matmul_precision` are for that.

    >>> import numpy as np
    >>> x, W, y = np.arange(4.0).reshape(1, 1, 1, 4), np.ones((1, 1, 1, 2)), np.empty((1, 1, 1, 3))
    >>> convolution_forward(x, W, None, y, (0, 0), (1, 1), (1, 1), 1, auto_tune=True, tensor_core="auto")
    >>> y.tolist()
    [[[[1.0, 3.0, 5.0]]]]
    """
    op = "cudnn.convolution_forward"
    _check_tuning(op, tensor_core)
    with on_device(op, x=x, W=W, b=b, y=y):
        x, y = channels_first(op, "x", x, d_layout), channels_first(op, "y", y, d_layout)
        W = channels_first(op, "W", W, w_layout)
        plan = conv.plan(x.ndim - 2, x.shape, W.shape, stride, pad, dilation or 1, groups)
        check_shape(op, "y", y, plan.y_shape)
        write(op, "y", y, conv.forward(plan, x, W, None if b is None else b.reshape(-1)))


def convolution_backward_filter(
    x: Array, gy: Array, gW: Array,
    pad: Settings, stride: Settings, dilation: Settings | None, groups: int, *,
    deterministic: bool = True, auto_tune: bool = True, tensor_core: str = "auto",
    d_layout: int = CUDNN_TENSOR_NCHW, w_layout: int = CUDNN_TENSOR_NCHW,
) -> None:  # fmt: skip
    """Write the gradient with respect to the filters to gW, from x and gy, the gradient with respect to y.

    The settings are those of :func:`convolution_forward`; the result is the same in every run, ``deterministic`` or
    not.
    """
    op = "cudnn.convolution_backward_filter"
    _check_tuning(op, tensor_core)
    with on_device(op, x=x, gy=gy, gW=gW):
        x, gy = channels_first(op, "x", x, d_layout), channels_first(op, "gy", gy, d_layout)
        gW = channels_first(op, "gW", gW, w_layout)
        plan = conv.plan(x.ndim - 2, x.shape, gW.shape, stride, pad, dilation or 1, groups)
        write(op, "gW", gW, conv.backward_w(plan, gy, x))


def convolution_backward_data(
    W: Array, x: Array, b: Array | None, y: Array,
    pad: Settings, stride: Settings, dilation: Settings | None, groups: int, *,
    deterministic: bool = True, auto_tune: bool = True, tensor_core: str = "auto",
    d_layout: int = CUDNN_TENSOR_NCHW, w_layout: int = CUDNN_TENSOR_NCHW,
) -> None:  # fmt: skip
    """Write the gradient of a convolution with respect to its input to y, from that of its output, x, and add b.

    This is the transposed convolution of x (N, K, ...) with W (K, C / groups, ...); y (N, C, ...) has the size of the
    input, b (C,). The settings are those of :func:`convolution_forward`; the result is the same in every run.
    """
    op = "cudnn.convolution_backward_data"
    _check_tuning(op, tensor_core)
    with on_device(op, W=W, x=x, b=b, y=y):
        x, y = channels_first(op, "x", x, d_layout), channels_first(op, "y", y, d_layout)
        W = channels_first(op, "W", W, w_layout)
        plan = conv.plan(y.ndim - 2, y.shape, W.shape, stride, pad, dilation or 1, groups)
        check_shape(op, "x", x, plan.y_shape)
        result = conv.backward_x(plan, x, W)
        if b is not None:
            check_shape(op, "b", b.reshape(-1), y.shape[1:2])
            result += b.reshape(-1, *(1,) * (y.ndim - 2))
        write(op, "y", y, result)


def _check_tuning(op: str, tensor_core: str) -> None:
    known = tensor_core in ("always", "auto", "never")
    check(known, ArgumentError, op, 'tensor_core must be "always", "auto" or "never"', tensor_core=tensor_core)
