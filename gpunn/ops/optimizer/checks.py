"""The checks of an optimizer's step."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpunn.backend import Array, accumulation_dtype, get_array_module, operands
from gpunn.errors import ArgumentError, DtypeError, check
from gpunn.ops.shared.checks import check_shape


def check_step(op: str, p: Array, g: Array, steps: int = 1, /, **states: Array) -> Any:
    """Check the arrays of a step, and its number; return the array module."""
    if steps >= 1 and all(_is_usual(a, p) for a in (p, g, *states.values())):
        return np
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


def _is_usual(a: Array, p: Array) -> bool:
    """Whether ``a`` is what every check below lets pass, without a word of what is expected."""
    return type(a) is np.ndarray and a.dtype == np.float32 and a.shape == (p.size,) and a.flags.c_contiguous
