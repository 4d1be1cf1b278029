"""Two pictures that need no training: the activations with their derivatives, and an image with its skeleton."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from gpunn import functional as F
from gpunn import plot
from gpunn.data import digits
from gpunn.data.image import read_image
from gpunn.errors import ArgumentError, FileError, check
from gpunn.tensor import tensor

ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "sigmoid": F.sigmoid,
    "tanh": F.tanh,
    "ReLU": F.relu,
    "leaky ReLU": F.leaky_relu,
    "ELU": F.elu,
    "SELU": F.selu,
    "GELU": F.gelu,
    "softplus": F.softplus,
    "hard sigmoid": F.hardsigmoid,
    "SiLU (swish)": F.silu,
}
"""The element-wise activations, by their usual names."""


def draw_activations(path: str | os.PathLike[str]) -> None:
    """Draw each of :data:`ACTIVATIONS` and its derivative over -4 to 4 into the file ``path``.

    The derivatives are those that ``backward`` computes.

    >>> import tempfile
    >>> draw_activations(os.path.join(tempfile.mkdtemp(), "activations.png"))
    """
    points = np.linspace(-4, 4, 401)
    panels = {}
    for name, function in ACTIVATIONS.items():
        x = tensor(points, requires_grad=True)
        y = function(x)
        y.backward(np.ones_like(points))
        panels[name] = {"function": (points, y.data), "derivative": (points, x.grad)}
    plot.panels(panels, path, "z", "g(z)")


class Skeleton(NamedTuple):
    """How many pixels a shape has and its skeleton, and whether it was taken for dark on light."""

    before: int
    after: int
    dark: bool


def draw_skeleton(
    path: str | os.PathLike[str],
    image: str | os.PathLike[str] | None = None,
    threshold: float = 0.5,
    dark: bool | None = None,
) -> Skeleton:
    """Draw an image and its skeleton into the file ``path``, of the format that its name ends in.

    ``image`` is a file that :func:`gpunn.data.image.read_image` reads as grey values from 0 (black) to 1 (white); what
    is above ``threshold`` is the shape, or with ``dark`` what is below. Unless it is said, the shape is dark where the
    border is light. The lines of the skeleton are drawn thicker where the image has over 1,000 pixels a side. Without
    ``image``, eight of scikit-learn's digits, enlarged twelve times.

    >>> import tempfile
    >>> drawn = draw_skeleton(os.path.join(tempfile.mkdtemp(), "skeleton.png"))
    >>> 0 < drawn.after < drawn.before, drawn.dark
    (True, False)

    Raises FileError, with the cause, if the image cannot be read, or is ``path`` itself; ArgumentError if no pixel is
    left of the shape.
    """
    check(0 <= threshold < 1, ArgumentError, "skeleton", "threshold must be in 0 to below 1", threshold=threshold)
    if image is not None and os.path.exists(path) and os.path.exists(image) and os.path.samefile(image, path):
        raise FileError(f"{path}: the image itself, which the picture must not be written over")
    grey = _digits() if image is None else read_image(image, 1)
    below = _is_dark(grey, threshold) if dark is None else dark
    shapes = grey < threshold if below else grey > threshold
    check(bool(shapes.any()), ArgumentError, "skeleton", "no pixel is beyond the threshold", threshold=threshold)
    skeletons = F.skeletonize(shapes)
    before, after = int(shapes.sum()), int(skeletons.sum())
    # The shape in grey below its skeleton in white, so that one is seen within the other.
    inside = np.maximum(0.35 * shapes, _thick(skeletons))
    pairs = np.stack([grey, inside], axis=1).reshape(-1, 1, *shapes.shape[1:])  # image, skeleton, image, ...
    names = ["image", "skeleton"] * len(shapes)
    title = f"{before} pixels thinned to {after}"
    plot.pictures(pairs.astype(np.float32), path, names, title, columns=min(4, len(pairs)))
    return Skeleton(before, after, below)


def _is_dark(grey: np.ndarray[Any, Any], threshold: float) -> bool:
    """Whether most of the border is light, and something is dark."""
    border = np.concatenate([grey[..., 0, :], grey[..., -1, :], grey[..., 0], grey[..., -1]], axis=-1)
    return bool(np.median(border) > threshold and (grey < threshold).any())


def _thick(skeletons: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Lines that are still seen where a large image is drawn smaller than it is."""
    around = max(skeletons.shape[-2:]) // 1000
    lines = skeletons.astype(np.float32)[:, np.newaxis]
    wide: np.ndarray[Any, Any] = F.max_pool2d(lines, 2 * around + 1, stride=1, padding=around)[:, 0]
    return wide


def _digits() -> np.ndarray[Any, Any]:
    (images, labels), _ = digits(0)
    first = [int(np.argmax(labels == digit)) for digit in range(8)]
    coarse = images[first, 0]  # (8, 8, 8)
    # Bilinear interpolation at twelve points a pixel: the outline becomes smooth enough to thin.
    at = np.linspace(0, 7, 96)
    low = np.minimum(at.astype(int), 6)
    part = (at - low).astype(np.float32)
    rows = coarse[:, low] * (1 - part[:, np.newaxis]) + coarse[:, low + 1] * part[:, np.newaxis]
    fine: np.ndarray[Any, Any] = rows[:, :, low] * (1 - part) + rows[:, :, low + 1] * part
    return fine
