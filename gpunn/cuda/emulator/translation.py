"""Reading a preprocessed kernel source: which kernels it has, and the few words that are not C++.

The headers leave marks that C++ does not know: ``__gpunn_global__`` before a kernel, ``__gpunn_shared__`` before a
shared variable, in check mode ``__gpunn_constant__`` before one of constant memory, and ``__gpunn_export__`` before a
name expression.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import NamedTuple

from gpunn.errors import CompileError

_MARKER = re.compile(r'^# (\d+) "([^"\n]*)"[^\n]*\n', re.MULTILINE)

# What is looked for in a kernel's text, and not in the headers ahead of it.
_MARKS = re.compile(r"__gpunn_|\b(?:__)?asm(?:__)?\b|<<<")

_ATTRIBUTE = r"__attribute__\s*\(\(.*?\)\)(?!\))|\balignas\s*\([^()]*(?:\([^()]*\)[^()]*)*\)"


def split(preprocessed: str, filename: str, known: tuple[str, ...] = ()) -> tuple[str, str]:
    """The headers that came first, and the text from the kernel's own first line on.

    To the headers belong those in the folders ``known`` that the source includes ahead of everything else. They do not
    say who includes them.

    >>> split('int a;\\n# 1 "k.cu"\\n# 1 "/lib/b.h" 1\\nint b;\\n# 2 "k.cu" 2\\nint c;\\n', "k.cu", ("/lib/",))
    ('int a;\\n# 1 "/lib/b.h" 1\\nint b;\\n', '# 2 "k.cu"\\nint c;\\n')
    """
    start = preprocessed.index(f'# 1 "{filename}"\n')
    plain = preprocessed[:start], preprocessed[start:]
    markers = [*_MARKER.finditer(preprocessed, start)]
    header, own, whole = [plain[0]], markers[0], 1
    for marker, after in zip(markers, [*markers[1:], None], strict=True):
        lines = preprocessed[marker.end() : after and after.start()]
        if marker[2] == filename:
            own, whole = marker, len(header)
            if lines.strip():
                break
        elif marker[2].startswith(known):
            header += marker[0], lines
        else:
            break
    joined = "".join(header[:whole])
    if _MARKS.search(joined, start):
        return plain
    return joined, f'# {own[1]} "{filename}"\n{preprocessed[own.end() :]}'


def without_unused(header: str, text: str, files: tuple[str, ...]) -> str:
    """The header without those of ``files`` of which neither the text nor the rest of the header names a function.

    >>> header = 'int a;\\n# 1 "g/simd.h" 1\\ninline int __vadd2(int x) { return x; }\\n# 2 "all.h" 2\\nint b;\\n'
    >>> without_unused(header, "int c = __vadd2(1);", ("g/simd.h",)) == header
    True
    >>> without_unused(header, "int c;", ("g/simd.h",))
    'int a;\\n# 2 "all.h"\\nint b;\\n'
    """
    words = set(_WORD.findall(text))
    left_out = [part for part, declared in _parts_of(header, files) if not declared & words]
    for begin, end, after in reversed(left_out):
        header = header[:begin] + after + header[end:]
    return header


_WORD = re.compile(r"[A-Za-z_]\w*")
_DECLARED = re.compile(r"\binline\s+(?:[\w:<>*&]+\s+)+?(\w+)\s*\(")


@functools.lru_cache(16)
def _parts_of(header: str, files: tuple[str, ...]) -> list[tuple[tuple[int, int, str], set[str]]]:
    """Where each of the files lies in the header, with what says where it goes on, and the functions that it declares.

    Not of a file of which another header names a function; those in its own folder do without it.
    """
    markers = [*_MARKER.finditer(header)]
    folders = {file.rpartition("/")[0] for file in files}
    elsewhere: set[str] = set()
    spans = []
    for i, marker in enumerate(markers):
        end = markers[i + 1].start() if i + 1 < len(markers) else len(header)
        if marker[2].rpartition("/")[0] not in folders:
            elsewhere.update(_WORD.findall(header, marker.end(), end))
        elif marker[1] == "1" and marker[2] in files:
            after = next(other for other in markers[i:] if other[2] != marker[2])
            spans.append((marker.start(), after.end(), f'# {after[1]} "{after[2]}"\n'))
    found = [(span, set(_DECLARED.findall(header, span[0], span[1]))) for span in spans]
    return [(span, declared) for span, declared in found if not declared & elsewhere]


def take_exports(text: str) -> tuple[list[str], str]:
    """The name expressions that were appended to the source, and the text without them."""
    pattern = re.compile(r"^__gpunn_export__ (.*?) ;$", re.MULTILINE)
    return [re.sub(r"\s+", " ", name) for name in pattern.findall(text)], pattern.sub("", text)


def kernel_names(text: str) -> list[str]:
    """The kernels that can be found by their plain name: those declared ``extern "C"``.

    >>> kernel_names('extern "C" __gpunn_global__ void scale(float* x) { x[0] *= 2; }')
    ['scale']
    """
    clean = without_literals(text)
    scopes = _scopes(clean, [match.start() for match in re.finditer("__gpunn_global__", clean)])
    names = []
    for position, scope in scopes:
        head = re.split(r"[;{}]", clean[:position])[-1]
        named = re.match(rf"(?:{_ATTRIBUTE}|[\w\s:*&])*?\b(\w+)\s*\(", clean[position:], re.DOTALL)
        is_c = re.search(r'\bextern\s*"C"', head) or "extern C" in scope
        if named and is_c and not re.search(r"\btemplate\b", head):
            names.append(named[1])
    return names


# What cannot be emulated and would else end in a puzzling error: words to look for first, which is fast, how they must
# stand, and what to say.
_REFUSED = (
    (("experimental",), r"\bwmma\s*::\s*experimental\b", "nvcuda::wmma of less than 8 bits is not emulated"),
    (
        ("CUtensorMap",),
        r"\bCUtensorMap\b(?!\s*\{)",
        "the kernel has no CUtensorMap; kernels/hopper.cuh has it, and copies of tensors that are emulated",
    ),
    (("<<<",), r"<<<", "launches from a kernel are not emulated"),
)


def refusals() -> list[str]:
    """What :func:`refuse` says."""
    return [why for _, _, why in _REFUSED]


# Headers of what the host starts, which NVRTC does not take either.
_ALGORITHMS = re.compile(
    r'^# \d+ "[^"\n]*/(?:cub/device/device_\w+\.cuh|thrust/system/detail/generic/select_system\.h)"', re.MULTILINE
)


def refuse_algorithms(text: str) -> None:
    """Raise CompileError, with file and line, for headers of what the host starts: other errors follow from them."""
    of_the_host = _ALGORITHMS.search(text) if "/cub/device/" in text or "/select_system.h" in text else None
    if of_the_host:
        file, line = _including(text, of_the_host.start())
        raise CompileError(
            f"{file}:{line}: algorithms of CUB and Thrust that the host starts are not emulated:"
            " include only what a kernel calls, such as <cub/block/block_reduce.cuh> or <thrust/pair.h>"
        )


def refuse(text: str) -> None:
    """Raise CompileError, with file and line, for what cannot be emulated."""
    suspected = [(pattern, why) for words, pattern, why in _REFUSED if any(word in text for word in words)]
    if not suspected:
        return
    clean = without_literals(text)
    if re.search(r"\bstruct\b[^;{}]*\bCUtensorMap\s*\{", clean):
        suspected = [each for each in suspected if "CUtensorMap" not in each[0]]
    matches = [(match, why) for pattern, why in suspected if (match := re.search(pattern, clean))]
    if matches:
        match, why = min(matches, key=lambda found: found[0].start())
        file, line = _position(text, match.start())
        raise CompileError(f"{file}:{line}: {why}")


_CLUSTER = re.compile(r"\b__gpunn_cluster_dims__\s*\(((?:[^()]|\([^()]*\))*)\)")
_CLUSTER_WORDS = re.compile(
    r"\b(?:this_cluster|cluster_group|__gpunn_cluster_dims__|__cluster\w+|__threadfence_cluster)\b"
)
_TEMPLATE = re.compile(r"template\s*<(?:[^<>]|<(?:[^<>]|<[^<>]*>)*>)*>\s*")


def refuse_clusters(text: str) -> None:
    """Raise CompileError, with file and line, for clusters on architectures that have none."""
    if "cluster" in text and (found := _CLUSTER_WORDS.search(without_literals(text))):
        file, line = _position(text, found.start())
        raise CompileError(f"{file}:{line}: clusters of blocks need compute capability 9.0: give arch=900")


def clusters_to_variables(text: str) -> tuple[set[str], str]:
    """The kernels that have ``__cluster_dims__``, and the text with its sizes in a variable beside each of them.

    >>> code = "template <int N> void __gpunn_cluster_dims__(N, 2) k() { }"
    >>> print(*clusters_to_variables(code))
    {'k'} template <int N> constexpr unsigned gpunn_cluster_of_k[3] = {N, 2, 1}; template <int N> void  k() { }
    """
    names: set[str] = set()
    if "__gpunn_cluster_dims__" not in text:
        return names, text
    clean = without_literals(text)
    edits = []
    for match in _CLUSTER.finditer(clean):
        edits.append((match.start(), match.end(), ""))
        begin = max(clean.rfind(end, 0, match.start()) for end in ";{}") + 1
        begin += len(clean[begin:]) - len(clean[begin:].lstrip())
        named = re.match(rf"(?:{_ATTRIBUTE}|[\w\s:*&])*?\b(\w+)\s*\(", clean[match.end() :], re.DOTALL)
        if not named or named[1] in names:
            continue
        names.add(named[1])
        sizes = [size.strip() for size in _at_commas(match[1])]
        if len(sizes) > 3:
            file, line = _position(text, match.start())
            raise CompileError(f"{file}:{line}: __cluster_dims__ takes 1 to 3 sizes, got {match[1]}")
        template = _TEMPLATE.match(clean, begin)
        variable = f"constexpr unsigned gpunn_cluster_of_{named[1]}[3] = {{{', '.join([*sizes, '1', '1'][:3])}}}; "
        edits.append((begin, begin, (template[0] if template else "") + variable))
    for begin, end, replacement in sorted(edits, reverse=True):
        text = text[:begin] + replacement + text[end:]
    return names, text


def _at_commas(text: str) -> list[str]:
    """What is between the commas that are in no brackets."""
    depth, parts = 0, [""]
    for character in text:
        depth += {"(": 1, ")": -1}.get(character, 0)
        if character == "," and not depth:
            parts.append("")
        else:
            parts[-1] += character
    return parts


# "used": the compiler would take for zero what no line of the source writes, and the emulator fills it with NaN.
_SHARED = "__attribute__((used)) thread_local"


# CUDA takes alignas among the words of a declaration, where C++ does not.
_ALIGNED_SHARED = re.compile(r"(\b__gpunn_shared__\s+)alignas\s*\(([^()]*(?:\([^()]*\)[^()]*)*)\)")


def lower(text: str) -> str:
    """The text as C++."""
    text = _constants_to_their_section(_dynamic_shared_to_pointers(text))
    text = _ALIGNED_SHARED.sub(r"\1__attribute__((aligned(\2)))", text)
    return text.replace("__gpunn_shared__", _SHARED).replace("__gpunn_global__", "")


def _constants_to_their_section(text: str) -> str:
    """Have those variables of constant memory lie together that a kernel could write to.

    What is const lies in memory that the host does not write to either, and the compiler puts variables of templates,
    classes and inline ones into sections of their own.

    >>> _constants_to_their_section("__gpunn_constant__ float x[4]; __gpunn_constant__ const int n = 4;")
    '__attribute__((used, section("gpunn_constant"))) float x[4]; __attribute__((used)) const int n = 4;'
    """
    mark = "__gpunn_constant__"
    if mark not in text:
        return text
    clean = without_literals(text)
    for start, scope in reversed([*_scopes(clean, [match.start() for match in re.finditer(mark, clean)])]):
        before, after = re.split(r"[;{}]", clean[:start])[-1], re.match(r"[^;{=(\[]*", clean[start:])
        declared = before + (after[0] if after else "")
        elsewhere = "body" in scope or re.search(r"\b(?:const|constexpr|inline|template)\b", declared)
        attributes = "used" if elsewhere else 'used, section("gpunn_constant")'
        text = f"{text[:start]}__attribute__(({attributes})){text[start + len(mark) :]}"
    return text


_DYNAMIC_SHARED = re.compile(
    r"(?:\bextern\b[^;{}]*?\b__gpunn_shared__\b|\b__gpunn_shared__\b[^;{}]*?\bextern\b)[^;{}]*;"
)
_WORDS_BEFORE = re.compile(r"(?:\b(?:volatile|const)\s+|__attribute__\s*\(\((?:[^()]|\([^()]*\))*\)\)\s*)+\Z")


def _dynamic_shared_to_pointers(text: str) -> str:
    """Turn every ``extern __shared__ T name[];`` into a pointer to the dynamic shared memory of the launch.

    Its words stand in any order. At file scope there is no block yet whose memory a pointer could name: there the
    functions that name it get the pointer, around what they had.
    """
    if "__gpunn_shared__" not in text:
        return text
    clean = without_literals(text)
    found = [*_DYNAMIC_SHARED.finditer(clean)]
    scopes = dict(_scopes(clean, [match.start() for match in found]))
    edits: list[tuple[int, int, str]] = []
    at_file_scope: list[tuple[int, str, str]] = []
    for match in found:
        before = _WORDS_BEFORE.search(clean[max(0, match.start() - 200) : match.start()])
        begin = match.start() - len(before[0] if before else "")
        whole = clean[begin : match.end()]
        declaration = re.sub(rf"\b(?:extern|__gpunn_shared__)\b|{_ATTRIBUTE}|;", " ", whole, flags=re.DOTALL)
        array = re.fullmatch(r"(.*?)(\w+)\s*\[\s*\]\s*", " ".join(declaration.split()))
        if not array:
            file, line = _position(text, match.start())
            raise CompileError(
                f"{file}:{line}: extern __shared__ must declare one array without a size, got {match[0].strip()!r}"
            )
        kind, name = array[1].strip(), array[2]
        pointer, lines = f"{kind}* {name} = gpunn_emulator::dynamic_shared<{kind}>();", "\n" * whole.count("\n")
        if "body" in scopes[match.start()]:
            edits.append((begin, match.end(), pointer + lines))
        else:
            edits.append((begin, match.end(), lines))
            at_file_scope.append((match.end(), name, pointer))
    if at_file_scope:
        edits += _pointers_in_functions(text, clean, at_file_scope)
    for begin, end, replacement in sorted(edits, reverse=True):
        text = text[:begin] + replacement + text[end:]
    return text


def _pointers_in_functions(
    text: str, clean: str, declared: list[tuple[int, str, str]]
) -> Iterator[tuple[int, int, str]]:
    """Give each function the pointers that it names: ``declared`` says from where on there is which."""
    functions = [*_functions(clean)]
    parts, at = [], 0
    for function in functions:
        parts += [clean[at : function.begin], " " * (function.end - function.begin)]
        at = function.end
    rest = "".join([*parts, clean[at:]])
    found = 1
    while found:
        rest, found = re.subn(r"\([^()]*\)", lambda match: " " * len(match[0]), rest)
    rest = _DYNAMIC_SHARED.sub(lambda match: " " * len(match[0]), rest)
    members = set()
    for name in {name for _, name, _ in declared}:
        for other in re.finditer(rf"\b{name}\b", rest):
            if "class" not in dict(_scopes(clean, [other.start()]))[other.start()]:
                file, line = _position(text, other.start())
                raise CompileError(f"{file}:{line}: '{name}' is also the name of an extern __shared__ array")
            members.add(name)
    for function in functions:
        for name, pointer in {name: pointer for place, name, pointer in declared if place <= function.begin}.items():
            used = re.compile(rf"(?<!\.)(?<!->)(?<!::)\b{name}\b").search(clean, function.begin, function.end)
            is_parameter = re.search(rf"\b{name}\b", function.head)
            if used and not is_parameter and not (function.is_member and name in members):
                yield function.begin, function.begin, f"{pointer} {{"
                yield function.end, function.end, "}"


class _Function(NamedTuple):
    head: str
    begin: int  # within its braces
    end: int
    is_member: bool


def _functions(clean: str) -> Iterator[_Function]:
    """Each function that has a body, but for those within others.

    >>> code = "struct A { int f() { if (1) { } } int n[2] = {1, 2}; }; int A::g() { } void h(int (&x)[4]) { }"
    >>> [(code[each.begin : each.end], each.is_member) for each in _functions(code)]
    [(' if (1) { } ', True), (' ', True), (' ', False)]
    """
    since, begin, depth, head = 0, 0, 0, ""
    around: list[bool] = []  # whether it is a class
    for match in re.finditer(r"[;{}]", clean):
        if depth:
            depth += {"{": 1, "}": -1}.get(match[0], 0)
            if not depth and re.search(r"\)[^=]*$", head):
                yield _Function(head, begin, match.start(), any(around) or bool(re.search(r"::\s*~?\w+\s*\(", head)))
        elif match[0] == "{":
            head, begin = clean[since : match.start()], match.end()
            if kind := kind_of_scope(head):
                around.append(kind == "class")
            else:
                depth = 1
        elif match[0] == "}" and around:
            around.pop()
        since = match.end()


def kind_of_scope(head: str) -> str:
    """What begins with a brace behind ``head``: see :func:`_scopes`; nothing for a body."""
    if not any(word in head for word in ('"C"', "namespace", "class", "struct", "union")):
        return ""
    head = re.sub(_ATTRIBUTE, " ", head, flags=re.DOTALL)
    if re.search(r'\bextern\s*"C"\s*$', head):
        return "extern C"
    found = re.search(r"\b(namespace|class|struct|union)\b[^()=]*$", head)
    return ("namespace" if found[1] == "namespace" else "class") if found else ""


def without_literals(text: str) -> str:
    """The text, of the same length, with blanks for line markers and for what is inside quotes, except ``"C"``."""

    def blank(match: re.Match[str]) -> str:
        found = match[0]
        if found == '"C"':
            return found
        return " " * len(found) if found[0] == "#" else found[0] + " " * (len(found) - 2) + found[-1]

    return re.sub(r"""^#[^\n]*|"(?:\\.|[^"\\\n])*"|'(?:\\.[^'\n]*|[^'\\\n])'""", blank, text, flags=re.MULTILINE)


def _scopes(clean: str, positions: list[int]) -> Iterator[tuple[int, tuple[str, ...]]]:
    """The braces around each position, outermost first: ``"extern C"``, ``"namespace"``, ``"class"`` or ``"body"``."""
    stack: list[str] = []
    since = 0
    waiting = list(positions)
    for match in re.finditer(r"[;{}]|\Z", clean):
        while waiting and waiting[0] < match.start():
            yield waiting.pop(0), tuple(stack)
        if match[0] == "{":
            stack.append(kind_of_scope(clean[since : match.start()]) or "body")
        elif match[0] == "}" and stack:
            stack.pop()
        since = match.end()


def _including(text: str, offset: int) -> tuple[str, int]:
    """The file that ``text`` begins with, and the line there that includes what is at the offset."""
    markers = [*_MARKER.finditer(text, 0, offset)]
    last = max(i for i, marker in enumerate(markers) if marker[2] == markers[0][2])
    until = markers[last + 1].start() if last + 1 < len(markers) else offset
    return markers[0][2], int(markers[last][1]) + text.count("\n", markers[last].end(), until)


def _position(text: str, offset: int) -> tuple[str, int]:
    """The file and line of an offset, from the line markers before it."""
    markers = [*_MARKER.finditer(text, 0, offset)]
    if not markers:
        return "kernel", 1 + text.count("\n", 0, offset)
    last = markers[-1]
    return last[2], int(last[1]) + text.count("\n", last.end(), offset)
