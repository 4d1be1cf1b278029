"""Room between the variables of a kernel, for check mode: who passes the end of one does not meet the next."""

from __future__ import annotations

import re

GAP_BYTES = 64

_SECTION = re.compile(r"^\t\.(?:section\t|text|data|bss)([^\n,]*)", re.MULTILINE)
_SIZED = re.compile(
    r"^((?!\.L)[\w.$]+):\n((?:\t\.(?:zero|skip|long|quad|byte|value|short|word|string|ascii|hword|xword)\t[^\n]*\n)+)",
    re.MULTILINE,
)


def with_gaps(assembly: str) -> str:
    """The text with a gap behind each variable that can be written: of a thread, which ``__shared__`` ones are to the
    host's compiler, and of the library.

    >>> text = "\\t.section\\t.tbss,\\"awT\\"\\na:\\n\\t.zero\\t8\\n\\t.text\\nb:\\n\\t.zero\\t4\\n"
    >>> print(with_gaps(text).expandtabs())
            .section        .tbss,"awT"
    a:
            .zero   8
            .zero   64
            .text
    b:
            .zero   4
    <BLANKLINE>
    """
    sections = [*_SECTION.finditer(assembly)]
    parts: list[str] = []
    at = 0
    for section, after in zip(sections, [*sections[1:], None], strict=True):
        end = after.start() if after else len(assembly)
        if _has_variables(section[0], section[1]):
            parts += (
                assembly[at : section.start()],
                _SIZED.sub(rf"\g<0>\t.zero\t{GAP_BYTES}\n", assembly[section.start() : end]),
            )
            at = end
    return "".join([*parts, assembly[at:]])


def _has_variables(directive: str, name: str) -> bool:
    if not name:
        return directive.endswith((".data", ".bss"))
    return name.startswith((".tbss", ".tdata", ".bss", ".data", "gpunn_constant")) and ".rel.ro" not in name
