"""What the C library does with memory that arrays no longer need.

glibc gives large blocks back to the operating system as soon as they are free, and has every page of the next array
filled with zeros when it is first touched: for an array of some megabytes that takes longer than a pass of ReLU over
it, and a training step makes the same arrays again and again. gpunn asks it, once, to keep what it has freed: blocks
of up to 32 MiB, and 256 MiB in all. Who sets glibc's own variables, such as ``MALLOC_TRIM_THRESHOLD_``, has what they
say; ``GPUNN_MALLOC=off`` leaves everything as it is.
"""

from __future__ import annotations

import ctypes
import os
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt(3)
_KEPT_BYTES, _LARGEST_BLOCK_BYTES = 256 << 20, 32 << 20


def keep_freed() -> bool:
    """Ask the C library to keep freed memory; whether it does."""
    theirs = "GLIBC_TUNABLES" in os.environ or any(name.startswith("MALLOC_") for name in os.environ)
    if sys.platform != "linux" or theirs or os.environ.get("GPUNN_MALLOC") == "off":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # another C library
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _LARGEST_BLOCK_BYTES) and mallopt(_TRIM_THRESHOLD, _KEPT_BYTES))
