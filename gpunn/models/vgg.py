"""VGG: 3×3 convolutions only, 11 or 16 layers with weights."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpunn import nn
from gpunn.errors import ArgumentError, check
from gpunn.models.initial import draw_he_normal
from gpunn.tensor import Tensor

# Convolutions of each stage; a stage ends with a pooling and has twice the channels of the one before, up to 8 times.
STAGES = {11: (1, 1, 2, 2, 2), 16: (2, 2, 3, 3, 3)}


class VGG(nn.Module):
    """``features`` (convolutions, ReLU, pooling), then ``classifier`` (three linear layers, ReLU, dropout).

    Images (N, in_channels, size, size) to logits (N, classes). ``width`` is the number of channels of the first stage,
    ``hidden`` the size of the inner linear layers. Filters are drawn as He et al. 2015 say, linear layers as
    :class:`gpunn.nn.Linear` does. Parameters have the names and shapes of torchvision's ``vgg11`` and ``vgg16``.

    >>> net = VGG(11, classes=10, size=32, width=4, hidden=16)
    >>> net(np.zeros((2, 3, 32, 32), np.float32)).shape
    (2, 10)

    Source: K. Simonyan, A. Zisserman, "Very deep convolutional networks for large-scale image recognition", 2014,
    table 1, columns A and D.
    """

    def __init__(
        self,
        depth: int,
        classes: int = 1000,
        *,
        in_channels: int = 3,
        size: int = 224,
        width: int = 64,
        hidden: int = 4096,
        dropout: float = 0.5,
        generator: np.random.Generator | None = None,
    ) -> None:
        check(depth in STAGES, ArgumentError, "VGG", f"depth must be one of {sorted(STAGES)}", depth=depth)
        check(size >= 32, ArgumentError, "VGG", "size must be at least 32: the image is halved five times", size=size)
        self.features = nn.Sequential()
        channels = in_channels
        for stage, count in enumerate(STAGES[depth]):
            wide = width * min(2**stage, 8)
            for _ in range(count):
                self.features.append(nn.Conv2d(channels, wide, 3, padding=1, generator=generator)).append(nn.ReLU())
                channels = wide
            self.features.append(nn.MaxPool2d(2))
        self.classifier = nn.Sequential(
            nn.Linear(channels * (size // 32) ** 2, hidden, generator=generator),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden, generator=generator),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, classes, generator=generator),
        )
        draw_he_normal(self, generator)

    def forward(self, x: Any) -> Tensor:
        maps = self.features(x)
        return self.classifier(maps.reshape(maps.shape[0], -1))


def vgg11(classes: int = 1000, **settings: Any) -> VGG:
    """:class:`VGG` with 11 layers: 132,863,336 parameters for 1000 classes."""
    return VGG(11, classes, **settings)


def vgg16(classes: int = 1000, **settings: Any) -> VGG:
    """:class:`VGG` with 16 layers: 138,357,544 parameters for 1000 classes."""
    return VGG(16, classes, **settings)
