"""Folders of images: a folder for each class, read a batch at a time."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gpunn.backend import Array, asarray, check_device, random_generator, to_cpu
from gpunn.data.dataset import checked_index
from gpunn.data.image import check_pillow, read_image
from gpunn.errors import FileError, ShapeError, check, check_sizes

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")


class ImageFiles:
    """Image files that are read when they are asked for: ``images[3:5]`` is float32 (2, 3, size, size) in [0, 1].

    ``images[3]`` is one image (3, size, size), so ``ArrayDataset(images, labels)`` is a data set for a
    :class:`~gpunn.data.DataLoader`, whose workers then read ahead. Each image becomes RGB, its shorter side is brought
    to ``size`` (unless it has that already) and the middle of the longer side is kept;
    :func:`gpunn.data.image.read_image` says what is white, what becomes of transparent pixels, and which way is up.
    ``device`` is where the arrays go. Raises FileError, with path and cause, for a file that cannot be read; see also
    :func:`drop_unreadable`.
    """

    dtype = np.dtype(np.float32)
    ndim = 4

    def __init__(self, paths: Sequence[Path], size: int, device: str = "cpu") -> None:
        check_sizes("ImageFiles", size=size)
        check_pillow()
        self.paths, self.size, self.device = list(paths), size, check_device(device)

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return (len(self), 3, self.size, self.size)

    def __getitem__(self, index: int | slice | Array) -> Array:
        if isinstance(index, int | np.integer):
            return self[np.array([checked_index(int(index), len(self))])][0]
        chosen = np.arange(len(self))[to_cpu(index) if not isinstance(index, slice) else index]
        images = np.empty((len(chosen), 3, self.size, self.size), np.float32)
        for image, number in zip(images, chosen, strict=True):
            image[...] = read_image(self.paths[number], 3, self.size)
        return asarray(images, self.device)


def drop_unreadable(
    images: ImageFiles, labels: np.ndarray[Any, np.dtype[np.int64]]
) -> tuple[ImageFiles, np.ndarray[Any, np.dtype[np.int64]], list[str]]:
    """Leave out the images that cannot be read: every one is read once, which takes as long as an epoch.

    Returns the other images, their labels, and for each one left out a text with its path and the cause.

    >>> import tempfile
    >>> from PIL import Image
    >>> good, bad = (Path(tempfile.mkdtemp()) / name for name in ("good.png", "bad.png"))
    >>> Image.new("RGB", (9, 9)).save(good)
    >>> _ = bad.write_bytes(b"no image")
    >>> images, labels, left_out = drop_unreadable(ImageFiles([bad, good], size=8), np.array([0, 1]))
    >>> len(images), labels.tolist(), len(left_out)
    (1, [1], 1)

    Raises FileError if no image is left.
    """
    check(len(images) == len(labels), ShapeError, "drop_unreadable", "there must be a label for each image",
          images=len(images), labels=len(labels))  # fmt: skip
    kept, left_out = [], []
    for i, path in enumerate(images.paths):
        try:
            read_image(path, 3, images.size)
            kept.append(i)
        except FileError as error:
            left_out.append(str(error))
    if not kept:
        raise FileError(f"no image can be read of {len(images)}; the first: {left_out[0] if left_out else 'none'}")
    return ImageFiles([images.paths[i] for i in kept], images.size, images.device), labels[kept], left_out


class ImageFolder(NamedTuple):
    """The files and labels of a folder of images: what :func:`image_folder` found."""

    train: tuple[ImageFiles, np.ndarray[Any, np.dtype[np.int64]]]
    test: tuple[ImageFiles, np.ndarray[Any, np.dtype[np.int64]]]
    classes: tuple[str, ...]


def image_folder(
    path: str | os.PathLike[str], size: int = 227, seed: int = 0, device: str = "cpu", train_size: int | None = None
) -> ImageFolder:
    """Find the images in ``path/<class>/*``, and split each class 4 to 1 into training and test images by ``seed``.

    A folder with ``train/<class>/*`` and ``test/<class>/*`` is taken as it is split. Classes are counted in the order
    of their names. Images are read when a batch is asked for, in ``size`` pixels a side (those for training in
    ``train_size``, if given: larger, to crop from; so has a part that is split off them).

    >>> import tempfile
    >>> from PIL import Image
    >>> root = Path(tempfile.mkdtemp())
    >>> for name in ("cat", "dog"):
    ...     (root / name).mkdir()
    ...     for number in range(5):
    ...         Image.new("RGB", (40, 30)).save(root / name / f"{number}.png")
    >>> (x, y), (x_test, y_test), classes = image_folder(root, size=32)
    >>> x[:3].shape, y.tolist(), y_test.tolist(), classes
    ((3, 3, 32, 32), [0, 0, 0, 0, 1, 1, 1, 1], [0, 1], ('cat', 'dog'))

    Raises FileError if ``path`` is no folder, holds fewer than two classes, a class has no image or too few to split,
    or training and test classes differ.
    """
    root = Path(path)
    if not root.is_dir():
        raise FileError(f"{root}: there is no such folder")
    sides = (train_size or size, size)
    if (root / "train").is_dir() and (root / "test").is_dir():
        parts = [_classes(root / part) for part in ("train", "test")]
        if parts[0].keys() != parts[1].keys():
            only = [sorted(a.keys() - b.keys()) for a, b in (parts, parts[::-1])]
            rule = "train and test must have the same classes"
            raise FileError(f"{root}: {rule}, got only in train {only[0]}, only in test {only[1]}")
    else:
        parts = _split(root, _classes(root), random_generator(seed))
    halves = []
    for found, side in zip(parts, sides, strict=True):
        labels = np.repeat(np.arange(len(found)), [len(files) for files in found.values()])
        halves.append((ImageFiles([file for files in found.values() for file in files], side, device), labels))
    return ImageFolder(halves[0], halves[1], tuple(parts[0]))


def _classes(root: Path) -> dict[str, list[Path]]:
    found = {
        folder.name: sorted(file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES)
        for folder in sorted(root.iterdir())
        if folder.is_dir() and not folder.name.startswith(".")
    }
    if len(found) < 2:
        raise FileError(f"{root}: there must be a folder for each of at least two classes, got {sorted(found)}")
    empty = [name for name, files in found.items() if not files]
    if empty:
        raise FileError(f"{root}: the folders {empty} hold no images ({', '.join(SUFFIXES)})")
    return found


def _split(root: Path, found: dict[str, list[Path]], generator: np.random.Generator) -> list[dict[str, list[Path]]]:
    train, test = {}, {}
    for name, files in found.items():
        if len(files) < 2:
            raise FileError(f"{root / name}: one image cannot be split into training and test")
        order = [files[i] for i in generator.permutation(len(files))]
        tested = max(1, len(files) // 5)
        train[name], test[name] = sorted(order[tested:]), sorted(order[:tested])
    return [train, test]
