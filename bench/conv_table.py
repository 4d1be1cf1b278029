"""Tabulate what the convolution kernels do for the layers of known networks: ``python bench/conv_table.py RESULT.md``.

Configurations, operations and bytes are counted from the shapes, registers and shared memory are read from cubins that
NVRTC compiles. Nothing is measured, and no GPU is needed.
"""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from gpunn.cuda import compiler, source
from gpunn.cuda.compiler import Resources
from gpunn.ops.conv import Plan, plan
from gpunn.ops.conv.tensor_core_tiles import (
    CHUNK_BYTES,
    CONSTANTS,
    PIECE_BYTES,
    THREADS,
    TILE_N,
    Layout,
    Tiling,
    Work,
    split_pixels,
    tiles,
)
from gpunn.ops.conv.tensor_core_tiles import choose as choose_tiling
from gpunn.ops.conv.tiles import FLOAT, JOBS, Configuration, Job, choose, product


class Architecture(NamedTuple):
    """A compute capability: multiprocessors of the usual device, and shared memory of each in bytes."""

    name: str
    device: str
    multiprocessors: int
    shared_bytes: int


ARCHITECTURES = [Architecture("sm_80", "A100", 108, 164 * 1024), Architecture("sm_90", "H100, H200", 132, 228 * 1024)]
# Of both: CUDA C++ Programming Guide, "Compute Capabilities".
_REGISTERS = 65536
_WARPS = 64
_BLOCKS = 32
_REGISTER_UNIT = 256  # a warp's registers are allotted in units of so many
_RESERVED_SHARED = 1024  # of each block, for the system

# N, C, image, K, filter, stride, padding, groups
AlexNet = {
    "conv1": (128, 3, 227, 96, 11, 4, 0, 1),
    "conv2": (128, 96, 27, 256, 5, 1, 2, 2),
    "conv3": (128, 256, 13, 384, 3, 1, 1, 1),
    "conv4": (128, 384, 13, 384, 3, 1, 1, 2),
    "conv5": (128, 384, 13, 256, 3, 1, 1, 2),
}
VGG = {
    f"{c}→{k} at {size}": (32, c, size, k, 3, 1, 1, 1)
    for c, size, k in (
        *((3, 224, 64), (64, 224, 64), (64, 112, 128), (128, 112, 128), (128, 56, 256)),
        *((256, 56, 256), (256, 28, 512), (512, 28, 512), (512, 14, 512)),
    )
}


def _resnet() -> dict[str, tuple[int, ...]]:
    layers = {"conv1": (32, 3, 224, 64, 7, 2, 3, 1)}
    c = 64
    for stage, (width, size) in enumerate(((64, 56), (128, 28), (256, 14), (512, 7)), 2):
        stride = 1 if stage == 2 else 2
        before = size * stride
        layers[f"conv{stage} 1×1 first"] = (32, c, before, width, 1, 1, 0, 1)
        layers[f"conv{stage} 3×3 first"] = (32, width, before, width, 3, stride, 1, 1)
        layers[f"conv{stage} shortcut"] = (32, c, before, 4 * width, 1, stride, 0, 1)
        layers[f"conv{stage} 1×1 in"] = (32, 4 * width, size, width, 1, 1, 0, 1)
        layers[f"conv{stage} 3×3"] = (32, width, size, width, 3, 1, 1, 1)
        layers[f"conv{stage} 1×1 out"] = (32, width, size, 4 * width, 1, 1, 0, 1)
        c = 4 * width
    return layers


LeNet = {
    "conv1, 28×28": (64, 1, 28, 6, 5, 1, 2, 1),
    "conv2, 14×14": (64, 6, 14, 16, 5, 1, 0, 1),
    "digits conv1": (64, 1, 8, 32, 3, 1, 1, 1),
    "digits conv2": (64, 32, 4, 64, 3, 1, 1, 1),
}
NETWORKS = {"AlexNet": AlexNet, "VGG": VGG, "ResNet-50": _resnet(), "LeNet": LeNet}


def convolution(n: int, c: int, size: int, k: int, f: int, stride: int, padding: int, groups: int) -> Plan:
    return plan(2, (n, c, size, size), (k, c // groups, f, f), stride, padding, 1, groups)


def resources(tile: Configuration, job: Job, arch: str) -> Resources:
    options = source.options({"DTYPE": "float", "INDEX": "int", **tile.macros()})
    cubin = compiler.compile_cubin(source.flatten("conv.cu"), "conv.cu", options, arch)
    return cubin.resources[f"conv2d_{job}"]


def occupancy(threads: int, used: Resources, arch: Architecture) -> float:
    """The share of a multiprocessor's warps that can be resident at once."""
    warps = threads // 32
    of_a_warp = -(-used.registers * 32 // _REGISTER_UNIT) * _REGISTER_UNIT
    by_shared = arch.shared_bytes // (used.shared_bytes + _RESERVED_SHARED)
    return min(_REGISTERS // (of_a_warp * warps), by_shared, _WARPS // warps, _BLOCKS) * warps / _WARPS


def row(name: str, shape: Plan, job: Job, arch: Architecture) -> str:
    size = product(shape, job)
    flops = 2 * math.prod(product(shape, "forward"))
    moved = sum(map(math.prod, (shape.x_shape, shape.w_shape, shape.y_shape)))
    counted = f"{size.rows} × {size.columns} × {size.terms}"
    counted += f", {size.batch}" if size.batch > 1 else ""
    once = 4 * moved / 1e6
    start = f"| {name} | {job} | {counted} | {flops / 1e9:.2f} | {once:.1f}"
    if shape.is_one_pixel and job != "backward_w":
        return f"{start} | cuBLAS | | | | | | | |"
    chosen = choose(job, shape, arch.multiprocessors)
    across, down, deep = chosen.blocks(size)
    blocks, chunk = across * down * deep, chosen.chunk(size)
    # The tiles' own multiplications; what a strided sub-lattice lacks of the largest one is not counted as waste.
    useful = size.rows * size.columns * size.terms * size.batch
    useful /= blocks * chosen.rows * chosen.columns * chunk
    staged = 4 * blocks * (chosen.rows + chosen.columns) * chunk / 1e6
    used = resources(Configuration(chosen.rows, chosen.columns, chosen.reg, chosen.stages), job, arch.name)
    tile = f"{chosen.rows}×{chosen.columns}, {chosen.reg}×{chosen.reg}"
    tile += f", {chosen.splits} splits" if chosen.splits > 1 else ""
    return (
        f"{start} | {tile} | {blocks} | {useful:.0%} | {staged:.0f} | {used.registers} | {used.shared_bytes / 1024:.1f}"
        f" | {occupancy(chosen.threads, used, arch):.0%} | {used.spill_bytes} |"
    )


# ---- tensor cores ----------------------------------------------------------------------------------------------------


class Kind(NamedTuple):
    """Precisions whose operands have so many bytes; the macros of each."""

    itemsize: int
    macros: dict[str, dict[str, str]]


KINDS = [
    Kind(4, {"tf32": {"DTYPE": "float", "PRECISION": "tf32"}}),
    Kind(2, {"bf16": {"DTYPE": "float", "PRECISION": "bf16"}, "fp16": {"DTYPE": "float16_bits", "PRECISION": "f16"}}),
]


class Counted(NamedTuple):
    """What the launches of a pass do: multiplications, bytes packed by the first kernel, bytes copied by the second."""

    layout: Layout
    tiling: Tiling
    blocks: int
    useful: float
    packed: int
    staged: int


def whole(size: int, unit: int) -> int:
    return -(-size // unit) * unit


def sub_lattices(size: int, f: int, stride: int, padding: int) -> Iterator[tuple[int, int]]:
    """Of an axis of gx: the positions that meet the same taps, and how many taps those are."""
    for first in range(min(stride, size)):
        yield -(-(size - first) // stride), sum((first + padding - r) % stride == 0 for r in range(f))


def count(shape: Plan, job: Job, itemsize: int) -> Counted:
    chunk, groups = CHUNK_BYTES // itemsize, shape.groups
    (n, all_c, *_), all_k, win = shape.x_shape, shape.w_shape[0], shape.window
    c, k, step = all_c // groups, all_k // groups, PIECE_BYTES // itemsize
    image, out, taps = math.prod(shape.image), math.prod(shape.out), math.prod(win.kernel)
    rows, channels, source = (c, k, out) if job == "backward_x" else (k, c, image)
    layout = Layout(channels, chunk)
    packed = n * source * groups * layout.padded
    if job == "backward_w":
        columns, pixels = layout.chunks(taps) * chunk, n * out
        work = Work(rows, columns, groups, chunk, pixels)
        packed += pixels * groups * whole(k, chunk)
        launches = [(columns, 0)]
    elif job == "forward":
        packed += all_k * layout.chunks(taps) * chunk
        launches = [(n * out, taps)]
        work = Work(rows, launches[0][0], groups, chunk)
    else:
        down, across = (
            list(sub_lattices(shape.image[i], win.kernel[i], win.stride[i], win.pads[i][0])) for i in (0, 1)
        )
        launches = [(n * a * b, t * u) for a, t in down for b, u in across]
        packed += sum(all_c * layout.chunks(met) * chunk for _, met in launches)
        work = Work(rows, launches[0][0], groups, chunk)
    tiling = choose_tiling(work)
    blocks = done = staged = 0
    for columns, met in launches:
        each = math.prod(tiles(rows, columns, tiling.rows)) * groups * tiling.splits
        terms = layout.chunks(met) * chunk if met else 0
        if job == "backward_w":
            terms = split_pixels(work, tiling.splits)
        blocks += each
        done += each * tiling.rows * TILE_N * whole(terms, step)
        staged += each * (tiling.rows + TILE_N) * whole(terms, step) * itemsize
    # Products with padding are counted as useful; in backward_x there are others of them than in the other passes.
    useful = math.prod(product(shape, "forward")) if job != "backward_x" else groups * sum(
        c * k * columns * met for columns, met in launches
    )  # fmt: skip
    return Counted(layout, tiling, blocks, useful / done, packed * itemsize, staged)


@functools.cache
def mma_resources(precision: str, rows: int, taps: int, kernel: str, arch: str) -> Resources:
    (macros,) = (kind.macros[precision] for kind in KINDS if precision in kind.macros)
    options = source.options({**macros, **CONSTANTS, "INDEX": "int", "TILE_M": rows, "TAPS": taps})
    return compiler.compile_cubin(source.flatten("conv_mma.cu"), "conv_mma.cu", options, arch).resources[kernel]


def mma_row(name: str, shape: Plan, job: Job, kind: Kind) -> str:
    counted = count(shape, job, kind.itemsize)
    kernel = "conv_mma_backward_w" if job == "backward_w" else "conv_mma_product"
    tile = f"{counted.tiling.rows}×{TILE_N}"
    tile += f", {counted.tiling.splits} splits" if counted.tiling.splits > 1 else ""
    cells: list[object] = [
        *(name, job, f"{2 * math.prod(product(shape, 'forward')) / 1e9:.2f}", tile, counted.layout.taps),
        *(counted.blocks, f"{counted.useful:.0%}", f"{counted.packed / 1e6:.1f}", f"{counted.staged / 1e6:.0f}"),
    ]
    for arch in ARCHITECTURES:
        used = [
            mma_resources(precision, counted.tiling.rows, counted.layout.taps, kernel, arch.name)
            for precision in kind.macros
        ]
        cells.append(", ".join(str(each.registers) for each in used))
        cells.append(", ".join(f"{occupancy(THREADS, each, arch):.0%}" for each in used))
        cells.append(sum(each.spill_bytes for each in used))
        shared = max(each.shared_bytes for each in used)
    return f"| {' | '.join(map(str, [*cells, f'{shared / 1024:.0f}']))} |"


def mma_tables() -> list[str]:
    lines = [
        "## Tensor cores",
        "",
        "`kernels/conv_mma.cu`; tiling and splits are the same on every device.",
        "",
        "- GFLOP, tile, blocks: as above; taps: those of the window that share a chunk of 16 bytes",
        "- useful: the share of all tiles' multiplications that belong to the convolution; lost are zeros behind the",
        f"  channels and behind the window (a step has {PIECE_BYTES} bytes), and tiles past the last row or column",
        "- MB packed: the operands rounded with their channels last, written once and read at least once;",
        "  MB staged: copied from there to shared memory by all blocks, from the L2 cache for the most part",
        "- registers, occupancy, spilled bytes on sm_80 and on sm_90 (of bf16, then of fp16); shared memory in KiB",
        "- GPU time: not measured",
    ]
    heads = ["layer", "pass", "GFLOP", "tile", "taps", "blocks", "useful", "MB packed", "MB staged"]
    for arch in ARCHITECTURES:
        heads += [f"registers {arch.name}", "occupancy", "spills"]
    heads.append("shared")
    for kind in KINDS:
        for network, layers in NETWORKS.items():
            batch = next(iter(layers.values()))[0]
            lines += ["", f"### {network}, batch {batch}, {' and '.join(kind.macros)}", "", f"| {' | '.join(heads)} |"]
            lines.append("|---" * len(heads) + "|")
            for name, layer in layers.items():
                shape = convolution(*layer)
                lines += [
                    mma_row(name, shape, job, kind) for job in JOBS if job != "backward_x" or shape.x_shape[1] > 3
                ]
    return lines


FIRST = {
    f"{network} {name}": layer
    for network, layers in NETWORKS.items()
    for name, layer in layers.items()
    if layer[1] <= 3
}


def first_layers() -> list[str]:
    """Layers of few channels on tensor cores: how the terms of a sum fall into chunks, in four layouts."""
    lines = [
        "## First layers on tensor cores: ways to lay out few channels",
        "",
        "A cell: useful share of the multiplications along the sum (C·KH·KW terms of the window, of all in its chunks;",
        "a step's last chunks not counted), and MB of the packed images of a batch.",
        "",
        "- a chunk a tap: channels padded to 16 bytes for every tap, as in layers of many channels",
        "- taps share: 2 or 4 neighbouring taps share a chunk, copied by 8 or 4 bytes: **what the kernel does**",
        "- rows: the window's KW·C elements of each row written side by side for every output column",
        "- space to depth: stride × stride pixels become channels, the window shrinks by the stride; needs stride > 1",
        "",
        "Against shared taps, rows use up to 17 points more, and in VGG's layer less, for 2 to 8 times the bytes.",
        "Space to depth uses 9 or 10 points more at stride 4, 17 less in 16 bits at stride 2, and does nothing at",
        "stride 1, where LeNet's and VGG's first layers are. Shared taps never multiply nor write more than a chunk a",
        "tap does, whatever stride and dilation, and serve all three passes with the copies of 4, 8 or 16 bytes that",
        "the hardware has.",
        "In tf32 a chunk has 4 elements: 3 channels fill 3/4 of it already, and nothing changes for them.",
        "The fp32 kernel (`conv.cu`) sums over C·KH·KW terms with no gaps, and packs nothing: every layer's K axis is",
        "useful up to the last step of 16.",
        "",
        "| layer | operands | terms | a chunk a tap | taps share | rows | space to depth |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, layer in FIRST.items():
        shape = convolution(*layer)
        for kind in KINDS:
            chunk = CHUNK_BYTES // kind.itemsize
            lines.append(f"| {' | '.join(first_row(name, shape, chunk, kind.itemsize))} |")
    return lines


def first_row(name: str, shape: Plan, chunk: int, itemsize: int) -> list[str]:
    c, (kh, kw), s = shape.x_shape[1], shape.window.kernel, shape.window.stride[0]
    layout, height, width = (
        Layout(c, chunk),
        shape.image[0] + sum(shape.window.pads[0]),
        shape.image[1] + sum(shape.window.pads[1]),
    )
    image = math.prod(shape.image)
    ways = [
        (kh * kw * whole(c, chunk), image * whole(c, chunk)),
        (layout.chunks(kh * kw) * chunk, image * layout.padded),
        (kh * whole(kw * c, chunk), shape.image[0] * shape.out[1] * whole(kw * c, chunk)),
    ]
    if s > 1:
        deep = whole(c * s * s, chunk)
        ways.append((-(-kh // s) * -(-kw // s) * deep, -(-height // s) * -(-width // s) * deep))
    terms = c * kh * kw
    cells = [f"{terms / done:.0%}, {shape.x_shape[0] * elements * itemsize / 1e6:.1f} MB" for done, elements in ways]
    cells += ["—"] * (4 - len(cells))
    return [name, f"{8 * itemsize} bit", str(terms), *cells]


def table() -> str:
    lines = [
        "# Convolution: the chosen configurations",
        "",
        "Counted by `python bench/conv_table.py`, not measured: no time and no rate stands here.",
        "First what runs in float32, for each architecture; then the tensor cores' tf32, bf16 and fp16.",
        "`gpunn.cuda.autotune()` replaces these choices by measured ones.",
        "",
        "- product: rows × columns × terms of the matrix product, and how many of them (groups, sub-lattices)",
        "- GFLOP: operations of the convolution; MB once: every array read or written once",
        "- tile: of a block, sums of a thread; blocks: all of the launch; useful: the share of the tiles'",
        "  multiplications that belong to the product; MB staged: copied to shared memory by all blocks",
        "- registers of a thread, shared memory of a block in KiB, occupancy, spilled bytes, as compiled by NVRTC "
        f"{compiler.nvrtc_version()}",
        "- GPU time: not measured",
        "",
        "1×1 filters at stride 1, forward without bias and backward_x, are plain matrix products, done by cuBLAS",
        "(not on the tensor-core path).",
        "Gradients with respect to the first layer's images are left out: training does not need them.",
    ]  # fmt: skip
    for arch in ARCHITECTURES:
        lines += ["", f"## float32, {arch.name} ({arch.device}), {arch.multiprocessors} multiprocessors"]
        lines += [
            "",
            "### Each configuration",
            "",
            "| tile | pass | threads | registers | shared | occupancy | spills |",
        ]
        lines.append("|---|---|---|---|---|---|---|")
        for tile in FLOAT:
            for job in JOBS:
                used = resources(tile, job, arch.name)
                share = occupancy(tile.threads, used, arch)
                cells = (
                    *(f"{tile.rows}×{tile.columns}, {tile.reg}×{tile.reg}", job, tile.threads, used.registers),
                    *(f"{used.shared_bytes / 1024:.1f}", f"{share:.0%}", used.spill_bytes),
                )
                lines.append(f"| {' | '.join(map(str, cells))} |")
        for network, layers in NETWORKS.items():
            lines += ["", f"### {network}, batch {next(iter(layers.values()))[0]}", ""]
            lines.append(
                "| layer | pass | product | GFLOP | MB once | tile | blocks | useful | MB staged | registers | shared"
                " | occupancy | spills |"
            )
            lines.append("|---|---|---|---|---|---|---|---|---|---|---|---|---|")
            for name, layer in layers.items():
                shape = convolution(*layer)
                jobs = [job for job in JOBS if job != "backward_x" or shape.x_shape[1] > 3]
                lines += [row(name, shape, job, arch) for job in jobs]
    lines += ["", *mma_tables(), "", *first_layers()]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(table(), encoding="utf-8")
