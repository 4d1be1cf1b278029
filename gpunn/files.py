"""Writing files so that no reader ever sees half of one."""

from __future__ import annotations

import os
from pathlib import Path


def write_atomically(path: Path, content: bytes | bytearray, durable: bool = False) -> None:
    """Write ``content`` to ``path``: a concurrent reader sees the old file, or all of the new one.

    ``durable`` waits until bytes and name are on the disk: after a power cut the file is there, and whole.
    The folder is made if it is missing. Raises OSError if the file cannot be written; nothing is left of it then.

    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "folder" / "file"
    >>> write_atomically(target, b"bytes")
    >>> target.read_bytes()
    b'bytes'
    """
    import tempfile  # it would slow down every `import gpunn`

    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())  # mkstemp makes files that only their owner can read
        os.replace(temporary, path)
        if durable:
            _sync_folder(path.parent)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _sync_folder(folder: Path) -> None:
    """Wait until the names in ``folder`` are on the disk, where the system lets a folder be opened."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _umask() -> int:
    """The bits that this process takes from the modes of new files; it can be read only by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
