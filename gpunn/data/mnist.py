"""MNIST and Fashion-MNIST: 28×28 grey images of ten classes, 60,000 for training and 10,000 for the test."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gpunn.data.digits import Images, Labels
from gpunn.data.download import Remote, cache_folder, fetch
from gpunn.data.idx import read_idx
from gpunn.data.reading import PathLike, bad_file, existing

_FILES = tuple(f"{part}-{kind}-ubyte.gz" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1"))
_MNIST = "https://ossci-datasets.s3.amazonaws.com/mnist/"
_MNIST_SHA256 = (
    "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
)
_FASHION = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
_FASHION_SHA256 = (
    "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
    "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
    "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
    "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
)

FASHION_MNIST_CLASSES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)


def mnist(folder: PathLike | None = None, download: bool = True) -> tuple[tuple[Images, Labels], tuple[Images, Labels]]:
    """Return ``(x_train, y_train), (x_test, y_test)``: handwritten digits.

    Images are float32 (N, 1, 28, 28) in [0, 1], labels int64 (N,). The four files, ``train-images-idx3-ubyte`` and so
    on, plain or ``.gz``, are read from ``folder``, or from the user's cache if it is None. Those that are missing are
    downloaded there (11 MB in all, checked by SHA-256); with ``download=False`` nothing is asked of the network.

    Raises FileError for files that are missing, cannot be had or are damaged, PackageError to download without pooch.
    Source: Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits".

    >>> (x, y), (x_test, y_test) = mnist()  # doctest: +SKIP
    >>> x.shape, x_test.shape  # doctest: +SKIP
    ((60000, 1, 28, 28), (10000, 1, 28, 28))
    """
    return _load("mnist", _MNIST, _MNIST_SHA256, folder, download)


def fashion_mnist(
    folder: PathLike | None = None, download: bool = True
) -> tuple[tuple[Images, Labels], tuple[Images, Labels]]:
    """Return ``(x_train, y_train), (x_test, y_test)``: photographs of clothes; all else is as in :func:`mnist`.

    Source: H. Xiao, K. Rasul, R. Vollgraf, "Fashion-MNIST: a Novel Image Dataset", 2017.
    """
    return _load("fashion-mnist", _FASHION, _FASHION_SHA256, folder, download)


def _load(
    name: str, site: str, checksums: tuple[str, ...], folder: PathLike | None, download: bool
) -> tuple[tuple[Images, Labels], tuple[Images, Labels]]:
    place = cache_folder(name) if folder is None else Path(folder)
    paths = []
    for file, sha256 in zip(_FILES, checksums, strict=True):
        present = existing(place, [file.removesuffix(".gz")])
        paths.append(present or fetch(Remote(file, site + file, sha256), place, download))
    return _pair(*paths[:2]), _pair(*paths[2:])


def _pair(images_path: Path, labels_path: Path) -> tuple[Images, Labels]:
    images, labels = read_idx(images_path), read_idx(labels_path)
    if images.dtype != np.uint8 or images.shape[1:] != (28, 28):
        bad_file(images_path, f"images of 28×28 bytes are needed, got {images.dtype} {images.shape}", at=0)
    if labels.dtype != np.uint8 or labels.shape != (len(images),):
        bad_file(labels_path, f"{len(images)} labels of a byte are needed, got {labels.dtype} {labels.shape}", at=0)
    if labels.size and labels.max() > 9:
        first = int(np.argmax(labels > 9))
        bad_file(labels_path, f"a label must be from 0 to 9, got {labels[first]} of image {first}", at=None)
    return (images[:, np.newaxis] / np.float32(255)).astype(np.float32, copy=False), labels.astype(np.int64)
