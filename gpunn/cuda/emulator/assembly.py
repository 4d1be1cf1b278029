"""What check mode changes in the compiler's assembly: room between variables, and fewer calls of hooks."""

from __future__ import annotations

import re

GAP_BYTES = 64
NEAR_BYTES = 1 << 16
"""How far above the stack pointer there is the thread's own stack, or nothing: see runtime/context.cpp."""

_HOOK = r"(__tsan_(?:unaligned_)?(?:read|write)\d+(?:@PLT)?)"
_NEAR = (  # x86-64, aarch64
    (
        re.compile(rf"^\tcallq?\t{_HOOK}$", re.MULTILINE),
        rf"\tmovq\t%rdi, %rax\n\tsubq\t%rsp, %rax\n\tcmpq\t${NEAR_BYTES}, %rax\n\tjb\t1f\n\tcall\t\1\n1:",
    ),
    (
        re.compile(rf"^\tbl\t{_HOOK}$", re.MULTILINE),
        rf"\tmov\tx9, sp\n\tsub\tx9, x0, x9\n\tcmp\tx9, {NEAR_BYTES}\n\tb.lo\t1f\n\tbl\t\1\n1:",
    ),
)

_SECTION = re.compile(r"^\t\.(?:section\t|text|data|bss)([^\n,]*)", re.MULTILINE)
_SIZED = re.compile(
    r"^((?!\.L)[\w.$]+):\n((?:\t\.(?:zero|skip|long|quad|byte|value|short|word|string|ascii|hword|xword)\t[^\n]*\n)+)",
    re.MULTILINE,
)


def with_stack_tests(assembly: str) -> str:
    """The text without calls of hooks for what lies near above the stack pointer, as most of a thread's local arrays.

    Nobody else touches that, and of a product by tiles it is what most accesses are for. Registers that the call may
    change are free before it.

    >>> print(with_stack_tests("\\tcall\\t__tsan_read4@PLT\\n").expandtabs())
            movq    %rdi, %rax
            subq    %rsp, %rax
            cmpq    $65536, %rax
            jb      1f
            call    __tsan_read4@PLT
    1:
    <BLANKLINE>
    """
    for call, tested in _NEAR:
        assembly = call.sub(tested, assembly)
    return assembly


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
