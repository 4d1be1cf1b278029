"""What the readers of files share: errors that name file, place and cause, and reading that trusts no declared size."""

from __future__ import annotations

import gzip
import os
import reprlib
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NoReturn

import numpy as np

from gpunn.errors import FileError
from gpunn.files import open_file

MAX_DEFLATE_RATIO = 1032
"""No deflate stream grows by more: 258 bytes take at least two bits. Source: zlib, "Technical Details"."""
_CHUNK = 1 << 20

PathLike = str | os.PathLike[str]


def bad_file(path: PathLike, cause: str, at: int | None = None) -> NoReturn:
    """Raise FileError ``path: byte at: cause``.

    >>> bad_file("a.idx", "the magic number is 7", at=0)
    Traceback (most recent call last):
    gpunn.errors.FileError: a.idx: byte 0: the magic number is 7
    """
    raise FileError(f"{os.fspath(path)}: {cause}" if at is None else f"{os.fspath(path)}: byte {at}: {cause}")


def check_shape(path: PathLike, shape: tuple[int, ...], dtype: np.dtype[Any], at: int) -> None:
    """Refuse a shape that no array of NumPy has: of too many axes or, beside an axis of 0, of too large ones.

    >>> check_shape("a.npy", (0, 2**32, 2**32), np.dtype("f4"), at=10)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    gpunn.errors.FileError: a.npy: byte 10: NumPy has no array of 3 axes (0, 4294967296, 4294967296): array is too ...
    """
    try:
        np.broadcast_to(np.empty((), dtype), shape)  # takes no memory
    except ValueError as error:
        bad_file(path, f"NumPy has no array of {len(shape)} axes {reprlib.repr(shape)}: {error}", at)


@contextmanager
def opened(path: PathLike) -> Iterator[IO[bytes]]:
    """The open file, a regular one; an OSError inside becomes a FileError that names the path."""
    try:
        with open_file(path) as file:
            yield file
    except FileError:
        raise
    except OSError as error:
        raise FileError(f"{os.fspath(path)}: cannot be read: {error.strerror or error}") from error


class Source:
    """A file read from its start, unpacked if it is gzip's, that never takes more memory than the file can fill."""

    def __init__(self, path: PathLike, file: IO[bytes]) -> None:
        self.path = path
        self.packed_size = os.fstat(file.fileno()).st_size
        self.packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        self._stream: IO[bytes] = gzip.GzipFile(fileobj=file) if self.packed else file  # type: ignore[assignment]
        self.position = 0

    def expect(self, total: int, what: str) -> None:
        """Refuse a file that cannot hold ``total`` bytes, or, where that is known at once, holds more."""
        if self.packed and total > self.packed_size * MAX_DEFLATE_RATIO:
            bad_file(self.path, f"{what} need {total} bytes; {self.packed_size} bytes of gzip cannot hold them", at=0)
        if not self.packed and total != self.packed_size:
            kind = "cut short" if total > self.packed_size else "has bytes left over"
            cause = f"{kind}: {what} end at byte {total}, the file at byte {self.packed_size}"
            bad_file(self.path, cause, at=min(total, self.packed_size))

    def read(self, count: int, what: str) -> bytearray:
        """The next ``count`` bytes; a shorter file is an error."""
        content = bytearray()
        while len(content) < count:
            chunk = self._read(min(_CHUNK, count - len(content)))
            if not chunk:
                place = self.position + len(content)
                bad_file(self.path, f"cut short: {what} end at byte {self.position + count}", at=place)
            content += chunk
        self.position += count
        return content

    def end(self) -> None:
        """Refuse bytes that are left over; a gzip file's checksum is compared here."""
        if self._read(1):
            bad_file(self.path, "has bytes left over", at=self.position)

    def _read(self, count: int) -> bytes:
        try:
            return self._stream.read(count)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            bad_file(self.path, f"not whole gzip data: {error}", at=self.position)


def existing(folder: Path, names: list[str]) -> Path | None:
    """The first of the named files that the folder holds."""
    return next((folder / name for name in names if (folder / name).is_file()), None)
