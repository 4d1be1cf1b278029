"""What the optimizer steps share: the checks of their arrays, the blocks of the CPU, and the launch of the kernels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gpunn import cuda
from gpunn.backend import Array, accumulation_dtype, get_array_module, operands
from gpunn.errors import ArgumentError, DtypeError, check
from gpunn.ops.vector import WIDEST, vector
from gpunn.ops.window import check_shape


def check_step(op: str, p: Array, g: Array, steps: int = 1, /, **states: Array) -> Any:
    """Check the arrays of a step, and its number; return the array module."""
    xp = operands(op, p=p)
    half = accumulation_dtype(p.dtype) != p.dtype
    if not (half and getattr(g, "dtype", None) == np.float32):
        operands(op, p=p, g=g)
    if states:
        operands(op, **states)
        operands(op, **({} if half else {"p": p}), **states)
    get_array_module(p, g, *states.values())
    for name, array in {"p": p, "g": g, **states}.items():
        check_shape(op, name, array, (p.size,))
        rule = f"{name} must be contiguous, as it is changed in place"
        check(array.flags.c_contiguous, ArgumentError, op, rule, strides=array.strides)
    wanted = accumulation_dtype(p.dtype)
    for name, array in states.items():
        check(array.dtype == wanted, DtypeError, op, f"{name} must be {wanted} for {p.dtype} p", dtype=str(array.dtype))
    check(steps >= 1, ArgumentError, op, "steps must be at least 1", steps=steps)
    return xp


# ---- without the kernel ---------------------------------------------------------------------------------------------

_BLOCK = 1 << 15
"""Elements that a CPU core's cache holds of each array while a step passes over them several times."""


def in_blocks(xp: Any, update: Callable[..., None], p: Array, g: Array, *states: Array) -> tuple[Array, ...]:
    """Call ``update(p, g, *states)``, which changes p and the states, on one block after the other, in float32 or more.

    On a GPU there is one block. Returns p and the states.
    """
    cuda.refuse_capture("optimizer", f"parameters of {p.dtype} have no kernel, and the settings would stay as they are")
    block = _BLOCK if xp is np else max(1, p.size)
    for start in range(0, p.size, block):
        part = slice(start, start + block)
        wide = p[part].astype(accumulation_dtype(p.dtype), copy=False)
        update(wide, g[part].astype(wide.dtype, copy=False), *(s[part] for s in states))
        if wide.dtype != p.dtype:
            p[part] = wide
    return (p, *states)


# ---- with the kernel ------------------------------------------------------------------------------------------------

_THREADS = 256


def launch(kernel: str, arrays: list[Array], numbers: Sequence[float], *more: Any) -> None:
    """Launch a kernel of optimizer.cu, with the arguments p, g, the states, three sizes, ``numbers`` and ``more``.

    The numbers are those of this step: the kernel reads them from memory.
    """
    p = arrays[0]
    if p.size == 0:
        return
    index = cuda.index_type(p.size)
    width = WIDEST // p.dtype.itemsize
    macros: dict[str, str | int] = {"DTYPE": cuda.c_type(p), "INDEX": index, "VECTOR": width}
    head, packs = _packs(arrays, width)
    count = np.int32 if index == "int" else np.int64
    blocks = -(-(p.size - packs * (width - 1)) // _THREADS)
    sizes = [count(p.size), count(head), count(packs)]
    now = cuda.live(p, np.array(numbers, p.dtype))
    cuda.launch("optimizer.cu", kernel, macros, (blocks,), (_THREADS,), [*arrays, *sizes, now, *more])


def _packs(arrays: list[Array], width: int) -> tuple[int, int]:
    """Where the first 16-byte pack starts, and how many there are; none if the arrays start at different offsets."""
    for head in range(width):
        if vector(width, *(a[head:] for a in arrays)) == width:
            return head, max(0, arrays[0].size - head) // width
    return 0, 0
