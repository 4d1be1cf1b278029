"""Copies of array arguments for check mode, each alone in its memory: a wrong access cannot hit a neighbour."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

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


@dataclass
class _Region:
    """Memory that one array takes, or several that overlap, and its copy."""

    begin: int
    end: int
    argument: int
    writes: bool
    arrays: list[tuple[int, np.ndarray[Any, Any]]]
    copy: np.ndarray[Any, Any] | None = None


class Buffers:
    """The copies for one launch: ``addresses`` to pass, ``raw`` for the runtime, and the way back."""

    def __init__(self, arrays: Mapping[int, tuple[np.ndarray[Any, Any], bool]]) -> None:
        self._regions = _merged(arrays)
        self.addresses: dict[int, int] = {}
        self.raw = (RawBuffer * len(self._regions))()
        for raw, region in zip(self.raw, self._regions, strict=True):
            memory = _copied(region)
            raw.memory, raw.bytes = memory, region.end - region.begin
            raw.argument, raw.access = region.argument, not region.writes  # of `enum class Access`
            for i, array in region.arrays:
                self.addresses[i] = memory + array.ctypes.data - region.begin

    def copy_back(self) -> None:
        """Write the results into the arrays that were given."""
        for region in self._regions:
            if region.writes and region.copy is not None:
                for _, array in region.arrays:
                    if array.flags.writeable:
                        start = array.ctypes.data - region.begin
                        _bytes_of(array)[:] = region.copy[start : start + array.nbytes]


def _merged(arrays: Mapping[int, tuple[np.ndarray[Any, Any], bool]]) -> list[_Region]:
    """One region for arrays that overlap, because a kernel that works in place has to see its own writes."""
    regions: list[_Region] = []
    for i, (array, writes) in sorted(arrays.items(), key=lambda item: item[1][0].ctypes.data):
        begin = array.ctypes.data
        end = begin + array.nbytes
        last = regions[-1] if regions else None
        if last and begin < last.end and array.nbytes:
            last.end = max(last.end, end)
            last.writes = last.writes or writes
            last.argument = min(last.argument, i)
            last.arrays.append((i, array))
        else:
            regions.append(_Region(begin, end, i, writes, [(i, array)]))
    return regions


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


def _misalignment(array: np.ndarray[Any, Any]) -> int:
    """How far into its allocation an array begins: ``x[1:]`` is misaligned on a GPU too."""
    root = array
    while isinstance(root.base, np.ndarray):
        root = root.base
    return (array.ctypes.data - root.ctypes.data) % _ALIGNMENT


def _bytes_of(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return array.reshape(-1).view(np.uint8)
