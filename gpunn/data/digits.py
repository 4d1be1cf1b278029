"""The handwritten digits that scikit-learn carries: 1,797 real scans of 8×8 pixels, nothing to download."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from gpunn.backend import random_generator
from gpunn.errors import PackageError, install_command

Images: TypeAlias = np.ndarray[Any, np.dtype[np.float32]]
Labels: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]

CLASSES = tuple("0123456789")
TRAINING_IMAGES = 1347
_WHITE = 16.0  # a pixel counts the ink dots of a 4×4 block of the original scan: 0 to 16


def digits(seed: int = 0) -> tuple[tuple[Images, Labels], tuple[Images, Labels]]:
    """Return ``(x_train, y_train), (x_test, y_test)``: a stratified 75/25 split, drawn by ``seed``.

    Images are float32 (N, 1, 8, 8) in [0, 1], labels int64 (N,); 1,347 for training, 450 for the test. Each digit
    has its share of both parts, to within one image.

    >>> (x, y), (x_test, y_test) = digits(seed=1)
    >>> x.shape, y.shape, x_test.shape, float(x.max())
    ((1347, 1, 8, 8), (1347,), (450, 1, 8, 8), 1.0)

    Raises PackageError, with the command that mends it, where scikit-learn is not installed.
    Source: E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998.
    """
    table = _table()
    images = (table[:, :-1] / _WHITE).astype(np.float32).reshape(-1, 1, 8, 8)
    labels = table[:, -1].astype(np.int64)

    shuffled = random_generator(seed).permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]  # still shuffled within each class
    test = np.zeros(len(labels), bool)
    test[by_class[::4]] = True
    return (images[~test], labels[~test]), (images[test], labels[test])


def _table() -> np.ndarray[Any, Any]:
    """A row for each image: its 64 pixels and its label."""
    try:
        package = importlib.util.find_spec("sklearn")
        path = Path(package.origin).with_name("datasets") / "data/digits.csv.gz" if package and package.origin else None
        if path and path.exists():  # reading it takes a tenth of the time that importing scikit-learn does
            return np.loadtxt(path, delimiter=",")
        from sklearn.datasets import load_digits
    except (ImportError, ValueError) as error:
        raise PackageError(f"digits: scikit-learn holds this data set ({error}): {install_command('train')}") from error
    bunch = load_digits()
    return np.column_stack([bunch.data, bunch.target])
