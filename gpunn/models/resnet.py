"""ResNet: blocks that add a residual to what comes in, with 18 or 50 layers."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpunn import functional as F
from gpunn import nn
from gpunn.models.initial import draw_he_normal
from gpunn.tensor import Tensor


def _conv(channels: int, out: int, kernel: int, stride: int, generator: np.random.Generator | None) -> nn.Conv2d:
    return nn.Conv2d(channels, out, kernel, stride, padding=kernel // 2, bias=False, generator=generator)


class _Block(nn.Module):
    """What both blocks share: the shortcut, which is a 1×1 convolution where the shape changes."""

    expansion: int

    def _set_shortcut(self, channels: int, out: int, stride: int, generator: np.random.Generator | None) -> None:
        changes = stride != 1 or channels != out
        self.downsample = (
            nn.Sequential(_conv(channels, out, 1, stride, generator), nn.BatchNorm2d(out)) if changes else None
        )

    def residual(self, x: Any) -> Any:
        raise NotImplementedError

    def forward(self, x: Any) -> Tensor:
        y = self.residual(x)
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class BasicBlock(_Block):
    """``relu(x + bn(conv3×3(relu(bn(conv3×3(x))))))``; the first convolution has the stride.

    >>> BasicBlock(8, 16, stride=2)(np.zeros((1, 8, 6, 6), np.float32)).shape
    (1, 16, 3, 3)
    """

    expansion = 1

    def __init__(
        self, channels: int, width: int, stride: int = 1, generator: np.random.Generator | None = None
    ) -> None:
        self.conv1 = _conv(channels, width, 3, stride, generator)
        self.bn1 = nn.BatchNorm2d(width, relu=True)
        self.conv2 = _conv(width, width, 3, 1, generator)
        self.bn2 = nn.BatchNorm2d(width)
        self._set_shortcut(channels, width, stride, generator)

    def residual(self, x: Any) -> Any:
        return self.bn2(self.conv2(self.bn1(self.conv1(x))))


class Bottleneck(_Block):
    """1×1 to ``width`` channels, 3×3 (which has the stride), 1×1 to ``4 width``, each with batch normalisation.

    The paper has the stride in the first convolution; in the second, as here, it is usual since (and more accurate).

    >>> Bottleneck(8, 4, stride=2)(np.zeros((1, 8, 6, 6), np.float32)).shape
    (1, 16, 3, 3)
    """

    expansion = 4

    def __init__(
        self, channels: int, width: int, stride: int = 1, generator: np.random.Generator | None = None
    ) -> None:
        self.conv1 = _conv(channels, width, 1, 1, generator)
        self.bn1 = nn.BatchNorm2d(width, relu=True)
        self.conv2 = _conv(width, width, 3, stride, generator)
        self.bn2 = nn.BatchNorm2d(width, relu=True)
        self.conv3 = _conv(width, 4 * width, 1, 1, generator)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self._set_shortcut(channels, 4 * width, stride, generator)

    def residual(self, x: Any) -> Any:
        return self.bn3(self.conv3(self.bn2(self.conv2(self.bn1(self.conv1(x))))))


class ResNet(nn.Module):
    """A 7×7 convolution and a pooling, four stages of blocks, the mean of each map, a linear layer.

    Images (N, in_channels, H, W) to logits (N, classes). ``blocks`` counts the blocks of each stage; the stages have
    1, 2, 4 and 8 times ``width`` channels and every one but the first halves the image. Filters are drawn as He et
    al. 2015 say. Parameters and buffers have the names and shapes of torchvision's ``resnet18`` and ``resnet50``.

    >>> net = ResNet(BasicBlock, (1, 1, 1, 1), classes=10, width=4)
    >>> net(np.zeros((2, 3, 33, 33), np.float32)).shape
    (2, 10)

    Source: K. He et al., "Deep residual learning for image recognition", 2015, table 1.
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        blocks: tuple[int, int, int, int],
        classes: int = 1000,
        *,
        in_channels: int = 3,
        width: int = 64,
        generator: np.random.Generator | None = None,
    ) -> None:
        self.conv1 = nn.Conv2d(in_channels, width, 7, 2, padding=3, bias=False, generator=generator)
        self.bn1 = nn.BatchNorm2d(width, relu=True)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        channels = width

        def stage(number: int) -> nn.Sequential:
            nonlocal channels
            layers = nn.Sequential()
            for position in range(blocks[number]):
                stride = 2 if position == 0 and number > 0 else 1
                layers.append(block(channels, width * 2**number, stride, generator))
                channels = width * 2**number * block.expansion
            return layers

        self.layer1, self.layer2, self.layer3, self.layer4 = (stage(number) for number in range(4))
        self.avgpool = nn.GlobalAvgPool2d()
        self.fc = nn.Linear(channels, classes, generator=generator)
        draw_he_normal(self, generator)

    def forward(self, x: Any) -> Tensor:
        maps = self.maxpool(self.bn1(self.conv1(x)))
        maps = self.avgpool(self.layer4(self.layer3(self.layer2(self.layer1(maps)))))
        return self.fc(maps.reshape(maps.shape[:2]))


def resnet18(classes: int = 1000, **settings: Any) -> ResNet:
    """:class:`ResNet` of basic blocks, 18 layers: 11,689,512 parameters for 1000 classes."""
    return ResNet(BasicBlock, (2, 2, 2, 2), classes, **settings)


def resnet50(classes: int = 1000, **settings: Any) -> ResNet:
    """:class:`ResNet` of bottleneck blocks, 50 layers: 25,557,032 parameters for 1000 classes."""
    return ResNet(Bottleneck, (3, 4, 6, 3), classes, **settings)
