"""Data sets and minibatches.

One file per data set; each gives plain NumPy arrays: float32 points (N, D), or images (N, C, H, W) in [0, 1], and int64
labels (N,).
"""

from gpunn.data.augment import colour_components, colour_jitter, jitter, normalise, random_crop, random_flip
from gpunn.data.batches import batches
from gpunn.data.circles import circles
from gpunn.data.digits import digits
from gpunn.data.folder import image_folder

__all__ = [
    "batches",
    "circles",
    "colour_components",
    "colour_jitter",
    "digits",
    "image_folder",
    "jitter",
    "normalise",
    "random_crop",
    "random_flip",
]
