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
    scales, shifts = each(weight, n, groups, acc), each(bias, n, groups, acc)

    def block(part: slice) -> None:
        wide = rows[part].astype(acc, copy=False)
        mean[part] = row_sums(xp, wide) / rows.shape[1]
        out = xp.subtract(wide, mean[part, None], out=result[part] if acc == y.dtype else None)
        var[part] = row_dots(xp, out, out) / rows.shape[1]
        scale = (1 / xp.sqrt(var[part] + eps))[:, None]
        channels = out.reshape(len(out), x.shape[1] // groups, -1)
        channels *= (scale if scales is None else scales[part] * scale)[:, :, None]
        if shifts is not None:
            channels += shifts[part, :, None]
        if acc != y.dtype:
            result[part] = out

    each_block(xp, block, n * groups, rows.shape[1] * acc.itemsize)
    return y, mean.reshape(n, groups), var.reshape(n, groups)


@unbuffered
def backward(
    gy: Array, x: Array, mean: Array, var: Array, weight: Array | None, eps: float
) -> tuple[Array, Array, Array]:
    """The gradients of x, weight and bias."""
    xp, acc, (n, groups), c = get_array_module(x), mean.dtype, mean.shape, x.shape[1]
    gx, (gw, gb) = xp.empty(x.shape, x.dtype), xp.empty((2, n * groups, c // groups), acc)
    rows, g_rows, result = (a.reshape(n * groups, -1) for a in (x, gy, gx))
    scales, means, invstd = each(weight, n, groups, acc), mean.reshape(-1), 1 / xp.sqrt(var.reshape(-1, 1) + eps)

    def block(part: slice) -> None:
        g, distance = g_rows[part].astype(acc, copy=False), rows[part] - means[part, None]
        channels = g.reshape(len(g) * gw.shape[1], -1)
        gb[part] = row_sums(xp, channels).reshape(len(g), -1)
        gw[part] = row_dots(xp, channels, distance.reshape(channels.shape)).reshape(len(g), -1)
        scale, mean_g, slope = passed(
            gw[part], gb[part], invstd[part], None if scales is None else scales[part], g[0].size
        )
        distance *= slope
        distance += mean_g
        out = result[part] if acc == gx.dtype else xp.empty_like(distance)
        of_out = out.reshape(len(g), gw.shape[1], -1)
        xp.multiply(g.reshape(of_out.shape), scale[:, :, None], out=of_out)
        out -= distance
        if acc != gx.dtype:
            result[part] = out

    each_block(xp, block, n * groups, rows.shape[1] * acc.itemsize)
    gw *= invstd
    return gx, gw.reshape(n, c).sum(0), gb.reshape(n, c).sum(0)


def passed(of_gx: Array, of_g: Array, invstd: Array, scales: Array | None, count: int) -> tuple[Array, Array, Array]:
    """Of ``gx = scale gy - mean_g - slope (x - mean)`` the three, (groups, channels of a group), twice (groups, 1).

    They are of ``gx = invstd (g - mean(g) - xhat mean(g xhat))`` with g = weight gy.
    """
    xp, scale = get_array_module(of_g), invstd if scales is None else scales * invstd
    mean_g, mean_gx = (row_sums(xp, scale * a)[:, None] / count for a in (of_g, of_gx))
    return scale, mean_g, mean_gx * (invstd * invstd)


def each(a: Array | None, n: int, groups: int, acc: Any) -> Array | None:
    """``a`` (C,) beside the groups of all examples: (N groups, channels of a group)."""
    return None if a is None else get_array_module(a).tile(a.astype(acc, copy=False).reshape(groups, -1), (n, 1))
