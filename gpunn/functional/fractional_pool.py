"""Differentiable max pooling at random steps; see :mod:`gpunn.ops.pool.fractional`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, overload

from gpunn.backend import asarray, check_array, default_generator, device_of
from gpunn.errors import ArgumentError, ShapeError, check, check_number
from gpunn.functional.record import X, copied, differentiable, raw
from gpunn.ops.pool import fractional as ops
from gpunn.ops.shared.window import Pair, Sizes
from gpunn.tensor import Tensor

Ratio = float | Sequence[float] | None


@overload
def fractional_max_pool2d(
    x: X, kernel_size: Pair, output_size: Pair | None = None, output_ratio: Ratio = None,
    return_indices: Literal[False] = False, _random_samples: Any = None,
) -> X: ...  # fmt: skip
@overload
def fractional_max_pool2d(
    x: Any, kernel_size: Pair, output_size: Pair | None = None, output_ratio: Ratio = None,
    return_indices: bool = False, _random_samples: Any = None,
) -> Any: ...  # fmt: skip
def fractional_max_pool2d(
    x: Any,
    kernel_size: Pair,
    output_size: Pair | None = None,
    output_ratio: Ratio = None,
    return_indices: bool = False,
    _random_samples: Any = None,
) -> Any:
    """The maximum of windows of x (N, C, H, W) or (C, H, W) that begin at random steps, ``output_size`` of them.

    ``output_ratio``, a number or a pair, says instead which part of H and W there are. The steps of each plane come
    from two random numbers, ``_random_samples`` (N, C, 2); without it the generator that :func:`gpunn.manual_seed`
    seeds draws them. ``return_indices`` also returns where each maximum lies in its flattened plane.

    >>> import numpy as np
    >>> fractional_max_pool2d(np.zeros((2, 3, 9, 8)), 2, output_ratio=0.5).shape
    (2, 3, 4, 4)
    """
    return _fractional(2, x, kernel_size, output_size, output_ratio, return_indices, _random_samples)


@overload
def fractional_max_pool3d(
    x: X, kernel_size: Sizes, output_size: Sizes | None = None, output_ratio: Ratio = None,
    return_indices: Literal[False] = False, _random_samples: Any = None,
) -> X: ...  # fmt: skip
@overload
def fractional_max_pool3d(
    x: Any, kernel_size: Sizes, output_size: Sizes | None = None, output_ratio: Ratio = None,
    return_indices: bool = False, _random_samples: Any = None,
) -> Any: ...  # fmt: skip
def fractional_max_pool3d(
    x: Any,
    kernel_size: Sizes,
    output_size: Sizes | None = None,
    output_ratio: Ratio = None,
    return_indices: bool = False,
    _random_samples: Any = None,
) -> Any:
    """:func:`fractional_max_pool2d` of volumes (N, C, D, H, W) or (C, D, H, W), by three random numbers a volume.

    >>> import numpy as np
    >>> fractional_max_pool3d(np.zeros((2, 3, 9, 8, 7)), 2, 3).shape
    (2, 3, 3, 3, 3)
    """
    return _fractional(3, x, kernel_size, output_size, output_ratio, return_indices, _random_samples)


def _fractional(
    rank: int, x: Any, kernel_size: Sizes, output_size: Sizes | None, ratio: Ratio, return_indices: bool, samples: Any
) -> Any:
    op, xd = f"fractional_max_pool{rank}d", raw(x)
    check_array(op, x=xd)
    one = (output_size is None) != (ratio is None)
    rule = "either output_size or output_ratio must be given"
    check(one, ArgumentError, op, rule, output_size=output_size, output_ratio=ratio)
    fits = xd.ndim in (rank + 1, rank + 2)
    check(fits, ShapeError, op, f"x must have {rank + 2} dimensions, or {rank + 1} without a batch", shape=xd.shape)
    if xd.ndim == rank + 1:
        x = (x if isinstance(x, Tensor) else xd)[None]
        y, index = _fractional(rank, x, kernel_size, output_size, ratio, True, samples)
        return (y[0], index[0]) if return_indices else y[0]
    size = _part(op, rank, xd.shape[2:], ratio) if output_size is None else output_size
    if samples is None:
        samples = asarray(default_generator().random((*xd.shape[:2], rank)), device_of(xd)).astype(xd.dtype)
    u, shape = copied(samples, x), xd.shape
    y, index = ops.fractional_max_pool(rank, xd, kernel_size, size, u)

    def backward(gy: Any, _: Any) -> Any:
        return (ops.fractional_max_pool_backward(rank, gy, index, shape, kernel_size, size, u),)

    pooled = differentiable(y, (x,), backward)
    return (pooled, index) if return_indices else pooled


def _part(op: str, rank: int, image: tuple[int, ...], ratio: Ratio) -> tuple[int, ...]:
    each: Any = tuple(ratio) if isinstance(ratio, tuple | list) else (ratio,) * rank
    check(len(each) == rank, ArgumentError, op, f"output_ratio must be a number, or {rank} of them", output_ratio=ratio)
    for part in each:
        check_number(op, output_ratio=part)
        check(0 < part < 1, ArgumentError, op, "output_ratio must lie between 0 and 1", output_ratio=ratio)
    return tuple(int(length * part) for length, part in zip(image, each, strict=True))
