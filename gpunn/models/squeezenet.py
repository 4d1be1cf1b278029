"""SqueezeNet, versions 1.0 and 1.1: AlexNet's accuracy with a fiftieth of its parameters."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpunn import functional as F
from gpunn import nn
from gpunn.errors import ArgumentError, check
from gpunn.models.initial import draw_he_normal
from gpunn.nn import init
from gpunn.tensor import Tensor

# The squeezed channels of each Fire module (it gives 8 times as many), and "pool" between them.
VERSIONS: dict[str, tuple[int | str, ...]] = {
    "1.0": ("pool", 16, 16, 32, "pool", 32, 48, 48, 64, "pool", 64),
    "1.1": ("pool", 16, 16, "pool", 32, 32, "pool", 48, 48, 64, 64),
}


class Fire(nn.Module):
    """1×1 down to ``squeezed`` channels, then 1×1 and 3×3 up to ``expanded`` each, side by side; ReLU after each.

    >>> Fire(8, 2, 4)(np.zeros((1, 8, 5, 5), np.float32)).shape
    (1, 8, 5, 5)
    """

    def __init__(
        self, channels: int, squeezed: int, expanded: int, generator: np.random.Generator | None = None
    ) -> None:
        self.squeeze = nn.Conv2d(channels, squeezed, 1, generator=generator)
        self.expand1x1 = nn.Conv2d(squeezed, expanded, 1, generator=generator)
        self.expand3x3 = nn.Conv2d(squeezed, expanded, 3, padding=1, generator=generator)

    def forward(self, x: Any) -> Tensor:
        squeezed = F.relu(self.squeeze(x))
        return F.relu(F.concatenate([self.expand1x1(squeezed), self.expand3x3(squeezed)], axis=1))


class SqueezeNet(nn.Module):
    """A convolution, eight Fire modules with pooling between them, a 1×1 convolution to the classes, their means.

    Images (N, in_channels, H, W) to logits (N, classes). Version 1.1 needs 2.4 times less work than 1.0, the paper's.
    Filters are drawn as He et al. 2015 say, those of the last convolution with deviation 0.01. Parameters have the
    names and shapes of torchvision's ``squeezenet1_0`` and ``squeezenet1_1``.

    >>> net = SqueezeNet(classes=10)
    >>> net(np.zeros((2, 3, 33, 33), np.float32)).shape
    (2, 10)

    Source: F. Iandola et al., "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters and < 0.5 MB model size",
    2016, table 1; 1.1: the authors' release of the same year.
    """

    def __init__(
        self,
        classes: int = 1000,
        version: str = "1.1",
        *,
        in_channels: int = 3,
        dropout: float = 0.5,
        generator: np.random.Generator | None = None,
    ) -> None:
        known = version in VERSIONS
        check(known, ArgumentError, "SqueezeNet", f"version must be one of {sorted(VERSIONS)}", version=version)
        channels, kernel = (96, 7) if version == "1.0" else (64, 3)
        self.features = nn.Sequential(nn.Conv2d(in_channels, channels, kernel, 2, generator=generator), nn.ReLU())
        for squeezed in VERSIONS[version]:
            if isinstance(squeezed, str):
                self.features.append(nn.MaxPool2d(3, 2, ceil_mode=True))
            else:
                self.features.append(Fire(channels, squeezed, 4 * squeezed, generator))
                channels = 8 * squeezed
        last = nn.Conv2d(channels, classes, 1, generator=generator)
        self.classifier = nn.Sequential(nn.Dropout(dropout), last, nn.ReLU(), nn.GlobalAvgPool2d())
        draw_he_normal(self, generator)
        init.normal_(last.weight, 0, 0.01, generator)

    def forward(self, x: Any) -> Tensor:
        y = self.classifier(self.features(x))
        return y.reshape(y.shape[:2])


def squeezenet(classes: int = 1000, version: str = "1.1", **settings: Any) -> SqueezeNet:
    """:class:`SqueezeNet` of ``version`` "1.1" (1,235,496 parameters for 1000 classes) or "1.0" (1,248,424)."""
    return SqueezeNet(classes, version, **settings)
