"""Work on arrays in chunks that stay in a CPU's cache; on a GPU in one, or in few."""

from __future__ import annotations

from typing import Any

import numpy as np

# Where an operation is several NumPy calls, each of them would read and write its arrays in memory. Smaller chunks than
# these lose more to the calls than they gain; much larger ones leave the cache.
_CHUNK_BYTES = 2 << 20


def chunks(xp: Any, count: int, nbytes: int, on_cpu: int = 0, on_gpu: int = 0) -> list[slice]:
    """Consecutive slices of range(``count``), an entry of which takes ``nbytes`` bytes of the largest array.

    A slice takes ``on_cpu`` or ``on_gpu`` bytes at most, if that is given, but one entry at least. Else it takes what a
    CPU's cache holds, on a GPU all.

    >>> [part.stop for part in chunks(np, 5, 1_000_000)]
    [2, 4, 5]
    """
    most = (on_cpu or _CHUNK_BYTES) if xp is np else on_gpu
    step = max(1, most // max(1, nbytes) if most else count)
    return [slice(start, min(start + step, count)) for start in range(0, count, step)]
