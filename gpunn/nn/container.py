"""Modules made of modules, and Identity for a place where none is wanted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Self, overload

from gpunn.errors import ArgumentError, IndexRangeError, check
from gpunn.nn.calls import Learning, Plain
from gpunn.nn.module import Module


class _Layers(Module):
    """Modules in a row, named by position, or by names of their own."""

    _names: tuple[str, ...] | None = None

    def __init__(self, layers: Iterable[Module] | Mapping[str, Module]) -> None:
        self.layers: list[Module] = []
        if isinstance(layers, Mapping):
            for name, layer in layers.items():
                self.add_module(name, layer)
        else:
            self.extend(layers)

    # ---- by position ----------------------------------------------------------------------------------------------

    def append(self, layer: Module) -> Self:
        """Add a module at the end."""
        return self.insert(len(self.layers), layer)

    def extend(self, layers: Iterable[Module]) -> Self:
        """Add modules at the end."""
        for layer in list(layers):
            self.append(layer)
        return self

    def insert(self, index: int, layer: Module) -> Self:
        """Add a module before the one at ``index``."""
        self._check(layer)
        own = list(self._own_names())
        self.layers.insert(index, layer)
        if self._names is not None:
            name = next(str(number) for number in range(len(own), 2 * len(own) + 1) if str(number) not in own)
            own.insert(index, name)
            self._names = tuple(own)
        return self

    def pop(self, index: int = -1) -> Module:
        """Take a module out, and return it."""
        layer = self.layers[self._place(index)]
        del self[index]
        return layer

    def __setitem__(self, position: int, layer: Module) -> None:
        self._check(layer)
        self.layers[self._place(position)] = layer

    def __delitem__(self, position: int | slice) -> None:
        """Take modules out; those behind them move up, and all are named by position."""
        del self.layers[position if isinstance(position, slice) else self._place(position)]
        self._names = None

    def __iadd__(self, layers: Iterable[Module]) -> Self:
        return self.extend(layers)

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[Module]:
        return iter(self.layers)

    def _place(self, position: int) -> int:
        rule = f"there are {len(self.layers)} layers"
        inside = isinstance(position, int) and -len(self.layers) <= position < len(self.layers)
        check(inside, IndexRangeError, type(self).__name__, rule, position=position)
        return position

    def _check(self, layer: Any) -> None:
        is_module = isinstance(layer, Module)
        check(is_module, ArgumentError, type(self).__name__, "layers must be modules", type=type(layer).__name__)

    # ---- by name --------------------------------------------------------------------------------------------------

    def _own_names(self) -> Iterable[str]:
        return map(str, range(len(self.layers))) if self._names is None else self._names

    def named_children(self) -> Iterator[tuple[str, Module]]:
        return zip(self._own_names(), self.layers, strict=True)

    def add_module(self, name: str, module: Module | None) -> None:
        """Put a module in the place of the one of that name, or add it at the end."""
        self._check(module)
        assert module is not None
        own = list(self._own_names())
        if name in own:
            self.layers[own.index(name)] = module
            return
        fits = isinstance(name, str) and name != "" and "." not in name
        check(fits, ArgumentError, type(self).__name__, "a name is a string, not empty, without a dot", name=name)
        self._names = None if self._names is None and name == str(len(own)) else (*own, name)
        self.layers.append(module)

    def __getattr__(self, name: str) -> Any:
        held = vars(self)
        if name in (held.get("_names") or ()):
            return held["layers"][held["_names"].index(name)]
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, Module):
            self.add_module(name, value)
        else:
            super().__setattr__(name, value)


class Sequential(_Layers, Learning):
    """Applies its layers one after the other; their parameters are named by position: ``"0.weight"``.

    A dict of layers names them itself. A slice is a Sequential of the same layers, which keep their names; ``+`` joins
    two.

    >>> from gpunn import nn
    >>> net = nn.Sequential(nn.Linear(4, 3), nn.ReLU()).append(nn.Linear(3, 2))
    >>> len(net), len(net[:2]), [name for name, _ in net.named_parameters()]
    (3, 2, ['0.weight', '0.bias', '2.weight', '2.bias'])
    >>> nn.Sequential({"head": nn.Linear(4, 3)}).head.weight.shape
    (3, 4)
    """

    def __init__(self, *layers: Module | Mapping[str, Module]) -> None:
        named = layers[0] if len(layers) == 1 and isinstance(layers[0], Mapping) else None
        super().__init__(layers if named is None else named)  # type: ignore[arg-type]  # checked there

    @overload
    def __getitem__(self, position: int) -> Module: ...
    @overload
    def __getitem__(self, position: slice) -> Sequential: ...
    def __getitem__(self, position: int | slice) -> Module:
        if isinstance(position, slice):
            return Sequential(dict(list(self.named_children())[position]))
        return self.layers[self._place(position)]

    def __add__(self, other: Sequential) -> Sequential:
        fits = isinstance(other, Sequential)
        check(fits, ArgumentError, "Sequential", "only a Sequential can be added", type=type(other).__name__)
        return Sequential(*self.layers, *other.layers)

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

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        super().__init__(modules)

    @overload
    def __getitem__(self, position: int) -> Module: ...
    @overload
    def __getitem__(self, position: slice) -> ModuleList: ...
    def __getitem__(self, position: int | slice) -> Module:
        return ModuleList(self.layers[position]) if isinstance(position, slice) else self.layers[self._place(position)]

    def __add__(self, other: Iterable[Module]) -> ModuleList:
        return ModuleList([*self.layers, *other])


class Identity(Plain):
    """Returns what it gets, whatever it is made with: it may stand where a layer with settings stood.

    >>> Identity(54, bias=False)(3)
    3
    """

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def forward(self, x: Any) -> Any:
        return x
