"""What a GPU would execute: a kernel compiled by NVRTC, its instructions by line of the source.

NVRTC needs no GPU, nor does nvdisasm, which reads what it makes: NVIDIA's wheel of it is the extra ``count``.
"""

from __future__ import annotations

import functools
import io
import os
import re
import shutil
import subprocess
import sysconfig
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from gpunn.cuda.compiler import Resources, check_architecture, read_resources
from gpunn.cuda.emulator.symbols import Calls
from gpunn.errors import CompileError, install_command

_KINDS = {
    "fp32": "FADD FMUL FFMA FMNMX FSEL FSETP FSET FCHK FSWZADD FADD32I FMUL32I FFMA32I",
    "fp64": "DADD DMUL DFMA DMNMX DSETP DSET",
    "half": "HADD2 HMUL2 HFMA2 HMNMX2 HSETP2 HSET2 VHMNMX",
    "special": "MUFU",
    "tensor": "HMMA IMMA DMMA BMMA QMMA HGMMA IGMMA QGMMA BGMMA",
    "conversion": "F2F F2I I2F I2FP F2FP FRND I2I F2IP",
    "move": "MOV UMOV SEL USEL CS2R S2R S2UR R2UR P2R R2P PLOP3 UPLOP3 PRMT UPRMT MOV32I",
    "load": "LD LDG LDS LDSM LDGSTS UBLKCP",
    "store": "ST STG STS STSM",
    "local": "LDL STL",
    "atomic": "ATOM ATOMG ATOMS RED REDG",
    "constant": "LDC ULDC",
    "branch": "BRA BRX JMP CALL RET EXIT BSSY BSYNC BREAK WARPSYNC BMOV BPT KILL YIELD",
    "barrier": "BAR DEPBAR LDGDEPBAR MEMBAR ERRBAR SYNCS CCTL FENCE",
    "warp": "SHFL VOTE VOTEU MATCH REDUX CREDUX",
}
_KIND_OF = {opcode: kind for kind, opcodes in _KINDS.items() for opcode in opcodes.split()}
_OPERATIONS = {"FADD": ("fp32", 1), "FMUL": ("fp32", 1), "FFMA": ("fp32", 2)}
_OPERATIONS |= {"DADD": ("fp64", 1), "DMUL": ("fp64", 1), "DFMA": ("fp64", 2)}


def no_disassembler() -> str:
    """What is said of nvdisasm where it is not."""
    return f"not installed: {install_command('count')}"


@dataclass
class LineCode:
    """The instructions of one line, by kind, and the floating-point operations that each lane does in them."""

    instructions: dict[str, int] = field(default_factory=dict)
    operations: dict[str, int] = field(default_factory=dict)


@dataclass
class KernelCode:
    """A kernel's resources, and its instructions by line, with the calls that were inlined."""

    resources: Resources
    lines: dict[Calls, LineCode] = field(default_factory=dict)


@dataclass
class Program:
    """The kernels of a source, and why their instructions are not known: empty if they are."""

    kernels: dict[str, KernelCode]
    missing: str


def disassembler() -> str | None:
    """Where nvdisasm is: on the search path, or in the wheel of NVIDIA's."""
    if found := shutil.which("nvdisasm"):
        return found
    folder = Path(sysconfig.get_path("purelib"), "nvidia")
    return next((str(path) for path in sorted(folder.glob("*/bin/nvdisasm"))), None)


@functools.lru_cache(maxsize=64)
def program(code: str, options: tuple[str, ...], names: tuple[str, ...], filename: str, arch: str) -> Program:
    """Compile ``code`` for ``arch`` (``"sm_90"``); ``names`` are its name expressions.

    The resources are those of the source as it is. Its instructions are those of the same source with no loop unrolled:
    there a line's instructions are executed as often as the line is.
    """
    try:
        check_architecture(arch)
        _, mangled, log = _compiled(code, options, names, filename, arch)
        kernels = {mangled.get(name, name): KernelCode(used) for name, used in read_resources(log).items()}
    except CompileError as error:
        return Program({}, str(error).partition("\n")[0])
    if not (command := disassembler()):
        return Program(kernels, f"nvdisasm is {no_disassembler()}")
    try:
        cubin, mangled, _ = _compiled(without_unrolling(code), options, names, filename, arch)
    except CompileError as error:
        return Program(kernels, f"without unrolled loops it does not compile: {str(error)[:200]}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "kernel.cubin")
        path.write_bytes(cubin)
        done = subprocess.run([command, "-gi", "-c", str(path)], capture_output=True, text=True)
    if done.returncode:
        return Program(kernels, f"nvdisasm does not read it: {done.stderr.strip()[:200]}")
    for name, lines in read_listing(done.stdout, os.getcwd()).items():
        if (found := mangled.get(name, name)) in kernels:
            kernels[found].lines = lines
    return Program(kernels, "")


_WORDS = re.compile(
    r"""//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|^[ \t]*\#[ \t]*pragma[ \t]+unroll\b[^\n]*"""
    r"""|^[ \t]*\#(?:\\\n|[^\n])*|_Pragma\s*\(\s*"unroll[^"]*"\s*\)|\b(?:for|while|do)\b|[{};]""",
    re.DOTALL | re.MULTILINE | re.VERBOSE,
)


def without_unrolling(code: str) -> str:
    """The source, of the same lines, with a word before each loop that it is not to be unrolled.

    >>> without_unrolling("#pragma unroll\\nfor (;;) f();")
    '\\n_Pragma("unroll 1") for (;;) f();'
    """
    ends_do: list[int] = []  # the depth of braces of each `do` whose `while` has not come yet
    depth = 0

    def word(match: re.Match[str]) -> str:
        nonlocal depth
        text = match[0]
        if text in ("{", "}"):
            depth += 1 if text == "{" else -1
        elif text == "do":
            ends_do.append(depth)
        elif text == "while" and ends_do and ends_do[-1] == depth:
            ends_do.pop()
            return text
        if text in ("for", "while", "do"):
            return f'_Pragma("unroll 1") {text}'
        return "" if "unroll" in text and ("#" in text or text.startswith("_Pragma")) else text

    return _WORDS.sub(word, code)


def _compiled(
    code: str, options: tuple[str, ...], names: tuple[str, ...], filename: str, arch: str
) -> tuple[bytes, dict[str, str], str]:
    """The cubin, the name expressions by their names in it, and the log of ptxas."""
    from cuda.core import Program as Source
    from cuda.core import ProgramOptions

    macros: list[str | tuple[str, str]] = []
    includes, standard = [], "c++17"
    for option in options:
        if option.startswith("-D"):
            name, equals, value = option[2:].partition("=")
            macros.append((name, value) if equals else name)
        elif option.startswith("-I"):
            includes.append(option[2:])
        elif match := re.fullmatch(r"--?std=(c\+\+\d\d)", option):
            standard = match[1]
    log = io.StringIO()
    settings = ProgramOptions(
        name=filename,
        arch=arch,
        std=standard,
        define_macro=macros or None,
        include_path=includes or None,
        lineinfo=True,
        ptxas_options=["-v"],
    )
    source = Source(code, "c++", settings)
    try:
        compiled = source.compile("cubin", name_expressions=names, logs=log)
    except Exception as error:  # the binding has no exception type of its own for a source that does not compile
        raise CompileError(f"NVRTC does not compile it for {arch}: {log.getvalue() or error}") from error
    finally:
        source.close()
    mangled = {_text(symbol): _text(name) for name, symbol in (compiled.symbol_mapping or {}).items()}
    return bytes(compiled.code), mangled, log.getvalue()


def _text(name: str | bytes) -> str:
    return name.decode() if isinstance(name, bytes) else name


_PLACE = re.compile(r'//## File "([^"]*)", line (\d+)(?: inlined at "([^"]*)", line (\d+))?')
_INSTRUCTION = re.compile(r"\s*/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_]*)([\w.]*)\s*([^;]*);")


def read_listing(listing: str, folder: str) -> dict[str, dict[Calls, LineCode]]:
    """What ``nvdisasm -gi -c`` prints: the instructions of each kernel by line. Files in ``folder`` have no path.

    What a kernel calls, as a rule the rare path of a division, comes after its end and is left out.
    """
    kernels: dict[str, dict[Calls, LineCode]] = {}
    lines: dict[Calls, LineCode] = {}
    places: list[tuple[str, int]] = []
    continues = outside = False
    for text in listing.splitlines():
        if match := re.match(r"\.text\.(\w+):", text):
            lines, places, continues, outside = kernels.setdefault(match[1], {}), [], False, False
        elif re.match(r"(?:\$|_*internal)\S*:|\s*\.type\s+\$", text):
            outside = True
        elif match := _PLACE.search(text):
            if not continues:
                places = []
            # The calls follow each other, the innermost first; each says where it was called as well.
            places.append((match[1].removeprefix(f"{folder}/"), int(match[2])))
            continues = match[3] is not None
        elif (match := _INSTRUCTION.match(text)) and not outside:
            continues = False
            _note(lines.setdefault(tuple(places), LineCode()), match[1], match[2], match[3])
    return kernels


def _note(line: LineCode, opcode: str, suffix: str, operands: str) -> None:
    kind = _KIND_OF.get(opcode, "integer")
    if opcode == "NOP":
        return
    if (opcode == "HFMA2" and re.search(r"-?RZ, RZ", operands)) or (opcode == "IMAD" and suffix.startswith(".MOV")):
        kind = "move"  # a constant or a register, on its way through a unit that is free
    line.instructions[kind] = line.instructions.get(kind, 0) + 1
    if opcode in _OPERATIONS:
        type_name, operations = _OPERATIONS[opcode]
        line.operations[type_name] = line.operations.get(type_name, 0) + operations
