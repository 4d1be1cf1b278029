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

_FINE, _INVALID_OPTION, _DOES_NOT_COMPILE, _INTERNAL_ERROR = 0, 5, 6, 11

# What NVRTC 12 or 13 compiles for.
_ARCHITECTURES = frozenset((*range(50, 54), 60, 61, 62, 70, 72, 75, 80, *range(86, 91), 100, 101, 103, 110, 120, 121))
_ARCHITECTURE = re.compile(r"--?(?:gpu-architecture|arch)=\w*?_(\d+)[af]?")

# Folders of CUDA's own headers: the emulator has its own, and those need NVIDIA's compiler.
_CUDA_FOLDERS = ("/nvidia/", "/usr/local/cuda")
_CUPY_FOLDER = "/cupy/_core/include"

# A kernel that is one loop over its elements, by CuPy's macro for that, whose threads ask for no index themselves,
# computes the same with any number of threads, unless one leaves the loop at its element. Few are faster here: the loop
# then runs as one of the host.
_LOOP = re.compile(r"\{(?:[\s;]|#pragma[^\n]*\n)*CUPY_FOR\([^{}]*\{")
_END = re.compile(r"[\s;]*\}\s*")
_OWN_INDICES = re.compile(
    r"\b(threadIdx|blockIdx|blockDim|gridDim|__shared__|__sync\w*|\w*_sync|__activemask|asm|__asm__|atomic\w*)\b"
    r"|#\s*include\b"
)
_MACRO = re.compile(r"^[ \t]*#[ \t]*define\b(?:\\\n|[^\n])*", re.MULTILINE)
_LEAVES = re.compile(r"\b(return|break|goto)\b")
_MARK = f'\nextern "C" {build.PUBLIC} char gpunn_any_threads = 1;\n'

# Where CuPy's kernels read an element. A bool that came from bytes is true there if any bit is set, but for C++ it can
# only be 0 or 1.
_ELEMENT = re.compile(r"(\bconst \w+ &?\w+(?:\(| = )\(?)(_raw_\w+\[_\w*ind\.get\(\)\])")

# CuPy's partition counts on lanes of a warp that run in lock step, and says so nowhere.
_IN_STEP = re.compile(r"\bbitonic_sort_step<[^;]*;")

# Variables that the host may ask for, and files that may have some.
_VARIABLES = re.compile(r"\b__(device|constant|managed)__\b|#\s*include\b")

_INCLUDES = re.compile(r"^\s*#\s*include\s*<cupy/.*$", re.MULTILINE)

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
        except build.OptionError as error:
            log, status = str(error), _INVALID_OPTION
        except CompileError as error:
            log, status = str(error), _DOES_NOT_COMPILE
        except Exception:
            log, status = traceback.format_exc(), _INTERNAL_ERROR
        self._library.gpunn_device_set_result(program, image, len(image), log.encode())
        return status

    def _built(
        self, code: str, name: str, options: list[str], expressions: list[str], headers: dict[str, str]
    ) -> bytes:
        for option in options:
            if (asked := _ARCHITECTURE.fullmatch(option)) and int(asked[1]) not in _ARCHITECTURES:
                raise build.OptionError(f"nvrtc: error: invalid value for --gpu-architecture, got {option!r}")
        own = f"#define {' '.join(options)}\n" + _INCLUDES.sub("", code)
        if "CArray<bool," in code:
            code = _ELEMENT.sub(r"\1gpunn_device::loaded(\2)", code)
        code = _IN_STEP.sub(r"__syncwarp(); \g<0> __syncwarp();", code)
        if _takes_any_threads(own):
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
            known = f"{build.INCLUDE}/", f"{INCLUDE}/", *(f"{o[2:]}/" for o in options if o.endswith(_CUPY_FOLDER))
            whole, arch = not _VARIABLES.search(own), 10 * self._card
            return build.compile_library(code, options, expressions, name, self._check, arch, flags, known, whole)


def _takes_any_threads(code: str) -> bool:
    """
    >>> _takes_any_threads("__global__ void f(float* x, int n) { CUPY_FOR(i, n) { x[i] = 1; } }")
    True
    >>> _takes_any_threads("__global__ void f(float* x, int n) { CUPY_FOR(i, n) { if (x[i]) return; x[i] = 1; } }")
    False
    >>> _takes_any_threads("#define DONE return\\n__global__ void f(int* x, int n) { CUPY_FOR(i, n) { DONE; } }")
    False
    >>> _takes_any_threads("__global__ void f(int* x, int n) { int k = 0; CUPY_FOR(i, n) { x[i] = k++; } }")
    False
    """
    before, *loops = _LOOP.split(code)
    if code.count("__global__") != 1 or len(loops) != 1 or "CUPY_FOR" in loops[0] or _OWN_INDICES.search(code):
        return False
    depth = 1
    for brace in re.finditer(r"[{}]", loops[0]):
        depth += 1 if brace[0] == "{" else -1
        if not depth:
            macros = " ".join(_MACRO.findall(before))
            return bool(_END.fullmatch(loops[0], brace.end())) and not _LEAVES.search(macros + loops[0])
    return False


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
