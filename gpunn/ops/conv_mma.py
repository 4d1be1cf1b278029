"""Convolution on tensor cores, NCHW, with the gradients of x and w: where :mod:`gpunn.ops.conv_nd` sends what it takes.

    y[n,k,oh,ow] = b[k] + sum_{c,r,s} round(w[k,c,r,s]) round(x[n, c, oh*stride - pad + r*dilation, ow*stride - ...])

summed in float32. float32 arrays are rounded to what :func:`gpunn.backend.matmul_precision` names; float16 arrays are
multiplied as they are. The functions take what :mod:`gpunn.ops.conv_nd` has checked: the window and its output size.

CUDA: ``kernels/conv_mma.cu``. Operands are first copied, rounded, with their channels last; from there on 16 bytes are
copied at a time. Source: Chetlur et al. 2014, "cuDNN: efficient primitives for deep learning" (implicit products).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from gpunn import backend, cuda
from gpunn.backend import Array, get_array_module
from gpunn.errors import DeviceError, ShapeError, check
from gpunn.ops.window import Size, Window


def takes(x: Array) -> bool:
    """True if ``x`` goes to the tensor cores: where kernels run, float16, or float32 with a precision below fp32.

    >>> with cuda.emulate(), backend.matmul_precision("tf32"):
    ...     takes(np.ones(1, np.float32)), takes(np.ones(1, np.float16)), takes(np.ones(1, np.float64))
    (True, True, False)
    """
    if x.dtype == np.float16:  # cuda.takes knows the dtypes of the other kernels: ask it about the place only
        return cuda.takes(get_array_module(x).empty(0, np.float32))
    return x.dtype == np.float32 and backend.chosen_matmul_precision() != "fp32" and cuda.takes(x)


def conv2d(x: Array, w: Array, b: Array | None, win: Window, out: Size, groups: int, relu: bool = False) -> Array:
    """y (N, K, OH, OW) from x (N, C, H, W), w (K, C/groups, KH, KW) and b (K,); with ``relu``, what is below 0 is 0."""
    xp, setting = get_array_module(x, w), _setting("conv2d", x, w.shape[0] // groups)
    y = xp.empty((x.shape[0], w.shape[0], *out), x.dtype)
    if y.size:
        _product(setting, w, b, _pack(setting, x, groups), y, groups, _axes(win, x.shape[2:], out), relu)
    return y


def conv2d_backward_x(gy: Array, w: Array, x_shape: Size, win: Window, out: Size, groups: int) -> Array:
    """gx (N, C, H, W) from gy (N, K, OH, OW).

    A pixel meets every stride-th tap. Those that meet the same taps make a convolution of their own, of stride 1: of gy
    with these taps, and with the filters' inputs and outputs exchanged.
    """
    xp, setting = get_array_module(gy, w), _setting("conv2d_backward_x", gy, x_shape[1] // groups)
    gx = xp.empty(x_shape, gy.dtype)
    if gx.size:
        k, group_c, *taps = w.shape
        turned = w.reshape(groups, k // groups, group_c, *taps).swapaxes(1, 2).reshape(x_shape[1], k // groups, *taps)
        packed = _pack(setting, gy, groups)
        down, across = (_axes_backward(win, axis, x_shape[2 + axis], out[axis]) for axis in (0, 1))
        for axes in product(down, across):
            _product(setting, turned, None, packed, gx, groups, axes, False)
    return gx


def conv2d_backward_w(gy: Array, x: Array, w_shape: Size, win: Window, out: Size, groups: int) -> Array:
    """gw (K, C/groups, KH, KW) from gy (N, K, OH, OW) and x (N, C, H, W), summed over the batch."""
    xp, setting = get_array_module(gy, x), _setting("conv2d_backward_w", gy, w_shape[0] // groups)
    k, group_c, *taps = w_shape
    if 0 in w_shape:
        return xp.empty(w_shape, gy.dtype)
    packed_gy, packed_x = _pack(setting, gy, groups), _pack(setting, x, groups)
    rows, columns = k // groups, taps[0] * taps[1] * packed_x.shape[-1]
    tiles = -(-columns // _TILE_N), -(-rows // setting.tile_m)
    pixels = gy.shape[0] * out[0] * out[1]
    splits, split_pixels = _splits(setting, tiles[0] * tiles[1] * groups, pixels)
    parts = xp.empty((splits, k, taps[0] * taps[1], packed_x.shape[-1]), np.float32)
    axes = [axis.gather() for axis in _axes(win, x.shape[2:], out)]
    chunks = [packed.shape[-1] // setting.chunk for packed in (packed_gy, packed_x)]
    numbers = (groups, split_pixels, rows, *chunks, *taps, gy.shape[0], *out, *axes[0], *axes[1])
    args = [packed_gy, packed_x, parts, *map(np.int32, numbers)]
    _launch(setting, "conv_mma_backward_w", (*tiles, groups * splits), args)
    gw = parts.sum(axis=0)[:, :, :group_c].swapaxes(1, 2)
    return xp.ascontiguousarray(gw, dtype=gy.dtype).reshape(w_shape)


class _Axis(NamedTuple):
    """One axis of a product.

    Output number i of ``outputs`` is position ``first`` + i * ``every`` of the result. It meets number r of ``taps``, a
    part of the filter's, in position i * ``scale`` + ``offset`` + r * ``step`` of 0 .. ``size`` - 1, or in padding.
    """

    taps: slice
    outputs: int
    scale: int
    offset: int
    step: int
    size: int
    first: int
    every: int

    def gather(self) -> tuple[int, int, int, int]:
        return self.scale, self.offset, self.step, self.size


_Axes = tuple[_Axis, _Axis]


def _axes(win: Window, sizes: Size, out: Size) -> _Axes:
    """The axes of the forward product over images of ``sizes``."""
    down, across = (
        _Axis(slice(None), outputs, stride, -pad, dilation, size, 0, 1)
        for outputs, stride, (pad, _), dilation, size in zip(
            out, win.stride, win.pads, win.dilation, sizes, strict=True
        )
    )
    return down, across


def _axes_backward(win: Window, axis: int, size: int, out: int) -> Iterator[_Axis]:
    """Position h meets tap r in position (h + pad - r * dilation) / stride of gy, if that divides."""
    stride, pad, dilation, taps = win.stride[axis], win.pads[axis][0], win.dilation[axis], win.kernel[axis]
    apart = stride // math.gcd(stride, dilation)  # taps so far apart meet the same positions
    for first in range(min(stride, size)):
        count = -(-(size - first) // stride)
        met = [r for r in range(min(apart, taps)) if (first + pad - r * dilation) % stride == 0]
        if met:
            offset, step = (first + pad - met[0] * dilation) // stride, -(apart * dilation // stride)
            yield _Axis(slice(met[0], None, apart), count, 1, offset, step, out, first, stride)
        else:  # a gradient of zero
            yield _Axis(slice(0), count, 1, 0, 0, out, first, stride)


# ---- launches --------------------------------------------------------------------------------------------------------

# As in conv_mma.cu.
_CHUNK_BYTES = 16
_PIECE_BYTES = 64
_TILE_N = 128
_THREADS = 256
_PACK_TILE = 32
_MAX_BLOCKS_YZ = 65535

# By the name of the precision: the type in conv_mma.cu, and the dtype of its bits.
_TYPES: dict[str, tuple[str, np.dtype[Any]]] = {
    "tf32": ("tf32", np.dtype(np.uint32)),
    "bf16": ("bf16", np.dtype(np.uint16)),
    "fp16": ("f16", np.dtype(np.uint16)),
}


@dataclass(frozen=True)
class _Setting:
    op: str
    dtype: str
    precision: str
    bits: np.dtype[Any]
    tile_m: int

    @property
    def chunk(self) -> int:
        """The elements that are copied together."""
        return _CHUNK_BYTES // self.bits.itemsize


def _setting(op: str, x: Array, rows: int) -> _Setting:
    half = x.dtype == np.float16
    name = "fp16" if half else backend.chosen_matmul_precision()
    xp = get_array_module(x)
    if xp is not np:
        capability = int(xp.cuda.Device().compute_capability)
        rule = f"{name} needs a GPU of compute capability 8.0"
        check(name == "fp16" or capability >= 80, DeviceError, op, rule, capability=capability)
    # Tall tiles read the pixels less often; low ones waste less of a layer with few channels.
    tile_m = 32 if rows <= 32 else 64 if rows <= 64 else 128
    precision, bits = _TYPES[name]
    return _Setting(op, "float16_bits" if half else "float", precision, bits, tile_m)


def _launch(setting: _Setting, kernel: str, grid: tuple[int, int, int], args: list[Any]) -> None:
    rule = f"CUDA takes at most {_MAX_BLOCKS_YZ} groups, or tiles of channels"
    check(max(grid[1:]) <= _MAX_BLOCKS_YZ, ShapeError, setting.op, rule, blocks=grid)
    arrays = [a for a in args if backend.is_array(a)]
    macros: dict[str, str | int] = {
        "DTYPE": setting.dtype, "PRECISION": setting.precision, "TILE_M": setting.tile_m,
        "INDEX": cuda.index_type(*(a.size for a in arrays)),
    }  # fmt: skip
    passed = [a.view(np.uint16) if backend.is_array(a) and a.dtype == np.float16 else a for a in args]
    cuda.launch("conv_mma.cu", kernel, macros, grid, (_THREADS,), passed)


def _pack(setting: _Setting, x: Array, groups: int) -> Array:
    """x (N, C, ...) rounded and with the channels last: (N, pixels, groups, C/groups and zeros up to a whole chunk)."""
    xp = get_array_module(x)
    images, channels, pixels = x.shape[0], x.shape[1] // groups, math.prod(x.shape[2:])
    padded = max(1, -(-channels // setting.chunk)) * setting.chunk
    packed = xp.empty((images, pixels, groups, padded), setting.bits)
    if packed.size:
        grid = (images * -(-pixels // _PACK_TILE), -(-padded // _PACK_TILE), groups)
        args = [xp.ascontiguousarray(x), packed, *map(np.int32, (pixels, channels, padded))]
        _launch(setting, "conv_mma_pack", grid, args)
    return packed


def _product(
    setting: _Setting, w: Array, b: Array | None, packed: Array, out: Array, groups: int, axes: _Axes, relu: bool
) -> None:
    """out[n, k] = b[k] + sum over the taps of w[k] and what they meet in ``packed``, placed by ``axes``."""
    xp, (down, across) = get_array_module(packed, out), axes
    part = w[:, :, down.taps, across.taps]
    bias = out if b is None else xp.ascontiguousarray(b)  # the kernel does not read it if has_bias is 0
    rows, chunks = out.shape[1] // groups, packed.shape[-1] // setting.chunk
    sizes = (b is not None, relu, rows, chunks, *part.shape[2:], out.shape[0], down.outputs, across.outputs)
    places = (*down.gather(), *across.gather(), *out.shape[2:], down.first, down.every, across.first, across.every)
    args = [_pack(setting, part, 1), packed, bias, out, *map(np.int32, (*sizes, *places))]
    grid = (-(-out.shape[0] * down.outputs * across.outputs // _TILE_N), -(-rows // setting.tile_m), groups)
    _launch(setting, "conv_mma_product", grid, args)


# Enough blocks to fill a large GPU twice over. A fixed number: the same sums, to the bit, on every device.
_SPLIT_BLOCKS = 512
_LEAST_PIECES = 8  # of a split: fewer would not fill the ring


def _splits(setting: _Setting, tiles: int, pixels: int) -> tuple[int, int]:
    """Into how many runs the pixels are split, and the pixels of one."""
    depth = _PIECE_BYTES // setting.bits.itemsize
    pieces = -(-pixels // depth)
    wanted = max(1, min(_SPLIT_BLOCKS // tiles, pieces // _LEAST_PIECES))
    each = max(1, -(-pieces // wanted))
    return max(1, -(-pieces // each)), each * depth
