"""Files: written so that no reader ever sees half of one, and only regular ones, wherever a link may lead."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import IO

_KINDS = {stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}
_BINARY = getattr(os, "O_BINARY", 0)  # Windows alone has it
_AT_ONCE = getattr(os, "O_NONBLOCK", 0)  # Windows lacks it


def shipped(name: str) -> Path:
    """A folder that comes with gpunn: in the package where a wheel was installed, beside it in a checkout.

    >>> (shipped("kernels") / "conv.cu").exists()
    True
    """
    package = Path(__file__).resolve().parent
    inside, beside = package / name, package.parent / name
    return inside if inside.is_dir() else beside


def write_atomically(
    path: Path, content: bytes | bytearray | memoryview, durable: bool = False, private: bool = False
) -> None:
    """Write ``content`` to ``path``: a concurrent reader sees the old file, or all of the new one.

    If ``path`` is a link, the file that it leads to is written. A file that was there hands on its mode, and its owner
    where the system allows it; a new one gets what the process's umask leaves. With ``private`` it is for its owner
    alone in any case. ``durable`` waits until bytes and name are on the disk: after a power cut the file is there, and
    whole. The folder is made if it is missing.

    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "folder" / "file"
    >>> write_atomically(target, b"bytes")
    >>> target.read_bytes()
    b'bytes'

    Raises OSError if the file cannot be written, or ``path`` is a FIFO, a device or anything else but a file; nothing
    is left of it then.
    """
    target = Path(os.path.realpath(path))
    before = _state(target)
    Path(path).parent.mkdir(parents=True, exist_ok=True)  # not what a link leads to
    temporary = target.with_name(f"{target.name}.{os.urandom(8).hex()}.part")
    # The kernel takes the umask's bits from the mode; what was hidden before is hidden while it is written, too.
    hidden = private or before is not None
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY, 0o600 if hidden else 0o666)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        if before is not None and not private:
            _hand_on(before, temporary)
        os.replace(temporary, target)
        if durable:
            _sync_folder(target.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _state(path: Path) -> os.stat_result | None:
    """What is known of the regular file ``path``, None if there is none; an OSError for anything else."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    _check_regular(path, found)
    return found


def _check_regular(path: str | os.PathLike[str], found: os.stat_result) -> None:
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    if not stat.S_ISREG(found.st_mode):
        kind = _KINDS.get(stat.S_IFMT(found.st_mode), "something else")
        raise OSError(errno.EINVAL, f"not a regular file, but {kind}", os.fspath(path))


def _hand_on(before: os.stat_result, path: Path) -> None:
    """Give ``path`` owner and mode of the file that it is to replace, as far as this process may."""
    mode = stat.S_IMODE(before.st_mode) & 0o777
    if os.name == "posix":
        own = os.stat(path)
        try:
            if (own.st_uid, own.st_gid) != (before.st_uid, before.st_gid):
                os.chown(path, before.st_uid, before.st_gid)
        except PermissionError:
            if own.st_gid != before.st_gid:  # another group must not get more than anybody
                mode = mode & ~0o070 | (mode & 0o007) << 3
    os.chmod(path, mode)


def _sync_folder(folder: Path) -> None:
    """Wait until the names in ``folder`` are on the disk, where the system lets a folder be opened."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


# ---- reading -------------------------------------------------------------------------------------------------------


def within(folder: Path, path: Path) -> Path:
    """Where ``path`` lies, all links followed, whether there is a file or not.

    Raises OSError if that is not inside of ``folder``.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> (folder / "link").symlink_to("/etc/passwd")
    >>> within(folder, folder / "link")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    PermissionError: [Errno 1] a link that leads out of its folder: ...
    """
    found = Path(os.path.realpath(path))
    if not found.is_relative_to(os.path.realpath(folder)):
        raise PermissionError(errno.EPERM, "a link that leads out of its folder", os.fspath(path))
    return found


def open_file(path: str | os.PathLike[str], folder: Path | None = None) -> IO[bytes]:
    """Open a regular file for reading; with ``folder`` only one that lies inside of it, see :func:`within`.

    Raises OSError if that fails, at once also for a FIFO that nobody writes to.
    """
    place = path if folder is None else within(folder, Path(path))
    _check_regular(path, os.stat(place))  # before it is opened: opening a device may do something already
    handle = os.open(place, os.O_RDONLY | _AT_ONCE | _BINARY)
    try:
        _check_regular(path, os.fstat(handle))
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def read_file(path: str | os.PathLike[str], folder: Path | None = None, most: int | None = None) -> bytes:
    """What a regular file holds, opened by :func:`open_file`; an OSError if that is over ``most`` bytes."""
    with open_file(path, folder) as file:
        content = file.read(-1 if most is None else most + 1)
    if most is not None and len(content) > most:
        raise OSError(errno.EFBIG, f"larger than {most >> 20} MiB", os.fspath(path))
    return content
