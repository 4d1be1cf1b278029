"""What stands behind NVRTC's API: CUDA sources become libraries for the CPU, made by the emulator's compiler."""

from __future__ import annotations

import contextlib
import ctypes
import re
import tempfile
import traceback
from pathlib import Path

from gpunn.cuda.emulator import build
from gpunn.cuda.emulator.mode import Mode
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

# A kernel that is one loop over its elements, as CuPy writes them, whose threads ask for no index themselves, computes
# the same with any number of threads, unless one leaves the loop at its element or changes what the loop counts with.
# Few are faster here: the loop then runs as one of the host.
_KERNEL = re.compile(
    r"__global__ void \w+\((?P<parameters>[^(){}]*)\)\s*\{(?:[\s;]|#pragma[^\n]*\n)*"
    r"(?P<loop>CUPY_FOR\(i, _ind\.size\(\)\) \{\s*_ind\.set\(i\);)"
)
_KEPT = re.compile(r"\s*(const |CArray<|CIndexer<)")  # what a kernel may not, or does not, change of its parameters
_COUNTER = "CUPY_FOR(gpunn_counter, _ind.size()) { const ptrdiff_t i = gpunn_counter; _ind.set(i);"
_END = re.compile(r"[\s;]*\}\s*")
_WRITTEN_OTHERWISE = re.compile(r"##|%:|\\\n")  # words that only the preprocessor puts together
_OWN_INDICES = re.compile(
    r"\b(threadIdx|blockIdx|blockDim|gridDim|__shared__|__sync\w*|\w*_sync|__activemask|asm|__asm__|atomic\w*)\b"
    r"|#\s*include\b"
)
_MACRO = re.compile(r"^[ \t]*#[ \t]*define\b[^\n]*", re.MULTILINE)
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

    def __init__(self, library: ctypes.CDLL, mode: Mode, card: int, version: int) -> None:
        self._library, self._mode, self._card, self._version = library, mode, card, version
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
        if "CArray<bool," in code:
            code = _ELEMENT.sub(r"\1gpunn_device::loaded(\2)", code)
        code = _IN_STEP.sub(r"__syncwarp(); \g<0> __syncwarp();", code)
        major, minor = divmod(self._version // 10, 100)
        options = [o for o in options if not any(part in o for part in _CUDA_FOLDERS)]
        flags = [f"-I{INCLUDE}", "-include", "gpunn_device.h"]
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
            whole, arch = not _VARIABLES.search(_INCLUDES.sub("", code) + " ".join(options)), 10 * self._card

            def compiled(code: str) -> bytes:
                return build.compile_library(code, options, expressions, name, self._mode, arch, flags, known, whole)

            if marked := _for_any_threads(code, " ".join(options)):
                with contextlib.suppress(CompileError):  # it changes the loop's counter, or is wrong either way
                    return compiled(marked)
            return compiled(code)


def _for_any_threads(code: str, options: str) -> str | None:
    """The source of a kernel that any number of threads may run, marked as such; None if that is not certain.

    >>> kernel = "__global__ void f(CArray<int, 1, 1, 1> x, %s _ind) { CUPY_FOR(i, _ind.size()) { _ind.set(i); %s } }"
    >>> _for_any_threads(kernel % ("CIndexer<1, 1>", "x[i] = 1;"), "") is None
    False
    >>> _for_any_threads(kernel % ("CIndexer<1, 1>", "if (x[i]) return; x[i] = 1;"), "") is None
    True
    >>> _for_any_threads(kernel % ("CIndexer<1, 1>", "DONE; x[i] = 1;"), "-DDONE=return") is None
    True
    >>> _for_any_threads(kernel % ("int n, CIndexer<1, 1>", "x[i] = n++;"), "") is None
    True
    """
    own = f"#define {options}\n" + _INCLUDES.sub("", code)
    kernel = _KERNEL.search(code)
    if not kernel or own.count("__global__") != 1 or own.count("CUPY_FOR") != 1:
        return None
    if _OWN_INDICES.search(own) or _WRITTEN_OTHERWISE.search(own):
        return None
    # Types have commas of their own, within brackets.
    parameters = re.split(r",(?![^<]*>)", kernel["parameters"])
    body, depth, end = code[kernel.end() :], 1, 0
    for brace in re.finditer(r"[{}]", body):
        depth += 1 if brace[0] == "{" else -1
        if not depth:
            end = brace.end()
            break
    macros = " ".join(_MACRO.findall(own))
    if not all(map(_KEPT.match, parameters)) or not _END.fullmatch(body, end) or _LEAVES.search(macros + body):
        return None
    return code[: kernel.start("loop")] + _COUNTER + body + _MARK


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
