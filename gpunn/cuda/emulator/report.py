"""What a launch found, and the error that carries it."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gpunn.cuda.emulator.assembly import GAP_BYTES
from gpunn.cuda.emulator.symbols import Place, lines_of, variables
from gpunn.errors import KernelError

# In the order of `enum class Kind` in runtime/launch.h.
KINDS = (
    "race",
    "out-of-bounds",
    "uninitialised",
    "misaligned",
    "divergent-barrier",
    "deadlock",
    "read-only-write",
    "integer-overflow",
    "bounds",
    "shift",
    "division",
    "warp-mask",
    "assert",
    "trap",
    "fault",
    "resources",
    "texture",
    "misuse",
    "nan",
    "infinity",
)

# In the order of `enum class Harmless` in runtime/launch.h, from its second on.
HARMLESS = (
    "harmless: it wrote the value that was there",
    "harmless: the value read goes to atomicCAS, which compares it",
    "harmless if nobody uses the value",
    "harmless: a barrier does not wait for them",
    "harmless if the kernel computes that number",
    "harmless if no other block uses it",
    "harmless: a GPU wraps around, which C++ leaves undefined",
    "harmless: a GPU shifts all bits out, which C++ leaves undefined",
)

# Of NVIDIA's CUB: it reads from shared memory what no thread has written, and does not use it.
_READS_IN_VAIN = "cub/block/block_merge_sort.cuh"

Index = tuple[int, int, int]


@dataclass(frozen=True)
class Report:
    """One mistake of a kernel.

    Attributes:
        kind: what went wrong, for instance ``"race"`` or ``"out-of-bounds"``; one of ``report.KINDS``.
        message: the mistake in words.
        kernel: the name of the kernel.
        file, line: the place in the kernel's source, or ``None`` where the debug information does not say.
        block, thread: the indices of the thread that made it.
        argument: the position of the array it is about, counted from 0, or ``None``.
        byte: the offset in that array or shared variable, or ``None``.
        other_thread: the thread it collides with, or ``None``.
        other_line: the line of that thread's access, or ``None``.
        callers: where the function that made it was called, file and line, the last call first.
        harmless: whether it changes no result: threads race to write the value that was there, a loop of ``atomicCAS``
            begins with a plain read, a lane shifts a value up or down from beyond the mask, threads have returned
            before a barrier, a signed integer wraps around, or it may: what is written is just the number that marks
            variables nobody has set, or an address that no other block uses.
    """

    kind: str
    message: str
    kernel: str
    file: str | None
    line: int | None
    block: Index
    thread: Index
    argument: int | None = None
    byte: int | None = None
    other_thread: Index | None = None
    other_line: int | None = None
    callers: tuple[Place, ...] = ()
    harmless: bool = False

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}: " if self.file else ""
        who = f"block {_short(self.block)} thread {_short(self.thread)}"
        calls = "".join(f", called from {file}:{line}" for file, line in self.callers)
        return f"{self.kernel}: {self.kind}: {place}{who}: {self.message}{calls}"


class CheckWarning(UserWarning):
    """A kernel that ran in check mode made a mistake that changes no result: :attr:`Report.harmless`."""


class CheckError(KernelError):
    """A kernel that ran in check mode made mistakes: :attr:`reports` has them all, the message the first few."""

    _SHOWN = 5

    def __init__(self, reports: Sequence[Report]) -> None:
        self.reports = list(reports)
        lines = [str(report) for report in self.reports[: self._SHOWN]]
        if hidden := len(self.reports) - len(lines):
            lines.append(f"... and {hidden} more, in the attribute `reports`")
        super().__init__("\n".join(lines))

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.reports,), {"args": self.args}


class RawReport(ctypes.Structure):
    """`struct Report` of runtime/launch.h."""

    _fields_ = (
        ("kind", ctypes.c_int),
        ("argument", ctypes.c_int),
        ("byte", ctypes.c_longlong),
        ("pc", ctypes.c_void_p),
        ("file", ctypes.c_char_p),
        ("line", ctypes.c_int),
        ("harmless", ctypes.c_int),
        ("has_other", ctypes.c_int),
        ("block", ctypes.c_uint * 3),
        ("thread", ctypes.c_uint * 3),
        ("other_block", ctypes.c_uint * 3),
        ("other_thread", ctypes.c_uint * 3),
        ("other_pc", ctypes.c_void_p),
        ("callers", ctypes.c_void_p * 6),
        ("message", ctypes.c_char * 240),
    )


def readable(raw: Sequence[RawReport], kernel: str, library: Path, base: int, hidden: str) -> list[Report]:
    """Reports with file and line, one for each kind, place and way there."""
    # The address is the one after the call, which may belong to the next line.
    known = {pc for report in raw for pc in (report.pc, report.other_pc, *report.callers) if pc}
    places = lines_of(library, tuple(sorted(pc - base - 1 for pc in known)), hidden) if known else {}

    def calls(pc: int | None) -> list[Place]:
        return places.get(pc - base - 1, []) if pc else []

    reports: dict[tuple[object, ...], Report] = {}
    for report in raw:
        path = [*calls(report.pc), *(each for pc in report.callers for each in calls(pc))]
        file, line = path[0] if path else (None, None)
        if report.file and not report.file.decode().startswith(hidden):
            file, line = report.file.decode(), report.line
        if KINDS[report.kind] == "uninitialised" and file and file.endswith(_READS_IN_VAIN):
            continue
        message, byte = _with_variable(report.message.decode(errors="replace"), report.byte, library)
        other = next(iter(calls(report.other_pc)), None)
        if other:
            where = f"line {other[1]}" if other[0] == file else "{}:{}".format(*other)
            message = message.replace(" by ", f" at {where} by ", 1)
        if report.harmless:
            message += f"; {HARMLESS[report.harmless - 1]}"
        if file is None and report.pc:
            message += f" (at {report.pc - base - 1:#x} of {library.name})"
        made = Report(
            kind=KINDS[report.kind],
            message=message,
            kernel=kernel,
            file=file,
            line=line,
            block=_index(report.block),
            thread=_index(report.thread),
            argument=report.argument if report.argument >= 0 else None,
            byte=byte if byte >= 0 else None,
            other_thread=_index(report.other_thread) if report.has_other else None,
            other_line=other and other[1],
            callers=tuple(path[1:]),
            harmless=bool(report.harmless),
        )
        key = (made.kind, *path) if file else (made.kind, report.pc)
        if key not in reports or (reports[key].harmless and not made.harmless):
            reports[key] = made
    return [*reports.values()]


def _with_variable(message: str, byte: int, library: Path) -> tuple[str, int]:
    """Name the variable where the runtime could only say at which byte of all of them it is."""
    for memory, shared, word in (("static shared memory", True, "shared"), ("device memory", False, "device")):
        words = f"{memory} byte {byte}"
        for name, start, size in variables(library, shared) if words in message else ():
            if start <= byte < start + size + GAP_BYTES:
                short = name.rpartition("::")[2]
                return message.replace(words, f"{word} '{short}' byte {byte - start}"), byte - start
    return message, byte


def _index(values: Sequence[int]) -> Index:
    return values[0], values[1], values[2]


def _short(index: Index) -> str:
    return "({},{},{})".format(*index)
