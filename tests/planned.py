"""Operations with the arrays first and the settings last, of which the plan is made; and those of images by name."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace

from gpunn.ops import activation, norm, pool
from gpunn.ops import block as blocks
from gpunn.ops import conv as convolution
from gpunn.ops.conv import transpose
from gpunn.ops.pool import global_pool as whole
from gpunn.ops.shared.checks import shapes_of


def _conv(rank, x, w, b=None, *settings, relu=False, **named):
    return convolution.forward(
        convolution.plan(rank, *shapes_of(f"conv{rank}d", x=x, w=w), *settings, **named), x, w, b, relu
    )


def _backward_x(room, rank, gy, w, x_shape, *settings, **named):
    return room.backward_x(room.plan(rank, x_shape, w.shape, *settings, **named), gy, w)


def _backward_w(room, rank, gy, x, w_shape, *settings, **named):
    return room.backward_w(room.plan(rank, x.shape, w_shape, *settings, **named), gy, x)


conv = SimpleNamespace(
    conv=_conv,
    conv_backward_x=partial(_backward_x, convolution),
    conv_backward_w=partial(_backward_w, convolution),
    conv_backward_b=convolution.backward_b,
    conv2d=partial(_conv, 2),
    conv2d_bias_relu=partial(_conv, 2, relu=True),
    conv2d_bias_relu_backward=activation.relu_backward,
    conv2d_backward_x=partial(_backward_x, convolution, 2),
    conv2d_backward_w=partial(_backward_w, convolution, 2),
)


def _transposed(rank, x, w, b=None, *settings, **named):
    return transpose.forward(transpose.plan(rank, x.shape, w.shape, *settings, **named), x, w, b)


transposed = SimpleNamespace(
    conv_transpose=_transposed,
    conv_transpose_backward_x=partial(_backward_x, transpose),
    conv_transpose_backward_w=partial(_backward_w, transpose),
)


def _max_pool(rank, x, *settings, **named):
    return pool.max_pool(pool.max_plan(rank, x.shape, *settings, **named), x)


def _max_pool_backward(rank, gy, place, x_shape, *settings, **named):
    return pool.max_pool_backward(pool.max_plan(rank, x_shape, *settings, **named), gy, place)


def _max_pool_indices(rank, place, x_shape, *settings, **named):
    return pool.max_pool_indices(pool.max_plan(rank, x_shape, *settings, **named), place)


def _avg_pool(rank, x, *settings, **named):
    return pool.avg_pool(pool.avg_plan(rank, x.shape, *settings, **named), x)


def _avg_pool_backward(rank, gy, x_shape, *settings, **named):
    return pool.avg_pool_backward(pool.avg_plan(rank, x_shape, *settings, **named), gy)


pooling = SimpleNamespace(
    max_pool=_max_pool,
    max_pool_backward=_max_pool_backward,
    max_pool_indices=_max_pool_indices,
    avg_pool=_avg_pool,
    avg_pool_backward=_avg_pool_backward,
    max_pool2d=partial(_max_pool, 2),
    max_pool2d_backward=partial(_max_pool_backward, 2),
    max_pool2d_indices=partial(_max_pool_indices, 2),
    avg_pool2d=partial(_avg_pool, 2),
    avg_pool2d_backward=partial(_avg_pool_backward, 2),
)


global_pool = SimpleNamespace(
    global_avg_pool=whole.global_avg_pool,
    global_avg_pool_backward=whole.global_avg_pool_backward,
    global_max_pool=whole.global_max_pool,
    global_max_pool_backward=whole.global_max_pool_backward,
    global_avg_pool2d=partial(whole.global_avg_pool, 2),
    global_avg_pool2d_backward=partial(whole.global_avg_pool_backward, 2),
    global_max_pool2d=partial(whole.global_max_pool, 2),
    global_max_pool2d_backward=partial(whole.global_max_pool_backward, 2),
)


def _lrn(x, *settings, **named):
    return norm.local_response_norm(norm.lrn_plan(x.shape, *settings, **named), x)


def _lrn_backward(gy, x, *settings, **named):
    return norm.local_response_norm_backward(norm.lrn_plan(x.shape, *settings, **named), gy, x)


lrn = SimpleNamespace(local_response_norm=_lrn, local_response_norm_backward=_lrn_backward)


def _pool_lrn(x, b, *settings, **named):
    return blocks.bias_relu_pool_lrn(blocks.plan("pool_lrn", x.shape, *settings, **named), x, b)


def _pool_lrn_backward(gy, pooled, place, x_shape, *settings, **named):
    return blocks.bias_relu_pool_lrn_backward(blocks.plan("pool_lrn", x_shape, *settings, **named), gy, pooled, place)


def _lrn_pool(x, b, *settings, **named):
    return blocks.bias_relu_lrn_pool(blocks.plan("lrn_pool", x.shape, *settings, **named), x, b)


def _lrn_pool_backward(gy, x, b, place, *settings, **named):
    return blocks.bias_relu_lrn_pool_backward(blocks.plan("lrn_pool", x.shape, *settings, **named), gy, x, b, place)


block = SimpleNamespace(
    bias_relu_pool_lrn=_pool_lrn,
    bias_relu_pool_lrn_backward=_pool_lrn_backward,
    bias_relu_lrn_pool=_lrn_pool,
    bias_relu_lrn_pool_backward=_lrn_pool_backward,
)
