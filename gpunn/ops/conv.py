"""Two-dimensional convolution (cross-correlation), NCHW, with its gradients: the two axes of :mod:`gpunn.ops.conv_nd`.

    y[n,k,oh,ow] = b[k] + sum_{c,r,s} w[k,c,r,s] x[n, c, oh*stride - pad + r*dilation, ow*stride - pad + s*dilation]

x is (N, C, H, W), w is (K, C/groups, KH, KW), b is (K,), y is (N, K, OH, OW) with OH and OW from
:func:`gpunn.ops.window.output_size`. The gradient of b is :func:`gpunn.ops.conv_nd.conv_backward_b`. Source: LeCun
et al. 1998, "Gradient-based learning applied to document recognition"; groups: Krizhevsky et al. 2012.
"""

from __future__ import annotations

from gpunn.backend import Array, operands
from gpunn.ops import conv_nd
from gpunn.ops.window import Padding, Pair, Size, check_shape


def conv2d(
    x: Array,
    w: Array,
    b: Array | None = None,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: int = 1,
) -> Array:
    """Convolve the images x (N, C, H, W) with the filters w (K, C/groups, KH, KW).

    >>> import numpy as np
    >>> conv2d(np.ones((1, 1, 6, 6)), np.ones((1, 1, 3, 3))).shape
    (1, 1, 4, 4)
    """
    return conv_nd.conv(2, x, w, b, stride, padding, dilation, groups)


def conv2d_bias_relu(
    x: Array,
    w: Array,
    b: Array | None = None,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: int = 1,
) -> Array:
    """``relu(conv2d(x, w, b, ...))`` in one pass: y is written once, and what is below 0 never.

    >>> import numpy as np
    >>> conv2d_bias_relu(np.ones((1, 1, 2, 2)), np.array([[[[2.0]]], [[[-2.0]]]]))[0, :, 0, 0].tolist()
    [2.0, 0.0]
    """
    return conv_nd.conv(2, x, w, b, stride, padding, dilation, groups, relu=True)


def conv2d_bias_relu_backward(gy: Array, y: Array) -> Array:
    """The gradient at the convolution's own output: ``gy`` where y > 0, else 0; the gradients of conv2d take it."""
    operands("conv2d_bias_relu_backward", gy=gy, y=y)
    check_shape("conv2d_bias_relu_backward", "gy", gy, y.shape)
    return gy * (y > 0)


def conv2d_backward_x(
    gy: Array, w: Array, x_shape: Size, stride: Pair = 1, padding: Padding = 0, dilation: Pair = 1, groups: int = 1
) -> Array:
    """The gradient with respect to x, (N, C, H, W), from gy, the gradient with respect to y."""
    return conv_nd.conv_backward_x(2, gy, w, x_shape, stride, padding, dilation, groups)


def conv2d_backward_w(
    gy: Array, x: Array, w_shape: Size, stride: Pair = 1, padding: Padding = 0, dilation: Pair = 1, groups: int = 1
) -> Array:
    """The gradient with respect to w, (K, C/groups, KH, KW), summed over the batch."""
    return conv_nd.conv_backward_w(2, gy, x, w_shape, stride, padding, dilation, groups)
