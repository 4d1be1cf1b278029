"""Layer normalisation on any array module: some rows at a time, which stay in a CPU's cache from first to last."""

from __future__ import annotations

from gpunn.backend import Array, accumulation_dtype, get_array_module
from gpunn.ops.shared.chunks import block_length, each_block, sum_over_blocks
from gpunn.ops.shared.rows import column_sums, outer, repeated, row_dots, row_sums, unbuffered


def takes(rows: Array) -> bool:
    """Whatever comes."""
    return True


@unbuffered
def forward(rows: Array, weight: Array | None, bias: Array | None, eps: float) -> tuple[Array, Array, Array]:
    """y (R, P), and the mean and variance of each row."""
    xp, acc, (count, length) = get_array_module(rows), accumulation_dtype(rows.dtype), rows.shape
    y, mean, var = xp.empty(rows.shape, rows.dtype), xp.empty(count, acc), xp.empty(count, acc)
    w = xp.ones(length, acc) if weight is None else weight.astype(acc, copy=False)
    together = block_length(xp, count, length * acc.itemsize)
    biases = None if bias is None else repeated(xp, bias.astype(acc, copy=False), together)

    def block(part: slice) -> None:
        wide = rows[part].astype(acc, copy=False)
        mean[part] = row_sums(xp, wide) / length
        out = xp.subtract(wide, mean[part, None], out=y[part] if acc == y.dtype else None)
        var[part] = row_dots(xp, out, out) / length
        out *= outer(xp, 1 / xp.sqrt(var[part] + eps), w)
        if biases is not None:
            out += biases[: len(out)]
        if acc != y.dtype:
            y[part] = out

    each_block(xp, block, count, length * acc.itemsize)
    return y, mean, var


@unbuffered
def backward(
    gy: Array, rows: Array, mean: Array, var: Array, weight: Array | None, eps: float
) -> tuple[Array, Array, Array]:
    """The gradients of the rows, of weight and of bias."""
    xp, acc, (count, length) = get_array_module(rows), accumulation_dtype(rows.dtype), rows.shape
    gx, invstd, ones = xp.empty(rows.shape, rows.dtype), 1 / xp.sqrt(var + eps), xp.ones(count, acc)
    w = xp.ones(length, acc) if weight is None else weight.astype(acc, copy=False)

    def block(part: slice) -> tuple[Array, Array]:
        g, scale = gy[part].astype(acc, copy=False), invstd[part]
        distance = rows[part] - mean[part, None]
        out = xp.multiply(g, distance, out=gx[part] if acc == gx.dtype else None)
        gw, gb = column_sums(xp, out, scale), column_sums(xp, g, ones[part])
        distance *= (row_sums(xp, out, w) * scale * scale * (scale / length))[:, None]
        distance += (row_sums(xp, g, w) * (scale / length))[:, None]
        xp.multiply(g, outer(xp, scale, w), out=out)
        out -= distance
        if acc != gx.dtype:
            gx[part] = out
        return gw, gb

    gw, gb = sum_over_blocks(xp, block, count, length * acc.itemsize)
    return gx, gw, gb
