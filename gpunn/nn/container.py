"""Modules made of modules."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gpunn.errors import ArgumentError, check
from gpunn.nn.module import Module


class Sequential(Module):
    """Applies its layers one after the other; their parameters are named by position: ``"0.weight"``.

    >>> from gpunn import nn
    >>> net = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    >>> len(net), [name for name, _ in net.named_parameters()]
    (2, ['0.weight', '0.bias'])
    """

    def __init__(self, *layers: Module) -> None:
        for layer in layers:
            is_module = isinstance(layer, Module)
            check(is_module, ArgumentError, "Sequential", "layers must be modules", type=type(layer).__name__)
        self.layers = layers

    def named_children(self) -> Iterator[tuple[str, Module]]:
        return ((str(position), layer) for position, layer in enumerate(self.layers))

    def __len__(self) -> int:
        return len(self.layers)

    def __getitem__(self, position: int) -> Module:
        return self.layers[position]

    def forward(self, x: Any) -> Any:
        for layer in self.layers:
            x = layer(x)
        return x
