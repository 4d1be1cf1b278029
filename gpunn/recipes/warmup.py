"""Compile ahead of time every kernel that the recipes launch, for any architecture, with or without a GPU.

Which kernels those are is found by going through a recipe's steps with launches taken down instead of run
(:func:`gpunn.cuda.record_launches`): as specialisations depend on shapes, with the sizes of batch that the recipe has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from gpunn import functional as F
from gpunn import nn, optim
from gpunn.backend import gpu_count, random_generator, why_no_gpu
from gpunn.cuda import cache, record_launches, source
from gpunn.cuda.compiler import check_architecture, compile_cubin, find_cubin
from gpunn.cuda.launch import C_TYPES, Specialisation
from gpunn.data import ArrayDataset, DataLoader
from gpunn.data.digits import TRAINING_IMAGES
from gpunn.errors import ArgumentError, FileError
from gpunn.models import CharacterModel, lenet
from gpunn.models.sequence import CELLS
from gpunn.ops.conv import tiles
from gpunn.recipes import alexnet, circles, digits_rows, gradients, learning_rates, spell, text
from gpunn.recipes.digits import WEIGHT_DECAY, Options
from gpunn.tensor import Tensor, tensor
from gpunn.train import BINARY, evaluate


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
    with record_launches() as launched:
        for dtype in C_TYPES:
            for steps in RECIPES.values():
                steps(np.dtype(dtype))
    return sorted({(file, each) for file, options in launched for each in _any_device(file, options)})


def _any_device(file: str, options: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """``options`` for every device: which tile a convolution takes depends on its number of multiprocessors."""
    macros = dict(option.removeprefix("-D").split("=", 1) for option in options)
    if file != "conv.cu" or "TILE_M" not in macros:
        yield options
        return
    for tile in tiles.FLOAT if macros["DTYPE"] == "float" else tiles.DOUBLE:
        yield source.options({**macros, **tile.macros()})


def _digits(dtype: np.dtype[Any]) -> None:
    generator = random_generator(0)
    model = lenet(generator=generator)
    for parameter in model.parameters():
        parameter.data = parameter.data.astype(dtype)
    adam = optim.Adam(model.parameters(), weight_decay=WEIGHT_DECAY)
    images, labels = np.zeros((TRAINING_IMAGES, 1, 8, 8), dtype), np.zeros(TRAINING_IMAGES, np.int64)
    for x, y in DataLoader(ArrayDataset(images, labels), Options.batch_size, seed=0):
        loss = F.cross_entropy(model(tensor(x)), y)
        adam.zero_grad()
        loss.backward()
        adam.step()
    evaluate(model, images, labels)


def _step(
    model: nn.Module, dtype: np.dtype[Any], loss: Callable[[], Tensor], make: Callable[..., Any] = optim.Adam
) -> None:
    """A training step of ``loss()``, with the parameters of ``model`` in ``dtype``."""
    for parameter in model.parameters():
        parameter.data = parameter.data.astype(dtype)
    optimizer = make(model.parameters())
    loss().backward()
    optimizer.step()


_CLASSES = 10


def _alexnet(dtype: np.dtype[Any]) -> None:
    options = alexnet.Options()
    model = alexnet.network(options, _CLASSES, random_generator(0))
    sizes = options.batch_size, alexnet.TEST_BATCH
    images, labels = [np.zeros((n, 3, alexnet.SIZE, alexnet.SIZE), dtype) for n in sizes], np.zeros(sizes[0], int)
    _step(model, dtype, lambda: F.cross_entropy(model(tensor(images[0])), labels), alexnet.optimizer)
    evaluate(model, images[1], np.zeros(sizes[1], int))


def _circles(dtype: np.dtype[Any]) -> None:
    model, size = circles.network(circles.Options.hidden, random_generator(0)), circles.Options.batch_size
    points, labels = np.zeros((size, 2), dtype), np.zeros(size, int)
    _step(model, dtype, lambda: BINARY.loss(model(tensor(points)), labels))


def _gradients(dtype: np.dtype[Any]) -> None:
    labels = np.zeros(gradients.BATCH, int)
    pixels = np.zeros((gradients.BATCH, 2, 1), dtype)  # every step launches the same kernels
    for kind in gradients.KINDS:
        model = gradients.Reader(kind, gradients.Options.hidden, random_generator(0))
        _step(model, dtype, partial(lambda model: F.cross_entropy(model(tensor(pixels)), labels), model), optim.SGD)


def _learning_rates(dtype: np.dtype[Any]) -> None:
    model, images = learning_rates.network(random_generator(0)), np.zeros((learning_rates.BATCH, 1, 8, 8), dtype)
    labels = np.zeros(len(images), int)
    _step(model, dtype, lambda: F.cross_entropy(model(tensor(images)), labels), optim.SGD)


def _digits_rows(dtype: np.dtype[Any]) -> None:
    models = digits_rows.Readers(digits_rows.Options.hidden_size, 0)
    rows, labels = (
        np.zeros((digits_rows.Options.batch_size, 8, 8), dtype),
        np.zeros(digits_rows.Options.batch_size, int),
    )
    for model in map(models.__getitem__, digits_rows.CELLS):
        _step(model, dtype, partial(lambda model: F.cross_entropy(model(tensor(rows)), labels), model))


def _spell(dtype: np.dtype[Any]) -> None:
    model = spell.Speller(spell.Options.hidden_size, random_generator(0))
    images = np.zeros((spell.Options.batch_size, 1, 8, 8), dtype)
    letters = np.zeros((len(images), 2), int)  # every step launches the same kernels
    _step(model, dtype, lambda: _letter_loss(model(tensor(images), letters), letters))


def _text(dtype: np.dtype[Any]) -> None:
    letters = np.zeros((text.Options.batch_size, 2), int)
    for cell in CELLS:
        model = CharacterModel("ab", hidden_size=text.Options.hidden_size, cell=cell, generator=random_generator(0))
        _step(model, dtype, partial(lambda model: _letter_loss(model(letters)[0], letters), model))


def _letter_loss(logits: Tensor, letters: np.ndarray[Any, Any]) -> Tensor:
    return F.cross_entropy(logits.reshape(letters.size, -1), letters.reshape(-1))  # type: ignore[no-any-return]


RECIPES: dict[str, Callable[[np.dtype[Any]], None]] = {
    "alexnet": _alexnet,
    "circles": _circles,
    "digits": _digits,
    "digits-rows": _digits_rows,
    "gradients": _gradients,
    "learning-rates": _learning_rates,
    "spell": _spell,
    "text": _text,
}
"""A function for each recipe that takes the steps of its training and its evaluation on arrays of a dtype."""
