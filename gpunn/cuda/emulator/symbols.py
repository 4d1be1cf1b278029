"""What a kernel's library says about itself, read by binutils, which a compiler brings: lines and variables."""

from __future__ import annotations

import functools
import math
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

Place = tuple[str, int]
"""A file and a line of it."""

Calls = tuple[Place, ...]
"""A place in a function that was inlined, then where it was called, and so on."""


@functools.lru_cache(maxsize=256)
def lines_of(library: Path, addresses: tuple[int, ...], hidden: str) -> dict[int, list[Place]]:
    """File and line of each address, where addr2line is installed and knows them.

    Where functions are inlined they follow each other, the innermost first. Files that begin with ``hidden`` are left
    out: the emulator's own.
    """
    if not (command := shutil.which("addr2line")):
        return {}
    hexadecimal = [hex(address) for address in addresses]
    asked = "\n".join(hexadecimal)  # a command line has no room for those of a whole library
    done = subprocess.run([command, "-a", "-i", "-e", str(library)], input=asked, capture_output=True, text=True)
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


@functools.lru_cache(maxsize=64)
def constants(library: Path) -> tuple[int, int]:
    """Where its ``__constant__`` variables begin and end, if it was compiled for counts; 0, 0 without any."""
    if not (command := shutil.which("objdump")):
        return 0, 0
    done = subprocess.run([command, "-h", str(library)], capture_output=True, text=True)
    for words in map(str.split, done.stdout.splitlines()):
        if len(words) > 4 and words[1] == "gpunn_constant":
            return int(words[3], 16), int(words[3], 16) + int(words[2], 16)
    return 0, 0


@functools.lru_cache(maxsize=64)
def functions_of(library: Path, addresses: tuple[int, ...]) -> dict[int, str]:
    """The name of the function that begins at each address."""
    if not addresses or not (command := shutil.which("nm")):
        return {}
    done = subprocess.run([command, "-C", str(library)], capture_output=True, text=True)
    rows = [line.split(" ", 2) for line in done.stdout.splitlines() if line[:1].isalnum()]
    names = {int(row[0], 16): row[2] for row in rows if len(row) == 3}
    return {address: names[address] for address in addresses if address in names}


@functools.lru_cache(maxsize=64)
def blocks_of(library: Path, hidden: str) -> dict[int, dict[Calls, float]]:
    """The places whose code is in each basic block of a library compiled for counts, and how much: inf where it begins.

    A block is known by the address after its call of the hook; see :func:`lines_of` for ``hidden``.
    """
    if not (command := shutil.which("objdump")):
        return {}
    done = subprocess.run(
        [command, "-d", "-j", ".text", "--no-show-raw-insn", str(library)], capture_output=True, text=True
    )
    members: dict[int, list[int]] = {}
    begun: set[int] = set()
    rows = _rows(library)
    site, hook, after_hook = 0, 0, False
    for text in done.stdout.splitlines():
        if text.endswith(">:"):  # a function begins
            site, after_hook = 0, False
        address, colon, instruction = text.strip().partition(":")
        if not colon or not text.startswith(" "):
            continue
        if after_hook:
            site = int(address, 16)
            members[site] = []
            if hook in rows:
                begun.add(site)
        if site:
            members[site].append(int(address, 16))
        after_hook, hook = "<__sanitizer_cov_trace_pc" in instruction, int(address, 16)
    asked = {each for site, block in members.items() for each in (site - 1, *block)}
    places = lines_of(library, tuple(sorted(asked)), hidden)
    blocks: dict[int, dict[Calls, float]] = {}
    for site, block in members.items():
        sizes = Counter(tuple(places[each]) for each in block if each in places)
        # A block without a row of its own in the table of lines has no line: it seems to be of the block before it.
        first = {tuple(places[site - 1]): math.inf} if site in begun and site - 1 in places else {}
        blocks[site] = {**sizes, **first}
    return blocks


def _rows(library: Path) -> set[int]:
    """The addresses at which a row of the table of lines begins."""
    command = shutil.which("objdump") or "objdump"
    done = subprocess.run([command, "--dwarf=decodedline", str(library)], capture_output=True, text=True)
    return {int(found[1], 16) for found in re.finditer(r"\s\d+\s+0x([0-9a-f]+)(?:\s|$)", done.stdout)}
