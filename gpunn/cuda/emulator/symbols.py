"""What a kernel's library says about itself, read by binutils, which a compiler brings: lines and variables."""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
from pathlib import Path

Place = tuple[str, int]
"""A file and a line of it."""


@functools.lru_cache(maxsize=256)
def lines_of(library: Path, addresses: tuple[int, ...], hidden: str) -> dict[int, list[Place]]:
    """File and line of each address, where addr2line is installed and knows them.

    Where functions are inlined they follow each other, the innermost first. Files that begin with ``hidden`` are left
    out: the emulator's own.
    """
    if not (command := shutil.which("addr2line")):
        return {}
    hexadecimal = [hex(address) for address in addresses]
    done = subprocess.run([command, "-a", "-i", "-e", str(library), *hexadecimal], capture_output=True, text=True)
    places: dict[int, list[Place]] = {}
    address = -1
    for text in done.stdout.splitlines():
        if text.startswith("0x"):
            address = int(text, 16)
            continue
        file, _, line = re.sub(r"^(?:\./)+", "", text.split(" (")[0]).rpartition(":")
        if line.isdigit() and int(line) and not file.startswith(hidden):
            places.setdefault(address, []).append((file, int(line)))
    return places


@functools.lru_cache(maxsize=64)
def variables(library: Path, shared: bool) -> tuple[tuple[str, int, int], ...]:
    """Name, offset and size of the static ``__shared__`` variables, or of the others; none where there is no nm."""
    if not (command := shutil.which("nm")):
        return ()
    done = subprocess.run([command, "-C", "-f", "sysv", str(library)], capture_output=True, text=True)
    rows = [[cell.strip() for cell in line.split("|")] for line in done.stdout.splitlines()]
    # To the host's compiler shared ones are thread-local; nm gives name, value, class, type, size, line and section.
    kind = "TLS" if shared else "OBJECT"
    found = [row for row in rows if len(row) == 7 and row[3] == kind and row[4]]
    own = [row for row in found if not row[0].startswith("gpunn_") and "." not in row[0]]  # and not the compiler's
    return tuple(sorted(map(_variable, own)))


def _variable(row: list[str]) -> tuple[str, int, int]:
    """
    >>> _variable(["tile(float*)::As", "0040", "b", "TLS", "000c", "", ".tbss"])
    ('tile(float*)::As', 64, 12)
    """
    return row[0], int(row[1], 16), int(row[4], 16)
