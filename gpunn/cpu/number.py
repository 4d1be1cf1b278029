"""How many threads compute on the CPU: ``GPUNN_NUM_THREADS``, else ``OMP_NUM_THREADS``, else one for each CPU.

Where none of these variables is set, nor one of BLAS's own, it forms products of small matrices in one thread
(:mod:`gpunn.cpu.blas`): several gain little there, and where other programs run, too, they wait for each other, by
which a step of a small net took 3 to 20 times as long.
"""

from __future__ import annotations

import os
from functools import lru_cache

from gpunn.errors import ArgumentError, check

_OF_BLAS = ("OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


@lru_cache(1)
def own() -> int | None:
    """What ``GPUNN_NUM_THREADS`` asks for, of oneDNN, BLAS and gpunn's own threads; None where it is not set.

    >>> own() is None or own() > 0
    True

    Raises ArgumentError where it is no number, or below 1.
    """
    text = os.environ.get("GPUNN_NUM_THREADS", "").strip()
    if not text:
        return None
    holds = text.isdecimal() and int(text) > 0
    check(holds, ArgumentError, "threads", "GPUNN_NUM_THREADS must be an integer of at least 1", GPUNN_NUM_THREADS=text)
    return int(text)


@lru_cache(1)
def count() -> int:
    """The number of threads: what a variable asks for, or the CPUs that this process may use.

    >>> count() >= 1
    True
    """
    return own() or _of_openmp() or _cpus()


@lru_cache(1)
def is_free() -> bool:
    """Whether nobody said how many threads there are to be, and there may be several."""
    asked = own() or _of_openmp() or any(os.environ.get(name) for name in _OF_BLAS)
    return not asked and _cpus() > 1


def _of_openmp() -> int | None:
    asked = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return int(asked) if asked.isdecimal() and int(asked) > 0 else None


def _cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
