"""The folder where compiled kernels are kept, and what is done when it cannot be written."""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import threading
import warnings
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gpunn.files import write_atomically


def folder() -> Path:
    """The user's kernel cache: ``GPUNN_CACHE_DIR``, else ``gpunn`` in ``XDG_CACHE_HOME`` or ``~/.cache``."""
    if chosen := os.environ.get("GPUNN_CACHE_DIR"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gpunn"


def store(path: Path, content: bytes) -> Path:
    """Write ``content`` to ``path`` in the cache; return where it lies.

    That is another folder, which this process removes when it ends, where the cache cannot be written: on a full
    disk, or in a folder that is read-only or a file. Work goes on, after one warning. Raises OSError if that other
    folder cannot be written either.
    """
    try:
        write_atomically(path, content)
    except OSError as error:
        path = _spare_folder(folder(), error.strerror or str(error)) / path.name
        write_atomically(path, content)
    return path


@contextlib.contextmanager
def building(path: Path) -> Iterator[None]:
    """Only one thread at a time looks whether ``path`` is there and builds it if not: the others find it."""
    with _buildings_lock:
        lock = _buildings.setdefault(path, threading.RLock())
    with lock:
        yield


def _forget_buildings() -> None:
    global _buildings, _buildings_lock
    _buildings, _buildings_lock = weakref.WeakValueDictionary(), threading.Lock()


_buildings: weakref.WeakValueDictionary[Path, Any]
_buildings_lock: threading.Lock
_forget_buildings()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_buildings)  # threads that build do not exist there


def spare(path: Path) -> Path | None:
    """Where :func:`store` has put ``path``, or would put it, if this process found that the cache cannot be written."""
    return _spares[folder()] / path.name if folder() in _spares else None


def is_kept() -> bool:
    """Whether what this process compiles is there for the next one; False once the cache could not be written."""
    return folder() not in _spares


_spares: dict[Path, Path] = {}


def _spare_folder(cache: Path, reason: str) -> Path:
    if cache not in _spares:
        import shutil  # these would slow down every `import gpunn`
        import tempfile

        made = Path(tempfile.mkdtemp(prefix="gpunn-"))
        atexit.register(functools.partial(shutil.rmtree, made, ignore_errors=True))
        _spares[cache] = made
        warnings.warn(
            f"the kernel cache {cache} cannot be written ({reason}): each process compiles its kernels anew; "
            "GPUNN_CACHE_DIR names another folder",
            RuntimeWarning,
            stacklevel=2,
        )
    return _spares[cache]
