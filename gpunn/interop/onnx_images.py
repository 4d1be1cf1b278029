"""Images in ONNX: resampled, unfolded to columns and folded, pooled by powers, and maxima put back.

How a translation looks says :mod:`gpunn.interop.onnx_nodes`.
"""

from __future__ import annotations

from collections.abc import Callable
from math import floor, inf, prod
from typing import Any

import numpy as np

from gpunn.interop.onnx_graph import Graph, Name
from gpunn.interop.onnx_layers import adaptive_pool, avg_pool, max_pool
from gpunn.interop.trace import Value
from gpunn.ops.shared.window import output_size, window


def _beside(g: Graph, x: Value, name: Name) -> Value:
    """An array of the sizes and dtype of ``x`` that is called ``name``."""
    made = Value(x.shape, x.dtype, follows_input=True, growth=x.growth, others=x.others)
    g.bind(made, name)
    return made


# ---- resampling -----------------------------------------------------------------------------------------------------


def interpolate(
    g: Graph, x: Value, size: Any, scale_factor: Any, mode: str, align_corners: bool | None,
    recompute_scale_factor: bool | None, antialias: bool,
) -> Name:  # fmt: skip
    """Resize; sizes that are given, and not factors, may stay open only where the axis keeps its size."""
    if mode == "area":
        made = adaptive_pool(g, x, size, reduce="ReduceMean")
        assert isinstance(made, str)
        return made
    rank, y = x.ndim - 2, g.results[0]
    attributes: dict[str, Any] = {"mode": {"bicubic": "cubic"}.get(mode, "nearest" if "nearest" in mode else "linear")}
    attributes["coordinate_transformation_mode"] = "asymmetric" if mode == "nearest" else "half_pixel"
    if "nearest" in mode:
        attributes["nearest_mode"] = "floor" if mode == "nearest" else "round_prefer_ceil"
    elif antialias:
        attributes |= {"antialias": 1, "exclude_outside": 1}
    elif align_corners:
        attributes["coordinate_transformation_mode"] = "align_corners"
    if mode == "bicubic":
        attributes["cubic_coeff_a"] = -0.5 if antialias else -0.75
    # ONNX's programs resample four axes in all modes.
    lifted = g.node("Unsqueeze", x, g.integers(2)) if rank == 1 else g.name(x)
    flat = [1] if rank == 1 else []
    factors = _factors(scale_factor, rank, x, y) if scale_factor is not None and not recompute_scale_factor else None
    if align_corners and factors is not None and any(factor % 1 for factor in factors):
        factors = None  # by the ratio of the sizes
    if factors is not None:
        made = g.node("Resize", lifted, None, g.constant([1, 1, *flat, *factors], np.float32), **attributes)
    else:
        g.need_fixed(y, [axis for axis in range(2, y.ndim) if y.sizes(axis) != x.sizes(axis)])
        ends = [g.size_of(x, axis) if x.sizes(axis) == y.sizes(axis) else g.integers(y.shape[axis])
                for axis in range(2, y.ndim)]  # fmt: skip
        sizes = g.node("Concat", g.size_of(x, 0), g.size_of(x, 1), *(g.integers(1) for _ in flat), *ends, axis=0)
        made = g.node("Resize", lifted, None, None, sizes, **attributes)
    return g.node("Squeeze", made, g.integers(2)) if rank == 1 else made


def _factors(given: Any, rank: int, x: Value, y: Value) -> list[float] | None:
    """The factors, if a float of 32 bits gives the same sizes; else None."""
    factors = [float(each) for each in (given if isinstance(given, tuple | list) else (given,) * rank)]
    sizes = [floor(np.float32(n) * np.float32(factor)) for n, factor in zip(x.shape[2:], factors, strict=True)]
    return factors if tuple(sizes) == y.shape[2:] else None


def grid_sample(g: Graph, x: Value, grid: Value, mode: str, padding_mode: str, align_corners: bool | None) -> Name:
    if x.ndim != 4 and g.opset < 20:
        g.refuse("volumes need opset=20", opset=g.opset)
    word = {"bilinear": "linear", "bicubic": "cubic"}.get(mode, mode) if g.opset >= 20 else mode
    return g.node("GridSample", x, grid, mode=word, padding_mode=padding_mode, align_corners=int(bool(align_corners)))


def pixel_shuffle(g: Graph, x: Value, upscale_factor: int) -> Name:
    return _exchanged(g, x, lambda y: g.node("DepthToSpace", y, blocksize=upscale_factor, mode="CRD"))


def pixel_unshuffle(g: Graph, x: Value, downscale_factor: int) -> Name:
    g.need_fixed(x, [x.ndim - 3])
    # SpaceToDepth counts the pixels of a block first, then the channels.
    order = np.arange(x.shape[-3] * downscale_factor**2).reshape(downscale_factor**2, -1).T.reshape(-1)

    def exchange(y: Name) -> Name:
        return g.node("Gather", g.node("SpaceToDepth", y, blocksize=downscale_factor), g.integers(*order), axis=1)

    return _exchanged(g, x, exchange)


def _exchanged(g: Graph, x: Value, exchange: Callable[[Name], Name]) -> Name:
    """``exchange`` of images (N, C, H, W), for images with any axes before the last three."""
    if x.ndim == 4:
        return exchange(g.name(x))
    if x.ndim == 3:
        return g.node("Squeeze", exchange(g.node("Unsqueeze", x, g.integers(0))), g.integers(0))
    g.need_fixed(x, range(x.ndim - 3, x.ndim))
    return g.reshape(exchange(g.node("Reshape", x, g.integers(-1, *x.shape[-3:]))), g.results[0])


# ---- windows --------------------------------------------------------------------------------------------------------


def unfold(g: Graph, x: Value, kernel_size: Any, dilation: Any, padding: Any, stride: Any) -> Name:
    win = window("unfold", kernel_size, stride, padding, dilation)
    g.need_fixed(x, [x.ndim - 2, x.ndim - 1])
    image, alone = x.shape[-2:], x.ndim == 3
    rows = g.node("Unsqueeze", x, g.integers(0)) if alone else g.name(x)
    (top, bottom), (left, right) = win.pads
    if any((top, bottom, left, right)):
        rows = g.node("Pad", rows, g.integers(0, 0, top, left, 0, 0, bottom, right))
    for axis, counts, places in zip((2, 4), output_size("unfold", image, win), range(2), strict=True):
        steps = np.arange(win.kernel[places])[:, None] * win.dilation[places]
        rows = g.node("Gather", rows, g.constant(steps + np.arange(counts) * win.stride[places], np.int64), axis=axis)
    return g.reshape(g.node("Transpose", rows, perm=[0, 1, 2, 4, 3, 5]), g.results[0])  # (N, C, kh, oh, kw, ow)


def fold(g: Graph, x: Value, output_size: Any, kernel_size: Any, dilation: Any, padding: Any, stride: Any) -> Name:
    win = window("fold", kernel_size, stride, padding, dilation)
    alone = x.ndim == 2
    columns = g.node("Unsqueeze", x, g.integers(0)) if alone else g.name(x)
    image = g.integers(*g.results[0].shape[-2:])
    pads = [before for before, _ in win.pads] + [after for _, after in win.pads]
    made = g.node("Col2Im", columns, image, g.integers(*win.kernel), strides=win.stride, pads=pads,
                  dilations=win.dilation)  # fmt: skip
    return g.node("Squeeze", made, g.integers(0)) if alone else made


def lp_pool(g: Graph, x: Value, norm_type: float, kernel_size: Any, stride: Any, ceil_mode: bool) -> Name:
    if norm_type in (inf, -inf):
        sizes = g.node("Abs", x)
        signed = sizes if norm_type > 0 else g.node("Neg", sizes)
        made = max_pool(g, _beside(g, x, signed), kernel_size, stride, 0, 1, ceil_mode, False)
        assert isinstance(made, str)
        return made if norm_type > 0 else g.node("Neg", made)
    powers = _beside(g, x, g.node("Pow", x, g.like(norm_type, x)))
    means = avg_pool(g, powers, kernel_size, stride, 0, ceil_mode, True)
    count = prod(window("lp_pool", kernel_size, 1, 0, rank=x.ndim - 2).kernel)
    return g.node("Pow", g.node("Mul", means, g.like(count, x)), g.like(1 / norm_type, x))


def max_unpool(
    g: Graph, x: Value, indices: Value, kernel_size: Any, stride: Any, padding: Any, output_size: Any
) -> Name:
    """Scattered into zeros, a row for each channel: MaxUnpool counts elements of all images."""
    y = g.results[0]
    g.need_fixed(y, range(2, y.ndim))
    channels = [g.size_of(x, 0), g.size_of(x, 1)]
    zeros = g.node("Expand", g.like(0, x), g.node("Concat", *channels, g.integers(prod(y.shape[2:])), axis=0))
    rows = [g.node("Reshape", each, g.integers(0, 0, -1)) for each in (g.cast(indices, np.dtype(np.int64)), x)]
    return g.reshape(g.node("ScatterElements", zeros, *rows, axis=2), y)


IMAGES: dict[str, Any] = {
    "fold": fold,
    "grid_sample": grid_sample,
    "interpolate": interpolate,
    "pixel_shuffle": pixel_shuffle,
    "pixel_unshuffle": pixel_unshuffle,
    "unfold": unfold,
    **{f"lp_pool{rank}d": lp_pool for rank in (1, 2, 3)},
    **{f"max_unpool{rank}d": max_unpool for rank in (1, 2, 3)},
}
"""The translations by the names of the functions."""
