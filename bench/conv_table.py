"""Tabulate what the convolution kernels do for the layers of known networks: ``python bench/conv_table.py RESULT.md``.

Configurations, operations and bytes are counted from the shapes, registers and shared memory are read from cubins that
NVRTC compiles. Nothing is measured, and no GPU is needed.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import NamedTuple

from gpunn.cuda import compiler, source
from gpunn.cuda.compiler import Resources
from gpunn.cuda.convolution_plan import FLOAT, JOBS, Configuration, Convolution, Job, choose


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


def convolution(n: int, c: int, size: int, k: int, f: int, stride: int, padding: int, groups: int) -> Convolution:
    out = (size + 2 * padding - f) // stride + 1
    pairs = [(value, value) for value in (out, stride, padding)]
    return Convolution(n, c, (size, size), k, (f, f), *pairs, groups=groups)


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


def row(name: str, shape: Convolution, job: Job, arch: Architecture) -> str:
    product = shape.product(job)
    flops = 2 * math.prod(shape.product("forward"))
    sizes = {
        "x": shape.n * shape.c * shape.image[0] * shape.image[1],
        "w": shape.k * shape.c // shape.groups * shape.kernel[0] * shape.kernel[1],
        "y": shape.n * shape.k * shape.out[0] * shape.out[1],
    }
    counted = f"{product.rows} × {product.columns} × {product.terms}"
    counted += f", {product.batch}" if product.batch > 1 else ""
    once = 4 * sum(sizes.values()) / 1e6
    start = f"| {name} | {job} | {counted} | {flops / 1e9:.2f} | {once:.1f}"
    if shape.kernel == shape.stride == (1, 1) and shape.padding == (0, 0) and job != "backward_w":
        return f"{start} | cuBLAS | | | | | | | |"
    plan = choose(job, shape, arch.multiprocessors)
    across, down, deep = plan.blocks(product)
    blocks, chunk = across * down * deep, plan.chunk(product)
    # The tiles' own multiplications; what a strided sub-lattice lacks of the largest one is not counted as waste.
    useful = product.rows * product.columns * product.terms * product.batch
    useful /= blocks * plan.rows * plan.columns * chunk
    staged = 4 * blocks * (plan.rows + plan.columns) * chunk / 1e6
    used = resources(Configuration(plan.rows, plan.columns, plan.reg, plan.stages), job, arch.name)
    tile = f"{plan.rows}×{plan.columns}, {plan.reg}×{plan.reg}"
    tile += f", {plan.splits} splits" if plan.splits > 1 else ""
    return (
        f"{start} | {tile} | {blocks} | {useful:.0%} | {staged:.0f} | {used.registers} | {used.shared_bytes / 1024:.1f}"
        f" | {occupancy(plan.threads, used, arch):.0%} | {used.spill_bytes} |"
    )


def table() -> str:
    lines = [
        "# Convolution in float: the chosen configurations",
        "",
        "Counted by `python bench/conv_table.py`, not measured: no time and no rate stands here.",
        "",
        "- product: rows × columns × terms of the matrix product, and how many of them (groups, sub-lattices)",
        "- GFLOP: operations of the convolution; MB once: every array read or written once",
        "- tile: of a block, sums of a thread; blocks: all of the launch; useful: the share of the tiles'",
        "  multiplications that belong to the product; MB staged: copied to shared memory by all blocks",
        "- registers of a thread, shared memory of a block in KiB, occupancy, spilled bytes, as compiled by NVRTC "
        f"{compiler.nvrtc_version()}",
        "",
        "1×1 filters at stride 1, forward without bias and backward_x, are plain matrix products, done by cuBLAS.",
        "Gradients with respect to the first layer's images are left out: training does not need them.",
    ]  # fmt: skip
    for arch in ARCHITECTURES:
        lines += ["", f"## {arch.name} ({arch.device}), {arch.multiprocessors} multiprocessors"]
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
                jobs = [job for job in JOBS if job != "backward_x" or shape.c > 3]
                lines += [row(name, shape, job, arch) for job in jobs]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(table(), encoding="utf-8")
