"""Readers of NumPy's files: ``.npy``, ``.npz``, and ``.npy`` files larger than memory. Nothing is ever unpickled.

An ``.npy`` file is the magic ``\\x93NUMPY``, a version, the length of the header, the header (a Python dict literal of
``descr``, ``fortran_order`` and ``shape``), then the numbers. Source: NumPy, "numpy.lib.format".
"""

from __future__ import annotations

import lzma
import math
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.lib import format as npy_format

from gpunn.backend import asarray
from gpunn.data.dataset import Indices, checked_index
from gpunn.data.reading import MAX_DEFLATE_RATIO, PathLike, bad_file, check_shape, opened
from gpunn.errors import ArgumentError, ShapeError, check

_LONGEST_HEADER = 1 << 16
_ENTRY = re.compile(r"\s*'(\w+)'\s*:\s*(?:'([^']*)'|(True|False)|\(([\d\s,]*)\))\s*(?:,|(?=\}))", re.ASCII)
_DESCR = re.compile(r"[<>|=]?(?:b1|[iu][1248]|f[248]|c(?:8|16))")
_SIZES = re.compile(r"\s*(?:(?:0|[1-9]\d{0,18})\s*,\s*)*(?:(?:0|[1-9]\d{0,18})\s*)?", re.ASCII)
_BLANKS = " \t\r\n"
_CHUNK = 1 << 20


class _Header(NamedTuple):
    dtype: np.dtype[Any]
    fortran_order: bool
    shape: tuple[int, ...]
    start: int  # the byte where the numbers begin

    @property
    def end(self) -> int:
        return self.start + math.prod(self.shape) * self.dtype.itemsize


def read_npy(path: PathLike) -> np.ndarray[Any, Any]:
    """Read an ``.npy`` file of numbers.

    >>> import tempfile, os
    >>> path = os.path.join(tempfile.mkdtemp(), "x.npy")
    >>> np.save(path, np.float32([[1, 2]]))
    >>> read_npy(path)
    array([[1., 2.]], dtype=float32)

    Raises FileError, with the byte and the cause, for a file that is missing, cut short, too long, no ``.npy`` file,
    or of anything but numbers (objects would have to be unpickled). The shape it declares is compared with the file's
    size before memory is taken.
    """
    with opened(path) as file:
        header = _checked_header(path, file.read, os.fstat(file.fileno()).st_size)
        file.seek(header.start)
        return _shaped(np.fromfile(file, header.dtype, math.prod(header.shape)), header)


def read_npz(path: PathLike, most: int | None = None) -> dict[str, np.ndarray[Any, Any]]:
    """Read all arrays of an ``.npz`` file by their names; each is checked as :func:`read_npy` checks it.

    More than ``most`` bytes in it are an error, or more than a packed file of its size can hold at all.

    >>> import tempfile, os
    >>> path = os.path.join(tempfile.mkdtemp(), "xy.npz")
    >>> np.savez_compressed(path, x=np.zeros(2), y=np.arange(3))
    >>> {name: a.tolist() for name, a in read_npz(path).items()}
    {'x': [0.0, 0.0], 'y': [0, 1, 2]}
    """
    # What zipfile raises for a damaged file, by experience with thousands of them.
    damage = (zipfile.BadZipFile, NotImplementedError, RuntimeError, zlib.error, lzma.LZMAError, EOFError, ValueError)
    with opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        try:
            with zipfile.ZipFile(file) as archive:
                return _read_members(path, archive, size * MAX_DEFLATE_RATIO if most is None else most)
        except (*damage, struct.error, LookupError, OverflowError) as error:
            bad_file(path, f"no whole .npz file: {type(error).__name__}: {error}")


def _read_members(path: PathLike, archive: zipfile.ZipFile, most: int) -> dict[str, np.ndarray[Any, Any]]:
    declared = sum(info.file_size for info in archive.infolist())
    if declared > most:
        bad_file(path, f"declares {declared} bytes; there may be at most {most} in a zip file of its size")
    arrays = {}
    for info in archive.infolist():
        member = f"{os.fspath(path)}[{info.filename}]"
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            bad_file(member, "packed by another method than NumPy uses", at=info.header_offset)
        name = info.filename.removesuffix(".npy")
        if name in arrays:
            bad_file(member, "the name stands twice", at=info.header_offset)
        with archive.open(info) as stream:
            header = _checked_header(member, stream.read, info.file_size)
            content = bytearray()
            while chunk := stream.read(_CHUNK):  # to its end, where zipfile compares the checksum
                content += chunk
        if header.start + len(content) != header.end:
            bad_file(member, f"cut short: the numbers end at byte {header.end}", at=header.start + len(content))
        arrays[name] = _shaped(np.frombuffer(content, header.dtype), header)
    return arrays


def _checked_header(path: PathLike, read: Callable[[int], bytes], size: int) -> _Header:
    """The header at the start of a file of ``size`` bytes, which must be those that it declares."""
    start = read(8)
    if len(start) < 8 or start[:6] != npy_format.MAGIC_PREFIX:
        bad_file(path, "no .npy file: it does not begin with \\x93NUMPY and a version", at=0)
    if start[6] not in (1, 2, 3) or start[7] != 0:
        bad_file(path, f"the version must be 1.0, 2.0 or 3.0, got {start[6]}.{start[7]}", at=6)
    width = 2 if start[6] == 1 else 4
    length = int.from_bytes(read(width), "little")
    begin = 8 + width
    if length > min(_LONGEST_HEADER, size - begin):
        bad_file(path, f"the header declares {length} bytes, the file has {max(0, size - begin)} more", at=8)
    text = read(length).decode("latin-1")
    if len(text) < length:
        bad_file(path, f"cut short: the header ends at byte {begin + length}", at=begin + len(text))
    dtype, fortran_order, shape = _parse(path, text, begin)
    header = _Header(dtype, fortran_order, shape, begin + length)
    if header.end != size:
        kind = "cut short" if header.end > size else "has bytes left over"
        cause = f"{kind}: {dtype} numbers of shape {shape} end at byte {header.end}, the file at byte {size}"
        bad_file(path, cause, at=min(size, header.end))
    check_shape(path, shape, dtype, at=begin)
    return header


def _parse(path: PathLike, text: str, begin: int) -> tuple[np.dtype[Any], bool, tuple[int, ...]]:
    # Not numpy.lib.format's reader: damaged text makes it warn, or raise MemoryError or TokenError, a negative size it
    # takes, and where the damage is it does not say.
    found: dict[str, re.Match[str]] = {}
    place = text.find("{") + 1
    if place == 0 or text[: place - 1].strip(_BLANKS):
        bad_file(path, "the header is no dict", at=begin)
    while match := _ENTRY.match(text, place):
        if match[1] in found:
            bad_file(path, f"the header has {match[1]!r} twice", at=begin + place)
        found[match[1]] = match
        place = match.end()
    if text[place:].strip(_BLANKS) != "}":
        bad_file(path, f"the header cannot be read: {text[place : place + 40].strip()!r}", at=begin + place)
    if found.keys() != {"descr", "fortran_order", "shape"}:
        bad_file(path, f"the header must have descr, fortran_order and shape, got {sorted(found)}", at=begin)
    descr, order, shape = found["descr"][2], found["fortran_order"][3], found["shape"][4]
    if descr is None or not _DESCR.fullmatch(descr):
        cause = "only arrays of numbers are read (objects would be unpickled)"
        bad_file(path, f"{cause}, got descr {descr!r}", at=begin + found["descr"].start())
    if order is None:
        bad_file(path, "fortran_order must be True or False", at=begin + found["fortran_order"].start())
    sizes = None if shape is None else _SIZES.fullmatch(shape)
    if not sizes or (shape.strip(_BLANKS) and "," not in shape) or shape.count(",") > 64:
        bad_file(path, "shape must be a tuple of up to 64 integers", at=begin + found["shape"].start())
    return np.dtype(descr), order == "True", tuple(int(n) for n in re.findall(r"\d+", shape))


def _shaped(flat: np.ndarray[Any, Any], header: _Header) -> np.ndarray[Any, Any]:
    native = flat.astype(header.dtype.newbyteorder("="), copy=False)
    return native.reshape(header.shape, order="F" if header.fortran_order else "C")


class NpyDataset:
    """Rows of ``.npy`` files that may be larger than memory: sample i is ``(a[i], b[i], ...)``, read when asked for.

    Only what a batch needs is read, with positioned reads: they leave the interpreter's lock to other threads, take
    no address space, and a file that gets shorter while it is in use is an error instead of a crash. The headers are
    checked at once. Each process opens the files for itself.

    >>> import tempfile, os
    >>> path = os.path.join(tempfile.mkdtemp(), "x.npy")
    >>> np.save(path, np.arange(6.0).reshape(3, 2))
    >>> data = NpyDataset(path)
    >>> len(data), data[1], data.batch(np.array([2, 0])).tolist()
    (3, array([2., 3.]), [[4.0, 5.0], [0.0, 1.0]])

    Raises FileError as :func:`read_npy` does, and for Fortran order (its rows lie scattered); ShapeError for files of
    different lengths.
    """

    def __init__(self, *paths: PathLike) -> None:
        check(len(paths) > 0, ArgumentError, "NpyDataset", "there must be a file", paths=len(paths))
        self.files = [_Rows(os.fspath(path)) for path in paths]
        lengths = [file.shape[0] for file in self.files]
        check(len(set(lengths)) == 1, ShapeError, "NpyDataset", "files must have one length", lengths=lengths)

    def __len__(self) -> int:
        return self.files[0].shape[0]

    def __getitem__(self, index: int) -> Any:
        chosen = np.array([checked_index(index, len(self))])
        rows = tuple(file.read(chosen)[0] for file in self.files)
        return rows[0] if len(rows) == 1 else rows

    def batch(self, indices: Indices) -> Any:
        """The rows of many numbers: ``(a[indices], b[indices], ...)``."""
        wanted = asarray(indices, "cpu")
        inside = bool(np.all((wanted >= 0) & (wanted < len(self))))
        check(inside, ArgumentError, "NpyDataset", "indices must be from 0 to the length - 1", length=len(self))
        parts = tuple(file.read(wanted) for file in self.files)
        return parts[0] if len(parts) == 1 else parts


class _Rows:
    """An ``.npy`` file in C order, of which rows are read."""

    def __init__(self, path: str) -> None:
        with opened(path) as file:
            header = _checked_header(path, file.read, os.fstat(file.fileno()).st_size)
        if not header.shape:
            bad_file(path, "there is one number, where an axis of rows is needed", at=header.start)
        if header.fortran_order and len(header.shape) > 1:
            bad_file(path, "Fortran order: rows lie scattered; save it with numpy.ascontiguousarray", at=10)
        self.path, self.shape, self._header = path, header.shape, header

    def read(self, indices: Indices) -> np.ndarray[Any, Any]:
        """The rows of the given numbers, each neighbouring run of them by one read."""
        header = self._header
        rows = np.empty((len(indices), *self.shape[1:]), header.dtype)
        size = math.prod(self.shape[1:]) * header.dtype.itemsize
        target = rows.reshape(-1).view(np.uint8).data
        breaks = np.flatnonzero(np.diff(indices) != 1) + 1
        with opened(self.path) as file:
            for first, last in zip([0, *breaks], [*breaks, len(indices)], strict=True):
                if first == last or size == 0:
                    continue
                place = header.start + int(indices[first]) * size
                file.seek(place)
                got = file.readinto(target[first * size : last * size])  # type: ignore[attr-defined]
                if got < (last - first) * size:
                    bad_file(self.path, "cut short since it was opened", at=place + got)
        return rows.astype(header.dtype.newbyteorder("="), copy=False)
