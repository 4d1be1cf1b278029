"""Shifts by as many bits as a number has, or more.

On a GPU all bits are shifted out then. C++ leaves it open, and processors of hosts take the number modulo 32 or 64. So
``a << b`` is compiled as ``a << all_bits << b``, for which ``include/gpunn_emulator/shifts.h`` has operators, and
``a <<= b`` as ``a <<= all_bits <<= b``.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator

_OPERATOR = re.compile(r"(\boperator\s*)?(<<=|>>=|<<|>{2,})")

# By a plain number below 32, with nothing of a higher precedence behind it. Macros leave parentheses around it.
_NUMBER = r"\s*(?:[12]?\d|3[01])[uUlL]*"
_PLAIN = re.compile(rf"(?:{_NUMBER}|\s*\({_NUMBER}\s*\)|\s*\(\s*\({_NUMBER}\s*\)\s*\))(?![\w.']|\s*[-+*/%])")

# Behind >>: what cannot begin an operand, and what cannot follow a template's arguments.
_NO_OPERAND = re.compile(r"\s*(?:[,;)\]}{>=?:|^/%.<&]|\Z)")
_OPERAND = re.compile(r"\s*(?:[\d~!]|\.\d|sizeof\b)")

_TEMPLATE = re.compile(r"\btemplate\s*<")
_NO_NAME = re.compile(r"__attribute__\s*\(\(.*?\)\)|\b(?:alignas|decltype|noexcept)\s*\([^()]*(?:\([^()]*\)[^()]*)*\)")
_ARGUMENTS = re.compile(r"<[^<>]*>")
_END_OF_HEAD = re.compile(r"[;{(=]|(?<!:):(?!:)")
_CASTS = frozenset(("static_cast", "reinterpret_cast", "const_cast", "dynamic_cast", "template"))


def rewrite(text: str, clean: str, header: str) -> str:
    """``text`` with its shifts as a GPU does them; ``clean`` is the same without literals and line markers.

    ``header`` comes before it, and may have templates.

    >>> code = "template <class T> struct A {}; int f(int n, A<A<int>> a) { return 1 << n | n >> 3; }"
    >>> print(rewrite(code, code, "").partition("{}; ")[2])
    int f(int n, A<A<int>> a) { return 1 << ::gpunn_emulator::all_bits << n | n >> 3; }
    """
    parts, at = [], 0
    for place, operator in _shifts(clean, header):
        parts += [text[at:place], f"{operator} ::gpunn_emulator::all_bits {operator}"]
        at = place + len(operator)
    return "".join(parts) + text[at:]


def _shifts(clean: str, header: str) -> Iterator[tuple[int, str]]:
    shifts: set[int] = set()
    for match in _OPERATOR.finditer(clean):
        operator, start, end = match[2], match.start(2), match.end()
        if match[1] or operator.startswith(">>>") or _PLAIN.match(clean, end):
            continue
        if operator == ">>":
            if _NO_OPERAND.match(clean, end):
                continue
            if not _OPERAND.match(clean, end):
                names = _CASTS | _templates(header) | _templates(clean)
                if _ends_arguments(clean, start, names, shifts):
                    continue
            shifts.add(start)
        yield start, operator


@functools.lru_cache(maxsize=4)
def _templates(text: str) -> frozenset[str]:
    """The names of all templates.

    >>> sorted(_templates("template <class T> struct A : B<T> {}; template <int n> typename C<n>::type f(int g);"))
    ['A', 'f']
    """
    names = set()
    for match in _TEMPLATE.finditer(text):
        depth, at = 1, match.end()
        while depth and at < len(text):
            depth += {"<": 1, ">": -1}.get(text[at], 0)
            at += 1
        head, found = _NO_NAME.sub(" ", text[at : at + 1000]), 1
        while found:
            head, found = _ARGUMENTS.subn(" ", head)
        names.update(re.findall(r"[A-Za-z_]\w*", _END_OF_HEAD.split(head, maxsplit=1)[0])[-1:])
    return frozenset(names)


def _ends_arguments(clean: str, end: int, templates: frozenset[str], shifts: set[int]) -> bool:
    """Whether a template's arguments have begun before ``end``, in the same brackets, and not ended."""
    ended, brackets, at = 0, 0, end
    while at > 0:
        at -= 1
        char = clean[at]
        if not brackets and char in ";{}([":
            return False
        if char in ")]":
            brackets += 1
        elif char in "([":
            brackets -= 1
        elif brackets:
            continue
        elif char == ">" and clean[at - 1] != "-" and clean[at + 1] != "=":
            if at - 1 in shifts:
                at -= 1
            else:
                ended += 1
        elif char == "<" and clean[at + 1] != "=" and "<" not in (clean[at - 1], clean[at + 1]):
            if ended:
                ended -= 1
                continue
            before = re.search(r"(\btemplate\s+)?\b(\w+)\s*\Z", clean[max(0, at - 200) : at])
            if before and (before[1] or before[2] in templates):
                return True
    return False
