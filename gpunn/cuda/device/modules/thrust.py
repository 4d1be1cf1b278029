"""In place of cupy.cuda.thrust, whose device code cannot run here: stable sorts on the host, in stream order."""

from __future__ import annotations

import math
from collections.abc import Sequence

from gpunn.cuda.device.modules import _algorithms

available = True


def get_build_version() -> int:
    """The version of Thrust that CuPy's wheel has in it."""
    return 300102


def _rows(shape: Sequence[int]) -> tuple[int, int]:
    return math.prod(shape[:-1]), shape[-1]


def sort(dtype: object, data_start: int, keys_start: int, shape: Sequence[int]) -> None:
    """Sort along the last axis, in place; ``keys_start`` is Thrust's work space."""
    _algorithms.enqueue("sort", dtype, data_start, *_rows(shape))


def lexsort(dtype: object, idx_start: int, keys_start: int, k: int, n: int) -> None:
    """Write where the elements lie that ``k`` rows of keys order, the last row first."""
    _algorithms.enqueue("lexsort", dtype, idx_start, keys_start, k, n)


def argsort(dtype: object, idx_start: int, data_start: int, keys_start: int, shape: Sequence[int]) -> None:
    """Sort along the last axis, in place, and write where each element has been in its row."""
    _algorithms.enqueue("argsort", dtype, idx_start, data_start, *_rows(shape))
