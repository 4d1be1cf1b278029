"""The initial values that the papers of the networks give, drawn anew over those of the layers."""

from __future__ import annotations

import numpy as np

from gpunn import nn
from gpunn.backend import default_generator
from gpunn.tensor import Tensor


def draw_normal(weight: Tensor, std: float, generator: np.random.Generator | None = None) -> None:
    """Replace a new weight (float32, on the CPU) by values of mean 0 and standard deviation ``std``.

    >>> from gpunn import nn
    >>> from gpunn.backend import random_generator
    >>> layer = nn.Linear(200, 100)
    >>> draw_normal(layer.weight, 0.01, random_generator(0))
    >>> round(float(layer.weight.data.std()), 3)
    0.01
    """
    (generator or default_generator()).standard_normal(dtype=np.float32, out=weight.data)
    weight.data *= std


def draw_he_normal(model: nn.Module, generator: np.random.Generator | None = None) -> None:
    """Draw the filters of every convolution with variance 2 / (out_channels * KH * KW), and set its bias to 0.

    The variance keeps the gradient's size through a ReLU: He et al. 2015, "Delving deep into rectifiers", in the form
    that counts outputs.
    """
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            out_channels, _, kh, kw = layer.weight.shape
            draw_normal(layer.weight, (2 / (out_channels * kh * kw)) ** 0.5, generator)
            if layer.bias is not None:
                layer.bias.data[...] = 0
