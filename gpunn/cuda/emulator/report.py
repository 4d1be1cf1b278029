"""What a launch found, and the error that carries it."""

from __future__ import annotations

import ctypes
import functools
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

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
)

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

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}: " if self.file else ""
        who = f"block {_short(self.block)} thread {_short(self.thread)}"
        return f"{self.kernel}: {self.kind}: {place}{who}: {self.message}"


class CheckError(KernelError):
    """A kernel that ran in check mode made mistakes: :attr:`reports` has them all, the message the first few."""

    _SHOWN = 5

    def __init__(self, reports: Sequence[Report]) -> None:
        self.reports = list(reports)
        lines = [str(report) for report in self.reports[: self._SHOWN]]
        if hidden := len(self.reports) - len(lines):
            lines.append(f"... and {hidden} more, in the attribute `reports`")
        super().__init__("\n".join(lines))


class RawReport(ctypes.Structure):
    """`struct Report` of runtime/launch.h."""

    _fields_ = (
        ("kind", ctypes.c_int),
        ("argument", ctypes.c_int),
        ("byte", ctypes.c_longlong),
        ("pc", ctypes.c_void_p),
        ("file", ctypes.c_char_p),
        ("line", ctypes.c_int),
        ("has_other", ctypes.c_int),
        ("block", ctypes.c_uint * 3),
        ("thread", ctypes.c_uint * 3),
        ("other_block", ctypes.c_uint * 3),
        ("other_thread", ctypes.c_uint * 3),
        ("message", ctypes.c_char * 240),
    )


def readable(raw: Sequence[RawReport], kernel: str, library: Path, base: int, hidden: str) -> list[Report]:
    """Reports with file and line, one for each kind and place."""
    # The address is the one after the call, which may belong to the next line.
    addresses = tuple(sorted({report.pc - base - 1 for report in raw if report.pc}))
    places = _lines_of(library, addresses, hidden) if addresses else {}
    reports: dict[tuple[object, ...], Report] = {}
    for report in raw:
        address = report.pc - base - 1 if report.pc else -1
        file, line = places.get(address, (None, None))
        if report.file and not report.file.decode().startswith(hidden):
            file, line = report.file.decode(), report.line
        message, byte = _with_variable(report.message.decode(errors="replace"), report.byte, library)
        if file is None and report.pc:
            message += f" (at {address:#x} of {library.name})"
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
        )
        reports.setdefault((made.kind, file, line if file else address), made)
    return [*reports.values()]


@functools.lru_cache(maxsize=256)
def _lines_of(library: Path, addresses: tuple[int, ...], hidden: str) -> dict[int, tuple[str, int]]:
    """File and line of each address, where addr2line is installed and knows them.

    Of inlined functions it names all; the innermost one that is not in the emulator's own headers is the kernel's.
    """
    if not (command := shutil.which("addr2line")):
        return {}
    hexadecimal = [hex(address) for address in addresses]
    done = subprocess.run([command, "-a", "-i", "-e", str(library), *hexadecimal], capture_output=True, text=True)
    places: dict[int, tuple[str, int]] = {}
    address = -1
    for text in done.stdout.splitlines():
        if text.startswith("0x"):
            address = int(text, 16)
            continue
        file, _, line = text.split(" (")[0].removeprefix("./").rpartition(":")
        if address not in places and line.isdigit() and int(line) and not file.startswith(hidden):
            places[address] = (file, int(line))
    return places


@functools.lru_cache(maxsize=64)
def _shared_variables(library: Path) -> tuple[tuple[int, int, str], ...]:
    """Offset, size and name of the static shared variables, where nm is installed and lists the library's symbols."""
    if not (command := shutil.which("nm")):
        return ()
    done = subprocess.run([command, "-C", "-f", "sysv", str(library)], capture_output=True, text=True)
    rows = [[cell.strip() for cell in line.split("|")] for line in done.stdout.splitlines()]
    # To the host's compiler they are thread-local; nm gives name, value, class, type, size, line and section.
    return tuple(sorted(_variable(row) for row in rows if len(row) == 7 and row[3] == "TLS" and row[4]))


def _variable(row: list[str]) -> tuple[int, int, str]:
    """
    >>> _variable(["tile(float*)::As", "0040", "b", "TLS", "000c", "", ".tbss"])
    (64, 12, 'As')
    """
    return int(row[1], 16), int(row[4], 16), row[0].rpartition("::")[2]


def _with_variable(message: str, byte: int, library: Path) -> tuple[str, int]:
    """Name the shared variable where the runtime could only say at which byte of all of them it is."""
    words = f"static shared memory byte {byte}"
    if words in message:
        for start, size, name in _shared_variables(library):
            if start <= byte < start + size:
                return message.replace(words, f"shared '{name}' byte {byte - start}"), byte - start
    return message, byte


def _index(values: Sequence[int]) -> Index:
    return values[0], values[1], values[2]


def _short(index: Index) -> str:
    return "({},{},{})".format(*index)
