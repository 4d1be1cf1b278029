"""The memory that a kernel may touch in check mode.

Arguments are copied, each alone in its memory: a wrong access cannot hit a neighbour. What kernels reach through
pointers that lie in memory, or as textures and surfaces, is watched where it is.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpunn.context import Setting, context
from gpunn.cuda.emulator import unwritten
from gpunn.errors import ArgumentError, check

# What lies around a copy. An access that misses an array by less than this is told to belong to that array.
_PADDING = 4096

# CuPy allocates at multiples of 512 bytes: an alignment that a kernel relies on must be that of the real thing.
_ALIGNMENT = 512


class RawBuffer(ctypes.Structure):
    """`struct Buffer` of runtime/launch.h."""

    _fields_ = (
        ("memory", ctypes.c_void_p),
        ("bytes", ctypes.c_size_t),
        ("argument", ctypes.c_int),
        ("access", ctypes.c_int),
        ("written", ctypes.c_void_p),
        ("touched", ctypes.c_void_p),
    )


_reachable: Setting[tuple[np.ndarray[Any, Any], ...]] = Setting("reachable", ())


@context
def reachable(*arrays: np.ndarray[Any, Any]) -> Iterator[None]:
    """Within it kernels in check mode may touch these arrays as well, through pointers that lie in memory.

    >>> from gpunn.cuda.emulator import RawKernel
    >>> code = 'extern "C" __global__ void set(float** rows) { rows[blockIdx.x][threadIdx.x] = blockIdx.x; }'
    >>> x, y = np.full((2, 3), -1, np.float32)
    >>> rows = np.array([x.ctypes.data, y.ctypes.data], np.uint64)
    >>> with reachable(x, y):
    ...     RawKernel(code, "set", check=True)((2,), (3,), (rows,))
    >>> x, y
    (array([0., 0., 0.], dtype=float32), array([1., 1., 1.], dtype=float32))

    Raises ArgumentError for what is no C-contiguous array.
    """
    for array in arrays:
        valid = isinstance(array, np.ndarray) and array.flags.c_contiguous
        got = array.strides if isinstance(array, np.ndarray) else type(array).__name__
        check(valid, ArgumentError, "reachable", "each must be a C-contiguous array", got=got)
    with _reachable.using((*_reachable.get(), *arrays)):
        yield


# An array, and whether the kernel may write to it.
_Written = tuple[np.ndarray[Any, Any], bool]


@dataclass
class _Region:
    """Memory that one array takes, or several that overlap, and its copy. One that is reachable has the number -1."""

    begin: int
    end: int
    argument: int
    writes: bool
    in_place: bool
    arrays: list[tuple[int, np.ndarray[Any, Any]]]
    copy: np.ndarray[Any, Any] | None = None
    written: np.ndarray[Any, Any] | None = None
    """Bits of the bytes that somebody has written; None: all."""


class Buffers:
    """The copies for one launch: ``addresses`` to pass, ``raw`` for the runtime, and the way back.

    Arrays behind handles and pointers stay where they are.
    """

    def __init__(self, arrays: Mapping[int, _Written], in_place: Mapping[int, _Written]) -> None:
        self._regions = _merged(
            [
                *((i, *each, False) for i, each in arrays.items()),
                *((i, *each, True) for i, each in in_place.items()),
                *((-1, a, True, True) for a in _reachable.get()),
            ]
        )
        self.addresses: dict[int, int] = {}
        self.raw = (RawBuffer * len(self._regions))()
        for raw, region in zip(self.raw, self._regions, strict=True):
            memory = region.begin if region.in_place else _copied(region)
            region.written = unwritten.bits_of(region.begin, _content(region))
            raw.written = region.written.ctypes.data if region.written is not None else None
            raw.memory, raw.bytes = memory, region.end - region.begin
            written = region.writes and all(array.flags.writeable for i, array in region.arrays if i < 0)
            raw.argument, raw.access = region.argument, not written  # of `enum class Access`
            given = [(i, array) for i, array in region.arrays if i in arrays]
            self.addresses.update((i, memory + array.ctypes.data - region.begin) for i, array in given)

    def copy_back(self) -> None:
        """Write the results into the arrays that were given."""
        for region in self._regions:
            if region.written is not None:
                unwritten.keep(region.begin, region.end, region.written)
            if region.writes and region.copy is not None:
                for _, array in region.arrays:
                    if array.flags.writeable:
                        start = array.ctypes.data - region.begin
                        _bytes_of(array)[:] = region.copy[start : start + array.nbytes]


def _merged(arrays: Sequence[tuple[int, np.ndarray[Any, Any], bool, bool]]) -> list[_Region]:
    """One region for arrays that overlap, because a kernel that works in place has to see its own writes."""
    regions: list[_Region] = []
    for i, array, writes, in_place in sorted(arrays, key=lambda each: each[1].ctypes.data):
        begin = array.ctypes.data
        end = begin + _extent(array)
        last = regions[-1] if regions else None
        if last and begin < last.end and array.nbytes:
            last.end = max(last.end, end)
            last.writes = last.writes or writes
            last.in_place = last.in_place or in_place
            last.argument = min(last.argument, i)
            last.arrays.append((i, array))
        else:
            regions.append(_Region(begin, end, i, writes, in_place, [(i, array)]))
    return regions


def _extent(array: np.ndarray[Any, Any]) -> int:
    """The bytes from the first to the last one: an array that is only mapped may be strided."""
    return array.nbytes and array.itemsize + sum((n - 1) * s for n, s in zip(array.shape, array.strides, strict=True))


def _copied(region: _Region) -> int:
    """Copy the region and return the address of the copy."""
    size = region.end - region.begin
    memory = np.full(size + 2 * _PADDING + _ALIGNMENT, 0xFF, np.uint8)
    first = memory.ctypes.data + _PADDING
    start = _PADDING + (_misalignment(region.arrays[0][1]) - first) % _ALIGNMENT
    region.copy = memory[start : start + size]
    for _, array in region.arrays:
        at = array.ctypes.data - region.begin
        region.copy[at : at + array.nbytes] = _bytes_of(array)
    return region.copy.ctypes.data if size else first


def _content(region: _Region) -> np.ndarray[Any, Any]:
    if region.copy is not None:
        return region.copy
    return np.ctypeslib.as_array((ctypes.c_ubyte * (region.end - region.begin)).from_address(region.begin))


def _misalignment(array: np.ndarray[Any, Any]) -> int:
    """How far into its allocation an array begins: ``x[1:]`` is misaligned on a GPU too."""
    root = array
    while isinstance(root.base, np.ndarray):
        root = root.base
    return (array.ctypes.data - root.ctypes.data) % _ALIGNMENT


def _bytes_of(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return array.reshape(-1).view(np.uint8)
