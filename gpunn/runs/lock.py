"""One process at a time in a run folder: two that went on with one run would each spoil the other's files."""

from __future__ import annotations

import contextlib
import os
import platform
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from gpunn.errors import FileError, warn

NAME = "lock"
"""The file that is locked; it is there while a process works in the folder, or was killed there."""

# Beyond what the file holds: on Windows nobody else can read a byte that is locked.
_LOCKED_BYTE = 1 << 20
_TEXT = 1000  # bytes, more than is ever written

RUNNING, KILLED = "running", "killed"
"""What :func:`state` tells: a process works in the folder, or was killed there."""

_TRIES = 5  # who asks for the state holds the lock for a moment

_held: set[int] = set()


def _leave_to_parent() -> None:
    """In a forked child: the lock goes with the process that took it, whatever its children do."""
    for handle in _held:
        os.close(handle)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """A context in which no other process, and no other thread, is in ``locked(folder)``.

    The system frees the lock of a process that ends, however it does (``flock``; on Windows a locked byte). Reading the
    run needs no lock.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with locked(folder), locked(folder):  # doctest: +ELLIPSIS
    ...     pass
    Traceback (most recent call last):
    gpunn.errors.FileError: ...: in use by process ... since ...: two at once would spoil the run

    Raises FileError, which says who has the folder, and if the lock's file cannot be made. Where the file system has
    no locks there is a warning instead.
    """
    path = folder / NAME
    try:
        handle = _take(path)
    except FileError:
        raise
    except OSError as error:
        raise FileError(f"{path}: the run cannot be written there: {error.strerror or error}") from error
    _held.add(handle)
    try:
        yield
    finally:
        if handle in _held:  # not so in a forked child
            _held.discard(handle)
            _free(handle, path)


def state(folder: Path) -> str | None:
    """:data:`RUNNING` or :data:`KILLED`; None where nobody works in the folder, or it cannot be told.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with locked(folder):
    ...     state(folder)
    'running'
    >>> state(folder)
    >>> _ = (folder / NAME).write_text("process 7")  # who is killed leaves it
    >>> state(folder)
    'killed'
    """
    path = folder / NAME
    try:
        handle = os.open(path, (os.O_RDONLY if os.name == "posix" else os.O_RDWR) | _own_flags())
    except OSError:
        return None
    _held.add(handle)
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            return None
        if not _try(handle, exclusive=False):
            return RUNNING
        # It may have been removed in this moment, or made, and be locked and written in the next.
        return KILLED if _is_at(handle, path) and os.fstat(handle).st_size else None
    except OSError:  # a file system without locks
        return None
    finally:
        if handle in _held:
            _held.discard(handle)
            os.close(handle)


def _own_flags() -> int:
    """Those with which nothing is opened but a file: the folder may hold a link or a FIFO of that name."""
    own = 0
    for flag in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"):
        own |= getattr(os, flag, 0)
    return own


def _take(path: Path) -> int:
    """The open and locked file."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | _own_flags(), 0o666)
        try:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise OSError(f"{NAME} is not a regular file")
            if not _lock(handle, path):
                raise FileError(f"{path.parent}: in use by {_holder(handle)}: two at once would spoil the run")
            if _is_at(handle, path):
                os.ftruncate(handle, 0)
                started = time.strftime("%Y-%m-%d %H:%M:%S")
                os.write(handle, f"process {os.getpid()} on {platform.node()} since {started}\n".encode())
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)  # of a process that has ended in this moment, and taken its file along


def _lock(handle: int, path: Path) -> bool:
    """Lock the open file; False if another has it."""
    try:
        for left in range(_TRIES, 0, -1):
            if _try(handle, exclusive=True):
                return True
            if left > 1:
                time.sleep(0.01)
        return False
    except OSError as error:
        said = f"{path.parent}: not kept from other processes, the file system has no locks: {error.strerror or error}"
        warn(said)
    return True


def _try(handle: int, exclusive: bool) -> bool:
    """Lock the open file, or let others who only ask have it too; False if another has it, OSError without locks."""
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(handle, _LOCKED_BYTE, os.SEEK_SET)
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
            os.lseek(handle, 0, os.SEEK_SET)
        else:
            import fcntl

            fcntl.flock(handle, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


def _free(handle: int, path: Path) -> None:
    if os.name == "posix":
        path.unlink(missing_ok=True)  # while it is locked: whoever opened it meanwhile sees that it is gone
        os.close(handle)
    else:
        os.close(handle)
        with contextlib.suppress(OSError):  # another process has it already
            path.unlink()


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.lstat(path))
    except FileNotFoundError:
        return False


def _holder(handle: int) -> str:
    os.lseek(handle, 0, os.SEEK_SET)
    text = os.read(handle, _TEXT).decode(errors="replace").strip()
    return text if text.isprintable() and text else "another process"
