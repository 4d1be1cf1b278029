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

_FLAGS = ("-std=c++17", "-O1", "-fPIC", "-fvisibility=hidden", "-w", "-pthread", "-march=native", "-fno-math-errno")
# Vectors of the processor's own width, sums and products fused, complex products without NaN recovered from infinity.
_NAN_STAYS = "-fcx-fortran-rules"
_FAST = ("-O3", "-ffp-contract=fast", _NAN_STAYS)
# Each symbol has the library's name as its version, as in CUDA's; who is linked to those asks for it.
_VERSIONED = ("-Wl,--default-symver",)
_CORE = (
    "memory.cpp",
    "texture.cpp",
    "stream.cpp",
    "attributes.cpp",
    "module.cpp",
    "check.cpp",
    "library.cpp",
    "driver.cpp",
    "nvrtc.cpp",
)


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
        # CuPy looks for these three before it imports what stands in the place of their bindings.
        Library("libcusparse.so.12", ()),
        Library(f"libcufft.so.{major - 1}", ()),
        Library(f"libnvJitLink.so.{major}", ()),
        Library("libgpunn_algorithms.so", ("algorithms.cpp", "cub_calls.cpp"), options=("-O2", _NAN_STAYS)),
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
    places: dict[str, Path] = {}
    with tempfile.TemporaryDirectory() as folder, concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        # All sources at once, of whatever is not in the cache; then the libraries are linked, one after the other.
        missing = [library for library in (core, *others) if not build.find(_place(library))]
        objects = {each.name: [pool.submit(_compiled, each, s, folder) for s in each.sources] for each in missing}
        for library in (core, *others):
            inputs = [made.result() for made in objects.get(library.name, [])]
            places[library.name] = _linked(library, [*inputs, *([] if library is core else [str(places[core.name])])])
    for name in core.also:
        places[name] = _linked(Library(name, ()), ["-Wl,--no-as-needed", str(places[core.name])])
    return places


def _place(library: Library) -> Path:
    content = hashlib.sha256()
    headers = [*NATIVE.glob("*.h"), build.RUNTIME / "launch.h"]
    for path in sorted([*headers, *(NATIVE / source for source in library.sources)]):
        content.update(path.read_bytes())
    flags = (*_FLAGS, *library.options)
    path = build.cache_path("device", library.name, flags, build.host_compiler(), _python(), content.hexdigest())
    return path.with_name(f"{library.name}-{path.name}")


def _compiled(library: Library, source: str, folder: str) -> str:
    target = Path(folder, f"{library.name}-{source}.o")
    command = [build.host_compiler().command, "-c", *_FLAGS, *library.options, f"-I{_include()}"]
    with compiling(f"{source} of the emulated device", kernel=False):
        build.run_compiler([*command, str(NATIVE / source), "-o", str(target)], None, source, folder)
    return str(target)


def _linked(library: Library, inputs: list[str]) -> Path:
    def link() -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / "library.so"
            names = ["-Wl,-soname," + library.name] if ".so" in library.name else []
            command = [build.host_compiler().command, "-shared", *_FLAGS, *library.options, *names, *inputs]
            build.run_compiler([*command, "-o", str(target)], None, library.name, folder)
            return target.read_bytes()

    return build.built(_place(library), link)


def load(places: dict[str, Path]) -> ctypes.CDLL:
    """Load them for all to see; return the first. Extension modules are left to Python."""
    loaded = [ctypes.CDLL(str(place), ctypes.RTLD_GLOBAL) for name, place in places.items() if ".so" in name]
    return loaded[0]
