"""What the emulator covers, read off its own headers and tables: ``python -m gpunn.cuda.emulator coverage``.

The preprocessor expands the headers, so that what macros declare is seen; the text is then read for the functions,
types and macros that a kernel can name.
"""

from __future__ import annotations

import argparse
import itertools
import os
import re
import tempfile
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gpunn.cuda.emulator import build, ptx, report, translation

PAGE = Path(__file__).with_name("COVERAGE.md")

_COMMAND = "python -m gpunn.cuda.emulator coverage"

_INNER = "gpunn_emulator"
_ALWAYS = {
    "gpunn_emulator.h": "What tells a source that CUDA compiles it",
    "qualifiers.h": "Words that CUDA adds to C++",
    "interface.h": "Indices",
    "vector_types.h": "Vector types",
    "barriers.h": "Barriers of a block",
    "warp.h": "Warps",
    "atomics.h": "Atomic functions",
    "memory.h": "Fences, address spaces, loads and stores with hints",
    "texture.h": "Textures and surfaces",
    "bits.h": "Integers and bits",
    "device_math.h": "Mathematics",
    "special_math.h": "Special functions",
}
"""What is declared without any header, by the file that has it."""


@dataclass
class Names:
    """What one header declares."""

    functions: set[str] = field(default_factory=set)
    types: dict[str, set[str]] = field(default_factory=dict)
    """With the public members that can be called."""
    macros: set[str] = field(default_factory=set)
    refused: dict[str, str] = field(default_factory=dict)
    """Functions whose use is an error, and the error."""


def main(arguments: Sequence[str]) -> int:
    """Print what is covered, or write the page."""
    parser = argparse.ArgumentParser(_COMMAND, description="What the emulator covers, read off its own code.")
    parser.add_argument("--markdown", action="store_true", help=f"write {PAGE.name} beside the emulator's README")
    if parser.parse_args(arguments).markdown:
        PAGE.write_text(page(), encoding="utf-8")
        print(f"wrote {PAGE}")
    else:
        print(page(), end="")
    return 0


def page() -> str:
    """The page, as Markdown."""
    always = declared("")
    own = {name: declared(name)[name] for name in _headers(with_content=True)}
    lines = [
        "# What the emulator covers, by name",
        "",
        f"Written by `{_COMMAND} --markdown` from the emulator's own headers and",
        "tables; do not edit. What a name does, and where it differs from a GPU, is in README.md.",
        "",
        "## Headers",
        "",
        *_wrapped("These declare what is listed below, or what the C++ library's header does: ", _quoted(own)),
        *_wrapped("What these have is declared without them: ", _quoted(_headers(with_content=False))),
        *_wrapped("These have the host's C++ library in the namespace `cuda::std`: ", _quoted(_cuda_std())),
        *_wrapped("", [_ABSENT]),
        "## Always declared",
        "",
    ]
    for file in [*_ALWAYS, *sorted(always.keys() - _ALWAYS.keys())]:
        lines += [f"### {_ALWAYS.get(file, file)}", "", *_names(always[file])] if _names(always[file]) else []
    lines += ["## Declared by a header", ""]
    for name, names in own.items():
        lines += [f"### `{name}`", "", *_names(names)] if _names(names) else []
    lines += ["## Inline PTX", "", _PTX_WORDS, "", "| instruction | modifiers |", "|---|---|", *_instructions()]
    lines += ["", *_wrapped("Special registers: ", _quoted(f"%{name}" for name in ptx.special_registers()))]
    lines += ["## Refused, and what the error says", "", *(f"- {sentence}" for sentence in translation.refusals())]
    lines += [f"- `{name}`: {why}" for name, why in sorted(_refused([*always.values(), *own.values()]).items())]
    lines += ["", "## Kinds of reports of check mode", "", *_wrapped("", _quoted(report.KINDS))]
    lines += ["A `CheckWarning` says which of these it is:", ""]
    lines += [f"- {why}" for why in report.HARMLESS]
    return "\n".join(lines) + "\n"


_ABSENT = (
    "Any other header of CUDA's may be included. Who uses a name that it has gets an error of the compiler, which "
    "lists the headers that are not emulated."
)
_PTX_WORDS = "`[.x]` may be left out; of `.{x,y}` one is written."


def declared(header: str) -> dict[str, Names]:
    """What a kernel can name once ``header`` is included, by the file that has it; "" is no header.

    What a header brings in files of its own counts as the header's.

    >>> "__syncwarp" in declared("")["barriers.h"].functions
    True
    >>> sorted(declared("cuComplex.h")["cuComplex.h"].types)[:2]
    ['cuComplex', 'cuDoubleComplex']
    """
    found: dict[str, Names] = {}
    for (owner, path), text in _parts(_preprocessed(header)).items():
        if owner or not header:
            _read(text, found.setdefault(owner or path.removeprefix(f"{_INNER}/"), Names()))
    return found


# --- the headers ------------------------------------------------------------------------------------------------------


# Headers that no kernel names: the emulator's parts, and what goes ahead of headers of NVIDIA's own libraries.
_OWN = re.compile(r"(^|/)gpunn_|^bits/|^cub/|^thrust/|^(?:iostream|version)$|/__cccl/")


def _headers(with_content: bool) -> list[str]:
    paths = [path for path in build.INCLUDE.rglob("*") if path.is_file()]
    names = {path.relative_to(build.INCLUDE).as_posix(): path.read_text(encoding="utf-8") for path in paths}
    public = {name: text for name, text in names.items() if not _OWN.search(name)}
    return sorted(name for name, text in public.items() if bool(_content(text)) == with_content)


def _content(text: str) -> str:
    return re.sub(r"//[^\n]*|#pragma once|\s", "", text)


def _cuda_std() -> list[str]:
    folder = build.LIBCUDACXX / "cuda" / "std"
    return sorted(f"cuda/std/{path.name}" for path in folder.iterdir() if not path.name.startswith("gpunn_"))


def _preprocessed(header: str) -> str:
    compiler = build.host_compiler()
    flags = ["-E", "-dD", "-std=c++17", "-D__CUDA_ARCH__=900", "-I", str(build.INCLUDE), "-include", "gpunn_emulator.h"]
    source = f"#include <{header}>\n" if header else "\n"
    with tempfile.TemporaryDirectory() as folder:
        return build.run_compiler([compiler.command, *flags, "-x", "c++", "-"], source, "coverage", folder)


def _parts(text: str) -> dict[tuple[str, str], str]:
    """The text of each of the emulator's own files, by the public header that includes it and its path."""
    parts: dict[tuple[str, str], list[str]] = {}
    files: list[str] = []  # from the source to the file at hand
    for line in text.splitlines():
        if marker := re.match(r'# \d+ "([^"]*)"(?: (\d))?', line):
            path = os.path.relpath(marker[1], build.INCLUDE)
            if marker[2] == "1":
                files.append(path)
            elif marker[2] == "2":
                files.pop()
        elif files and not files[-1].startswith(".."):
            public = [path for path in files if not path.startswith((_INNER, ".."))]
            parts.setdefault((public[-1] if public else "", files[-1]), []).append(line)
    return {place: "\n".join(lines) for place, lines in parts.items()}


# --- reading declarations ---------------------------------------------------------------------------------------------

_HIDDEN = re.compile(r"gpunn|^__builtin|detail|group_maker|can_be_tiled|snprintf", re.IGNORECASE)
_BASES = {"warp_tile": "thread_block_tile", "large_tile": "thread_block_tile"}
"""Classes of the emulator's own whose members a type has."""
_ERROR = re.compile(r'__attribute__\s*\(\(error\("([^"]*)"\)\)\)')
_ATTRIBUTE = re.compile(r"__attribute__\s*\(\((?:[^()]|\([^()]*(?:\([^()]*\)[^()]*)*\))*\)\)")
_TYPE = re.compile(r"(?:^|\s)(?:struct|class|union|enum(?:\s+class)?)\s+(\w+)\s*(?:final\s*)?(?::[^:].*)?$", re.DOTALL)
_FUNCTION = re.compile(r"([A-Za-z_]\w*)\s*\(")


@dataclass(frozen=True)
class _Scope:
    kind: str  # namespace, class or body
    name: str
    public: bool = True


def _read(text: str, names: Names) -> None:
    """Add what the text of a file declares."""
    for line in re.findall(r"^#define (\w+)", text, re.MULTILINE):
        if not _HIDDEN.search(line):
            names.macros.add(line)
    code = re.sub(r"^#[^\n]*", "", text, flags=re.MULTILINE)
    errors = {match.start(): match[1] for match in _ERROR.finditer(code)}
    scopes: list[_Scope] = []
    since = 0
    for match in re.finditer(r"\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])'|[;{}]", code):
        if match[0] not in ";{}":
            continue
        head = code[since : match.start()]
        why = next((words for at, words in errors.items() if since <= at < match.start()), "")
        since = match.end()
        if match[0] == "}":
            if scopes:
                scopes.pop()
            continue
        scope = _declaration(head, match[0] == "{", why, scopes, names)
        if match[0] == "{":
            scopes.append(scope)


def _declaration(head: str, opens: bool, why: str, scopes: list[_Scope], names: Names) -> _Scope:
    """Add what is declared there; return the scope that a brace behind it opens.

    ``opens``: there is one. ``why`` is the error that its use is.
    """
    labels = re.findall(r"\b(public|private|protected)\s*:(?!:)", head)
    if labels and scopes and scopes[-1].kind == "class":
        scopes[-1] = _Scope("class", scopes[-1].name, labels[-1] == "public")
        head = re.split(r"\b(?:public|private|protected)\s*:(?!:)", head)[-1]
    head = _without_template(_ATTRIBUTE.sub(" ", head)).strip()
    if space := re.match(r"(?:inline\s+)?namespace\b\s*(\w*)", head):
        return _Scope("namespace", space[1])
    body = _Scope("body", "")
    around = [scope for scope in scopes if scope.kind != "namespace"]
    kind = _TYPE.search(head)
    if kind and kind[1] in _BASES and not around:
        names.types.setdefault(_BASES[kind[1]], set())
        return _Scope("class", _BASES[kind[1]], public=False)
    hidden = any(_HIDDEN.search(scope.name) for scope in scopes)
    if len(around) > 1 or (hidden and not (around and around[0].name in _BASES.values())):
        return body
    inside = around[0] if around else None
    if inside and (inside.kind != "class" or not inside.public):
        return body
    called = _called(head)
    if called and why:
        names.refused[f"{inside.name}::{called}" if inside else _with_parameters(head, called)] = why
        return body
    if inside:
        if called and called != inside.name:
            names.types[inside.name].add(called)
        return body
    if kind:
        if _HIDDEN.search(kind[1]) or (not opens and "enum" not in head):
            return body
        names.types.setdefault(kind[1], set())
        return _Scope("class", kind[1], "class" not in head.split(kind[1])[0] or "enum" in head)
    if alias := re.match(r"(?:typedef\b.*?(\w+)|using\s+(\w+)\s*=.*)$", head, re.DOTALL):
        names.types.setdefault(alias[1] or alias[2], set())
    elif called:
        names.functions.add(called)
    return body


def _called(head: str) -> str:
    """The function that is declared there, or an empty text."""
    found = _FUNCTION.search(head)
    if not found or re.search(r"\boperator\b|=|~|\busing\b|\breturn\b|::\s*$", head[: found.end(1)]):
        return ""
    name, before = found[1], head[: found.start()].strip()
    keyword = name in ("static_assert", "decltype", "alignas", "explicit", "noexcept", "if", "for", "while", "asm")
    return "" if keyword or not before or before.endswith(("::", ",", ":")) or _HIDDEN.search(name) else name


def _with_parameters(head: str, function: str) -> str:
    """
    >>> _with_parameters("void sync(\\n    const grid_group& grid)", "sync")
    'sync(const grid_group& grid)'
    """
    return " ".join(head[head.index(f"{function}(") :].split()).replace("( ", "(")


def _without_template(head: str) -> str:
    while found := re.search(r"\btemplate\s*<", head):
        depth, at = 1, found.end()
        while at < len(head) and depth:
            depth += {"<": 1, ">": -1}.get(head[at], 0)
            at += 1
        head = head[: found.start()] + head[at:]
    return head


# --- the page ---------------------------------------------------------------------------------------------------------


def _quoted(names: Iterable[str]) -> list[str]:
    return [f"`{name}`" for name in names]


def _wrapped(head: str, words: Sequence[str]) -> list[str]:
    text = head + ", ".join(words)
    return [*textwrap.wrap(text, 120, break_long_words=False, break_on_hyphens=False), ""] if words else []


def _names(names: Names) -> list[str]:
    plain = sorted(name for name, members in names.types.items() if not members)
    lines = _wrapped("Types: ", _quoted(plain))
    for name, members in sorted(names.types.items()):
        lines += _wrapped(f"`{name}`: ", _quoted(sorted(members)))
    lines += _wrapped("Functions: ", _quoted(sorted(names.functions)))
    return lines + _wrapped("Macros: ", _quoted(sorted(names.macros)))


def _refused(all_names: Sequence[Names]) -> dict[str, str]:
    return {name: why for names in all_names for name, why in names.refused.items()}


def _instructions() -> Iterator[str]:
    for name, variants in sorted(ptx.instructions().items()):
        merged = _merged([tuple(map(_modifier, modifiers)) for modifiers in variants])
        yield f"| `{name}` | {', '.join(_quoted(filter(None, map(''.join, merged))))} |"


def _merged(variants: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Those that differ in one modifier written as one.

    >>> _merged([(".sync", ".x1"), (".sync", ".x2"), (".sync", ".x1", ".trans"), (".sync", ".x2", ".trans")])
    [('.sync', '.{x1,x2}'), ('.sync', '.{x1,x2}', '.trans')]
    """
    for place in range(max(map(len, variants))):
        alike: dict[tuple[tuple[str, ...], tuple[str, ...] | None], list[tuple[str, ...]]] = {}
        for words in variants:
            # Else one that may be left out, or several already.
            is_one = place < len(words) and re.fullmatch(r"\.[\w:]+", words[place])
            alike.setdefault((words[:place], words[place + 1 :]) if is_one else (words, None), []).append(words)
        variants = [
            words if after is None else (*words[:place], _alternatives([each[place][1:] for each in found]), *after)
            for (_, after), found in alike.items()
            for words in found[:1]
        ]
    return list(variants)


def _alternatives(values: Sequence[str]) -> str:
    """
    >>> _alternatives(["f16"]), _alternatives(["f16", "bf16"]), _alternatives([f"m64n{n}k8" for n in range(8, 264, 8)])
    ('.f16', '.{f16,bf16}', '.{m64n8k8,m64n16k8,...,m64n256k8}')
    """
    values = [*dict.fromkeys(values)]
    parts = [re.split(r"(\d+)", value) for value in values]
    if len(values) > 5 and len({len(each) for each in parts}) == 1:
        differ = [column for column in zip(*parts, strict=True) if len(set(column)) > 1]
        if len(differ) == 1 and all(number.isdigit() for number in differ[0]):
            numbers = [int(number) for number in differ[0]]
            if len({after - before for before, after in itertools.pairwise(numbers)}) == 1:
                values = [*values[:2], "...", values[-1]]
    return f".{values[0]}" if len(values) == 1 else f".{{{','.join(values)}}}"


def _modifier(word: str) -> str:
    """
    >>> [_modifier(word) for word in ("lo", "Z?ftz", "T=u32/s32", "=T")]
    ['.lo', '[.ftz]', '.{u32,s32}', '.(the same)']
    """
    if word.startswith("="):
        return ".(the same)"
    found = re.fullmatch(r"(?:[A-Z]?([=?]))?([^=?]*)(?:=\w*)?", word)
    assert found, word
    values = found[2].split("/")
    text = "." + (values[0] if len(values) == 1 else "{" + ",".join(values) + "}")
    return f"[{text}]" if found[1] == "?" else text
