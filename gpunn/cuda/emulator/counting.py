"""What a profiler would tell of a kernel, without a GPU: memory, divergence and arithmetic by line of the source.

README.md in this folder says what is counted, and how exactly.
"""

from __future__ import annotations

import ctypes
import json
import math
import re
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING

from gpunn.context import Setting, context
from gpunn.cuda.emulator import cards
from gpunn.cuda.emulator.cards import Card
from gpunn.cuda.emulator.symbols import Calls, blocks_of, constants, functions_of, lines_of

if TYPE_CHECKING:
    from gpunn.cuda.emulator.build import Library
    from gpunn.cuda.emulator.sass import Program

_SECTOR = 32  # bytes

# `enum class Action` of runtime/counter.h.
_BLOCK, _LOAD, _STORE, _ATOMIC, _BLOCK_BARRIER, _WARP_BARRIER, _COLLECTIVE, _MATRIX_ROW = range(8)
_GLOBAL, _SHARED = 1, 2  # of `enum class Space`

# What collectives are called in include/gpunn_emulator; a product of tensor cores has a multiply-add for each of
# 16 x 8 elements and each term.
_COLLECTIVES = {
    "shuffle_operation": "shuffles",
    "ballot_operation": "votes",
    "match_operation": "matches",
    "reduce_operation": "reductions",
    "matrix_rows_operation": "matrix_loads",
}
_PRODUCT = re.compile(r"product_operation<.*?(\w+)Elements, .*?, (\d+)u?>")
_TYPES = {"Tf32": ("tf32", 1), "F16": ("16 bit", 2), "Bf16": ("16 bit", 2), "S8": ("8 bit", 4), "U8": ("8 bit", 4)}
"""Of tensor cores: what they are counted as, and how many are in a register."""
_WARPGROUP = re.compile(r"warpgroup_operation<(\d+)u?, (\d+)u?>")

# Kinds of instructions of which a loop has fewer once it is unrolled: in no time from below. Arrays in registers are in
# local memory without it.
_LESS_UNROLLED = ("integer", "move", "constant", "branch", "local")


@dataclass
class Counts:
    """What warps did: in a line, or in a kernel. An access is one instruction of a warp.

    Attributes:
        loads, stores, atomics: accesses of global memory.
        sectors: of 32 bytes that they touched; ``least_sectors``: how many hold the bytes asked for, each once.
        cache_hits: sectors that the model of the L2 cache had.
        shared_loads, shared_stores, shared_atomics: accesses of shared memory.
        wavefronts: turns of its banks for loads and stores; ``least_wavefronts``: without conflicts.
        worst_degree: the most words that one bank had to give in one turn's place: 1 without conflicts.
        collisions: lanes whose atomic had to wait for another lane's of the warp at the same address.
        block_barriers, warp_barriers, shuffles, votes, matches, reductions, matrix_loads: warps that executed them.
        operations: of tensor cores, by type ("tf32", "16 bit"), and of "fp32" and "fp64" where instructions are known;
            a multiply-add is two, and a warp has 32 lanes, also where some are off.
        instructions: executed by warps, by kind, where there is a disassembler (see :mod:`gpunn.cuda.emulator.sass`).
    """

    loads: int = 0
    stores: int = 0
    atomics: int = 0
    sectors: int = 0
    least_sectors: int = 0
    cache_hits: int = 0
    shared_loads: int = 0
    shared_stores: int = 0
    shared_atomics: int = 0
    wavefronts: int = 0
    least_wavefronts: int = 0
    worst_degree: int = 0
    collisions: int = 0
    block_barriers: int = 0
    warp_barriers: int = 0
    shuffles: int = 0
    votes: int = 0
    matches: int = 0
    reductions: int = 0
    matrix_loads: int = 0
    operations: dict[str, int] = field(default_factory=dict)
    instructions: dict[str, int] = field(default_factory=dict)

    @property
    def coalescing(self) -> float:
        """The share of the sectors touched that was needed; NaN without any."""
        return self.least_sectors / self.sectors if self.sectors else math.nan

    def add(self, other: Counts) -> None:
        for each in fields(Counts):
            mine, theirs = getattr(self, each.name), getattr(other, each.name)
            if each.name == "worst_degree":
                self.worst_degree = max(mine, theirs)
            elif isinstance(theirs, dict):
                for kind, number in theirs.items():
                    mine[kind] = mine.get(kind, 0) + number
            else:
                setattr(self, each.name, mine + theirs)


@dataclass
class Line(Counts):
    """What warps did in one line of the source.

    Attributes:
        file, line: its place.
        executions: how often a warp came here: of the basic blocks of the line, the one executed most.
        lanes: lanes that were active then, all executions together.
    """

    file: str = ""
    line: int = 0
    executions: int = 0
    lanes: int = 0

    @property
    def active(self) -> float:
        """The mean number of active lanes, of 32; NaN if the line was not executed."""
        return self.lanes / self.executions if self.executions else math.nan


@dataclass
class Kernel:
    """What all launches of one kernel did.

    Attributes:
        name, launches: the kernel, and how often it was launched.
        grid, block, shared_bytes: of the last launch; dynamic shared memory alone.
        lines: what was counted, by line of the source, in their order.
        read_bytes, written_bytes: of global memory, every sector once a launch: what DRAM has to move at least, if the
            cache holds nothing before the launch, and in the end everything is written.
        fetched_bytes, written_back_bytes: what the model of the L2 cache moved from and to DRAM.
        resources: ``registers``, ``shared_bytes``, ``spill_bytes`` and ``stack_bytes`` of the kernel as NVRTC compiles
            it, where it is installed.
        no_instructions: why there are none in the lines; empty if there are.
    """

    name: str
    card: Card
    launches: int = 0
    grid: tuple[int, int, int] = (1, 1, 1)
    block: tuple[int, int, int] = (1, 1, 1)
    shared_bytes: int = 0
    lines: list[Line] = field(default_factory=list)
    read_bytes: int = 0
    written_bytes: int = 0
    fetched_bytes: int = 0
    written_back_bytes: int = 0
    resources: dict[str, int] = field(default_factory=dict)
    no_instructions: str = "instructions were not asked for"

    @property
    def total(self) -> Counts:
        """The sum of its lines."""
        total = Counts()
        for line in self.lines:
            total.add(line)
        return total

    @property
    def times(self) -> dict[str, float]:
        """Seconds that each part of the card takes for the work at its published rate.

        "DRAM" for :attr:`read_bytes` and :attr:`written_bytes`; a type for its operations; "shared memory" for a
        wavefront a cycle, and "issue" for four instructions a cycle, of each multiprocessor. Of these as many work as
        the last launch had blocks.
        """
        chip = self.card
        rates = {"fp32": chip.fp32, "fp64": chip.fp64, **chip.tensor}
        blocks = math.prod(self.grid)
        busy = min(blocks, chip.multiprocessors) / chip.multiprocessors
        times = {"DRAM": (self.read_bytes + self.written_bytes) / chip.bandwidth}
        total = self.total
        times |= {kind: number / rates[kind] / busy for kind, number in total.operations.items() if kind in rates}
        issued = sum(number for kind, number in total.instructions.items() if kind not in _LESS_UNROLLED)
        cycles = {"shared memory": total.wavefronts, "issue": issued / 4}
        per_second = chip.clock * chip.multiprocessors * busy
        times |= {kind: number / per_second for kind, number in cycles.items() if number}
        return times

    @property
    def time(self) -> float:
        """The largest of :attr:`times`: a bound from below, for latency is in none of them."""
        return max(self.times.values())

    @property
    def occupancy(self) -> float:
        """The share of a multiprocessor's warps that can be resident; NaN where the resources are not known."""
        if not self.resources:
            return math.nan
        chip = self.card
        warps = -(-math.prod(self.block) // 32)
        # Registers are given to a warp by the 256, shared memory to a block by the 128 bytes, after 1 KiB of its own.
        per_warp = -(-max(1, self.resources["registers"]) * 32 // 256) * 256
        shared = -(-(self.resources["shared_bytes"] + self.shared_bytes) // 128) * 128 + 1024
        by_registers = chip.registers // per_warp // warps
        blocks = min(chip.blocks, chip.warps // warps, by_registers, chip.shared_bytes // shared)
        return blocks * warps / chip.warps


@dataclass
class Count:
    """What :func:`count` gives: the kernels that were launched within it, in the order of their first launch."""

    card: Card
    kernels: list[Kernel] = field(default_factory=list)

    def kernel(self, name: str) -> Kernel:
        """The kernel of that name; raises KeyError where none was launched."""
        for kernel in self.kernels:
            if kernel.name == name:
                return kernel
        raise KeyError(name)

    def json(self) -> str:
        """All of it as JSON."""
        kernels = []
        for kernel in self.kernels:
            described = asdict(kernel)
            described["card"] = kernel.card.name
            kernels.append({**described, "times": kernel.times, "time": kernel.time})
        return json.dumps({"card": self.card.name, "kernels": kernels}, indent=1)

    def __str__(self) -> str:
        return "\n\n".join(_table(kernel) for kernel in self.kernels) or "no kernel was launched"


_current: Setting[Count | None] = Setting("count", None)


@context
def count(card: str = "H200") -> Iterator[Count]:
    """Within it kernels of the emulator are counted, gpunn's own under :func:`gpunn.cuda.emulate` too.

    ``card`` is one of :data:`gpunn.cuda.emulator.cards.CARDS`. Kernels are compiled once more, and run slowly.

    >>> import numpy as np
    >>> from gpunn.cuda.emulator import RawKernel
    >>> code = 'extern "C" __global__ void every_other(float* x) { x[2 * threadIdx.x] = 1; }'
    >>> with count() as c:
    ...     RawKernel(code, "every_other")((1,), (32,), (np.zeros(64, np.float32),))
    >>> line = c.kernel("every_other").lines[0]
    >>> line.stores, line.sectors, line.least_sectors
    (1, 8, 4)

    Raises ArgumentError for a card that is not known, and LaunchError for a kernel made with ``check=True``.
    """
    counted = Count(cards.card(card))
    with _current.using(counted):
        yield counted


def counting() -> Count | None:
    """The count that launches go to now."""
    return _current.get()


# --- what the runtime gives -------------------------------------------------------------------------------------------


class _Place(ctypes.Structure):
    """`struct PlaceCount` of runtime/counter.h."""

    _fields_ = (
        ("place", ctypes.c_uint64),
        ("operation", ctypes.c_uint64),
        ("action", ctypes.c_int),
        ("space", ctypes.c_int),
        ("bytes", ctypes.c_uint),
        ("part", ctypes.c_uint),
        ("executions", ctypes.c_uint64),
        ("lanes", ctypes.c_uint64),
        ("sectors", ctypes.c_uint64),
        ("least_sectors", ctypes.c_uint64),
        ("wavefronts", ctypes.c_uint64),
        ("least_wavefronts", ctypes.c_uint64),
        ("worst_degree", ctypes.c_uint64),
        ("collisions", ctypes.c_uint64),
        ("cache_hits", ctypes.c_uint64),
    )


class _Launch(ctypes.Structure):
    """`struct LaunchCount` of runtime/counter.h."""

    _fields_ = (
        ("read_sectors", ctypes.c_uint64),
        ("written_sectors", ctypes.c_uint64),
        ("fetched_sectors", ctypes.c_uint64),
        ("written_back_sectors", ctypes.c_uint64),
    )


class _Settings(ctypes.Structure):
    """`struct CountSettings` of runtime/counter.h."""

    _fields_ = (
        ("cache_bytes", ctypes.c_uint64),
        ("constants_begin", ctypes.c_void_p),
        ("constants_end", ctypes.c_void_p),
    )


@dataclass(frozen=True)
class Shape:
    """How a kernel was launched."""

    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    shared_bytes: int


_one_launch = threading.RLock()  # a signal handler that launches is told that it must not


@context
def collecting(
    into: Count, library: Library, base: int, name: str, shape: Shape, program: Program | None
) -> Iterator[None]:
    """Within it one launch of the kernel ``name`` is counted, unless it fails; launches of other threads wait.

    ``base`` is where the library lies in memory; ``program`` tells its instructions on a GPU.
    """
    begin, end = constants(library.path)
    settings = _Settings(into.card.cache_bytes, base + begin, base + end)
    with _one_launch:
        library.runtime.gpunn_emulator_count_next(ctypes.byref(settings))
        yield
        places, launch = ctypes.POINTER(_Place)(), _Launch()
        number = library.runtime.gpunn_emulator_counts(ctypes.byref(places), ctypes.byref(launch))
        found = [_Place.from_buffer_copy(places[i]) for i in range(number)]
    kernel = next((each for each in into.kernels if each.name == name), None)
    if kernel is None:
        kernel = Kernel(name, into.card)
        into.kernels.append(kernel)
    kernel.launches += 1
    kernel.grid, kernel.block, kernel.shared_bytes = shape.grid, shape.block, shape.shared_bytes
    kernel.read_bytes += _SECTOR * launch.read_sectors
    kernel.written_bytes += _SECTOR * launch.written_sectors
    kernel.fetched_bytes += _SECTOR * launch.fetched_sectors
    kernel.written_back_bytes += _SECTOR * launch.written_back_sectors
    _add_lines(kernel, _by_line(library.path, found))
    if program is not None:
        _add_instructions(kernel, library.path, found, program)


def _add_lines(kernel: Kernel, lines: dict[tuple[str, int], Line]) -> None:
    known = {(line.file, line.line): line for line in kernel.lines}
    for place, line in lines.items():
        if place not in known:
            known[place] = Line(file=line.file, line=line.line)
        known[place].add(line)
        known[place].executions += line.executions
        known[place].lanes += line.lanes
    kernel.lines = [known[place] for place in sorted(known)]


def _by_line(library: Path, found: list[_Place]) -> dict[tuple[str, int], Line]:
    from gpunn.cuda.emulator.build import HEADERS

    # The address is the one after the call, which may belong to the next line.
    places = lines_of(library, tuple(sorted({each.place - 1 for each in found})), HEADERS)
    names = functions_of(library, tuple(sorted({each.operation for each in found if each.operation})))
    lines: dict[tuple[str, int], Line] = {}
    begun: set[tuple[str, int]] = set()
    blocks = blocks_of(library, HEADERS)
    # A line within a basic block is executed as often as the accesses in it.
    for each in sorted(found, key=lambda each: each.action != _BLOCK):
        if not (calls := places.get(each.place - 1)):
            continue
        line = lines.setdefault(calls[0], Line(file=calls[0][0], line=calls[0][1]))
        begins = each.action == _BLOCK and blocks.get(each.place, {}).get(tuple(calls)) == math.inf
        if begins or (each.action != _BLOCK and calls[0] not in begun):
            line.executions, line.lanes = max((line.executions, line.lanes), (each.executions, each.lanes))
        if begins:
            begun.add(calls[0])
        if each.action != _BLOCK:
            line.add(_counts_of(each, names.get(each.operation, "")))
    return lines


_ACCESSES = {
    (_LOAD, _GLOBAL): "loads",
    (_STORE, _GLOBAL): "stores",
    (_ATOMIC, _GLOBAL): "atomics",
    (_LOAD, _SHARED): "shared_loads",
    (_STORE, _SHARED): "shared_stores",
    (_ATOMIC, _SHARED): "shared_atomics",
    (_MATRIX_ROW, _SHARED): "shared_loads",
}


def _counts_of(place: _Place, operation: str) -> Counts:
    counts = Counts()
    if place.action == _BLOCK_BARRIER:
        counts.block_barriers = place.executions
    elif place.action == _WARP_BARRIER:
        counts.warp_barriers = place.executions
    elif place.action == _COLLECTIVE:
        product = _PRODUCT.search(operation)
        collective = next((each for name, each in _COLLECTIVES.items() if name in operation), None)
        if product:
            kind, elements = _TYPES[product[1]]
            counts.operations = {kind: 2 * 16 * 8 * 4 * elements * int(product[2]) * place.executions}
        elif found := _WARPGROUP.search(operation):  # of 16 rows, the part of one warp
            terms, half = map(int, found.groups())
            counts.operations = {"16 bit" if terms == 16 else "tf32": 2 * 16 * 2 * half * terms * place.executions}
        elif collective:
            setattr(counts, collective, place.executions)
    else:
        setattr(counts, _ACCESSES[place.action, place.space], place.executions)
        counts.sectors, counts.least_sectors = place.sectors, place.least_sectors
        counts.cache_hits = place.cache_hits
        counts.wavefronts, counts.least_wavefronts = place.wavefronts, place.least_wavefronts
        counts.worst_degree, counts.collisions = place.worst_degree, place.collisions
    return counts


# --- instructions -----------------------------------------------------------------------------------------------------


def _add_instructions(kernel: Kernel, library: Path, found: list[_Place], program: Program) -> None:
    """Add what a GPU's warps execute: the instructions of each line, as often as warps came to it."""
    from gpunn.cuda.emulator.build import HEADERS

    compiled = program.kernels.get(kernel.name)
    kernel.no_instructions = program.missing
    if compiled is None:
        return
    kernel.resources = asdict(compiled.resources)
    if program.missing:
        return
    executed = {each.place: each.executions for each in found if each.action == _BLOCK}
    # Of the blocks that begin with a place, the one executed most; where none does, the one with most of its code.
    times_of: dict[Calls, tuple[float, int]] = {}
    for site, code in blocks_of(library, HEADERS).items():
        for calls, size in code.items():
            times_of[calls] = max(times_of.get(calls, (0, 0)), (size, executed.get(site, 0)))
    own = {file for calls in times_of for file, _ in calls}
    lines = {(line.file, line.line): line for line in kernel.lines}
    for calls, counts in compiled.lines.items():
        known = tuple(each for each in calls if each[0] in own)
        if times := times_of.get(known, (0, 0))[1]:
            line = lines.get(known[0]) or lines.setdefault(known[0], Line(file=known[0][0], line=known[0][1]))
            line.add(
                Counts(
                    instructions={kind: times * number for kind, number in counts.instructions.items()},
                    operations={kind: 32 * times * number for kind, number in counts.operations.items()},
                )
            )
    kernel.lines = [lines[place] for place in sorted(lines)]


# --- the table --------------------------------------------------------------------------------------------------------


def _table(kernel: Kernel) -> str:
    total, chip = kernel.total, kernel.card
    launches = "1 launch" if kernel.launches == 1 else f"{kernel.launches} launches"
    out = [
        f"{kernel.name}: {launches}, grid {kernel.grid}, block {kernel.block}, on {chip.name}",
        f"  DRAM at least: read {_bytes(kernel.read_bytes)}, written {_bytes(kernel.written_bytes)}; by an L2 model of "
        f"{_bytes(chip.cache_bytes)}: fetched {_bytes(kernel.fetched_bytes)}, "
        f"written back {_bytes(kernel.written_back_bytes)}",
    ]
    if total.sectors:
        out.append(
            f"  global memory: {total.sectors} sectors, {total.least_sectors} needed ({total.coalescing:.0%}), "
            f"{total.cache_hits} found in L2"
        )
    if total.wavefronts:
        out.append(f"  shared memory: {total.wavefronts} wavefronts, {total.least_wavefronts} without bank conflicts")
    if kernel.resources:
        used = kernel.resources
        out.append(
            f"  {used['registers']} registers, {used['spill_bytes']} bytes spilled, {used['shared_bytes']} + "
            f"{kernel.shared_bytes} bytes of shared memory, occupancy {kernel.occupancy:.0%}"
        )
    if total.instructions:
        by_kind = sorted(total.instructions.items(), key=lambda each: -each[1])
        out.append("  warps' instructions: " + ", ".join(f"{kind} {number}" for kind, number in by_kind))
    elif kernel.no_instructions:
        out.append(f"  no instructions: {kernel.no_instructions}")
    times = sorted(kernel.times.items(), key=lambda each: -each[1])
    out.append(
        f"  at least {_seconds(kernel.time)}: "
        + ", ".join(f"{part} {_seconds(seconds)}" for part, seconds in times)
        + "; at the card's published rates, all parts at once, latency hidden"
    )
    rows = [_HEAD, *(row for line in kernel.lines if any((row := _row(line))[1:]))]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        out.append(("  " + row[0].ljust(widths[0]) + "  " + "  ".join(cells)).rstrip())
    return "\n".join(out)


_HEAD = (
    *("line", "warps", "active", "instructions", "ld/st/at", "sectors", "needed"),
    *("shared ld/st/at", "wavefronts", "degree", "other"),
)


def _row(line: Line) -> tuple[str, ...]:
    def slashed(*numbers: int) -> str:
        return "/".join(map(str, numbers)) if any(numbers) else ""

    def shown(number: int) -> str:
        return str(number) if number else ""

    names = ("collisions", "block_barriers", "warp_barriers", *_COLLECTIVES.values())
    other = [f"{name.replace('_', ' ')} {number}" for name in names if (number := getattr(line, name))]
    other += [f"{kind} {number}" for kind, number in sorted(line.operations.items())]
    return (
        f"{line.file}:{line.line}",
        shown(line.executions),
        f"{line.active:.1f}" if line.executions else "",
        shown(sum(line.instructions.values())),
        slashed(line.loads, line.stores, line.atomics),
        shown(line.sectors),
        shown(line.least_sectors),
        slashed(line.shared_loads, line.shared_stores, line.shared_atomics),
        f"{line.wavefronts} of {line.least_wavefronts}" if line.wavefronts else "",
        shown(line.worst_degree),
        ", ".join(other),
    )


def _bytes(number: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if number < 1024:
            return f"{number:.4g} {unit}"
        number /= 1024
    return f"{number:.4g} GiB"


def _seconds(seconds: float) -> str:
    for unit, scale in (("s", 1), ("ms", 1e3), ("us", 1e6)):
        if seconds * scale >= 1:
            return f"{seconds * scale:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"
