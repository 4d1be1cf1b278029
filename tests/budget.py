"""What every kernel takes of a multiprocessor, in a table that the tests compare with.

    python tests/budget.py    # write the table anew: look at what changed before you commit it

A row of budget.csv is a kernel in one specialisation; a cell is ``registers/shared bytes/spilled bytes`` for an
architecture, as ptxas of the NVRTC named in the first row counts them.
"""

from __future__ import annotations

import concurrent.futures
import csv
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from gpunn.cuda import compiler, source

ARCHITECTURES = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"]
TABLE = Path(__file__).with_name("budget.csv")


class Entry(NamedTuple):
    file: str
    specialisation: str
    kernel: str


class Figures(NamedTuple):
    registers: int
    shared_bytes: int
    spill_bytes: int

    def __str__(self) -> str:
        return "/".join(map(str, self))


def specialisations() -> list[tuple[str, dict[str, str]]]:
    """Every kernel file with each set of macros that it lists."""
    return [(name, macros) for name in source.sources() for macros in source.example_macros(source.flatten(name))]


def architectures(file: str) -> list[str]:
    """Those that a kernel file is compiled for."""
    only = source.only_architecture(source.flatten(file))
    return [only] if only else ARCHITECTURES


def name_of(macros: Mapping[str, str]) -> str:
    return " ".join(f"{name}={value}" for name, value in macros.items())


def figures(file: str, macros: Mapping[str, str], arch: str) -> dict[Entry, Figures]:
    """Of each kernel of a file: compiled, or found in the cache."""
    cubin = compiler.compile_cubin(source.flatten(file), file, source.options(macros), arch)
    return {
        Entry(file, name_of(macros), kernel): Figures(used.registers, used.shared_bytes, used.spill_bytes)
        for kernel, used in cubin.resources.items()
    }


def over(entry: Entry, arch: str, used: Figures, table: Mapping[tuple[Entry, str], Figures]) -> str:
    """What to say if the kernel takes more than its row of the table allows, or has none; else nothing."""
    allowed = table.get((entry, arch))
    if allowed is None:
        return f"{' '.join(entry)} is not in budget.csv: run python tests/budget.py"
    grown = [f"{name} from {a} to {u}" for name, a, u in zip(Figures._fields, allowed, used, strict=True) if u > a]
    return f"{' '.join(entry)} on {arch} grew beyond budget.csv: {', '.join(grown)}" if grown else ""


def read() -> tuple[str, dict[tuple[Entry, str], Figures]]:
    """The version of NVRTC, and the figures by entry and architecture."""
    with TABLE.open(newline="", encoding="utf-8") as file:
        (_, version), heads, *rows = csv.reader(file)
    width = len(Entry._fields)
    cells = {
        (Entry(*row[:width]), arch): Figures(*map(int, cell.split("/")))
        for row in rows
        for arch, cell in zip(heads[width:], row[width:], strict=True)
        if cell
    }
    return version, cells


def write() -> None:
    jobs = [(job, arch) for job in specialisations() for arch in architectures(job[0])]
    with concurrent.futures.ProcessPoolExecutor(os.cpu_count()) as pool:
        measured = pool.map(figures, *zip(*((*job, arch) for job, arch in jobs), strict=True))
        rows: dict[Entry, dict[str, Figures]] = {}
        for (_, arch), found in zip(jobs, measured, strict=True):
            for entry, used in found.items():
                rows.setdefault(entry, {})[arch] = used
    with TABLE.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["NVRTC", compiler.nvrtc_version()])
        heads = [*ARCHITECTURES, *sorted({arch for cells in rows.values() for arch in cells} - {*ARCHITECTURES})]
        table.writerow([*Entry._fields, *heads])
        for entry, cells in sorted(rows.items()):
            table.writerow([*entry, *(cells.get(arch, "") for arch in heads)])


if __name__ == "__main__":
    write()
