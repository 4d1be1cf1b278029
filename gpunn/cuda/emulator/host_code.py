"""Leaving out what a source has for the host: it has launches, as ``kernel<<<1, 32>>>()``, which NVRTC does not take.

Left out are functions that nothing marks for the GPU, and variables and declarations that are for the host alone. No
kernel may use them: one that does is told by the compiler. All else keeps its line.
"""

from __future__ import annotations

import itertools
import re

from gpunn.cuda.emulator import translation

FLAG = "-DGPUNN_EMULATOR_HOST_CODE"
"""With it the words of ``include/gpunn_emulator/qualifiers.h`` stay visible as marks."""

_MARKER = re.compile(r'^# \d+ "([^"\n]*)"([ \d]*)\n', re.MULTILINE)
_SYSTEM = "3"  # a flag of line markers
_OF_THE_GPU = re.compile(r"\b(?:__gpunn_\w+|constexpr|consteval)\b")
_OF_BOTH = re.compile(r"\b(?:const|typedef|using|static_assert|struct|class|union|enum|namespace|friend|concept)\b")
_NOINLINE_ATTRIBUTE = re.compile(r"(\(\((?:\s|#[^\n]*\n)*)__gpunn_noinline__")  # of the C++ library
_STREAMS = re.compile(r"\bstatic\s+ios_base\s*::\s*Init\s+__ioinit\s*;")  # of <iostream>, whose library is not there


def left_out(text: str, known: tuple[str, ...]) -> str:
    """``text``, which is preprocessed, without host code; what is in the folders ``known`` is for the GPU.

    >>> code = "__gpunn_device__ int f() { return 1; } int g() { return 2; } int n = 3; const int m = 4;"
    >>> left_out(code, ()).split()
    ['int', 'f()', '{', 'return', '1;', '}', 'const', 'int', 'm', '=', '4;']
    """
    clean = _own(text, known)
    edits = [(begin, end, "") for begin, end in (match.span() for match in _STREAMS.finditer(text))]
    around: list[str] = []
    since = after_class = 0
    at = 0
    tokens = re.compile(r"[;{}]")
    while match := tokens.search(clean, at):
        at = match.end()
        if match[0] == "{":
            head = clean[since : match.start()]
            if kind := translation.kind_of_scope(head):
                around.append(kind)
                since = at
                continue
            at = _closing(clean, at)
            in_initialisers = _initialisers(head) < len(head) and not head.rstrip().endswith((")", "}"))
            if in_initialisers or not re.search(r"\)[^=]*$", head):
                continue  # values, or an enum: up to the semicolon
            if not _OF_THE_GPU.search(head) and not _is_declared_for_gpu(head, clean):
                if "class" in around:
                    edits.append((since + _initialisers(head), at, ";"))
                else:
                    edits.append((since, at, ""))
        elif match[0] == "}":
            if around and around.pop() == "class":
                after_class = at
        elif since != after_class and "class" not in around and clean[since:at].strip() != ";":
            statement = _without_parentheses(clean[since:at])
            if not _OF_THE_GPU.search(statement) and not _OF_BOTH.search(statement):
                edits.append((since, at, ""))
        since = at
    for begin, end, instead in sorted(edits, reverse=True):
        lines = text[begin:end].splitlines(keepends=True)
        kept = "".join(line if line.startswith("# ") else "\n" * line.endswith("\n") for line in lines)
        text = text[:begin] + instead + kept + text[end:]
    text = _NOINLINE_ATTRIBUTE.sub(r"\1noinline", text.replace("__gpunn_device__", ""))
    return text.replace("__gpunn_noinline__", "__attribute__((noinline))")


def _own(text: str, known: tuple[str, ...]) -> str:
    """The text without literals, and with blanks for headers of the compiler, the system and the emulator."""
    clean = translation.without_literals(text)
    parts, at = [], 0
    markers = [*_MARKER.finditer(text)]
    for marker, after in itertools.zip_longest(markers, markers[1:]):
        if _SYSTEM in marker[2].split() or marker[1].startswith(known):
            end = after.start() if after else len(text)
            parts += [clean[at : marker.end()], re.sub(r"[^\n]", " ", clean[marker.end() : end])]
            at = end
    return "".join([*parts, clean[at:]])


def _closing(clean: str, at: int) -> int:
    depth = 1
    for match in re.compile(r"[{}]").finditer(clean, at):
        depth += 1 if match[0] == "{" else -1
        if not depth:
            return match.end()
    return len(clean)


def _initialisers(head: str) -> int:
    """Where the initialisers of a constructor begin: what declares it ends there."""
    depth = 0
    for i, char in enumerate(head):
        depth += {"(": 1, ")": -1}.get(char, 0)
        if char == ":" and not depth and ":" not in (head[i - 1], head[i + 1 : i + 2]) and ")" in head[:i]:
            return i
    return len(head)


def _without_parentheses(statement: str) -> str:
    found = 1
    while found:
        statement, found = re.subn(r"\([^()]*\)", " ", statement)
    return statement


def _is_declared_for_gpu(head: str, clean: str) -> bool:
    """Whether a member that is defined outside its class is marked inside it."""
    name = re.search(r"::\s*(~?\w+)\s*\(", head)
    return bool(name and re.search(rf"__gpunn_device__[^;{{}}()]*\b{name[1]}\s*\(", clean))
