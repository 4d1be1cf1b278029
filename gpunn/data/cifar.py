"""CIFAR-10 and CIFAR-100: the reader of their binary files, and the data sets.

A record is one label byte (CIFAR-100: two, the coarse and the fine class), then 3,072 bytes of a 32×32 image: red,
green, blue planes, row by row. Source: A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009;
https://www.cs.toronto.edu/~kriz/cifar.html
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from gpunn.data.digits import Images, Labels
from gpunn.data.download import Remote, cache_folder, fetch
from gpunn.data.reading import PathLike, bad_file, opened
from gpunn.errors import FileError
from gpunn.files import write_atomically

Pixels: TypeAlias = np.ndarray[Any, np.dtype[np.uint8]]

_IMAGE = (3, 32, 32)
_SITE = "https://www.cs.toronto.edu/~kriz/"
_CIFAR10 = Remote(
    "cifar-10-binary.tar.gz",
    _SITE + "cifar-10-binary.tar.gz",
    "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
)
_CIFAR100 = Remote(
    "cifar-100-binary.tar.gz",
    _SITE + "cifar-100-binary.tar.gz",
    "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
)
_TRAIN10, _TEST10 = tuple(f"data_batch_{i}.bin" for i in range(1, 6)), ("test_batch.bin",)
_TRAIN100, _TEST100 = ("train.bin",), ("test.bin",)

CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def read_cifar10(path: PathLike) -> tuple[Pixels, Labels]:
    """Read a binary file of CIFAR-10: images uint8 (N, 3, 32, 32), labels int64 (N,) from 0 to 9.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "data_batch_1.bin")
    >>> _ = path.write_bytes(bytes([3]) + bytes(3072))
    >>> images, labels = read_cifar10(path)
    >>> images.shape, labels.tolist()
    ((1, 3, 32, 32), [3])

    Raises FileError, with the byte, for a file that is missing, no whole number of records, or has an unknown label.
    """
    images, labels = _read(path, (10,))
    return images, labels[:, 0].copy()


def read_cifar100(path: PathLike) -> tuple[Pixels, Labels, Labels]:
    """Read a binary file of CIFAR-100: images uint8 (N, 3, 32, 32), then the labels, int64 (N,).

    The first labels are the fine ones, 0 to 99, the second the coarse ones, 0 to 19. Raises as :func:`read_cifar10`.
    """
    images, labels = _read(path, (20, 100))
    return images, labels[:, 1].copy(), labels[:, 0].copy()


def _read(path: PathLike, classes: tuple[int, ...]) -> tuple[Pixels, Labels]:
    record = len(classes) + int(np.prod(_IMAGE))
    with opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size == 0:
            bad_file(path, "the file is empty", at=0)
        if size % record:
            cause = f"cut short: a record takes {record} bytes, the last one has {size % record}"
            bad_file(path, cause, at=size)
        records = np.fromfile(file, np.uint8).reshape(-1, record)
    labels = records[:, : len(classes)].astype(np.int64)
    wrong = np.argwhere(labels >= classes)
    if len(wrong):
        row, column = (int(i) for i in wrong[0])
        cause = f"a label must be from 0 to {classes[column] - 1}, got {labels[row, column]} in record {row}"
        bad_file(path, cause, at=row * record + column)
    return np.ascontiguousarray(records[:, len(classes) :]).reshape(-1, *_IMAGE), labels


def cifar10(
    folder: PathLike | None = None, download: bool = True
) -> tuple[tuple[Images, Labels], tuple[Images, Labels]]:
    """Return ``(x_train, y_train), (x_test, y_test)``: 50,000 and 10,000 photographs of ten classes.

    Images are float32 (N, 3, 32, 32) in [0, 1] (614 MB for training), labels int64 (N,). The files
    (``data_batch_1.bin`` ...) are read from ``folder``, or from the user's cache if it is None. Where they are missing
    they are downloaded there (162 MB, checked by SHA-256); with ``download=False`` nothing is asked of the network.

    Raises FileError for files that are missing, cannot be had or are damaged, PackageError to download without pooch.
    Source: A. Krizhevsky, "Learning multiple layers of features from tiny images", 2009.

    >>> (x, y), (x_test, y_test) = cifar10()  # doctest: +SKIP
    >>> x.shape, x_test.shape  # doctest: +SKIP
    ((50000, 3, 32, 32), (10000, 3, 32, 32))
    """
    place = cache_folder("cifar10") if folder is None else Path(folder)
    _unpack(_CIFAR10, place, (*_TRAIN10, *_TEST10), download)
    train, test = ([read_cifar10(place / name) for name in names] for names in (_TRAIN10, _TEST10))
    return _joined(train), _joined(test)


def cifar100(
    folder: PathLike | None = None, download: bool = True, coarse: bool = False
) -> tuple[tuple[Images, Labels], tuple[Images, Labels]]:
    """Return ``(x_train, y_train), (x_test, y_test)``: 50,000 and 10,000 photographs of 100 classes.

    With ``coarse`` the labels are those of 20 groups of classes. All else is as in :func:`cifar10`; the files are
    ``train.bin`` and ``test.bin``.
    """
    place = cache_folder("cifar100") if folder is None else Path(folder)
    _unpack(_CIFAR100, place, (*_TRAIN100, *_TEST100), download)
    parts = []
    for name in (*_TRAIN100, *_TEST100):
        images, fine, groups = read_cifar100(place / name)
        parts.append(_joined([(images, groups if coarse else fine)]))
    return parts[0], parts[1]


def _joined(parts: Sequence[tuple[Pixels, Labels]]) -> tuple[Images, Labels]:
    """The parts one after another, pixels in [0, 1]; never more than one of them held twice."""
    images = np.empty((sum(len(x) for x, _ in parts), *_IMAGE), np.float32)
    start = 0
    for x, _ in parts:
        np.divide(x, np.float32(255), out=images[start : start + len(x)])
        start += len(x)
    return images, np.concatenate([y for _, y in parts])


def _unpack(remote: Remote, folder: Path, names: Sequence[str], download: bool) -> None:
    """Take the named files out of the archive, which is fetched if it must be; the archive stays for another time."""
    if all((folder / name).is_file() for name in names):
        return
    path = fetch(remote, folder, download)
    try:
        with tarfile.open(path, "r:gz") as archive:
            members = {Path(member.name).name: member for member in archive.getmembers() if member.isfile()}
            for name in names:
                content = archive.extractfile(members[name])
                assert content is not None  # a plain file, as just asked for
                write_atomically(folder / name, content.read())
    except KeyError as error:
        raise FileError(f"{path}: the archive lacks the file {error}") from error
    except (tarfile.TarError, EOFError, OSError) as error:
        raise FileError(f"{path}: cannot be unpacked into {folder}: {error}") from error
