"""Compile CUDA sources to cubins with NVRTC, for any architecture, with or without a GPU; keep them on disk.

NVRTC is reached through ``cuda.core``, NVIDIA's maintained binding. CuPy's own compile path is not used: it adds
``-ftz=true``, which flushes denormals that NumPy keeps, and it needs a driver.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from gpunn.cuda import cache, device
from gpunn.cuda.compilation import compiling
from gpunn.errors import CompileError, install_command

_ENTRY = re.compile(r"Compiling entry function '(\w+)'")
_FIELDS = {
    "registers": re.compile(r"Used (\d+) registers"),
    "shared_bytes": re.compile(r"(\d+) bytes smem"),
    "spill_bytes": re.compile(r"(\d+) bytes spill stores"),
    "stack_bytes": re.compile(r"(\d+) bytes stack frame"),
}


@dataclass(frozen=True)
class Resources:
    """What one thread (registers, spills, stack) and one block (static shared memory) of a kernel take."""

    registers: int
    shared_bytes: int
    spill_bytes: int
    stack_bytes: int


@dataclass(frozen=True)
class Cubin:
    """A compiled module: the file that CuPy loads, and the resources of each kernel in it."""

    path: Path
    resources: dict[str, Resources]


@functools.cache
def nvrtc_version() -> str:
    """The version of the NVRTC in use, as ``"12.9"``.

    Raises CompileError, with the command that mends it, where NVRTC or its binding is missing.
    """
    try:
        from cuda.bindings import nvrtc

        status, major, minor = nvrtc.nvrtcVersion()
    except (ImportError, RuntimeError) as error:
        raise CompileError(
            f"NVRTC or its binding cuda.core is missing ({error}): {install_command('nvrtc')}, which needs no GPU; "
            "with CuPy, for a GPU, the extra cuda13 or cuda12 in its place"
        ) from error
    if int(status) != 0:
        raise CompileError(f"NVRTC does not answer: {status}")
    return f"{major}.{minor}"


@functools.cache
def supported_architectures() -> tuple[str, ...]:
    """The architectures that this NVRTC compiles for, as ``"sm_90"``; some also have forms like ``"sm_90a"``."""
    nvrtc_version()  # says what to install where NVRTC is missing
    from cuda.bindings import nvrtc

    status, numbers = nvrtc.nvrtcGetSupportedArchs()
    if int(status) != 0:
        raise CompileError(f"NVRTC does not answer: {status}")
    return tuple(f"sm_{number}" for number in numbers)


def check_architecture(arch: str) -> None:
    """Raise CompileError, with those it has, unless NVRTC compiles for ``arch``."""
    known = supported_architectures()
    if re.sub(r"(?<=\d)[af]$", "", arch) not in known:
        raise CompileError(f"NVRTC {nvrtc_version()} compiles for {', '.join(known)}, got {arch!r}")


def compile_cubin(code: str, filename: str, options: tuple[str, ...], arch: str) -> Cubin:
    """Compile flattened CUDA ``code`` for ``arch`` (``"sm_90"``), or find it in the cache.

    ``filename`` names the source in messages; ``options`` are ``-DNAME=value``. Where the cache cannot be written the
    cubin lies in a temporary folder of this process (:func:`gpunn.cuda.cache.store`).
    Raises CompileError with the compiler's messages, which name the kernel file's own lines.
    """
    check_architecture(arch)
    with cache.building(_path(code, filename, options, arch)):
        if found := find_cubin(code, filename, options, arch):
            return found
        return _compile_and_store(code, filename, options, arch)


def _compile_and_store(code: str, filename: str, options: tuple[str, ...], arch: str) -> Cubin:
    with compiling(f"{filename} for {arch}"):
        content, log = _nvrtc(code, filename, options, arch)
    resources = read_resources(log)
    kernels = {name: asdict(used) for name, used in resources.items()}
    described = json.dumps({"sha256": _digest(content, kernels), "kernels": kernels}).encode()
    path = _path(code, filename, options, arch)
    try:
        # Two processes may do this at once, with bytes of their own: what does not fit together is compiled again.
        path = cache.store(path, content)
        cache.store(path.with_suffix(".json"), described)
    except OSError as error:
        raise CompileError(
            f"{filename}: the compiled kernel cannot be written, neither to the kernel cache {cache.folder()} nor to "
            f"the folder for temporary files ({error})"
        ) from error
    return Cubin(path, resources)


def find_cubin(code: str, filename: str, options: tuple[str, ...], arch: str) -> Cubin | None:
    """What :func:`compile_cubin` has left in the cache, or None if it is not there or not whole."""
    path = _path(code, filename, options, arch)
    return next(filter(None, map(_read, cache.places(path, path.with_suffix(".json")))), None)


def _path(code: str, filename: str, options: tuple[str, ...], arch: str) -> Path:
    key = hashlib.sha256("\0".join([nvrtc_version(), arch, *options, code]).encode()).hexdigest()[:32]
    return cache.folder() / _kept_in() / f"{Path(filename).stem}-{arch}-{key}.cubin"


def _kept_in() -> str:
    """The folder of the cache: what is compiled for the emulated device is of no use to a GPU, nor the other way."""
    identity = device.identity()
    return f"device/gpunn-{identity}" if identity else "cubin"


def _read(path: Path) -> Cubin | None:
    """The cubin in ``path`` if it is there, and both it and its description are as they were written."""
    try:
        content = path.read_bytes()
        stored = json.loads(path.with_suffix(".json").read_bytes())
        if stored["sha256"] != _digest(content, stored["kernels"]):
            return None
        return Cubin(path, {name: Resources(**used) for name, used in stored["kernels"].items()})
    except (OSError, ValueError, KeyError, TypeError):  # not there, no JSON, or JSON of another shape
        return None


def _digest(content: bytes, kernels: dict[str, dict[str, int]]) -> str:
    return hashlib.sha256(json.dumps(kernels, sort_keys=True).encode() + b"\0" + content).hexdigest()


def _nvrtc(code: str, filename: str, options: tuple[str, ...], arch: str) -> tuple[bytes, str]:
    from cuda.core import Program, ProgramOptions

    macros: list[str | tuple[str, str]] = []
    for option in options:
        name, _, value = option.removeprefix("-D").partition("=")
        macros.append((name, value))
    log = io.StringIO()
    settings = ProgramOptions(name=filename, arch=arch, std="c++17", define_macro=macros or None, ptxas_options=["-v"])
    program = Program(code, "c++", settings)
    try:
        compiled = program.compile("cubin", logs=log)
    except Exception as error:  # the binding has no exception type of its own for a source that does not compile
        raise CompileError(f"{filename}: NVRTC does not compile it for {arch}:\n{log.getvalue() or error}") from error
    finally:
        program.close()
    return bytes(compiled.code), log.getvalue()


def read_resources(log: str) -> dict[str, Resources]:
    """The resources of each kernel, from the log of ``ptxas -v``.

    >>> log = "Compiling entry function 'relu' for 'sm_90'\\n0 bytes stack frame, 4 bytes spill stores\\n"
    >>> read_resources(log + "Used 12 registers, 256 bytes smem")
    {'relu': Resources(registers=12, shared_bytes=256, spill_bytes=4, stack_bytes=0)}
    """
    _, *parts = _ENTRY.split(log)
    found = {}
    for name, text in zip(parts[::2], parts[1::2], strict=True):
        matches = {field: pattern.search(text) for field, pattern in _FIELDS.items()}
        found[name] = Resources(**{field: int(match[1]) if match else 0 for field, match in matches.items()})
    return found
