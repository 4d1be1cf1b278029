"""Count what every kernel does, without a GPU: ``python bench/counted.py bench/results/counted``.

Each case runs a public function on NumPy arrays, forward and backward, on the emulator under :func:`gpunn.cuda.count`:
the launches are those that it makes on a GPU. Of a kernel that a case launches several times, the first one is counted.
Beside counted.md, the tables, goes counted.json, what they were made of. Takes a few minutes.

Needs NVRTC and nvdisasm: ``pip install 'gpunn[nvrtc,count]'``.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

import gpunn.functional as F
from gpunn import backend, cuda
from gpunn.backend import Array
from gpunn.cuda import source
from gpunn.cuda.compiler import nvrtc_version
from gpunn.cuda.emulator import sass
from gpunn.cuda.emulator.cards import CARDS
from gpunn.cuda.emulator.counting import Kernel
from gpunn.cuda.emulator.tensor_maps import TensorMap
from gpunn.files import write_atomically
from gpunn.observer import Observer, Run
from gpunn.ops import optimizer, recurrent
from gpunn.tensor import tensor

NEAR = 1.1
"""What is more than so many times its least has a remark."""


# ---- the cases ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A computation of arrays of ``shapes``; of a tensor that it returns the gradients are computed as well."""

    name: str
    shapes: Sequence[Sequence[int]]
    run: Callable[..., Any]
    dtype: str = "float32"
    precision: str = "fp32"


def _of_arrays(run: Callable[..., None]) -> Callable[..., None]:
    return lambda *tensors: run(*(x.data for x in tensors))


def _classes(x: Any) -> Array:
    return np.random.default_rng(1).integers(0, x.shape[1], x.shape[0])


@_of_arrays
def _gru_before(two: Array, candidate: Array, h: Array) -> None:
    recurrent.gru_reset(two, h)
    recurrent.gru_update(two, candidate, h)
    recurrent.gru_update_backward_n(h, two, candidate)
    recurrent.gru_reset_backward(h.copy(), candidate.copy(), two, candidate, h)


@_of_arrays
def _lstm(gates: Array, c: Array) -> None:
    recurrent.lstm_cell_backward(np.stack(recurrent.lstm_cell(gates, c)), gates, c)


@_of_arrays
def _gru(of_x: Array, of_h: Array, h: Array) -> None:
    recurrent.gru_cell_backward(recurrent.gru_cell(of_x, of_h, h), of_x, of_h, h)


def _convolution(**settings: Any) -> Callable[..., Any]:
    return lambda x, w, b: F.conv2d(x, w, b, **settings)


def _step(step: Callable[..., Any]) -> Callable[..., Any]:
    """A step of an optimizer, whose running squares are more than the squares of its running means."""

    @_of_arrays
    def run(p: Array, g: Array, m: Array, s: Array, v: Array) -> None:
        np.abs(s, out=s)
        s += m * m
        step(p, g, m, s, v)

    return run


_LAYER = ((2, 64, 14, 14), (128, 64, 3, 3), (128,))
_LAYER_IN_GROUPS = ((2, 64, 14, 14), (128, 32, 3, 3), (128,))
_FIRST = ((1, 3, 57, 57), (32, 3, 11, 11), (32,))
_CHANNELS = ((2, 16, 28, 28), (16, 1, 3, 3), (16,))
_PARAMETERS = ((50_000,),) * 5
CASES = [
    Case("3×3/2, odd rows", [(2, 16, 55, 55)], lambda x: F.max_pool2d(x, 3, 2)),
    Case("2×2/2", [(2, 16, 56, 56)], lambda x: F.max_pool2d(x, 2)),
    Case("3×3/2, fp16", [(2, 16, 56, 56)], lambda x: F.max_pool2d(x, 3, 2, 1), "float16"),
    Case("3×3/2", [(2, 16, 56, 56)], lambda x: F.avg_pool2d(x, 3, 2, 1)),
    Case("planes", [(4, 32, 28, 28)], lambda x: F.global_avg_pool2d(x)),
    Case("planes", [(4, 32, 28, 28)], lambda x: F.global_max_pool2d(x)),
    Case("small planes", [(4, 64, 7, 7)], lambda x: F.global_avg_pool2d(x)),
    Case("5 channels", [(2, 64, 14, 14)], lambda x: F.local_response_norm(x, 5)),
    Case("5 channels, odd rows", [(1, 96, 27, 27)], lambda x: F.local_response_norm(x, 5)),
    Case("AlexNet", [(1, 16, 55, 55), (16,)], lambda x, b: F.bias_relu_pool_lrn(x, b)),
    Case("AlexNet", [(1, 16, 55, 55), (16,)], lambda x, b: F.bias_relu_lrn_pool(x, b)),
    Case("images", [(8, 16, 28, 28), (16,), (16,)], lambda x, w, b: F.batch_norm(x, None, None, w, b, True)),
    Case("rows", [(512, 128), (128,), (128,)], lambda x, w, b: F.batch_norm(x, None, None, w, b, True)),
    Case("3×3 to 128 channels", _LAYER, _convolution(padding=1)),
    Case("3×3/2 to 128 channels", _LAYER, _convolution(stride=2, padding=1)),
    Case("11×11/4 to 32 channels", _FIRST, _convolution(stride=4)),
    Case("3×3 to 128 channels, tf32", _LAYER, _convolution(padding=1), precision="tf32"),
    Case("3×3 to 128 channels, bf16", _LAYER, _convolution(padding=1), precision="bf16"),
    Case("3×3 to 128 channels in groups, bf16", _LAYER_IN_GROUPS, _convolution(padding=1, groups=2), precision="bf16"),
    Case("3×3 to 128 channels, fp16 arrays", _LAYER, _convolution(padding=1), "float16"),
    Case("11×11/4 to 32 channels, bf16", _FIRST, _convolution(stride=4), precision="bf16"),
    Case("3×3", _CHANNELS, _convolution(padding=1, groups=16)),
    Case("3×3/2", _CHANNELS, _convolution(stride=2, padding=1, groups=16)),
    Case("elements", [(50_000,)], lambda x: F.dropout(x, 0.5)),
    Case("planes", [(4, 32, 28, 28)], lambda x: F.dropout2d(x, 0.5)),
    Case("short rows", [(512, 10)], lambda x: F.cross_entropy(x, _classes(x))),
    Case("long rows", [(64, 1000)], lambda x: F.cross_entropy(x, _classes(x))),
    Case("momentum", _PARAMETERS, _step(lambda p, g, m, s, v: optimizer.sgd_step(p, g, v, 0.1, 0.9))),
    Case(
        "centered, with momentum",
        _PARAMETERS,
        _step(lambda p, g, m, s, v: optimizer.rmsprop_step(p, g, s, m, v, 0.1, 0.9, 1e-3, momentum=0.9)),
    ),
    Case("parameters", _PARAMETERS, _step(lambda p, g, m, s, v: optimizer.adam_step(p, g, m, s, 3, 0.1))),
    Case("parameters", _PARAMETERS, _step(lambda p, g, m, s, v: optimizer.adadelta_step(p, g, s, v * v, 0.1))),
    Case("4 gates", [(64, 1024), (64, 256)], _lstm),
    Case("3 gates", [(64, 768), (64, 768), (64, 256)], _gru),
    Case("2 gates", [(64, 512), (64, 256), (64, 256)], _gru_before),
    Case("blobs", [(4, 128, 128)], lambda x: F.skeletonize(x.data > -1)),
]

_WINDOWS = "windows overlap and lie a stride apart: L1 has what a neighbour read"
_HOLDERS = "gathers from all windows that hold an element: L1 has what a neighbour read"
_TILES = "rows of an image begin anywhere, strides leave gaps; each block reads the pieces of its own tile"
_PARAMETERS_AGAIN = "what a channel has is read by every warp: L1 has it again"
REMARKS = {
    "avg_pool2d_backward": _HOLDERS,
    "avg_pool2d_forward": _WINDOWS,
    "batch_norm_apply": _PARAMETERS_AGAIN,
    "batch_norm_backward_x": _PARAMETERS_AGAIN,
    "batch_norm_sums": _PARAMETERS_AGAIN,
    "bias_relu_lrn_pool_backward": _HOLDERS,
    "bias_relu_lrn_pool_forward": "tiles overlap; windows 2 apart meet in banks, and indices that avoid it cost more: "
    "instructions are what bounds it",
    "bias_relu_pool_lrn_backward": "tiles overlap, and rows of odd length begin within a sector",
    "bias_relu_pool_lrn_forward": _WINDOWS,
    "conv2d_backward_w": _TILES,
    "conv2d_backward_x": _TILES,
    "conv2d_forward": _TILES,
    "conv_mma_backward_w": _TILES,
    "conv_hopper_forward": "boxes of x overlap, and each tile of pixels takes all filters: L2 has them again",
    "conv_mma_pack": "planes that begin within a sector",
    "conv_mma_product": _TILES,
    "cross_entropy_backward": "goes over each row twice: L1 or L2 has it again",
    "cross_entropy_forward": "a warp for each row: short ones share their sectors, which L1 has again",
    "depthwise_backward_w": _WINDOWS,
    "depthwise_backward_x": _HOLDERS,
    "depthwise_forward": _WINDOWS,
    "global_avg_pool2d_backward": "planes that begin within a sector, and one element more for each",
    "global_avg_pool2d_forward": "planes that begin within a sector, and one element more for each",
    "lrn_backward": "planes that begin within a sector; parts of the channels overlap",
    "lrn_forward": "planes that begin within a sector; parts of the channels overlap",
    "max_pool2d_backward": _HOLDERS,
    "max_pool2d_forward": _WINDOWS,
    "skeleton_pack": "a warp's 4 bytes of bits share their sector with other warps'",
    "skeleton_thin": "a word is read by 9 threads, the table by each pixel: L1 has both",
    "skeleton_unpack": "a warp's 4 bytes of bits share their sector with other warps'",
}
"""Of kernels with something far from its least: why it stays so."""


# ---- counting -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OnCard:
    """What depends on the card: seconds that each of its parts takes, and the kernel as compiled for it."""

    times: dict[str, float]
    registers: int
    spill_bytes: int
    occupancy: float


@dataclass(frozen=True)
class Row:
    """A launch. Sectors and wavefronts have their least beside them; ``lanes`` is the mean of the active ones."""

    file: str
    kernel: str
    case: str
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    least_bytes: int
    dram_bytes: int
    requests: int
    sectors: int
    least_sectors: int
    wavefronts: int
    least_wavefronts: int
    worst_degree: int
    lanes: float
    instructions: dict[str, int]
    cards: dict[str, OnCard]

    @property
    def ratios(self) -> dict[str, float]:
        """Of what was moved to its least: 1 is best."""
        return {
            "DRAM": self.dram_bytes / self.least_bytes,
            "L2": 32 * self.sectors / self.least_bytes,
            "sectors": self.sectors / self.least_sectors,
            "conflicts": self.wavefronts / self.least_wavefronts if self.wavefronts else 1.0,
        }


class _Counting(Observer):
    """Counts the first launch of each kernel, once for each card."""

    def __init__(self, case: str) -> None:
        self.case = case
        self.rows: dict[str, Row] = {}

    def around_launch(self, file: str, kernel: str, args: Sequence[Any], run: Run) -> Run:
        def launch(grid: Sequence[int], block: Sequence[int], given: Sequence[Any]) -> None:
            if kernel in self.rows:
                run(grid, block, given)
                return
            counted = {}
            only = source.only_architecture(source.flatten(file))
            for card in [name for name, card in CARDS.items() if only in (None, card.arch)]:
                with cuda.count(card) as count:
                    run(grid, block, given)
                (counted[card],) = count.kernels
            self.rows[kernel] = _row(file, self.case, least_bytes(file, kernel, args), counted)

        return launch


def least_bytes(file: str, kernel: str, args: Sequence[Any]) -> int:
    """The bytes of the arrays: each read once where the kernel takes it as ``const``, or else written once.

    What is written and not ``__restrict__`` is read as well. What is given both for a written and restricted array and
    for a ``const`` one is not: it fills the place of an array that there is none of.
    """
    declared = re.search(rf"\b{kernel}\(([^)]*)", source.flatten(file))
    assert declared, f"{file} has no kernel {kernel}"
    read: dict[int, int] = {}
    written: dict[int, int] = {}
    restricted: set[int] = set()
    for parameter, given in zip(declared[1].split(","), args, strict=False):
        given = given.array if isinstance(given, TensorMap) else given
        if not backend.is_array(given):
            continue
        place, only_read, restrict = given.ctypes.data, "const " in parameter, "__restrict__" in parameter
        if only_read or not restrict:
            read[place] = given.nbytes
        if not only_read:
            written[place] = given.nbytes
            restricted |= {place} if restrict else set()
    return sum(size for place, size in read.items() if place not in restricted) + sum(written.values())


def _row(file: str, case: str, least: int, counted: dict[str, Kernel]) -> Row:
    kernel = next(iter(counted.values()))
    total = kernel.total
    if not total.instructions:
        raise SystemExit(f"{kernel.name}: its instructions are not known: {kernel.no_instructions}")
    lines = [(sum(line.instructions.values()), line.active) for line in kernel.lines if line.executions]
    return Row(
        file=file,
        kernel=kernel.name,
        case=case,
        grid=kernel.grid,
        block=kernel.block,
        least_bytes=least,
        dram_bytes=kernel.read_bytes + kernel.written_bytes,
        requests=total.loads + total.stores + total.atomics,
        sectors=total.sectors,
        least_sectors=total.least_sectors,
        wavefronts=total.wavefronts,
        least_wavefronts=total.least_wavefronts,
        worst_degree=total.worst_degree,
        lanes=sum(number * active for number, active in lines) / sum(number for number, _ in lines),
        instructions=dict(sorted(total.instructions.items(), key=lambda each: -each[1])),
        cards={card: _on_card(each) for card, each in counted.items()},
    )


def _on_card(kernel: Kernel) -> OnCard:
    used = kernel.resources
    return OnCard(kernel.times, used["registers"], used["spill_bytes"], kernel.occupancy)


def rows(case: Case) -> list[Row]:
    """The launches of a case, one for each kernel."""
    rng = np.random.default_rng(0)
    tensors = [tensor(rng.standard_normal(s).astype(case.dtype), requires_grad=True) for s in case.shapes]
    name = f"{case.name}: {'×'.join(map(str, case.shapes[0]))}"
    counting = _Counting(name)
    with cuda.emulate(), backend.matmul_precision(case.precision), counting:
        y = case.run(*tensors)
        if hasattr(y, "backward"):
            y.backward(np.ones_like(y.data))
    return list(counting.rows.values())


# ---- the tables -----------------------------------------------------------------------------------------------------

_HEAD = """# What every kernel does, counted

Counted by `python bench/counted.py` on the emulator, with NVRTC {version}: nothing here was measured.
Arrays are float32 where the case names no other type; the shape is that of the first one.

## Memory and warps

- DRAM ÷ least: bytes of the sectors of 32 bytes that were touched, each once, to those of the arrays, each input read
  and each output written once. It is below 1 where a kernel does not need all of an array
- L2 ÷ least: the same, with each sector as often as warps asked for it. There is no L1 cache here, which on a GPU has
  most of what is asked for again
- sectors of a request, an access of a warp to global memory, and how few would hold the bytes that it asks for
- turns: wavefronts of shared memory to those without bank conflicts, and the worst degree of a conflict
- lanes: active, of 32, in the mean of the instructions
- remark: why something is more than {near} times its least
"""

_RESOURCES = """
## Instructions and resources

- instructions of all warps, and their kinds, where they are 3% or more: compiled for sm_90a with no loop unrolled. So
  integers, moves and branches are more than on a GPU, and arrays that lie in registers are in local memory
- for each architecture: registers of a thread, bytes spilled, and the share of a multiprocessor's warps that can be
  resident, as the kernel is compiled for use
"""

_TIMES = """
## Time: predicted, not measured

A bound from below for each launch: the largest of the times that the parts of the card take, each for what was counted,
at the rate that NVIDIA has published (`gpunn/cuda/emulator/cards.py`). It stands beside the time. Assumed is that

- all parts work at once, at their full rate, and there are always enough warps to hide latency
- DRAM moves each sector that is touched once; the L2 cache is empty before, large enough, and as fast as needed
- as many multiprocessors work as there are blocks, at the boost clock
- a multiprocessor has a wavefront of shared memory a cycle, and issues four instructions; integers, moves, constants,
  branches and local memory are not counted, for unrolled loops have fewer
- a launch itself takes no time. On a GPU it takes some microseconds: the shapes are small, to be counted in minutes
"""


def tables(found: list[Row]) -> Iterator[str]:
    yield _HEAD.format(version=nvrtc_version(), near=NEAR)
    yield from _table(["DRAM ÷ least", "L2 ÷ least", "sectors", "turns, degree", "lanes", "remark"], found, _memory)
    yield _RESOURCES
    yield from _table(["instructions", "kinds", *(card.arch for card in CARDS.values())], found, _resources)
    yield _TIMES
    yield from _table(list(CARDS), found, _times)


def _table(heads: Sequence[str], found: list[Row], cells: Callable[[Row], Sequence[str]]) -> Iterator[str]:
    for file, of_file in groupby(found, lambda row: row.file):
        yield from (f"### {file}", "", f"| kernel | case | blocks × threads | {' | '.join(heads)} |")
        yield "|---" * (3 + len(heads)) + "|"
        for row in of_file:
            launch = f"{'·'.join(str(n) for n in row.grid if n > 1) or 1} × {row.block[0]}"
            yield f"| {' | '.join([row.kernel, row.case, launch, *cells(row)])} |"
        yield ""


def _memory(row: Row) -> list[str]:
    ratios = row.ratios
    far = [name for name, ratio in ratios.items() if ratio > NEAR]
    sectors = f"{row.sectors / row.requests:.1f} of {row.least_sectors / row.requests:.1f}"
    turns = f"{ratios['conflicts']:.2f}, {row.worst_degree}" if row.wavefronts else ""
    return [
        *(f"{ratios[name]:.2f}" for name in ("DRAM", "L2")),
        *(sectors, turns, f"{row.lanes:.1f}", REMARKS.get(row.kernel, "") if far else ""),
    ]


def _resources(row: Row) -> list[str]:
    number = sum(row.instructions.values())
    shares = {kind: each / number for kind, each in row.instructions.items()}
    kinds = ", ".join(f"{kind} {share:.0%}" for kind, share in shares.items() if share >= 0.03)
    return [
        str(number),
        kinds,
        *_for_each_card(row, lambda on: f"{on.registers}, {on.spill_bytes}, {on.occupancy:.0%}"),
    ]


def _times(row: Row) -> list[str]:
    def slowest(on: OnCard) -> str:
        part, seconds = max(on.times.items(), key=lambda each: each[1])
        return f"{seconds * 1e6:.2f} µs, {part}"

    return _for_each_card(row, slowest)


def _for_each_card(row: Row, cell: Callable[[OnCard], str]) -> list[str]:
    """Cells of a row; empty where the kernel is not for the card."""
    return [cell(row.cards[card]) if card in row.cards else "" for card in CARDS]


def main(prefix: str) -> None:
    if not sass.disassembler():
        raise SystemExit(f"nvdisasm is {sass.NO_DISASSEMBLER}")
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        counted = list(pool.map(_rows_of, range(len(CASES))))
    found = sorted((row for each in counted for row in each), key=lambda row: row.file)
    write_atomically(Path(f"{prefix}.md"), "\n".join(tables(found)).encode())
    described = [asdict(row) | {"ratios": row.ratios} for row in found]
    write_atomically(Path(f"{prefix}.json"), (json.dumps(described, indent=1) + "\n").encode())


def _rows_of(number: int) -> list[Row]:
    return rows(CASES[number])


if __name__ == "__main__":
    main(sys.argv[1])
