"""Data sets and minibatches.

One file per data set; each gives plain NumPy arrays, float32 images (N, C, H, W) in [0, 1] and int64 labels (N,).
"""

from gpunn.data.augment import colour_components, colour_jitter, jitter, normalise, random_crop, random_flip
from gpunn.data.batches import batches
from gpunn.data.digits import digits

__all__ = [
    "batches",
    "colour_components",
    "colour_jitter",
    "digits",
    "jitter",
    "normalise",
    "random_crop",
    "random_flip",
]
