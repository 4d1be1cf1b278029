"""From kernel source to a loaded shared library: the host compiler, its flags, and the cache."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gpunn.cuda import cache
from gpunn.cuda.compilation import compiling
from gpunn.cuda.emulator import host_code, ptx, shifts, translation
from gpunn.cuda.emulator.assembly import with_gaps, with_stack_tests
from gpunn.cuda.emulator.mode import Mode
from gpunn.errors import CompileError

HERE = Path(__file__).parent
INCLUDE = HERE / "include"
"""Headers that stand for CUDA's, and a few that go ahead of those of NVIDIA's libcu++ and Thrust."""
LIBCUDACXX = HERE / "libcudacxx"
"""Headers that stand for those of libcu++, where the source does not bring them along."""
HEADERS = "<gpunn_emulator>"
"""What debug information calls that folder: a library in the cache may have been built by a copy in another place."""
RUNTIME = HERE / "runtime"

PUBLIC = '__attribute__((visibility("default"), externally_visible))'
"""What the loader is to find, also in a library compiled as a whole program."""

# The compiler sees the text that follows from here on under this name; errors in it are about name expressions.
_EXPORTS_FILE = f"{HEADERS} exported kernels"

_BASE_FLAGS = (
    "-fPIC",
    "-fvisibility=hidden",
    "-w",
    "-fdiagnostics-color=never",
    "-g1",  # lines, for reports; what it costs in compile time is small
    "-gdwarf-4",  # what every addr2line reads
    "-march=native",
    "-fsigned-char",  # CUDA's char has a sign; that of some hosts has none
    "-fno-delete-null-pointer-checks",  # who writes to null gets a fault, not an instruction that ends the process
    "-fno-strict-aliasing",  # kernels read float arrays as float4
    "-fstack-clash-protection",  # an overflow of a thread's stack cannot step over what guards it
    # Set no errno and raise no floating-point exception, as on the GPU. Neither changes a value.
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fno-exceptions",  # of which kernels have none, and which would leave a function where a hook is told of it
    *("-fno-builtin-malloc", "-fno-builtin-free"),  # a GPU's heap is another one
    "-fno-rtti",  # nor have they any of this, whose runtime would be missing
    "-fcheck-new",  # new may return null; clang knows it from version 16 on
)

_GCC_FLAGS = (
    "-fno-gnu-unique",
    "-fno-var-tracking",  # where variables are, which no report says: a fifth of the time to compile
)

_FAST_FLAGS = (
    "-O2",
    "-fwrapv",  # a signed overflow wraps on the hardware
)

# Kernels say "#pragma unroll", which GCC ignores: at -O2 it then leaves a tile's inner loops rolled, at half the speed.
# This unrolls short loops; -O3 is no faster, and takes twice as long to compile.
_GCC_FAST_FLAGS = ("-fpeel-loops",)

_CHECKS = "alignment,object-size,shift-exponent,integer-divide-by-zero,signed-integer-overflow"

_CHECK_FLAGS = (
    "-O1",
    "-DGPUNN_EMULATOR_CHECK",
    "-DGPUNN_EMULATOR_WATCH",
    # Both make the compiler call hooks, and we link our own (runtime/hooks.cpp), not the sanitizers' libraries.
    "-fsanitize=thread",
    "-fno-omit-frame-pointer",  # a barrier is told by the calls that led to it
)

_MARK_UNSET = "-ftrivial-auto-var-init=pattern"
"""Variables that the source does not set hold what the checker knows; from GCC 12 and clang 8 on."""

# That also asks for calls to be neither merged nor copied: of a function with a barrier in it, too.
_GCC_CHECK_FLAGS = (
    f"-fsanitize={_CHECKS},bounds-strict",
    "--param=tsan-instrument-func-entry-exit=0",
    "-fno-thread-jumps",
    "-fno-tree-dominator-opts",
    "-fno-crossjumping",
    "-fno-reorder-blocks",
    "-fno-section-anchors",  # gaps are put between variables
)
_CLANG_CHECK_FLAGS = (
    f"-fsanitize={_CHECKS},array-bounds",
    *("-mllvm", "-tsan-instrument-func-entry-exit=0"),
    *("-mllvm", "-tsan-instrument-atomics=0"),  # our own are watched already, see atomics.h
    *("-mllvm", "-tsan-instrument-read-before-write=1"),  # x += 1 also reads x, which nobody may have written
    *("-Xclang", "-fconvergent-functions"),  # no copy of a call for the threads that come to it from one branch
    *("-mllvm", "-disable-tail-duplicate", "-mllvm", "-tail-dup-placement=0"),
    *("-mllvm", "-simplifycfg-hoist-common=0", "-mllvm", "-simplifycfg-sink-common=0"),
    *("-mllvm", "-enable-tail-merge=0"),
)

_COUNT_FLAGS = (
    "-DGPUNN_EMULATOR_COUNT",
    "-DGPUNN_EMULATOR_WATCH",
    "-fwrapv",
    # Hooks for accesses and for basic blocks: our own (runtime/counter.cpp).
    "-fsanitize=thread",
)

# What is asked for twice is loaded once, as on a GPU, but a float4 stays one access: what would take it apart is off.
# A copied block would be a place of its own, and loops are known by the order of their blocks.
_GCC_COUNT_FLAGS = (
    "-O1",
    "-fsanitize-coverage=trace-pc",
    *("-fno-tree-sra", "-fno-ipa-sra", "-fno-tree-fre", "-fno-tree-pre"),
    *("-fno-thread-jumps", "-fno-crossjumping", "-fno-reorder-blocks"),
)
# Clang takes structs apart as soon as it optimises, and leaves out blocks whose counts follow from others. Up to
# version 14 it copies structs by memcpy, here and in check mode.
_CLANG_COUNT_FLAGS = (
    "-O0",
    "-fsanitize-coverage=trace-pc,bb,no-prune",
    *("-mllvm", "-tsan-instrument-atomics=0"),
    *("-mllvm", "-tsan-instrument-read-before-write=1"),  # of x += 1
)
_CLANG_WRAPS = ("-Wl,--wrap=memcpy", "-Wl,--wrap=memmove", "-Wl,--wrap=memset")
"""So that hooks are told of them, too."""

_CCCL = '/cuda/__cccl_config"'
"""In the preprocessed text: the source brings NVIDIA's own libcu++, CUB or Thrust along."""
# CUB has classes in which a name means first a template and then one type of it. From GCC 13 on that can be allowed
# alone.
_GCC_CCCL_FLAGS = ("-Wno-error=changes-meaning", "-fpermissive")

# NVRTC options that mean nothing on a CPU.
_IGNORED_OPTIONS = re.compile(
    r"--?(use_fast_math|lineinfo|generate-line-info|device-debug|G|default-device|gpu-architecture|arch|maxrregcount"
    r"|ftz|prec-sqrt|prec-div|extra-device-vectorization|restrict|device-c|dc|relocatable-device-code|rdc|dlto"
    r"|w|disable-warnings|diag-suppress|diag-warn|diag-error|ewp|extensible-whole-program|device-as-default-execution-space"
    r"|ptxas-options|Xptxas|split-compile|minimal|fdevice-time-trace|device-time-trace|dopt|pch|create-pch|use-pch"
    r"|pch-dir|pch-verbose|pch-messages)(=.*)?$"
)


class OptionError(CompileError):
    """The compiler has no such option."""


@dataclass(frozen=True)
class Compiler:
    """A host compiler: its command and what tells its versions apart."""

    command: str
    version: str

    @property
    def is_clang(self) -> bool:
        return "clang" in self.version


@dataclass(frozen=True)
class Library:
    """A kernel's shared library, loaded, and the runtime it is linked to."""

    path: Path
    code: ctypes.CDLL
    runtime: ctypes.CDLL
    kernels: dict[str, int] = field(default_factory=dict)


def load(
    code: str, options: Sequence[str], name_expressions: Sequence[str], filename: str, mode: Mode, arch: int
) -> Library:
    """Compile ``code``, unless the cache has it, and load it."""
    compiler = host_compiler()
    runtime_path, runtime = load_runtime(compiler, mode)
    flags, includes = _flags(compiler, options, mode, arch)
    if "<<<" in code:
        flags.append(host_code.FLAG)
    text = _marked(code, name_expressions, filename)
    preprocessed = None
    if includes:  # only the preprocessed text knows what was in the included files
        text = preprocessed = _preprocess(compiler, text, [*flags, *includes], filename)
    path = cache_path("kernel", text, flags, compiler, runtime_path.name)

    def build() -> bytes:
        with compiling(f"{filename} for the emulator"):
            expanded = preprocessed or _preprocess(compiler, text, [*flags, *includes], filename)
            return _compile_kernels(compiler, expanded, flags, runtime_path, filename)

    path = built(path, build)
    library = ctypes.CDLL(str(path))
    names = ctypes.c_char_p.in_dll(library, "gpunn_kernel_names").value or b""
    return Library(path, library, runtime, {name: i for i, name in enumerate(names.decode().split("\n")) if name})


def compile_library(
    code: str,
    options: Sequence[str],
    name_expressions: Sequence[str],
    filename: str,
    mode: Mode,
    arch: int,
    headers: Sequence[str] = (),
    known: tuple[str, ...] = (),
    whole: bool = False,
) -> bytes:
    """Compile ``code`` and return the library, which the cache is not asked for.

    ``headers`` are flags that come before those of ``options``: folders of headers that stand before others. Those in
    the folders ``known`` change seldom, and are compiled ahead. ``whole`` says that nobody but the kernels asks for
    variables and functions of the source: what they do not use is left out early.
    """
    compiler = host_compiler()
    runtime_path, _ = load_runtime(compiler, mode)
    flags, includes = _flags(compiler, options, mode, arch)
    expanded = _preprocess(compiler, _marked(code, name_expressions, filename), [*headers, *flags, *includes], filename)
    return _compile_kernels(compiler, expanded, flags, runtime_path, filename, known, whole)


def _marked(code: str, name_expressions: Sequence[str], filename: str) -> str:
    """The source with its name at the top, and what is to be exported at the end."""
    return f'# 1 "{filename}"\n{code}\n' + "".join(f"__gpunn_export__ {name} ;\n" for name in name_expressions)


# --- the compiler -----------------------------------------------------------------------------------------------------


def host_compiler() -> Compiler:
    """The compiler that ``$CXX`` names, else g++, else clang++; raises :class:`CompileError` where there is none."""
    return _find_compiler(os.environ.get("CXX", ""), os.environ.get("PATH", ""))


@functools.lru_cache(maxsize=8)
def _find_compiler(chosen: str, _search_path: str) -> Compiler:
    if not sys.platform.startswith("linux"):
        raise CompileError(f"emulator: CUDA kernels can be emulated on Linux only, got {sys.platform}")
    for command in [chosen] if chosen else ["g++", "clang++"]:
        if found := shutil.which(command):
            version = subprocess.run([found, "--version"], capture_output=True, text=True, env=_environment())
            if version.returncode == 0:
                return Compiler(found, version.stdout)
    missing = f"$CXX is {chosen!r}, which is not a compiler that runs" if chosen else "neither g++ nor clang++ is there"
    raise CompileError(
        f"emulator: emulating CUDA kernels needs a C++ compiler, but {missing}.\n"
        "Install one: `apt-get install g++` (Debian, Ubuntu) or `dnf install gcc-c++` (Fedora, RHEL)."
    )


def _environment() -> dict[str, str]:
    return {**os.environ, "LC_ALL": "C"}  # messages that can be parsed


def _flags(compiler: Compiler, options: Sequence[str], mode: Mode, arch: int) -> tuple[list[str], list[str]]:
    """All flags that a source is compiled with, and ``-I``."""
    flags, includes = _user_flags(options)
    architecture = [f"-D__CUDA_ARCH__={arch}", *(["-D__CUDA_ARCH_FEAT_SM90_ALL"] if arch == 900 else [])]
    return [*flags, *architecture, *_mode_flags(compiler, mode)], includes


def _mode_flags(compiler: Compiler, mode: Mode) -> list[str]:
    flags = [*_BASE_FLAGS, *([] if compiler.is_clang else _GCC_FLAGS)]
    if mode is Mode.COUNT:
        return [*flags, *_COUNT_FLAGS, *(_CLANG_COUNT_FLAGS if compiler.is_clang else _GCC_COUNT_FLAGS)]
    if mode is Mode.FAST:
        return [*flags, *_FAST_FLAGS, *([] if compiler.is_clang else _GCC_FAST_FLAGS)]
    marks = [_MARK_UNSET] if _takes(compiler, _MARK_UNSET) else []
    # Every operation on floats stays where the source has it, so that the processor may stop there.
    marks += ["-ftrapping-math"] if mode.floats else []
    return [*flags, *_CHECK_FLAGS, *marks, *(_CLANG_CHECK_FLAGS if compiler.is_clang else _GCC_CHECK_FLAGS)]


@functools.lru_cache(maxsize=8)
def _takes(compiler: Compiler, flag: str) -> bool:
    command = [compiler.command, flag, "-x", "c++", "-fsyntax-only", "-"]
    return not subprocess.run(command, input="", capture_output=True, text=True, env=_environment()).returncode


def _user_flags(options: Sequence[str]) -> tuple[list[str], list[str]]:
    """NVRTC options as flags of the host compiler: those without files, and ``-I``."""
    flags, includes, standard = [], [], "c++17"
    # NVRTC fuses a * b + c unless told otherwise, so we do too: a kernel that needs the two roundings should show it
    # here, and __fmul_rn keeps them apart there as here.
    contract = "fast"
    waiting = iter(options)
    for option in waiting:
        if option in ("-I", "-D", "-U", "--include-path", "--define-macro", "--undefine-macro"):
            option += next(waiting, "") if len(option) == 2 else "=" + next(waiting, "")
        option = re.sub(r"^--include-path=", "-I", option)
        option = re.sub(r"^--define-macro=", "-D", option)
        option = re.sub(r"^--undefine-macro=", "-U", option)
        if option.startswith("-I"):
            includes.append(f"-I{Path(option[2:]).resolve()}")
        elif option.startswith(("-D", "-U")):
            flags.append(option)
        elif match := re.fullmatch(r"--?std=(c\+\+\d\d)", option):
            standard = match[1]
        elif match := re.fullmatch(r"--?fmad=(true|false)", option):
            contract = "fast" if match[1] == "true" else "off"
        elif not _IGNORED_OPTIONS.fullmatch(option):
            raise OptionError(f"emulator: unknown compiler option {option!r}")
    return [*flags, f"-std={standard}", f"-ffp-contract={contract}"], includes


def run_compiler(command: Sequence[str], text: str | None, filename: str, folder: str) -> str:
    done = subprocess.run(
        command,
        input=text,
        capture_output=True,
        text=True,
        env=_environment(),
        cwd=folder,
        start_new_session=True,  # Ctrl-C is for Python alone, which ends what it has begun or waits for it
    )
    if done.returncode:
        absent = _ABSENT.search(done.stderr)
        kind = functools.partial(_AbsentHeader, absent[1]) if absent else CompileError
        raise kind(_readable_errors(done.stderr, filename))
    return done.stdout


def _preprocess(compiler: Compiler, text: str, flags: Sequence[str], filename: str) -> str:
    """The source with macros expanded: only then can one see which kernels are in it.

    In the place of CUDA's headers that are not emulated stand empty ones, with a word that says so. What NVRTC knows of
    ``std`` without a header gets its own.
    """
    header = ["-include", "gpunn_emulator.h"]
    with tempfile.TemporaryDirectory() as folder:
        header += ["-idirafter", str(LIBCUDACXX), "-idirafter", folder]
        command = [compiler.command, "-E", "-fno-working-directory", f"-I{INCLUDE}", *flags, *header, "-x", "c++", "-"]
        for _ in range(_MOST_ABSENT):
            try:
                expanded = run_compiler(command, text, filename, folder)
                has_its_own = "/move.h" in expanded or "gpunn_emulator/cccl.h" in expanded
                if not has_its_own and _KNOWN_TO_NVRTC.search(expanded):
                    expanded = run_compiler([*command, "-include", "utility"], text, filename, folder)
                return expanded.replace(folder, "<not emulated>")
            except _AbsentHeader as error:
                path = Path(folder, error.header)
                if path.exists():
                    raise
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(f"#pragma once\n#pragma {_ABSENT_MARK} {error.header}\n")
        raise CompileError(f"{filename}: it includes more than {_MOST_ABSENT} headers of CUDA that are not emulated")


_KNOWN_TO_NVRTC = re.compile(r"\bstd\s*::\s*(?:move|forward|initializer_list)\b")


def _compile_kernels(
    compiler: Compiler,
    preprocessed: str,
    flags: Sequence[str],
    runtime: Path,
    filename: str,
    known: tuple[str, ...] = (),
    whole: bool = False,
) -> bytes:
    absent = re.findall(rf"^#pragma {_ABSENT_MARK} (.*)$", preprocessed, re.MULTILINE)
    try:
        return _compiled(compiler, preprocessed, flags, runtime, filename, known, whole)
    except CompileError as error:
        if not absent:
            raise
        told = f"Nothing of these headers is emulated, which may be why: {', '.join(f'<{name}>' for name in absent)}"
        if any(name.startswith(("cub/", "thrust/")) for name in absent):
            told += f"\n{_WHERE_CCCL_IS}"
        raise CompileError(f"{error}\n{told}") from None


def _cccl_folders(preprocessed: str) -> list[str]:
    """Where the CUB, Thrust and libcu++ lie that the source brings along, in one of the two ways they are laid out."""
    found = re.search(rf'^# \d+ "([^"\n]*?)(?:/libcudacxx)?{_CCCL}', preprocessed, re.MULTILINE)
    return [f"{found[1]}/{name}/" for name in ("cub", "thrust", "libcudacxx", "cuda", "nv")] if found else []


_WHERE_CCCL_IS = (
    "NVIDIA's own CUB and Thrust are taken where the options name their folders: -I.../cub, -I.../thrust and"
    " -I.../libcudacxx in cupy/_core/include/cupy/_cccl of CuPy, or the include folder of nvidia-cuda-cccl-cu12"
)

# Headers of many functions, of which most kernels use none: a tenth of the time of a small one.
_SELDOM_USED = tuple(f"{INCLUDE}/gpunn_emulator/{name}.h" for name in ("simd", "rounding"))


def _compiled(
    compiler: Compiler,
    preprocessed: str,
    flags: Sequence[str],
    runtime: Path,
    filename: str,
    known: tuple[str, ...],
    whole: bool,
) -> bytes:
    header, kernel_text = translation.split(preprocessed, filename, known)
    header = translation.without_unused(header, kernel_text, _SELDOM_USED)
    expressions, kernel_text = translation.take_exports(kernel_text)
    translation.refuse_algorithms(kernel_text)
    if host_code.FLAG in flags:
        for_the_gpu = (f"{INCLUDE}/", f"{LIBCUDACXX}/", *_cccl_folders(preprocessed))
        kernel_text = host_code.left_out(kernel_text, for_the_gpu)
    kernel_text = ptx.translate(kernel_text)
    translation.refuse(kernel_text)
    if any(flag.startswith("-D__CUDA_ARCH__=") and int(flag[16:]) < 900 for flag in flags):
        translation.refuse_clusters(kernel_text)
    clusters, kernel_text = translation.clusters_to_variables(kernel_text)
    names = [*dict.fromkeys([*expressions, *translation.kernel_names(kernel_text)])]
    kernel_text = shifts.rewrite(kernel_text, translation.without_literals(kernel_text), header)
    text = translation.lower(kernel_text) + _exports(names, clusters)
    check = "-DGPUNN_EMULATOR_CHECK" in flags
    flags = [flag for flag in flags if not flag.startswith(("-D", "-U"))]  # macros are expanded
    flags.append(f"-ffile-prefix-map={INCLUDE}={HEADERS}")
    if _CCCL in preprocessed and not compiler.is_clang:
        flags.append(next(filter(functools.partial(_takes, compiler), _GCC_CCCL_FLAGS)))
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "kernel.so"
        # Debug information names the source as it was given, not in a folder that is gone soon.
        more = [f"-fdebug-prefix-map={folder}=.", *(["-fwhole-program"] if whole and not compiler.is_clang else [])]
        # The default libraries would be those of the sanitizers too.
        libraries = [str(runtime), "-nodefaultlibs", "-lm", "-lc", "-lgcc", "-Wl,--no-undefined", "-o", str(library)]
        if compiler.is_clang and "-fsanitize=thread" in flags:
            libraries += _CLANG_WRAPS
        command = [compiler.command, *flags, *more, "-x", "c++", "-"]
        command += ["-S", "-o", str(library.with_suffix(".s"))] if check else ["-shared", "-x", "none", *libraries]

        def compiled(text: str, *include: str) -> bytes:
            try:
                run_compiler([*command, *include], text, filename, folder)
            except CompileError as error:
                if "inlining failed in call to 'always_inline'" not in str(error):
                    raise
                # Of a function that calls itself, where nvcc takes the word for advice.
                text = text.replace("inline __attribute__((always_inline))", "inline")
                run_compiler([*command, *include], text, filename, folder)
            if check:
                assembly = library.with_suffix(".s")
                text = with_gaps(assembly.read_bytes().decode("latin-1"))
                if not compiler.is_clang:  # which keeps most local arrays in registers
                    text = with_stack_tests(text)
                assembly.write_bytes(text.encode("latin-1"))
                run_compiler([compiler.command, "-shared", str(assembly), *libraries], None, filename, folder)
            return library.read_bytes()

        if not compiler.is_clang:
            with contextlib.suppress(CompileError):  # it is raised below, unless it is about what is compiled ahead
                Path(folder, f"{_HEADER}.gch").symlink_to(_compiled_ahead(compiler, header, flags))
                Path(folder, _HEADER).write_text(header)
                return compiled(text, "-include", _HEADER)
        return compiled(header + text)


_HEADER = "header.h"
_ahead: dict[Path, Path] = {}


def _compiled_ahead(compiler: Compiler, header: str, flags: Sequence[str]) -> Path:
    """Where GCC's precompiled header of that text lies, kept in the cache: a third of the time of a small kernel."""
    path = cache_path("header", header, flags, compiler).with_suffix(".gch")

    def build() -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, _HEADER).write_text(header)
            run_compiler(
                [compiler.command, *flags, "-x", "c++-header", _HEADER], None, "the emulator's headers", folder
            )
            return Path(folder, f"{_HEADER}.gch").read_bytes()

    with cache.building(path):
        if path not in _ahead:
            _ahead[path] = built(path, build)
        return _ahead[path]


def _exports(names: Sequence[str], with_clusters: set[str]) -> str:
    """For each kernel a function that takes packed arguments, one that describes its parameters, and its cluster."""
    public = f'extern "C" {PUBLIC}'
    lines = [
        f"{public} void gpunn_call_{i}(const char* arguments) {{ gpunn_emulator::call_kernel(&{name}, arguments); }} "
        f"{public} int gpunn_describe_{i}(char* text, int capacity) "
        f"{{ return gpunn_emulator::describe_kernel(&{name}, text, capacity); }} "
        f"{public} const unsigned* gpunn_cluster_{i}() {{ return {_cluster(name, with_clusters)}; }}"
        for i, name in enumerate(names)
    ]
    joined = "\\n".join(names).replace('"', '\\"')
    head = f'\n{public} const char* gpunn_kernel_names;\nconst char* gpunn_kernel_names = "{joined}";\n'
    return head + f'# 1 "{_EXPORTS_FILE}"\n' + "\n".join(lines) + "\n"


def _cluster(name: str, with_clusters: set[str]) -> str:
    """Where the sizes of the kernel's clusters are, see translation.clusters_to_variables."""
    found = re.fullmatch(r"((?:\w*\s*::\s*)*)(\w+)\s*(<.*>)?", name)
    return (
        f"{found[1]}gpunn_cluster_of_{found[2]}{found[3] or ''}" if found and found[2] in with_clusters else "nullptr"
    )


# --- the errors of the compiler ---------------------------------------------------------------------------------------

_ERROR = re.compile(r"^(?P<file>[^\n:]+):(?P<line>\d+):(?:\d+:)? (?:fatal )?error: (?P<text>.*)$", re.MULTILINE)

# What ptx.py has the compiler say of an instruction that is not emulated.
_REFUSED = re.compile(r"^call to .* declared with (?:attribute error|'error' attribute): ")
# Where the source asks for a template in which the error is.
_ASKED = re.compile(
    r"^(?P<file>[^\n:]+):(?P<line>\d+):\d+:\s+(?:required from here|note: in instantiation of .* requested here)$",
    re.MULTILINE,
)

# What CUDA and CuPy bring beside the headers in include/, where the compiler finds none.
_ABSENT = re.compile(
    r"error: '?((?:cub|cuda|cufft|cusolver|cusparse|cooperative_groups|curand|cupy|cute|cutlass|nccl|npp|nv|thrust"
    r"|driver_types|library_types|texture_|surface_)(?:[\w-]|[./](?!\.))*)"
    r"(?:: No such file or directory|' file not found)"
)
_ABSENT_MARK = "gpunn_not_emulated"
_MOST_ABSENT = 100


class _AbsentHeader(CompileError):
    """A header of CUDA that is not emulated was included."""

    def __init__(self, header: str, message: str) -> None:
        super().__init__(message)
        self.header = header


# What g++ and clang++ say of `texture<float, 2> image;`, which CUDA 12 does not know any more.
_REFERENCE = re.compile(r"'(?:texture|surface)' does not name a .*type|no template named '(?:texture|surface)'")


def _is_own(file: str) -> bool:
    return str(INCLUDE) not in file and file != _EXPORTS_FILE


def _readable_errors(output: str, filename: str) -> str:
    """The first error of the user's own file, then the beginning of what the compiler wrote."""
    errors = [*_ERROR.finditer(output)]
    own = [error for error in errors if _is_own(error["file"])]
    lines = [line for line in output.splitlines() if _EXPORTS_FILE not in line and "gpunn_call_" not in line]
    rest = "\n".join(lines[:20])
    if own:
        text = _REFUSED.sub("", own[0]["text"])
        if _REFERENCE.search(text):
            text += ": references are not emulated, use cudaTextureObject_t or cudaSurfaceObject_t"
        return f"{own[0]['file']}:{own[0]['line']}: {text}\n{rest}"
    asked = [place for place in _ASKED.finditer(output) if _is_own(place["file"])]
    if errors and asked:
        return f"{asked[0]['file']}:{asked[0]['line']}: {errors[0]['text']}\n{rest}"
    if exported := [error for error in errors if error["file"] == _EXPORTS_FILE]:
        return f"{filename}: a name expression does not name a kernel: {exported[0]['text']}"
    return f"{filename}: the kernel does not compile\n{rest}"


# --- the cache --------------------------------------------------------------------------------------------------------


_RUNTIME_FLAGS = ("-std=c++17", "-O2", "-fPIC", "-fvisibility=hidden", "-w", "-pthread")


def load_runtime(compiler: Compiler, mode: Mode) -> tuple[Path, ctypes.CDLL]:
    """The runtime of one mode, to link to and loaded."""
    flags = [*_RUNTIME_FLAGS, "-march=native"]
    more: list[str] = []
    if mode is not Mode.FAST:
        flags.append("-DGPUNN_EMULATOR_WATCH")
    if mode.checks:
        flags += ["-DGPUNN_EMULATOR_CHECK", "-fno-omit-frame-pointer"]
        more = ["checker.cpp", "floats.cpp", "hooks.cpp", "variables.cpp"]
    if mode is Mode.COUNT:
        flags.append("-DGPUNN_EMULATOR_COUNT")
        more = ["counter.cpp"]
    # For tests of what other processors than x86-64 and aarch64 use.
    flags += ["-DGPUNN_EMULATOR_UCONTEXT"] if os.environ.get("GPUNN_EMULATOR_UCONTEXT") else []
    names = ["context.cpp", "worker.cpp", "cluster.cpp", "hopper.cpp", "launch.cpp", "heap.cpp", "texture.cpp", *more]
    signals = _signals(compiler)
    inputs = [*flags, *(str(RUNTIME / name) for name in names), str(signals), "-lrt"]
    place = cache_path("runtime", "", flags, compiler, signals.name)
    path, runtime = _loaded(place, lambda path: _link(compiler, path, inputs))
    runtime.gpunn_emulator_launch.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    runtime.gpunn_emulator_resume.argtypes = [ctypes.c_void_p]
    runtime.gpunn_emulator_report.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p]
    runtime.gpunn_emulator_end.argtypes = [ctypes.c_void_p]
    runtime.gpunn_emulator_end.restype = runtime.gpunn_emulator_report.restype = None
    runtime.gpunn_emulator_find_library.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    return path, runtime


_signals_name: str | None = None


def _signals(compiler: Compiler) -> Path:
    """Where the library lies that owns the process's signals: one for both modes, also where the compiler changes."""
    global _signals_name
    path = cache_path("signals", "", _RUNTIME_FLAGS, compiler)
    with cache.building(path.with_name("signals")):
        path = path.with_name(_signals_name or path.name)
        place, _ = _loaded(path, lambda path: _link(compiler, path, [*_RUNTIME_FLAGS, str(RUNTIME / "signals.cpp")]))
        _signals_name = path.name
    return place


_runtimes: dict[str, ctypes.CDLL] = {}


def _loaded(path: Path, build: Callable[[Path], bytes]) -> tuple[Path, ctypes.CDLL]:
    """Where a library lies, to link to, and the library, which a process loads once, also if the cache folder changes:
    what is linked to it finds it by its name."""
    with cache.building(path):
        place = built(path, lambda: build(path))
        if path.name not in _runtimes:
            _runtimes[path.name] = ctypes.CDLL(str(place))
        return place, _runtimes[path.name]


def _link(compiler: Compiler, path: Path, inputs: Sequence[str]) -> bytes:
    with compiling("the emulator's runtime", kernel=False), tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / path.name
        command = [compiler.command, "-shared", *inputs, f"-Wl,-soname,{path.name},-Bsymbolic", "-o", str(library)]
        run_compiler(command, None, "emulator runtime", folder)
        return library.read_bytes()


@functools.lru_cache(maxsize=1)
def _emulator_sources() -> bytes:
    """What the emulator itself is made of: a library built with other headers must not be found."""
    digest = hashlib.sha256()
    for path in sorted([*INCLUDE.rglob("*"), *LIBCUDACXX.rglob("*"), *RUNTIME.glob("*"), *HERE.glob("*.py")]):
        if path.is_file():
            digest.update(path.relative_to(HERE).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.digest()


@functools.lru_cache(maxsize=1)
def _processor() -> str:
    """What -march=native depends on: home folders are shared between machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    keys = ("model name", "cpu family", "model\t", "flags", "Features", "CPU part", "CPU implementer")
    return platform.machine() + "".join(sorted({line for line in lines if line.startswith(keys)}))


def cache_path(kind: str, text: str, flags: Sequence[str], compiler: Compiler, *more: str) -> Path:
    parts = [text, *flags, compiler.command, compiler.version, _processor(), *more]
    digest = hashlib.sha256(_emulator_sources() + "\0".join(parts).encode()).hexdigest()[:32]
    return cache.folder() / "emulator" / f"{kind}-{digest}.so"


_DIGEST_BYTES = hashlib.sha256().digest_size


def built(path: Path, build: Callable[[], bytes]) -> Path:
    """Build and write ``path`` unless it is there and whole; return where it lies, see :func:`cache.store`.

    Its digest follows the library in the same file, where the loader does not look: mapping a truncated library
    would kill the process.
    """
    with cache.building(path):
        if found := find(path):
            return found
        body = build()
        return cache.store(path, body + hashlib.sha256(body).digest())


def find(path: Path) -> Path | None:
    """Where what :func:`built` has left for ``path`` lies, or None if it is not there or not whole."""
    return next(filter(_is_whole, cache.places(path)), None)


def _is_whole(path: Path) -> bool:
    try:
        content = path.read_bytes()
    except OSError:
        return False
    body, digest = content[:-_DIGEST_BYTES], content[-_DIGEST_BYTES:]
    return bool(body) and hashlib.sha256(body).digest() == digest
