"""Which tiles a convolution's kernels use: a pure function of the shapes and of the number of multiprocessors.

Each of the three passes is a matrix product (see ``kernels/conv.cu``) that blocks of threads compute tile by tile.
:func:`choose` estimates the time of each configuration from counts of instructions and bytes and takes the shortest.
The estimate was not fitted to measurements.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from math import prod
from typing import Literal, NamedTuple

from gpunn.ops.conv.geometry import Plan

Job = Literal["forward", "backward_x", "backward_w"]
JOBS: tuple[Job, ...] = ("forward", "backward_x", "backward_w")

TILE_K = 16
"""Terms of a sum that a block stages at a time."""

SUM_THREADS = 256
"""Threads of a block that adds up splits."""

MAX_BLOCKS_YZ = 65535
"""Blocks that CUDA takes at most along the second and the third axis of a grid."""


class Product(NamedTuple):
    """The size of a matrix product, ``batch`` of them: rows × terms times terms × columns."""

    rows: int
    columns: int
    terms: int
    batch: int


def product(plan: Plan, job: Job) -> Product:
    """The matrix product that ``job`` computes; of the sub-lattices of ``backward_x``, the largest."""
    (n, _, *image), (k, group_c, *kernel) = plan.x_shape, plan.w_shape
    group_k, taps, pixels = k // plan.groups, prod(kernel), n * prod(plan.out)
    if job == "forward":
        return Product(group_k, pixels, group_c * taps, plan.groups)
    if job == "backward_w":
        return Product(group_k, group_c * taps, pixels, plan.groups)
    (sh, sw), (height, width), (kh, kw) = plan.window.stride, image, kernel
    columns = n * -(-height // sh) * -(-width // sw)
    return Product(group_c, columns, group_k * -(-kh // sh) * -(-kw // sw), plan.groups * sh * sw)


@dataclass(frozen=True)
class Configuration:
    """A tile of ``rows`` × ``columns``, ``reg`` × ``reg`` of it a thread's, ``stages`` steps in shared memory.

    The terms are summed in ``splits`` parts, which a second kernel adds up.
    """

    rows: int
    columns: int
    reg: int
    stages: int
    splits: int = 1

    @property
    def threads(self) -> int:
        return self.rows * self.columns // self.reg**2

    def macros(self) -> dict[str, str | int]:
        tile: dict[str, str | int] = {"TILE_M": self.rows, "TILE_N": self.columns, "TILE_K": TILE_K}
        return {**tile, "REG": self.reg, "STAGES": self.stages, "SUM_THREADS": SUM_THREADS}

    def blocks(self, product: Product) -> tuple[int, int, int]:
        """The grid: column tiles, row tiles, and batch times splits."""
        return -(-product.columns // self.columns), -(-product.rows // self.rows), product.batch * self.splits

    def chunk(self, product: Product) -> int:
        """The terms that each split sums: a multiple of ``TILE_K``."""
        return -(-product.terms // (self.splits * TILE_K)) * TILE_K


FLOAT = (
    Configuration(128, 128, 8, 2),  # a third stage would not fit into 48 KiB
    Configuration(128, 64, 8, 3),
    Configuration(64, 128, 8, 3),
    Configuration(64, 64, 4, 3),
    Configuration(32, 64, 4, 3),
    Configuration(16, 64, 4, 3),
)
"""The configurations for float; the last three are also those for indices of 64 bits, which take more registers."""

DOUBLE = (Configuration(64, 64, 4, 2), Configuration(16, 64, 4, 2))
"""The configurations for double: its tiles take twice the room."""

# Costs, in multiplications of one lane: an element read from shared memory into registers (16 bytes in one
# instruction, but four turns of the memory), an element staged (address, bounds, copy), an element moved to or from
# global memory by all lanes of a multiprocessor together, and the launch of a second kernel.
_READ = 2.0
_STAGE = 10.0
_MOVE = 30.0
_LAUNCH = 400_000.0
# A multiprocessor with so many threads waits half of the time for results that are under way, with twice as many a
# third of it. More than _RESIDENT_THREADS do not fit: each takes up to 128 registers.
_HALF_BUSY_THREADS = 64
_RESIDENT_THREADS = 512
# A split of fewer steps than this would spend its time filling the stages.
_LEAST_STEPS = 4
_SPLITS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)


def configurations(job: Job, product: Product, itemsize: int, wide: bool) -> list[Configuration]:
    """Every configuration that may be used: for weight gradients with each number of splits, none of them empty."""
    tiles = (FLOAT[3:] if wide else FLOAT) if itemsize == 4 else DOUBLE
    if job != "backward_w":
        return list(tiles)
    steps = -(-product.terms // TILE_K)
    room = MAX_BLOCKS_YZ // product.batch
    counts = [s for s in _SPLITS if s == 1 or (s * _LEAST_STEPS <= steps and s <= room)]
    exact = sorted({-(-steps // -(-steps // count)) for count in counts} if steps else {1})
    return [Configuration(t.rows, t.columns, t.reg, t.stages, splits) for t in tiles for splits in exact]


def estimate(configuration: Configuration, product: Product, multiprocessors: int) -> float:
    """The time that ``configuration`` takes, in multiplications of one lane on the busiest multiprocessor."""
    tile, terms = configuration.rows * configuration.columns, configuration.chunk(product)
    staging = _STAGE * (1 / configuration.rows + 1 / configuration.columns)
    block = tile * terms * (1 + 2 * _READ / configuration.reg + staging) + tile * _MOVE
    across, down, deep = configuration.blocks(product)
    in_turn = -(-across * down * deep // multiprocessors)
    resident = min(in_turn * configuration.threads, _RESIDENT_THREADS)
    time = block * in_turn * (1 + _HALF_BUSY_THREADS / resident)
    if configuration.splits == 1:
        return time
    elements = product.rows * product.columns * product.batch
    return time + _LAUNCH + (configuration.splits + 1) * elements * _MOVE / multiprocessors


@functools.lru_cache(maxsize=4096)
def choose(job: Job, plan: Plan, multiprocessors: int, itemsize: int = 4, wide: bool = False) -> Configuration:
    """The configuration with the shortest estimate; of equal ones the largest tile.

    ``itemsize`` is 4 or 8 bytes; ``wide`` says that indices have 64 bits.

    >>> from gpunn.ops import conv
    >>> conv3 = conv.plan(2, (128, 256, 13, 13), (384, 256, 3, 3), 1, 1)
    >>> choose("forward", conv3, 132)
    Configuration(rows=128, columns=128, reg=8, stages=2, splits=1)
    """
    size = product(plan, job)
    candidates = configurations(job, size, itemsize, wide)
    return min(candidates, key=lambda candidate: estimate(candidate, size, multiprocessors))


def shortlist(job: Job, plan: Plan, multiprocessors: int, itemsize: int, wide: bool) -> list[Configuration]:
    """What is worth measuring, 8 at most: each tile, with the splits that :func:`estimate` finds best for it; and of
    the best of all the next fewer and the next more splits.

    >>> from gpunn.ops import conv
    >>> conv3 = conv.plan(2, (128, 256, 13, 13), (384, 256, 3, 3), 1, 1)
    >>> len(shortlist("forward", conv3, 132, 4, False)), len(shortlist("backward_w", conv3, 132, 4, False))
    (6, 8)
    """
    size = product(plan, job)
    candidates = configurations(job, size, itemsize, wide)
    of_tile: dict[tuple[int, int], list[Configuration]] = {}
    for candidate in candidates:
        of_tile.setdefault((candidate.rows, candidate.columns), []).append(candidate)
    best = [min(each, key=lambda c: estimate(c, size, multiprocessors)) for each in of_tile.values()]
    chosen = choose(job, plan, multiprocessors, itemsize, wide)
    same = of_tile[chosen.rows, chosen.columns]
    place = same.index(chosen)
    return [*best, *same[max(0, place - 1) : place], *same[place + 1 : place + 2]]
