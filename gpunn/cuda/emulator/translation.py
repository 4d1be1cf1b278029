"""Reading a preprocessed kernel source: which kernels it has, and the few words that are not C++.

The headers leave three marks that C++ does not know: ``__gpunn_global__`` before a kernel, ``__gpunn_shared__`` before
a shared variable, and ``__gpunn_export__`` before a name expression.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from gpunn.errors import CompileError

_ATTRIBUTE = r"__attribute__\s*\(\(.*?\)\)(?!\))|\balignas\s*\([^()]*(?:\([^()]*\)[^()]*)*\)"


def split(preprocessed: str, filename: str) -> tuple[str, str]:
    """The headers that came first, and the text from the kernel's own first line on."""
    start = preprocessed.index(f'# 1 "{filename}"\n')
    return preprocessed[:start], preprocessed[start:]


def take_exports(text: str) -> tuple[list[str], str]:
    """The name expressions that were appended to the source, and the text without them."""
    pattern = re.compile(r"^__gpunn_export__ (.*?) ;$", re.MULTILINE)
    return [re.sub(r"\s+", " ", name) for name in pattern.findall(text)], pattern.sub("", text)


def kernel_names(text: str) -> list[str]:
    """The kernels that can be found by their plain name: those declared ``extern "C"``.

    >>> kernel_names('extern "C" __gpunn_global__ void scale(float* x) { x[0] *= 2; }')
    ['scale']
    """
    clean = _without_literals(text)
    scopes = _scopes(clean, [match.start() for match in re.finditer(r"\b__gpunn_global__\b", clean)])
    names = []
    for position, scope in scopes:
        head = re.split(r"[;{}]", clean[:position])[-1]
        named = re.match(rf"(?:{_ATTRIBUTE}|[\w\s:*&])*?\b(\w+)\s*\(", clean[position:], re.DOTALL)
        is_c = re.search(r'\bextern\s*"C"', head) or "extern C" in scope
        if named and is_c and not re.search(r"\btemplate\b", head):
            names.append(named[1])
    return names


# What cannot be emulated and would else end in a puzzling error, with what to say.
_REFUSED = {
    r"\b(?:asm|__asm__)\s+(?:volatile|__volatile__)\s*\(\s*\"(?!\")|\basm\s*\(\s*\"(?!\")": (
        "inline PTX is not emulated ({}); kernels/ptx.cuh has functions that are (cp.async, ldmatrix, mma.sync)"
    ),
    r"\bnvcuda\b|\bwmma\s*::": "nvcuda::wmma is not emulated; kernels/ptx.cuh has ldmatrix and mma.sync, which are",
    r"\bCUtensorMap\b": "tensor maps (TMA) are not emulated",
    r"\b(?:this_cluster|cluster_group|__cluster_dims__)\b": "clusters of blocks are not emulated",
    r"\bcuda\s*::\s*(?:std\s*::\s*)?(?:barrier|pipeline|latch|counting_semaphore|binary_semaphore)\b": (
        "barriers, pipelines, latches and semaphores of libcu++ are not emulated"
    ),
    r"<<<": "launches from the source are not emulated: keep host code in a file of its own",
    r"\b(?:cudaTextureObject_t|cudaSurfaceObject_t)\b": "textures and surfaces are not emulated",
}


def refuse(text: str) -> None:
    """Raise CompileError, with file and line, for what cannot be emulated."""
    clean = _without_literals(text)
    matches = [(match, why) for pattern, why in _REFUSED.items() if (match := re.search(pattern, clean))]
    if matches:
        match, why = min(matches, key=lambda found: found[0].start())
        file, line = _position(text, match.start())
        instruction = re.search(r"[\w.:]*", text[match.end() :])
        raise CompileError(f"{file}:{line}: {why.format(instruction and instruction[0])}")


# Reading a register that says which lane of its warp a thread is: all that is emulated of PTX.
_READ_REGISTER = re.compile(
    r"\b(?:asm|__asm__)\s*(?:(?:volatile|__volatile__)\s*)?\(\s*\"\s*mov\.u32\s+%0\s*,\s*%%(laneid|lanemask_(?:eq|[lg][te]))\s*;"
    r"\s*\"\s*:\s*\"=r\"\s*\(([^()\n]*)\)\s*\)"
)


def read_registers(text: str) -> str:
    """Turn what reads such a register into C++, on the same line.

    >>> read_registers('asm ("mov.u32 %0, %%laneid;" : "=r"(lane) );')
    '(lane) = gpunn_emulator::read_laneid();'
    """
    return _READ_REGISTER.sub(r"(\2) = gpunn_emulator::read_\1()", text)


# "used": the compiler would take for zero what no line of the source writes, and the emulator fills it with NaN.
_SHARED = "__attribute__((used)) thread_local"


def lower(text: str) -> str:
    """The text as C++."""
    text = _dynamic_shared_to_pointers(text)
    return text.replace("__gpunn_shared__", _SHARED).replace("__gpunn_global__", "")


def _dynamic_shared_to_pointers(text: str) -> str:
    """Turn every ``extern __shared__ T name[];`` into a name for the dynamic shared memory of the launch."""
    clean = _without_literals(text)
    found = [*re.finditer(r"\bextern\b([^;{}]*?)\b__gpunn_shared__\b([^;{}]*);", clean)]
    scopes = dict(_scopes(clean, [match.start() for match in found]))
    for match in reversed(found):
        declaration = re.sub(_ATTRIBUTE, " ", f"{match[1]} {match[2]}", flags=re.DOTALL)
        array = re.fullmatch(r"(.*?)(\w+)\s*\[\s*\]\s*", " ".join(declaration.split()))
        file, line = _position(text, match.start())
        if not array:
            raise CompileError(
                f"{file}:{line}: extern __shared__ must declare one array without a size, got {match[0].strip()!r}"
            )
        kind, name = array[1].strip(), array[2]
        memory = f"gpunn_emulator::dynamic_shared<{kind}>()"
        lines = "\n" * match[0].count("\n")
        if "body" in scopes[match.start()]:
            replacement = f"{kind}* {name} = {memory};{lines}"
        else:
            # At file scope there is no block yet whose memory a pointer could name.
            after = line + match[0].count("\n")
            replacement = f'\n#undef {name}\n#define {name} ({memory})\n# {after} "{file}"\n'
        text = text[: match.start()] + replacement + text[match.end() :]
    return text


def _without_literals(text: str) -> str:
    """The text, of the same length, with blanks for line markers and for what is inside quotes, except ``"C"``."""

    def blank(match: re.Match[str]) -> str:
        found = match[0]
        if found == '"C"':
            return found
        return " " * len(found) if found[0] == "#" else found[0] + " " * (len(found) - 2) + found[-1]

    return re.sub(r"""^#[^\n]*|"(?:\\.|[^"\\\n])*"|'(?:\\.[^'\n]*|[^'\\\n])'""", blank, text, flags=re.MULTILINE)


def _scopes(clean: str, positions: list[int]) -> Iterator[tuple[int, tuple[str, ...]]]:
    """For each position the braces around it: ``"extern C"``, ``"namespace"`` or ``"body"``, outermost first."""
    stack: list[str] = []
    since = 0
    waiting = list(positions)
    for match in re.finditer(r"[;{}]|\Z", clean):
        while waiting and waiting[0] < match.start():
            yield waiting.pop(0), tuple(stack)
        if match[0] == "{":
            head = clean[since : match.start()]
            if re.search(r'\bextern\s*"C"\s*$', head):
                stack.append("extern C")
            else:
                stack.append("namespace" if re.search(r"\bnamespace\b[^()=]*$", head) else "body")
        elif match[0] == "}" and stack:
            stack.pop()
        since = match.end()


def _position(text: str, offset: int) -> tuple[str, int]:
    """The file and line of an offset, from the line markers before it."""
    markers = [*re.finditer(r'^# (\d+) "([^"\n]*)"[^\n]*\n', text[:offset], re.MULTILINE)]
    if not markers:
        return "kernel", 1 + text.count("\n", 0, offset)
    last = markers[-1]
    return last[2], int(last[1]) + text.count("\n", last.end(), offset)
