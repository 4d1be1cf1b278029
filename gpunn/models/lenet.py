"""LeNet-5, and a LeNet-style network for small images."""

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


def lenet5(size: int = 28, classes: int = 10, generator: np.random.Generator | None = None) -> nn.Sequential:
    """The network of 1998 for handwritten digits; images (N, 1, size, size), size 28 or 32, to logits (N, classes).

    ::

        C1 conv 5×5 → tanh     (N, 6, 28, 28)    28×28 images are padded to 32×32
        S2 average pool 2      (N, 6, 14, 14)
        C3 conv 5×5 → tanh     (N, 16, 10, 10)
        S4 average pool 2      (N, 16, 5, 5)
        C5 conv 5×5 → tanh     (N, 120, 1, 1)
        F6 linear → tanh       (N, 84)
        linear                 (N, classes)

    It has 61,706 parameters. What is usual now in place of the paper's: S2 and S4 have no coefficients, C3 sees all
    maps of S2, tanh is not scaled, and the output is linear where the paper has distances to drawn digits.

    >>> sum(p.size for p in lenet5().parameters())
    61706

    Source: Y. LeCun et al., "Gradient-based learning applied to document recognition", 1998, section II.B.
    """
    check(size in (28, 32), ArgumentError, "lenet5", "size must be 28 or 32", size=size)
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=(32 - size) // 2, generator=generator),
        nn.Tanh(),
        nn.AvgPool2d(2),
        nn.Conv2d(6, 16, 5, generator=generator),
        nn.Tanh(),
        nn.AvgPool2d(2),
        nn.Conv2d(16, 120, 5, generator=generator),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(120, 84, generator=generator),
        nn.Tanh(),
        nn.Linear(84, classes, generator=generator),
    )
