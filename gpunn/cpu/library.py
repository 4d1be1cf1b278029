"""Finding oneDNN's library, and calling it.

The library is ``libdnnl.so.3`` (``.dylib``, ``dnnl.dll``), 3.2 or newer, of the package ``onednn-cpu-gomp`` (the extra
``cpu``), of conda, of a distribution, or the file that ``GPUNN_ONEDNN`` names; ``GPUNN_ONEDNN=off`` does without. Only
the published C API is called. Source: https://uxlfoundation.github.io/oneDNN, "C API".
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

from gpunn.cpu import number
from gpunn.errors import PackageError, fail

LEAST_VERSION = (3, 2)
_NAMES = {"win32": ("dnnl.dll",), "darwin": ("libdnnl.3.dylib",)}.get(sys.platform, ("libdnnl.so.3",))
_SEQUENTIAL, _OPENMP = 1, 2
_ENGINES = {_SEQUENTIAL: "no threads", _OPENMP: "OpenMP"}
_AVX2 = 0x7
_STATUS = {1: "out of memory", 2: "invalid arguments", 3: "not implemented", 4: "no implementation left"}
_NOT_SERVED = (2, 3, 4)  # as the arguments are checked before, invalid ones are settings that oneDNN has a limit for


class Library:
    """The loaded library, with an engine, and the version and threading it was built with."""

    def __init__(self, path: str) -> None:
        before = _openmp_libraries()
        with _short_waits():
            c = ctypes.CDLL(path)
        self.path, self.c = path, c
        c.dnnl_version.restype = ctypes.POINTER(_Version)
        version = c.dnnl_version().contents
        self.version = (version.major, version.minor, version.patch)
        if version.major != LEAST_VERSION[0] or self.version < LEAST_VERSION:
            least = ".".join(map(str, LEAST_VERSION))
            raise OSError(f"{path} is oneDNN {self.version_text}; {least} or newer, below 4, is needed")
        if version.cpu_runtime not in _ENGINES:
            raise OSError(f"{path} is built for other threads than OpenMP's, whose number gpunn could not set")
        self.threading = _ENGINES[version.cpu_runtime]
        has_threads = self.threading == "OpenMP"
        if has_threads and _has_fewer_threads_than_it_says(c):
            rule = "OpenMP may start fewer threads than it says, and oneDNN would wait for the others"
            raise OSError(f"{rule}: OMP_DYNAMIC, OMP_THREAD_LIMIT or OMP_MAX_ACTIVE_LEVELS is set")
        # Two copies of Intel's runtime end the process once the second one is used; of GNU's there may be several.
        both = before | _openmp_libraries()
        if len(both) > 1:
            raise OSError(f"{path} would be the second OpenMP runtime of its kind in this process: {', '.join(both)}")
        if _is_x86() and c.dnnl_get_effective_cpu_isa() & _AVX2 != _AVX2:
            raise OSError("this processor has no AVX2")
        c.dnnl_memory_set_data_handle.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
        c.dnnl_primitive_execute.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p]
        c.dnnl_memory_desc_get_size.argtypes, c.dnnl_memory_desc_get_size.restype = [ctypes.c_void_p], ctypes.c_size_t
        c.dnnl_memory_desc_equal.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
        c.dnnl_primitive_desc_query_md.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_int]
        c.dnnl_primitive_desc_query_md.restype = ctypes.c_void_p
        self.engine = self.new("engine_create", ctypes.c_int(1), ctypes.c_size_t(0))
        self.threads: Callable[[], int] = c.omp_get_max_threads if has_threads else (lambda: 1)
        """How many threads a primitive made now would use: what :mod:`gpunn.cpu.number` says, or threadpoolctl sets."""
        self.set_threads: Callable[[int], object] = c.omp_set_num_threads if has_threads else (lambda count: None)
        if asked := number.own():
            self.set_threads(asked)
        if hasattr(os, "register_at_fork"):
            # The threads of the process that forked are not in the child, where it would wait for them.
            os.register_at_fork(after_in_child=lambda: self.set_threads(1))

    @property
    def version_text(self) -> str:
        return ".".join(map(str, self.version))

    @contextmanager
    def limited(self, threads: int) -> Iterator[None]:
        """Within it primitives are made for, and run by, so many threads."""
        most = self.threads()
        if most == threads:
            yield
            return
        try:
            self.set_threads(threads)
            yield
        finally:
            self.set_threads(most)

    def new(self, name: str, *arguments: Any) -> ctypes.c_void_p:
        """What ``dnnl_<name>`` makes."""
        made = ctypes.c_void_p()
        self.check(name, getattr(self.c, f"dnnl_{name}")(ctypes.byref(made), *arguments))
        return made

    def check(self, name: str, status: int) -> None:
        """Raise for a status of ``dnnl_<name>`` that is not success: MemoryError, NotServed, or RuntimeError."""
        if not status:
            return
        kind: type[Exception] = MemoryError if status == 1 else RuntimeError
        if status in _NOT_SERVED and name.endswith("_desc_create"):
            kind = NotServed
        raise kind(f"oneDNN {self.version_text}: {name}: {_STATUS.get(status, f'status {status}')}")


class NotServed(Exception):
    """oneDNN has no implementation for what was asked."""


class _Version(ctypes.Structure):
    _fields_ = [
        ("major", ctypes.c_int),
        ("minor", ctypes.c_int),
        ("patch", ctypes.c_int),
        ("hash", ctypes.c_char_p),
        ("cpu_runtime", ctypes.c_uint),
        ("gpu_runtime", ctypes.c_uint),
    ]


@contextmanager
def _short_waits() -> Iterator[None]:
    """GNU's OpenMP, if it is loaded within, has threads wait actively for microseconds instead of milliseconds.

    Those that wait take the processor from those that work, wherever other programs run, and a step of a small net
    then takes ten times as long. ``OMP_WAIT_POLICY`` and ``GOMP_SPINCOUNT``, if set, stay as they are.
    """
    if "OMP_WAIT_POLICY" in os.environ or "GOMP_SPINCOUNT" in os.environ:
        yield
        return
    os.environ["GOMP_SPINCOUNT"] = "3000"
    try:
        yield
    finally:
        os.environ.pop("GOMP_SPINCOUNT", None)


def _has_fewer_threads_than_it_says(c: ctypes.CDLL) -> bool:
    most = c.omp_get_max_threads()
    fewer = c.omp_get_dynamic() or c.omp_get_thread_limit() < most or c.omp_get_max_active_levels() < 1
    return most > 1 and bool(fewer)


def _is_x86() -> bool:
    import platform

    return platform.machine().lower() in ("x86_64", "amd64")


def _openmp_libraries() -> set[str]:
    """The files of Intel's or LLVM's OpenMP runtime that this process has loaded."""
    try:
        lines = Path("/proc/self/maps").read_text().splitlines()
    except OSError:  # no Linux
        return set()
    paths = {line.split(maxsplit=5)[-1] for line in lines if "/libiomp5" in line or "/libomp" in line}
    return {os.path.realpath(path) for path in paths}


def found() -> tuple[Library | None, str]:
    """The library, and why there is none.

    Raises PackageError for a GPUNN_ONEDNN that cannot be used.
    """
    global _found
    if _found is None:
        with _lock:
            _found = _found or _look()
    return _found


def usable() -> Library | None:
    """The library; None, too, for a GPUNN_ONEDNN that cannot be used: what computes with oneDNN tells of that."""
    try:
        return found()[0]
    except PackageError:
        return None


_lock = Lock()
_found: tuple[Library | None, str] | None = None


def _look() -> tuple[Library | None, str]:
    named = os.environ.get("GPUNN_ONEDNN", "")
    if named == "off":
        return None, "GPUNN_ONEDNN=off"
    if named:
        try:
            return Library(named), ""
        except (OSError, AttributeError) as error:
            fail(PackageError, "oneDNN", f"GPUNN_ONEDNN must name a usable library, or be off: {error}", path=named)
    reasons = []
    for path in _places():
        try:
            return Library(path), ""
        except (OSError, AttributeError) as error:
            reasons.append(str(error))
    *of_files, of_system = reasons
    told = "; ".join(of_files) or f"not installed ({of_system}): pip install onednn-cpu-gomp"
    return None, told


def _places() -> Iterator[str]:
    """Files that may be the library: of this environment, of this user; then names that the system may know."""
    import site  # these take longer to import than the rest of the page
    import sysconfig

    folder = "Library/bin" if sys.platform == "win32" else "lib"
    roots = [sysconfig.get_path("data"), sys.prefix, *([site.USER_BASE] if site.USER_BASE else [])]
    for root in dict.fromkeys(roots):
        for name in _NAMES:
            path = Path(root) / folder / name
            if path.exists():
                yield str(path)
    yield from _NAMES
