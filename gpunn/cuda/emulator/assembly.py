"""Room between the shared variables of a kernel, for check mode: who passes the end of one does not meet the next."""

from __future__ import annotations

import re

GAP_BYTES = 64

_SECTION = re.compile(r"^\t\.(?:section\t|text|data|bss)([^\n,]*)", re.MULTILINE)
_SIZED = re.compile(
    r"^([\w.$]+):\n((?:\t\.(?:zero|skip|long|quad|byte|value|short|word|string|ascii|hword|xword)\t[^\n]*\n)+)",
    re.MULTILINE,
)


def with_gaps(assembly: str) -> str:
    """The text with a gap behind each variable of a thread, which ``__shared__`` ones are to the host's compiler.

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
    if ".tbss" not in assembly and ".tdata" not in assembly:
        return assembly
    sections = [*_SECTION.finditer(assembly)]
    parts: list[str] = []
    at = 0
    for section, after in zip(sections, [*sections[1:], None], strict=True):
        end = after.start() if after else len(assembly)
        if section[1].startswith((".tbss", ".tdata")):
            parts += (
                assembly[at : section.start()],
                _SIZED.sub(rf"\g<0>\t.zero\t{GAP_BYTES}\n", assembly[section.start() : end]),
            )
            at = end
    return "".join([*parts, assembly[at:]])
