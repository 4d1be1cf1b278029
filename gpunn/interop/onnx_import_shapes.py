"""ONNX's operators that make, move, take or put elements: shapes, indices, padding, resizing.

How an operator looks says :mod:`gpunn.interop.onnx_import_operators`. Where it says so, a function takes arrays of the
CPU and Tensors alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from math import ceil, floor, prod
from typing import Any

import numpy as np

from gpunn import functional as F
from gpunn.backend import accumulation_dtype, asarray, is_floating, to_cpu
from gpunn.errors import GraphError, fail
from gpunn.functional.record import copied, differentiable, kept
from gpunn.interop.onnx_import_arrays import along_axis
from gpunn.interop.onnx_import_step import (
    Step,
    around,
    axes_from,
    fixed,
    module_of,
    normal,
    number,
    numbers,
    untranslated,
    values,
)
from gpunn.ops.array.pad import PadMode
from gpunn.ops.resample import Table, table
from gpunn.ops.resample.axis import part_centers
from gpunn.tensor import Tensor, wrapped

# ---- arrays from nothing --------------------------------------------------------------------------------------------


def constant(step: Step, **attributes: Any) -> Any:
    """The array, number or numbers of the one attribute."""
    (name, value), *_ = attributes.items()
    kinds = {"value_int": np.int64, "value_ints": np.int64, "value_float": np.float32, "value_floats": np.float32}
    step.need(name == "value" or name in kinds, "only numbers can be imported", attribute=name)
    return value if name == "value" else np.array(value, kinds[name])


def constant_of_shape(step: Step, shape: Any, value: Any = None) -> Any:
    fill = np.zeros(1, np.float32) if value is None else value
    return np.full(numbers(shape), fill.reshape(()), fill.dtype)


def shape(step: Step, x: Any, start: int = 0, end: int | None = None) -> Any:
    return np.array(x.shape[start:end], np.int64)


def size(step: Step, x: Any) -> Any:
    return np.array(x.size, np.int64)


def span(step: Step, start: Any, limit: Any, delta: Any) -> Any:
    first, last, by = map(number, (start, limit, delta))
    count = max(0, ceil((last - first) / by))
    return (np.arange(count) * by + first).astype(start.dtype)


def eye_like(step: Step, x: Tensor, dtype: int | None = None, k: int = 0) -> Tensor:
    wanted = x.dtype if dtype is None else step.dtype(dtype)
    return wrapped(module_of(x).eye(*x.shape, k=k, dtype=wanted))


# ---- shapes, of Tensors and of arrays on the CPU --------------------------------------------------------------------


def reshape(step: Step, x: Any, shape: Any, allowzero: int = 0) -> Any:
    wanted = numbers(shape)
    if not allowzero:
        step.need(0 not in wanted[x.ndim :], "a size of 0 copies one of the input's", shape=wanted, input=x.shape)
        wanted = [x.shape[axis] if size == 0 else size for axis, size in enumerate(wanted)]
    return x.reshape(tuple(wanted))


def flatten(step: Step, x: Any, axis: int = 1) -> Any:
    first = normal(axis, x.ndim)
    return x.reshape(prod(x.shape[:first]), prod(x.shape[first:]))


def transpose(step: Step, x: Any, perm: Any = None) -> Any:
    return x.transpose(tuple(range(x.ndim))[::-1] if perm is None else tuple(perm))


def squeeze(step: Step, x: Any, axes: Any = None) -> Any:
    gone = [axis for axis, n in enumerate(x.shape) if n == 1] if axes is None else axes_from(axes, x.ndim)
    wrong = [axis for axis in gone if x.shape[axis] != 1]
    step.need(not wrong, "only axes of size 1 can go", axes=wrong, shape=x.shape)
    return x.reshape(tuple(n for axis, n in enumerate(x.shape) if axis not in gone))


def squeeze_if(step: Step, condition: Any, x: Any, axes: Any) -> Any:
    """What PyTorch writes for ``squeeze(axis)``, see the reader of files."""
    return squeeze(step, x, axes) if number(condition) else x


def unsqueeze(step: Step, x: Any, axes: Any) -> Any:
    ndim = x.ndim + len(numbers(axes))
    added = axes_from(axes, ndim)
    inside = len(set(added)) == len(added) and all(0 <= axis < ndim for axis in added)
    step.need(inside, "axes must differ, and lie in the result", axes=added, ndim=ndim)
    left = iter(x.shape)
    return x.reshape(tuple(1 if axis in added else next(left) for axis in range(ndim)))


def expand(step: Step, x: Tensor, shape: Any) -> Tensor:
    return F.broadcast_to(x, np.broadcast_shapes(x.shape, tuple(numbers(shape))))


def tile(step: Step, x: Tensor, repeats: Any) -> Tensor:
    return F.tile(x, numbers(repeats))


def concat(step: Step, *xs: Tensor, axis: int) -> Tensor:
    return F.concatenate(xs, axis)


def split(step: Step, x: Any, split: Any = None, axis: int = 0, num_outputs: int | None = None) -> list[Any]:
    count = num_outputs or len(step.node.outputs)
    if split is None:
        each = -(-x.shape[axis] // count)
        sizes = [each] * (count - 1) + [x.shape[axis] - each * (count - 1)]
    else:
        sizes = numbers(split)
    whole = sum(sizes) == x.shape[axis] and min(sizes) >= 0
    step.need(whole, "the sizes of the parts must add up to that of the axis", sizes=sizes, shape=x.shape, axis=axis)
    ends = list(accumulate(sizes))
    return [x[around(x, axis, slice(end - n, end))] for n, end in zip(sizes, ends, strict=True)]


def cut(step: Step, x: Any, starts: Any, ends: Any, axes: Any = None, steps: Any = None) -> Any:
    """A slice along each of ``axes``."""
    first, last = numbers(starts), numbers(ends)
    along = axes_from(range(len(first)) if axes is None else axes, x.ndim)
    by = [1] * len(first) if steps is None else numbers(steps)
    index = [slice(None)] * x.ndim
    for axis, start, end, stride in zip(along, first, last, by, strict=True):
        beyond = stride < 0 and end < -x.shape[axis]  # the first element is the last one to be taken
        index[axis] = slice(start, None if beyond else end, stride)
    return x[tuple(index)]


def identity(step: Step, x: Any) -> Any:
    return x


# ---- elements by their places ---------------------------------------------------------------------------------------


def gather(step: Step, x: Tensor, indices: Tensor, axis: int = 0) -> Tensor:
    return x.take(indices, axis)


def _counted(indices: Tensor, n: int) -> Tensor:
    """Indices from the first element; those below 0 count from the end."""
    return F.where(indices < 0, indices + n, indices)


def gather_elements(step: Step, x: Tensor, indices: Tensor, axis: int = 0) -> Tensor:
    return F.gather(x, axis, indices)


def _by_rows(step: Step, x: Tensor, indices: Tensor, batch: int = 0) -> tuple[Tensor, ...]:
    """The index of an array whose last axis holds the places of elements or parts of ``x``."""
    depth = indices.shape[-1]
    rule = "the last axis of the indices must be as long as what it names has axes, at most"
    step.need(batch + depth <= x.ndim, rule, indices=indices.shape, shape=x.shape)
    columns = [_checked(step, indices[..., number], x, batch + number) for number in range(depth)]
    grid = np.ogrid[tuple(slice(0, n) for n in indices.shape[:-1])] if batch else []
    return (*(fixed(each, x) for each in grid[:batch]), *columns)


def _checked(step: Step, places: Tensor, x: Tensor, axis: int) -> Tensor:
    """Places along an axis, counted from its first element."""
    n = x.shape[axis]
    fits = bool(((places.data >= -n) & (places.data < n)).all())
    step.need(fits, "each index must lie on its axis", axis=axis, shape=x.shape)
    return _counted(places, n)


def gather_nd(step: Step, x: Tensor, indices: Tensor, batch_dims: int = 0) -> Tensor:
    return x[_by_rows(step, x, indices, batch_dims)]


def scatter_elements(
    step: Step, x: Tensor, indices: Tensor, updates: Tensor, axis: int = 0, reduction: str = "none"
) -> Tensor:
    if reduction in ("none", "add"):
        put: Any = F.scatter if reduction == "none" else F.scatter_add
        y: Tensor = put(x, axis, indices, updates)
        return y
    along = normal(axis, x.ndim)
    places = _checked(step, indices, x, along)
    return _scattered(step, x, along_axis(module_of(x), places.data, along), updates, reduction)


def scatter_nd(step: Step, x: Tensor, indices: Tensor, updates: Tensor, reduction: str = "none") -> Tensor:
    return _scattered(step, x, tuple(each.data for each in _by_rows(step, x, indices)), updates, reduction)


def _scattered(step: Step, x: Tensor, index: tuple[Any, ...], updates: Tensor, reduction: str) -> Tensor:
    """``x`` with ``updates`` put at ``index``, or combined with what is there."""
    xp = module_of(x)
    data, new = kept(x, updates)
    index = tuple(copied(part, x, updates) for part in index)
    y = data.copy()
    ways = {"add": xp.add, "max": xp.maximum, "min": xp.minimum}
    if reduction == "none":
        y[index] = new
    elif reduction == "mul":  # CuPy has no such product
        host = to_cpu(y)
        np.multiply.at(host, tuple(map(to_cpu, index)), to_cpu(new))
        y = xp.asarray(host)
    else:
        ways[reduction].at(y, index, new)

    def backward(gy: Any, _: Any) -> Any:
        if reduction == "add":
            return gy, gy[index]
        if reduction == "mul":
            fail(GraphError, step.node.where, "products of scattered elements have no gradient")
        if reduction == "none":
            untouched = gy.copy()
            untouched[index] = 0
            return untouched, gy[index]
        return gy * (data == y), gy[index] * (new == y[index])

    if not is_floating(x.dtype):
        return untranslated(y, x, updates)
    result: Tensor = differentiable(y, (x, updates), backward)
    return result


def non_zero(step: Step, x: Tensor) -> Tensor:
    return untranslated(_places(module_of(x), x.data), x)


def _places(xp: Any, x: Any) -> Any:
    """The indices of all elements that are not 0, an axis in each row."""
    return xp.stack(xp.nonzero(xp.atleast_1d(x))).astype(np.int64)


def one_hot(step: Step, indices: Tensor, depth: Any, levels: Tensor, axis: int = -1) -> Tensor:
    n, along = int(number(depth)), normal(axis, indices.ndim + 1)
    places = unsqueeze(step, _counted(indices, n), [along])
    hot = places == fixed(np.arange(n).reshape(-1, *(1,) * (indices.ndim - along)).astype(indices.dtype), indices)
    low, high = (fixed(np.asarray(level, levels.dtype), indices) for level in values(levels))
    y: Tensor = F.where(hot, high, low)
    return y


def triangle(step: Step, x: Tensor, k: Any = None, upper: int = 1) -> Tensor:
    return (F.triu if upper else F.tril)(x, 0 if k is None else int(number(k)))


# ---- padding, blocks ------------------------------------------------------------------------------------------------


def pad(step: Step, x: Tensor, pads: Any, value: Any = None, axes: Any = None, mode: str = "constant") -> Tensor:
    along = tuple(range(x.ndim)) if axes is None else axes_from(axes, x.ndim)
    ends = numbers(pads)
    step.need(len(ends) == 2 * len(along), "there must be two pads for each axis", pads=ends, shape=x.shape)
    each = {axis: (ends[place], ends[place + len(along)]) for place, axis in enumerate(along)}
    added = [n for axis in range(x.ndim - 1, -1, -1) for n in each.get(axis, (0, 0))]
    fill = 0 if value is None or not values(value) else number(value)
    modes: dict[str, PadMode] = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}
    step.need(mode in modes, "this mode is not known", mode=mode)
    if mode != "constant" and min(ends, default=0) < 0:
        x, added = x[_inner(x.shape, added)], [max(0, n) for n in added]
    if not is_floating(x.dtype):
        return untranslated(_padded(module_of(x), x.data, added, mode, fill), x)
    while added[-2:] == [0, 0]:
        del added[-2:]
    return F.pad(x, tuple(added), modes[mode], fill)


def _inner(shape: tuple[int, ...], added: list[int]) -> tuple[slice, ...]:
    """The index of what negative pads leave."""
    pairs = zip(shape, added[-2::-2], added[::-2], strict=True)
    return tuple(slice(max(0, -before), n + min(0, after)) for n, before, after in pairs)


def _padded(xp: Any, x: Any, added: list[int], mode: str, fill: Any) -> Any:
    """Integers or truths, padded; the pads are given from the last axis to the first."""
    pads = [(max(0, added[at]), max(0, added[at + 1])) for at in range(len(added) - 2, -1, -2)]
    return xp.pad(x[_inner(x.shape, added)], pads, mode, **({"constant_values": fill} if mode == "constant" else {}))


def depth_to_space(step: Step, x: Tensor, blocksize: int, mode: str = "DCR") -> Tensor:
    n, c, h, w = x.shape
    b = blocksize
    if mode == "DCR":
        y = x.reshape(n, b, b, c // b**2, h, w).transpose(0, 3, 4, 1, 5, 2)
    else:
        y = x.reshape(n, c // b**2, b, b, h, w).transpose(0, 1, 4, 2, 5, 3)
    return y.reshape(n, c // b**2, h * b, w * b)


def space_to_depth(step: Step, x: Tensor, blocksize: int, mode: str = "DCR") -> Tensor:
    n, c, h, w = x.shape
    b = blocksize
    order = (0, 3, 5, 1, 2, 4) if mode == "DCR" else (0, 1, 3, 5, 2, 4)
    y = x.reshape(n, c, h // b, b, w // b, b).transpose(order)
    return y.reshape(n, c * b**2, h // b, w // b)


# ---- resizing -------------------------------------------------------------------------------------------------------


def upsample(step: Step, x: Tensor, scales: Any, mode: str = "nearest") -> Tensor:
    return resize(step, x, None, scales, mode=mode, coordinate_transformation_mode="asymmetric", nearest_mode="floor")


def resize(
    step: Step, x: Tensor, roi: Any = None, scales: Any = None, sizes: Any = None, mode: str = "nearest",
    coordinate_transformation_mode: str | None = None, nearest_mode: str | None = None, cubic_coeff_a: float = -0.75,
    exclude_outside: int = 0, extrapolation_value: float = 0.0, antialias: int = 0, axes: Any = None,
    keep_aspect_ratio_policy: str = "stretch",
) -> Tensor:  # fmt: skip
    """Each axis by itself, by the tables of :mod:`gpunn.ops.resample`."""
    if step.version == 10:
        roi, scales = None, roi
    along = tuple(range(x.ndim)) if axes is None else axes_from(axes, x.ndim)
    how: Any = coordinate_transformation_mode or ("asymmetric" if step.version == 10 else "half_pixel")
    rounding: Any = nearest_mode or ("floor" if step.version == 10 else "round_prefer_floor")
    corners = [0.0] * len(along) + [1.0] * len(along) if roi is None or not values(roi) else values(roi)
    scaled = scales is not None and len(values(scales)) > 0
    if scaled:
        factors = values(scales)
        out = [floor(x.shape[axis] * factor) for axis, factor in zip(along, factors, strict=True)]
    else:
        step.need(sizes is not None and len(values(sizes)) > 0, "scales or sizes must be given")
        out = numbers(sizes)
        factors = [n / x.shape[axis] for axis, n in zip(along, out, strict=True)]
        if keep_aspect_ratio_policy != "stretch":
            factor = (min if keep_aspect_ratio_policy == "not_larger" else max)(factors)
            factors = [factor] * len(along)
            out = [floor(factor * x.shape[axis] + 0.5) for axis in along]
    step.need(min(out, default=1) > 0 and x.size > 0, "there must be elements along each axis", sizes=out)
    step.need(mode in ("nearest", "linear", "cubic"), "this mode is not known", mode=mode)
    ours = _interpolation(x, along, factors, out, (mode, how, rounding if mode == "nearest" else cubic_coeff_a))
    exact = (scaled and how != "align_corners") or all(
        n == x.shape[axis] * factor for n, axis, factor in zip(out, along, factors, strict=True)
    )
    if ours and exact and not exclude_outside and not antialias:
        last = slice(2 - x.ndim, None)
        size, factor = (None, tuple(factors[last])) if scaled else (tuple(out[last]), None)
        return F.interpolate(x, size, factor, *ours)
    dtype = accumulation_dtype(x.dtype) if is_floating(x.dtype) else np.dtype(np.float32)
    y, beyond = x, np.zeros((), bool)
    for place, axis in enumerate(along):
        n, m = x.shape[axis], out[place]
        part = corners[place], corners[place + len(along)]
        found = table(
            n, m, mode, dtype, scale=factors[place], coordinates=how, rounding=rounding, a=cubic_coeff_a,
            exclude_outside=bool(exclude_outside), antialias=bool(antialias), part=part,
        )  # fmt: skip
        if how == "tf_crop_and_resize":
            at = part_centers(n, m, part, dtype)
            beyond = beyond | ((at < 0) | (at > n - 1)).reshape(-1, *(1,) * (x.ndim - 1 - axis))
        elif n == m and factors[place] == 1:
            continue
        y = _resampled(y, found, axis)
    if beyond.any():
        y = F.where(fixed(beyond, x), fixed(np.asarray(extrapolation_value, x.dtype), x), y)
    return y


_NEAREST = {("asymmetric", "floor"): "nearest", ("half_pixel", "round_prefer_ceil"): "nearest-exact"}


def _interpolation(
    x: Tensor, along: Sequence[int], factors: list[float], out: list[int], how: tuple[Any, ...]
) -> tuple[Any, bool | None] | None:
    """``mode`` and ``align_corners`` of our function that does the same, if there is one."""
    rank = x.ndim - 2
    fixed_axes = [factor for axis, factor in zip(along, factors, strict=True) if axis < 2]
    whole = sorted(along)[-rank:] == list(range(2, x.ndim)) and list(along) == sorted(along)
    if not (1 <= rank <= 3 and whole and is_floating(x.dtype) and all(factor == 1 for factor in fixed_axes)):
        return None
    mode, coordinates, setting = how
    if mode == "nearest":
        found = _NEAREST.get((coordinates, setting))
        return (found, None) if found else None
    known = coordinates in ("half_pixel", "align_corners")
    if not known or (mode == "cubic" and (rank != 2 or setting != -0.75)):
        return None
    name = "bicubic" if mode == "cubic" else ("linear", "bilinear", "trilinear")[rank - 1]
    return name, coordinates == "align_corners"


def _resampled(x: Tensor, found: Table, axis: int) -> Tensor:
    """``x`` by a table of one axis, in steps that can be exported."""
    if found.weight is None:
        return x.take(asarray(found.index[0], device=x.device), axis)
    matrix = np.zeros((found.length, found.size), found.weight.dtype)
    np.add.at(matrix, (found.index, np.arange(found.size)), found.weight)
    return (x.swapaxes(axis, -1) @ fixed(matrix.astype(x.dtype), x)).swapaxes(axis, -1)


# ---- on the CPU, of constants and shapes ----------------------------------------------------------------------------


def host_gather(step: Step, x: Any, indices: Any, axis: int = 0) -> Any:
    return np.take(x, indices, axis)


def host_expand(step: Step, x: Any, shape: Any) -> Any:
    return np.broadcast_to(x, np.broadcast_shapes(x.shape, tuple(numbers(shape)))).copy()


def host_tile(step: Step, x: Any, repeats: Any) -> Any:
    return np.tile(x, numbers(repeats))


def host_non_zero(step: Step, x: Any) -> Any:
    return _places(np, x)
