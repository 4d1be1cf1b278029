"""Group normalisation on any array module: some groups at a time, which stay in a CPU's cache from first to last."""

from __future__ import annotations

from typing import Any

from gpunn.backend import Array, accumulation_dtype, get_array_module
from gpunn.ops.shared.chunks import each_block
from gpunn.ops.shared.rows import row_dots, row_sums, unbuffered


def takes(x: Array) -> bool:
    """Whatever comes."""
    return True


@unbuffered
def forward(x: Array, groups: int, weight: Array | None, bias: Array | None, eps: float) -> tuple[Array, Array, Array]:
    """y, and the mean and variance of each group, (N, groups)."""
    xp, acc, n = get_array_module(x), accumulation_dtype(x.dtype), x.shape[0]
    y, (mean, var) = xp.empty(x.shape, x.dtype), xp.empty((2, n * groups), acc)
    rows, result = (a.reshape(n * groups, -1) for a in (x, y))
    count, scales, shifts = rows.shape[1], _each(xp, weight, n, groups, acc), _each(xp, bias, n, groups, acc)

    def block(part: slice) -> None:
        wide = rows[part].astype(acc, copy=False)
        mean[part] = row_sums(xp, wide) / count
        out = xp.subtract(wide, mean[part, None], out=result[part] if acc == y.dtype else None)
        var[part] = row_dots(xp, out, out) / count
        scale = (1 / xp.sqrt(var[part] + eps))[:, None]
        channels = out.reshape(len(out), x.shape[1] // groups, -1)
        channels *= (scale if scales is None else scales[part] * scale)[:, :, None]
        if shifts is not None:
            channels += shifts[part, :, None]
        if acc != y.dtype:
            result[part] = out

    each_block(xp, block, n * groups, count * acc.itemsize)
    return y, mean.reshape(n, groups), var.reshape(n, groups)


@unbuffered
def backward(
    gy: Array, x: Array, mean: Array, var: Array, weight: Array | None, eps: float
) -> tuple[Array, Array, Array]:
    """The gradients of x, weight and bias."""
    xp, acc, (n, groups), c = get_array_module(x), accumulation_dtype(x.dtype), mean.shape, x.shape[1]
    gx, (gw, gb) = xp.empty(x.shape, x.dtype), xp.empty((2, n * groups, c // groups), acc)
    rows, g_rows, result = (a.reshape(n * groups, -1) for a in (x, gy, gx))
    count, scales, means = rows.shape[1], _each(xp, weight, n, groups, acc), mean.reshape(-1)
    invstd = 1 / xp.sqrt(var.reshape(-1, 1) + eps)

    def block(part: slice) -> None:
        g, scale = g_rows[part].astype(acc, copy=False), invstd[part]
        distance = rows[part] - means[part, None]
        of_channels = g.reshape(-1, g.size // (len(g) * gw.shape[1]))
        gb[part] = sums = row_sums(xp, of_channels).reshape(len(g), -1)
        products = row_dots(xp, of_channels, distance.reshape(of_channels.shape)).reshape(len(g), -1)
        gw[part] = products * scale
        each = scale if scales is None else scales[part] * scale
        # out = scale (weight g - mean(weight g) - xhat mean(weight g xhat))
        distance *= (each * products).sum(1, keepdims=True) * (scale * scale / count)
        distance += (each * sums).sum(1, keepdims=True) / count
        out = result[part] if acc == gx.dtype else xp.empty_like(distance)
        of_out = out.reshape(len(g), gw.shape[1], -1)
        xp.multiply(of_channels.reshape(of_out.shape), each[:, :, None], out=of_out)
        out -= distance
        if acc != gx.dtype:
            result[part] = out

    each_block(xp, block, n * groups, count * acc.itemsize)
    return gx, gw.reshape(n, c).sum(0), gb.reshape(n, c).sum(0)


def _each(xp: Any, a: Array | None, n: int, groups: int, acc: Any) -> Array | None:
    """``a`` (C,) beside the groups of all examples: (N groups, channels of a group)."""
    return None if a is None else xp.tile(a.astype(acc, copy=False).reshape(groups, -1), (n, 1))
