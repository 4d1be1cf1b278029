"""Memory that nobody has written yet: which bytes of it a kernel must not read."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np

_WORD = 4
_PATTERN = np.array([0x7FFBA5E3], np.uint32).view(np.uint8)
"""What such a word holds: a NaN, as float32 and as float64. Where the host finds another one, it has written that."""

_written: dict[int, np.ndarray[Any, Any]] = {}
"""Of each array, by its address: whether each byte of it was written."""


def empty(shape: int | tuple[int, ...], dtype: Any = np.float32) -> np.ndarray[Any, Any]:
    """An array that nobody has written, as ``cupy.empty`` gives it: a kernel in check mode that reads it is told.

    On a GPU such memory holds what was there before, often zeros, until it does not. NumPy's ``empty`` cannot be told
    from an array that was written.

    >>> from gpunn.cuda.emulator import CheckError, RawKernel
    >>> code = 'extern "C" __global__ void count(int* n) { atomicAdd(n, 1); }'
    >>> count, n = RawKernel(code, "count", check=True), empty(1, np.int32)
    >>> try:
    ...     count((1,), (32,), (n,))
    ... except CheckError as error:
    ...     print(error.reports[0].kind, error.reports[0].message)
    uninitialised read of argument 0 byte 0, which nobody has written
    >>> n[:] = 0
    >>> count((1,), (32,), (n,))
    >>> int(n[0])
    32
    """
    array = np.empty(shape, dtype)
    memory = array.reshape(-1).view(np.uint8)
    memory[:] = np.resize(_PATTERN, array.nbytes)
    if array.nbytes:
        address = array.ctypes.data
        _written[address] = np.zeros(array.nbytes, np.bool_)
        weakref.finalize(array, _written.pop, address)
    return array


def bits_of(begin: int, content: np.ndarray[Any, Any]) -> np.ndarray[Any, Any] | None:
    """A bit for each byte of ``content``, at the address ``begin``: 1 where it was written; None: all were."""
    flags = None
    for start, stop, address, written in _within(begin, begin + content.nbytes):
        first = (start - address) // _WORD * _WORD
        own = content[start - begin : stop - begin]
        differs = own != np.resize(_PATTERN, stop - address)[start - address :]
        by_word = np.zeros(-(-(stop - address - first) // _WORD) * _WORD, np.bool_)
        by_word[start - address - first : stop - address - first] = differs
        by_word = by_word.reshape(-1, _WORD).any(1).repeat(_WORD)
        written[start - address : stop - address] |= by_word[start - address - first : stop - address - first]
        flags = np.ones(content.nbytes, np.bool_) if flags is None else flags
        flags[start - begin : stop - begin] = written[start - address : stop - address]
    return None if flags is None else np.packbits(flags, bitorder="little")


def keep(begin: int, end: int, bits: np.ndarray[Any, Any]) -> None:
    """Keep the bits that a launch has set, of the memory from ``begin`` to ``end``."""
    flags = np.unpackbits(bits, count=end - begin, bitorder="little").astype(np.bool_)
    for start, stop, address, written in _within(begin, end):
        written[start - address : stop - address] |= flags[start - begin : stop - begin]


def _within(begin: int, end: int) -> list[tuple[int, int, int, np.ndarray[Any, Any]]]:
    """Parts of the known arrays that lie in a range: where they start and stop, the array's address and its bytes."""
    cut = [(max(begin, a), min(end, a + len(written)), a, written) for a, written in _written.copy().items()]
    return [each for each in cut if each[0] < each[1]]
