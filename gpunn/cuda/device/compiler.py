"""What stands behind NVRTC's API: CUDA sources become libraries for the CPU, made by the emulator's compiler."""

from __future__ import annotations

import ctypes
import re
import tempfile
import traceback
from pathlib import Path

from gpunn.cuda.emulator import build
from gpunn.errors import CompileError

HERE = Path(__file__).parent
INCLUDE = HERE / "include"

_FINE, _INTERNAL_ERROR, _DOES_NOT_COMPILE = 0, 11, 6

# Folders of CUDA's own headers: the emulator has its own, and those need NVIDIA's compiler.
_CUDA_FOLDERS = ("/nvidia/", "/usr/local/cuda")

# A kernel whose threads share its elements by CuPy's macro for that, and who ask for no index themselves, computes the
# same with any number of threads, unless one leaves the loop at its element. Few are faster here: the loop then runs as
# one of the host.
_STRIDED = re.compile(r"\bCUPY_FOR\(")
_OWN_INDICES = re.compile(
    r"\b(threadIdx|blockIdx|blockDim|gridDim|__shared__|__syncthreads|\w*_sync|atomic\w*)\b|#\s*include\b"
)
_MACRO = re.compile(r"^[ \t]*#[ \t]*define\b(?:\\\n|[^\n])*", re.MULTILINE)
_LEAVES = re.compile(r"\b(return|break|goto)\b")
_INCLUDES = re.compile(r"^\s*#\s*include\s*<cupy/.*$", re.MULTILINE)
_MARK = '\nextern "C" __attribute__((visibility("default"))) char gpunn_any_threads = 1;\n'

COMPILE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, *[ctypes.c_char_p] * 4, ctypes.c_void_p, ctypes.c_size_t)


class Compiler:
    """Compiles what NVRTC is given, for the device in ``library`` (native/nvrtc.cpp)."""

    def __init__(self, library: ctypes.CDLL, check: bool, card: int, version: int) -> None:
        self._library, self._check, self._card, self._version = library, check, card, version
        library.gpunn_device_set_result.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p]
        self._called = COMPILE(self._compile)  # lives as long as this object
        library.gpunn_device_set_compiler(self._called)

    def _compile(
        self, program: int, text: bytes, name: bytes, options: bytes, expressions: bytes, headers: int, size: int
    ) -> int:
        image, log, status = b"", "", _FINE
        try:
            image = self._built(
                text.decode(),
                Path(name.decode()).name or "kernel.cu",
                options.decode().split("\n")[:-1],
                expressions.decode().split("\n")[:-1],
                _unpacked(ctypes.string_at(headers, size)),
            )
        except CompileError as error:
            log, status = str(error), _DOES_NOT_COMPILE
        except Exception:
            log, status = traceback.format_exc(), _INTERNAL_ERROR
        self._library.gpunn_device_set_result(program, image, len(image), log.encode())
        return status

    def _built(
        self, code: str, name: str, options: list[str], expressions: list[str], headers: dict[str, str]
    ) -> bytes:
        if _takes_any_threads(_INCLUDES.sub("", code)):
            code += _MARK
        major, minor = divmod(self._version // 10, 100)
        options = [o for o in options if not any(part in o for part in _CUDA_FOLDERS)]
        flags = [f"-I{INCLUDE}", f"-I{build.INCLUDE}", "-include", "gpunn_device.h"]
        flags += [f"-D__CUDACC_VER_MAJOR__={major}", f"-D__CUDACC_VER_MINOR__={minor}"]
        if re.search(r"\bcuda\b", code):
            flags.append("-DGPUNN_SOURCE_SAYS_CUDA")
        with tempfile.TemporaryDirectory() as folder:
            for header, content in headers.items():
                path = Path(folder, header)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(content)
            options.append(f"-I{folder}")
            arch = 10 * self._card
            return build.compile_library(code, options, expressions, name, self._check, arch, flags)


def _takes_any_threads(code: str) -> bool:
    """
    >>> _takes_any_threads("void f(float* x, int n) { CUPY_FOR(i, n) { x[i] = 1; } }")
    True
    >>> _takes_any_threads("void f(float* x, int n) { CUPY_FOR(i, n) { if (x[i]) return; x[i] = 1; } }")
    False
    >>> _takes_any_threads("#define DONE return\\nvoid f(float* x, int n) { CUPY_FOR(i, n) { if (x[i]) DONE; } }")
    False
    """
    before, *loops = _STRIDED.split(code)
    macros = " ".join(_MACRO.findall(before))
    return len(loops) == 1 and not (_OWN_INDICES.search(code) or _LEAVES.search(loops[0]) or _LEAVES.search(macros))


def _unpacked(packed: bytes) -> dict[str, str]:
    """
    >>> _unpacked(b"3\\na.h5\\nint x")
    {'a.h': 'int x'}
    """
    parts = []
    while packed:
        size, _, packed = packed.partition(b"\n")
        parts.append(packed[: int(size)].decode())
        packed = packed[int(size) :]
    return dict(zip(parts[::2], parts[1::2], strict=True))
