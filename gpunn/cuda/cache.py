"""The folder where compiled kernels are kept, and what is done when it cannot be written or trusted.

What lies there is loaded and run. So it is used only if nobody but the user and root can have written it: as ssh does,
owner and mode are looked at, of the folders and of each file.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import stat
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gpunn.errors import warn
from gpunn.files import write_atomically


def folder() -> Path:
    """The user's kernel cache: ``GPUNN_CACHE_DIR``, else ``gpunn`` in ``XDG_CACHE_HOME`` or ``~/.cache``."""
    if chosen := os.environ.get("GPUNN_CACHE_DIR"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gpunn"


def store(path: Path, content: bytes) -> Path:
    """Write ``content`` to ``path`` in the cache, for the user alone; return where it lies.

    That is another folder, which this process removes when it ends, where the cache cannot be written: on a full
    disk, or in a folder that is read-only, a file, or one that others can write. Work continues, after one warning.
    Raises OSError if that other folder cannot be written either.
    """
    try:
        _make_folder(path.parent)
        why = _unsafe(path.parent)
        if why is None:
            write_atomically(path, content, private=True)
            return path
    except OSError as error:
        why = f"cannot be written ({error.strerror or error})"
    path = _spare_folder(folder(), why) / path.name
    write_atomically(path, content, private=True)
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


def places(path: Path, *beside: Path) -> list[Path]:
    """Where the file ``path`` of the cache may be read: there, and where :func:`store` has put it or would put it.

    Not there if others can write the cache, of which there is one warning, or that file or one ``beside`` it.
    """
    found, files = [], (path, *beside)
    with contextlib.suppress(OSError):  # what cannot be looked at, or was removed meanwhile, is not there
        if all(each.exists() for each in files):
            if why := _unsafe(path.parent):
                _spare_folder(folder(), why)
            elif not any(map(_unsafe, files)):
                found.append(path)
    return [*found, _spares[folder()] / path.name] if folder() in _spares else found


def _make_folder(path: Path) -> None:
    """Make a folder and those above it, for the user alone whatever the umask says."""
    for missing in [each for each in (*reversed(path.parents), path) if not each.exists()]:
        missing.mkdir(mode=0o700, exist_ok=True)


def _unsafe(path: Path) -> str | None:
    """Why others than the user and root may have written a file or folder of the cache; None if they cannot.

    It and the cache's folders must be owned by one of the two, and nobody else may write them. In a folder above the
    cache, where one of another's could be put in its place, not everybody may, but as in /tmp with the sticky bit. A
    group may: systems on which each user has one to himself are common.
    """
    if os.name != "posix":
        return None
    place, top = Path(os.path.realpath(path)), Path(os.path.realpath(folder()))
    for each in (place, *place.parents):
        state = each.stat()
        if each in (place, place.parent) or each.is_relative_to(top):
            if state.st_uid not in (0, os.geteuid()):
                return f"is not used ({each} belongs to another user, uid {state.st_uid})"
            if state.st_mode & 0o022:
                return f"is not used (others can write {each}; chmod -R go-w {top} forbids it)"
        elif state.st_mode & 0o002 and not state.st_mode & stat.S_ISVTX:
            return f"is not used (anybody can write {each})"
    return None


def is_kept() -> bool:
    """Whether what this process compiles is there for the next one; False once the cache could not be written."""
    return folder() not in _spares


_spares: dict[Path, Path] = {}


def _spare_folder(cache: Path, why: str) -> Path:
    if cache not in _spares:
        import shutil  # these would slow down every `import gpunn`
        import tempfile

        made = Path(tempfile.mkdtemp(prefix="gpunn-"))
        atexit.register(functools.partial(shutil.rmtree, made, ignore_errors=True))
        _spares[cache] = made
        warn(
            f"the kernel cache {cache} {why}: each process compiles its kernels anew; "
            "GPUNN_CACHE_DIR names another folder"
        )
    return _spares[cache]
