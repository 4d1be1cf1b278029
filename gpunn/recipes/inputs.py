"""Files that a trained model is asked about: images of handwritten digits, and points of the plane."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from gpunn.data import read_csv, read_npy
from gpunn.data.image import read_image
from gpunn.data.reading import bad_file
from gpunn.errors import warn

Floats: TypeAlias = np.ndarray[Any, np.dtype[np.float32]]

_SIDE = 8
_MOST = 16.0  # scikit-learn's pixels


def digit_images(path: Path) -> tuple[Floats, bool]:
    """The images (N, 1, 8, 8) of a file, as :func:`gpunn.data.digits` has them, and whether it can hold several.

    An ``.npy`` file holds (8, 8), (N, 8, 8) or (N, 1, 8, 8), light ink on a dark ground, from 0 to 1 or, as
    scikit-learn has them, from 0 to 16. Any other file is an image of one digit; see :func:`as_digit`. Raises
    FileError, with the path and the cause.
    """
    if path.suffix.lower() != ".npy":
        (image,) = read_image(path, 1, scaled=False)  # as_digit finds out what is dark and what is light
        if not np.isfinite(image).all() or image.min() == image.max():
            bad_file(path, "there is no digit: one grey all over, or pixels that are no numbers")
        return as_digit(image)[np.newaxis, np.newaxis], False
    array = read_npy(path)
    if array.shape[-2:] != (_SIDE, _SIDE) or array.ndim > 4 or (array.ndim == 4 and array.shape[1] != 1):
        bad_file(path, f"images must be (8, 8), (N, 8, 8) or (N, 1, 8, 8), got {array.shape}")
    _check_numbers(path, array)
    if (array < 0).any():
        bad_file(path, f"pixels must be at least 0, got {array.min():g}")
    most = float(array.max())
    if most > _MOST:
        bad_file(path, f"pixels must be from 0 to 1, or from 0 to 16 as scikit-learn has them, got {most:g}")
    images = (array / (_MOST if most > 1 else 1.0)).astype(np.float32).reshape(-1, 1, _SIDE, _SIDE)
    return images, array.ndim > 2


def as_digit(grey: Floats) -> Floats:
    """From the grey values (H, W) of a picture of a digit to (8, 8), light ink on a dark ground, in [0, 1].

    The ground is the median of the border; if it is lighter than the middle of the greys, the picture is dark ink on
    light paper, and is inverted. The ground then becomes 0 and the strongest ink 1. A picture that is not 8×8 already
    is cut to the digit, brought to 8 pixels on its longer side and centred, as those of the data set were.

    >>> paper = np.ones((40, 30), np.float32)
    >>> paper[8:32, 12:18] = 0.25
    >>> as_digit(paper)[0].tolist()
    [0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0]
    """
    ground = float(np.median(np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])))
    light = 2 * ground > float(grey.min()) + float(grey.max())
    ink = np.maximum(ground - grey if light else grey - ground, 0).astype(np.float32)
    ink /= ink.max()
    return ink if ink.shape == (_SIDE, _SIDE) else _fitted(ink)


def _fitted(ink: Floats) -> Floats:
    from PIL import Image

    strong = ink > 0.5  # not the grain of the paper
    rows, columns = (np.flatnonzero(strong.any(axis)) for axis in (1, 0))
    cut = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    height, width = (max(1, round(length * _SIDE / max(cut.shape))) for length in cut.shape)
    top, left = (_SIDE - height) // 2, (_SIDE - width) // 2
    fitted = np.zeros((_SIDE, _SIDE), np.float32)
    # Each pixel is the mean of those that it covers, as scikit-learn's count the ink of a block.
    small = Image.fromarray(cut).resize((width, height), Image.Resampling.BOX)
    fitted[top : top + height, left : left + width] = np.asarray(small)
    return fitted


def points(path: Path) -> tuple[Floats, bool]:
    """The points (N, 2) of a file, and whether it can hold several.

    An ``.npy`` file holds (2,) or (N, 2); any other is a table of two columns as comma-separated values, with or
    without a line of names: :func:`gpunn.data.read_csv` says what is taken for one, and a warning which it was. Raises
    FileError, with the path, the line and the cause.
    """
    if path.suffix.lower() == ".npy":
        array = read_npy(path)
        if array.ndim not in (1, 2) or array.shape[-1] != 2:
            bad_file(path, f"points must be (2,) or (N, 2), got {array.shape}")
        _check_numbers(path, array)
        return array.astype(np.float32).reshape(-1, 2), array.ndim > 1
    table = read_csv(path)
    if table.x.shape[1] != 2:
        bad_file(path, f"a point has two columns, got {table.x.shape[1]}")
    if table.columns != ("0", "1"):
        names = ", ".join(table.columns)
        warn(f"{path}: its first line is no point, but names the columns: {names}", UserWarning)
    return table.x, True


def _check_numbers(path: Path, array: np.ndarray[Any, Any]) -> None:
    if array.size == 0 or array.dtype.kind not in "biuf" or not np.isfinite(array).all():
        bad_file(path, f"there must be real numbers, all finite, got {array.dtype} of shape {array.shape}")
