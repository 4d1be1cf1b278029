"""The initial values that the papers of the networks give, drawn anew over those of the layers."""

from __future__ import annotations

import numpy as np

from gpunn import nn
from gpunn.nn import init


def draw_he_normal(model: nn.Module, generator: np.random.Generator | None = None) -> None:
    """Draw the filters of every convolution with variance 2 / (out_channels * KH * KW), and set its bias to 0.

    The variance keeps the gradient's size through a ReLU: He et al. 2015, "Delving deep into rectifiers", in the form
    that counts outputs.

    >>> from gpunn.backend import random_generator
    >>> layer = nn.Conv2d(3, 200, 3)
    >>> draw_he_normal(layer, random_generator(0))
    >>> round(float(layer.weight.data.var()) * 200 * 9)
    2
    """
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu", generator=generator)
            if layer.bias is not None:
                init.constant_(layer.bias, 0)
