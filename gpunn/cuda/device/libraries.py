"""The libraries of the emulated device: built once into the cache, then loaded before anything asks for CUDA's."""

from __future__ import annotations

import concurrent.futures
import ctypes
import functools
import hashlib
import os
import platform
import sys
import sysconfig
import tempfile
from dataclasses import dataclass
from pathlib import Path

from gpunn.cuda.compilation import Compilation, compiling, listening
from gpunn.cuda.emulator import build
from gpunn.errors import CompileError

HERE = Path(__file__).parent
NATIVE = HERE / "native"

_FLAGS = ("-std=c++17", "-O2", "-fPIC", "-fvisibility=hidden", "-w", "-pthread", "-march=native", "-fno-math-errno")
# Vectors of the processor's own width, sums and products fused, complex products without NaN recovered from infinity.
_FAST = ("-O3", "-ffp-contract=fast", "-fcx-fortran-rules")
# Each symbol has the library's name as its version, as in CUDA's; who is linked to those asks for it.
_VERSIONED = ("-Wl,--default-symver",)
_CORE = ("memory.cpp", "stream.cpp", "attributes.cpp", "module.cpp", "check.cpp", "driver.cpp", "nvrtc.cpp")


@dataclass(frozen=True)
class Library:
    """One library: its name, by which others ask for it, its sources, other names that stand for it, and options."""

    name: str
    sources: tuple[str, ...]
    also: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


def all_of(major: int) -> list[Library]:
    """The libraries that a wheel for CUDA ``major`` asks for; the first is linked to the others."""
    return [
        Library("libcuda.so.1", _CORE, (f"libnvrtc.so.{major}", f"libcudart.so.{major}")),
        Library("runtime", ("runtime_module.cpp",)),
        Library(f"libcublasLt.so.{major}", ()),  # which is loaded before cuBLAS is
        Library(f"libcublas.so.{major}", ("cublas.cpp",), options=(*_FAST, *_VERSIONED)),
        Library("libcurand.so.10", ("curand.cpp",), options=(*_FAST, *_VERSIONED)),
        Library(f"libcusolver.so.{major - 1}", ("cusolver.cpp",), options=_VERSIONED),
        # CuPy looks for these two before it imports what stands in the place of their bindings.
        Library("libcusparse.so.12", ()),
        Library(f"libcufft.so.{major - 1}", ()),
        Library("libgpunn_algorithms.so", ("algorithms.cpp", "cub_calls.cpp")),
    ]


def identity() -> str:
    """What kernels that are compiled for the device depend on, beside settings."""
    digest = hashlib.sha256()
    for path in sorted([path for path in (HERE / "include").rglob("*") if path.is_file()] + [HERE / "compiler.py"]):
        digest.update(path.relative_to(HERE).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return build.cache_path("device", digest.hexdigest(), _FLAGS, build.host_compiler(), _python()).stem


def _python() -> str:
    return f"{platform.python_implementation()} {sysconfig.get_config_var('EXT_SUFFIX')}"


def folder_of(name: str) -> Path:
    """A folder of the cache for ``name``, of this device alone."""
    from gpunn.cuda import cache

    return cache.folder() / "device" / name


@functools.cache
def _include() -> str:
    folder = sysconfig.get_path("include")
    if not Path(folder, "Python.h").is_file():
        raise CompileError(
            f"device: Python.h is not in {folder}: install Python's headers (python3-dev on Debian and Ubuntu)"
        )
    return folder


def built(major: int) -> dict[str, Path]:
    """Build what is not in the cache, and say so on stderr; return where each library lies, by name."""
    with listening(_say):
        return _all_built(major)


def _say(compilation: Compilation) -> None:
    if compilation.seconds is None:
        print(f"gpunn: {compilation}", file=sys.stderr, flush=True)


def _all_built(major: int) -> dict[str, Path]:
    core, *others = all_of(major)
    places = {core.name: _built(core, [])}
    linked = [str(places[core.name])]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        made = pool.map(lambda library: _built(library, linked), others)
        places.update((library.name, place) for library, place in zip(others, made, strict=True))
    for name in core.also:
        places[name] = _built(Library(name, ()), ["-Wl,--no-as-needed", *linked])
    return places


def _built(library: Library, linked: list[str]) -> Path:
    compiler = build.host_compiler()
    content = hashlib.sha256()
    for path in sorted([*NATIVE.glob("*.h"), *(NATIVE / source for source in library.sources)]):
        content.update(path.read_bytes())
    flags = (*_FLAGS, *library.options)
    path = build.cache_path("device", library.name, flags, compiler, _python(), content.hexdigest(), *linked)
    path = path.with_name(f"{library.name}-{path.name}")
    sources = [str(NATIVE / source) for source in library.sources]

    def make() -> bytes:
        what = f"{library.name} of the emulated device"
        with compiling(what, kernel=False), tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / "library.so"
            names = ["-Wl,-soname," + library.name] if ".so" in library.name else []
            command = [compiler.command, "-shared", *flags, f"-I{_include()}", *sources, *names, *linked]
            build.run_compiler([*command, "-o", str(target)], None, library.name, folder)
            return target.read_bytes()

    return build.built(path, make)


def load(places: dict[str, Path]) -> ctypes.CDLL:
    """Load them for all to see; return the first. Extension modules are left to Python."""
    loaded = [ctypes.CDLL(str(place), ctypes.RTLD_GLOBAL) for name, place in places.items() if ".so" in name]
    return loaded[0]
