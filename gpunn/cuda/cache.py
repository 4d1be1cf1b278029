"""The folder where compiled kernels are kept, and writing into it so that no reader sees half a file."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def folder() -> Path:
    """The user's kernel cache: ``GPUNN_CACHE_DIR``, else ``gpunn`` in ``XDG_CACHE_HOME`` or ``~/.cache``."""
    if chosen := os.environ.get("GPUNN_CACHE_DIR"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gpunn"


def write_atomically(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` so that a concurrent reader sees the old file, or all of the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
