"""Modules made of modules, and Identity for a place where none is wanted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Self, overload

from gpunn.errors import ArgumentError, check
from gpunn.nn.module import Module


class _Layers(Module):
    """Modules in a row, named by position."""

    def __init__(self, layers: Iterable[Module]) -> None:
        self.layers: list[Module] = []
        for layer in layers:
            self.append(layer)

    def append(self, layer: Module) -> Self:
        """Add a module at the end."""
        is_module = isinstance(layer, Module)
        check(is_module, ArgumentError, type(self).__name__, "layers must be modules", type=type(layer).__name__)
        self.layers.append(layer)
        return self

    def named_children(self) -> Iterator[tuple[str, Module]]:
        return ((str(position), layer) for position, layer in enumerate(self.layers))

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[Module]:
        return iter(self.layers)


class Sequential(_Layers):
    """Applies its layers one after the other; their parameters are named by position: ``"0.weight"``.

    A slice of it is a Sequential of the same layers.

    >>> from gpunn import nn
    >>> net = nn.Sequential(nn.Linear(4, 3), nn.ReLU()).append(nn.Linear(3, 2))
    >>> len(net), len(net[:2]), [name for name, _ in net.named_parameters()]
    (3, 2, ['0.weight', '0.bias', '2.weight', '2.bias'])
    """

    def __init__(self, *layers: Module) -> None:
        super().__init__(layers)

    @overload
    def __getitem__(self, position: int) -> Module: ...
    @overload
    def __getitem__(self, position: slice) -> Sequential: ...
    def __getitem__(self, position: int | slice) -> Module:
        return Sequential(*self.layers[position]) if isinstance(position, slice) else self.layers[position]

    def forward(self, x: Any) -> Any:
        for layer in self.layers:
            x = layer(x)
        return x


class ModuleList(_Layers):
    """A list of modules whose parameters are found; the module that holds it says how they are called.

    >>> from gpunn import nn
    >>> towers = nn.ModuleList([nn.Linear(4, 3), nn.Linear(4, 3)])
    >>> len(towers), [name for name, _ in towers.named_parameters()]
    (2, ['0.weight', '0.bias', '1.weight', '1.bias'])
    """

    def __init__(self, layers: Iterable[Module] = ()) -> None:
        super().__init__(layers)

    @overload
    def __getitem__(self, position: int) -> Module: ...
    @overload
    def __getitem__(self, position: slice) -> ModuleList: ...
    def __getitem__(self, position: int | slice) -> Module:
        return ModuleList(self.layers[position]) if isinstance(position, slice) else self.layers[position]


class Identity(Module):
    """Returns what it gets, whatever it is made with: it may stand where a layer with settings stood.

    >>> Identity(54, bias=False)(3)
    3
    """

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def forward(self, x: Any) -> Any:
        return x
