"""A LeNet-style network for small images."""

from __future__ import annotations

import numpy as np

from gpunn import nn
from gpunn.errors import ArgumentError, check


def lenet(
    in_channels: int = 1, size: int = 8, classes: int = 10, generator: np.random.Generator | None = None
) -> nn.Sequential:
    """Two convolution stages, then two linear layers; images (N, in_channels, size, size) to logits (N, classes).

    ::

        conv 3×3, pad 1 → ReLU → max pool 2 → LRN    (N, 32, S/2, S/2)
        conv 3×3, pad 1 → ReLU → max pool 2          (N, 64, S/4, S/4)
        flatten → linear → ReLU                      (N, 128)
        linear                                       (N, classes)

    S/2 and S/4 are rounded down. ``generator`` draws the weights.

    >>> from gpunn.backend import random_generator
    >>> model = lenet(generator=random_generator(0))
    >>> sum(p.data.size for p in model.parameters())
    53002

    Source: Y. LeCun et al., "Gradient-based learning applied to document recognition", 1998, for the shape; ReLU,
    maximum pooling and the order pool → LRN (local response normalisation) are those of AlexNet.
    """
    check(size >= 4, ArgumentError, "lenet", "size must be at least 4: the image is halved twice", size=size)
    return nn.Sequential(
        nn.Conv2d(in_channels, 32, 3, padding=1, generator=generator),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.LocalResponseNorm(5),
        nn.Conv2d(32, 64, 3, padding=1, generator=generator),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * (size // 4) ** 2, 128, generator=generator),
        nn.ReLU(),
        nn.Linear(128, classes, generator=generator),
    )
