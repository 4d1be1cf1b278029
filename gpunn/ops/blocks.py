"""Work on arrays in blocks that stay in a CPU's cache; on a GPU in one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

# Where an operation is several NumPy calls, each of them would read and write its arrays in memory. Smaller blocks than
# these lose more to the calls than they gain; much larger ones leave the cache.
_BLOCK_BYTES = 2 << 20


def blocks(xp: Any, count: int, nbytes: int) -> Iterator[slice]:
    """Consecutive slices of range(``count``), an entry of which takes ``nbytes`` bytes of the largest array.

    >>> [part.stop for part in blocks(np, 5, 1_000_000)]
    [2, 4, 5]
    """
    step = max(1, _BLOCK_BYTES // max(1, nbytes)) if xp is np else max(1, count)
    return (slice(start, min(start + step, count)) for start in range(0, count, step))
