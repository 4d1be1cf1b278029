"""Modules that hold modules or parameters by key, or parameters in a row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from typing import Any, Self, TypeVar, overload

from gpunn.backend import is_array
from gpunn.errors import ArgumentError, DtypeError, IndexRangeError, check, fail
from gpunn.graph import raw
from gpunn.nn.module import Module, Parameter
from gpunn.tensor import Tensor

Held = TypeVar("Held")


class _Keyed(Module, MutableMapping[str, Held]):
    """A dict of what a module can hold; a subclass checks and names what."""

    def __init__(self, entries: Mapping[str, Any] | Iterable[tuple[str, Any]] | None = None) -> None:
        self._entries: dict[str, Held] = {}
        if entries is not None:
            self.update(entries)

    def _checked(self, key: str, value: Any) -> Held:
        raise NotImplementedError

    def __setitem__(self, key: str, value: Any) -> None:
        fits = isinstance(key, str) and key != "" and "." not in key
        check(fits, ArgumentError, type(self).__name__, "a key is a string, not empty, without a dot", key=key)
        self._entries[key] = self._checked(key, value)

    def __getitem__(self, key: str) -> Held:
        return self._entries[key]

    def __delitem__(self, key: str) -> None:
        del self._entries[key]

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __getattr__(self, name: str) -> Any:
        entries = vars(self).get("_entries", {})
        if name in entries:
            return entries[name]
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    __eq__ = object.__eq__
    __hash__ = object.__hash__


class ModuleDict(_Keyed[Module]):
    """A dict of modules whose parameters are found; the module that holds it says how they are called.

    >>> from gpunn import nn
    >>> heads = nn.ModuleDict({"digit": nn.Linear(4, 10), "colour": nn.Linear(4, 3)})
    >>> heads["digit"].weight.shape, list(heads), [name for name, _ in heads.named_parameters()][:2]
    ((10, 4), ['digit', 'colour'], ['digit.weight', 'digit.bias'])
    """

    def __init__(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]] | None = None) -> None:
        super().__init__(modules)

    def _checked(self, key: str, value: Any) -> Module:
        is_module = isinstance(value, Module)
        check(is_module, ArgumentError, "ModuleDict", "values must be modules", key=key, type=type(value).__name__)
        found: Module = value
        return found

    def add_module(self, name: str, module: Module | None) -> None:
        self[name] = module

    def named_children(self) -> Iterator[tuple[str, Module]]:
        return iter(self._entries.items())


class ParameterDict(_Keyed[Parameter]):
    """A dict of parameters; arrays and tensors become parameters.

    >>> import numpy as np
    >>> from gpunn import nn
    >>> scales = nn.ParameterDict({"in": np.ones(3, np.float32), "out": np.ones(2, np.float32)})
    >>> [(name, p.shape) for name, p in scales.named_parameters()]
    [('in', (3,)), ('out', (2,))]
    """

    def __init__(self, parameters: Mapping[str, Any] | Iterable[tuple[str, Any]] | None = None) -> None:
        super().__init__(parameters)

    def _checked(self, key: str, value: Any) -> Parameter:
        return _parameter("ParameterDict", key, value)

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        self[name] = param

    def _named_held(self) -> Iterable[tuple[str, Any]]:
        return [*vars(self).items(), *self._entries.items()]


class ParameterList(Module):
    """A list of parameters; arrays and tensors become parameters.

    >>> import numpy as np
    >>> from gpunn import nn
    >>> steps = nn.ParameterList([np.ones(2, np.float32)]).append(np.zeros(1, np.float32))
    >>> len(steps), [name for name, _ in steps.named_parameters()], steps[-1].data.tolist()
    (2, ['0', '1'], [0.0])
    """

    def __init__(self, values: Iterable[Any] = ()) -> None:
        self._entries: list[Parameter] = []
        self.extend(values)

    def append(self, value: Any) -> Self:
        """Add a parameter at the end."""
        self._entries.append(_parameter("ParameterList", str(len(self)), value))
        return self

    def extend(self, values: Iterable[Any]) -> Self:
        """Add parameters at the end."""
        for value in list(values):
            self.append(value)
        return self

    def pop(self, index: int = -1) -> Parameter:
        """Take a parameter out, and return it."""
        return self._entries.pop(self._place(index))

    @overload
    def __getitem__(self, position: int) -> Parameter: ...
    @overload
    def __getitem__(self, position: slice) -> ParameterList: ...
    def __getitem__(self, position: int | slice) -> Any:
        return (
            ParameterList(self._entries[position])
            if isinstance(position, slice)
            else self._entries[self._place(position)]
        )

    def __setitem__(self, position: int, value: Any) -> None:
        self._entries[self._place(position)] = _parameter("ParameterList", str(position), value)

    def __iadd__(self, values: Iterable[Any]) -> Self:
        return self.extend(values)

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Parameter]:
        return iter(self._entries)

    def _place(self, position: int) -> int:
        inside = isinstance(position, int) and -len(self) <= position < len(self)
        check(inside, IndexRangeError, "ParameterList", f"there are {len(self)} parameters", position=position)
        return position

    def _named_held(self) -> Iterable[tuple[str, Any]]:
        return [*vars(self).items(), *((str(place), p) for place, p in enumerate(self._entries))]


def _parameter(op: str, name: str, value: Any) -> Parameter:
    if isinstance(value, Parameter):
        return value
    if not (isinstance(value, Tensor) or is_array(value)):
        fail(DtypeError, op, "values must be parameters, tensors or arrays", name=name, type=type(value).__name__)
    return Parameter(raw(value))
