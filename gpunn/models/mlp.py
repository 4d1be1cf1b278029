"""The multilayer perceptron."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

from gpunn import nn
from gpunn.errors import ArgumentError, check


def mlp(
    sizes: Sequence[int],
    activation: Callable[[], nn.Module] = nn.ReLU,
    dropout: float = 0.0,
    generator: np.random.Generator | None = None,
) -> nn.Sequential:
    """Linear layers from ``sizes[0]`` features over ``sizes[1]`` ... to ``sizes[-1]``; (N, in) to (N, out).

    ``activation`` makes the layer behind every linear layer but the last, which gives logits; behind it comes dropout
    of probability ``dropout``, if that is not 0. ``append`` another activation for an output in (0, 1).

    >>> import numpy as np
    >>> net = mlp((3, 4, 2), nn.Sigmoid).append(nn.Sigmoid())
    >>> net(np.zeros((1, 3), np.float32)).shape
    (1, 2)
    """
    check(len(sizes) >= 2, ArgumentError, "mlp", "there must be a size of the input and of the output", sizes=sizes)
    layers: list[nn.Module] = []
    for features, following in pairwise(sizes):
        if layers:
            layers += [activation(), nn.Dropout(dropout)] if dropout else [activation()]
        layers.append(nn.Linear(features, following, generator=generator))
    return nn.Sequential(*layers)
