"""Compile ahead of time every kernel that the recipes launch, for any architecture, with or without a GPU.

Which kernels those are is found by going through a recipe's steps with launches recorded instead of run
(:func:`gpunn.cuda.record_launches`): as specialisations depend on shapes, with the sizes of batch that the recipe has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from gpunn.backend import gpu_count, why_no_gpu
from gpunn.cuda import cache, record_launches, source
from gpunn.cuda.compiler import check_architecture, compile_cubin, find_cubin
from gpunn.cuda.launch import C_TYPES, Specialisation
from gpunn.errors import ArgumentError, FileError
from gpunn.ops.conv import tiles
from gpunn.recipes.catalogue import RECIPES
from gpunn.recipes.recipe import Recipe
from gpunn.recipes.training import Training


class Warmed(NamedTuple):
    """How many specialisations were compiled, and how many the cache had."""

    compiled: int
    found: int


def warmup(architectures: Sequence[str], on_kernel: Callable[[int, int, str], None] | None = None) -> Warmed:
    """Compile what :func:`needed` says for each of ``architectures`` (``"sm_90"``), unless the cache has it.

    ``on_kernel(done, all, name)`` is called before each compilation. Raises CompileError for an architecture that
    NVRTC does not know, and FileError if the cache cannot be written.
    """
    for arch in architectures:
        check_architecture(arch)
    kernels = needed()
    wanted = [(source.flatten(file), file, options, arch) for arch in architectures for file, options in kernels]
    missing = [kernel for kernel in wanted if find_cubin(*kernel) is None]
    for done, kernel in enumerate(missing):
        _, file, _, arch = kernel
        if on_kernel is not None:
            on_kernel(done, len(missing), f"{file} {arch}")
        path = compile_cubin(*kernel).path
        if not path.is_relative_to(cache.folder()):
            raise FileError(f"warmup: the kernel cache {cache.folder()} cannot be written")
    return Warmed(len(missing), len(wanted) - len(missing))


def present_architectures() -> list[str]:
    """The architectures of the GPUs of this machine; raises ArgumentError where there is none."""
    if not gpu_count():
        raise ArgumentError(f"warmup: name an architecture, as in --arch sm_90: there is no GPU ({why_no_gpu()})")
    import cupy

    return sorted({f"sm_{cupy.cuda.Device(index).compute_capability}" for index in range(gpu_count())})


def needed() -> list[Specialisation]:
    """The specialisations of kernels that the recipes launch, in each dtype that kernels take.

    >>> sorted({file for file, _ in needed()} & {"conv.cu", "lrn.cu", "pool.cu"})
    ['conv.cu', 'lrn.cu', 'pool.cu']
    """
    with record_launches() as launched, np.errstate(all="ignore"):  # kernels that do not run leave any bytes
        for dtype in C_TYPES:
            for recipe in RECIPES:
                rehearse(recipe, np.dtype(dtype))
    return sorted({(file, each) for file, options in launched for each in _any_device(file, options)})


def _any_device(file: str, options: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """``options`` for every device: which tile a convolution takes depends on its number of multiprocessors."""
    macros = dict(option.removeprefix("-D").split("=", 1) for option in options)
    if file != "conv.cu" or "TILE_M" not in macros:
        yield options
        return
    for tile in tiles.FLOAT if macros["DTYPE"] == "float" else tiles.DOUBLE:
        yield source.options({**macros, **tile.macros()})


def rehearse(recipe: type[Recipe], dtype: np.dtype[Any]) -> None:
    """Take the steps of a recipe's training and evaluation, with its default options, on zeros of ``dtype``."""
    run = recipe(recipe.options_type(), "cpu")
    for network in run.networks():
        for parameter in network.parameters():
            parameter.data = parameter.data.astype(dtype)
        optimizer = run.optimizer(network)
        loss, _ = run.loss(network, run.zeros(run.batch_size, dtype))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if isinstance(run, Training):
            run.evaluate(network, run.test_zeros(dtype))
