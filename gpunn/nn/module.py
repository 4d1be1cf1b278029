"""``Module``, the base of all layers; ``Parameter``, a tensor that is learned; ``Buffer``, one that is only kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Self, TypeVar

import numpy as np

from gpunn.backend import Array, asarray, check_device, device_of
from gpunn.errors import ArgumentError, ShapeError, check
from gpunn.tensor import Tensor, no_grad


class Parameter(Tensor):
    """A Tensor that a module learns: it requires a gradient, and :meth:`Module.parameters` finds it."""

    __slots__ = ()

    def __init__(self, data: Array) -> None:
        super().__init__(data, requires_grad=True)


class Buffer(Tensor):
    """A Tensor that a module keeps beside its parameters: saved and moved with them, but not learned."""

    __slots__ = ()

    def __init__(self, data: Array) -> None:
        super().__init__(data)


Held = TypeVar("Held", bound=Tensor)


def _each_once(named: Iterator[tuple[str, Held]]) -> Iterator[tuple[str, Held]]:
    seen: set[int] = set()
    for name, held in named:
        if id(held) not in seen:
            seen.add(id(held))
            yield name, held


# While a summary is taken: where each module that runs leaves itself and the shape of its output.
_visits: ContextVar[list[tuple[Module, tuple[int, ...]]] | None] = ContextVar("visits", default=None)


class Module:
    """A function with parameters. A subclass sets parameters, buffers and modules as attributes, and has a ``forward``.

    >>> from gpunn import nn
    >>> class Twice(nn.Module):
    ...     def __init__(self):
    ...         self.layer = nn.Linear(4, 4)
    ...     def forward(self, x):
    ...         return self.layer(self.layer(x))
    >>> [name for name, _ in Twice().named_parameters()]
    ['layer.weight', 'layer.bias']
    """

    training = True

    def forward(self, x: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} must define forward")

    def __call__(self, *args: Any, **settings: Any) -> Any:
        y = self.forward(*args, **settings)
        visits = _visits.get()
        if visits is not None:
            visits.append((self, y.shape))
        return y

    # ---- what it holds --------------------------------------------------------------------------------------------

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The modules held directly, by attribute name, in the order in which they were set."""
        return ((name, value) for name, value in vars(self).items() if isinstance(value, Module))

    def modules(self) -> Iterator[Module]:
        """This module and all modules inside it."""
        yield self
        for _, child in self.named_children():
            yield from child.modules()

    def named_parameters(self, prefix: str = "") -> Iterator[tuple[str, Parameter]]:
        """All parameters with their dotted names; one that is held twice comes once."""
        return _each_once(self._all_named(Parameter, prefix))

    def named_buffers(self, prefix: str = "") -> Iterator[tuple[str, Buffer]]:
        """All buffers with their dotted names; one that is held twice comes once."""
        return _each_once(self._all_named(Buffer, prefix))

    def _all_named(self, kind: type[Held], prefix: str) -> Iterator[tuple[str, Held]]:
        for name, value in vars(self).items():
            if isinstance(value, kind):
                yield prefix + name, value
        for name, child in self.named_children():
            yield from child._all_named(kind, f"{prefix}{name}.")

    def _state(self) -> dict[str, Tensor]:
        return {**dict(self.named_parameters()), **dict(self.named_buffers())}

    def parameters(self) -> list[Parameter]:
        """All parameters, each once."""
        return [parameter for _, parameter in self.named_parameters()]

    def state_dict(self) -> dict[str, Array]:
        """A copy of the array of every parameter and every buffer, by name."""
        return {name: held.data.copy() for name, held in self._state().items()}

    def load_state_dict(self, state: Mapping[str, Array]) -> None:
        """Copy arrays into what has the same names here; if a name, shape or dtype differs, nothing is changed."""
        own = self._state()
        missing, unknown = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
        rule = "the names must be those of the module's parameters and buffers"
        check(not (missing or unknown), ArgumentError, "load_state_dict", rule, missing=missing, unknown=unknown)
        for name, held in own.items():
            array = state[name]
            fits = array.shape == held.shape
            check(fits, ShapeError, "load_state_dict", f"{name} must have shape {held.shape}", shape=array.shape)
            same = array.dtype == held.dtype
            check(same, ArgumentError, "load_state_dict", f"{name} must be {held.dtype}", dtype=str(array.dtype))
        for name, held in own.items():
            held.data[...] = asarray(state[name], device=held.device)
            held.mark_changed()

    # ---- what it does ---------------------------------------------------------------------------------------------

    def train(self, mode: bool = True) -> Self:
        """Switch this module and those inside it to training (or, with False, to evaluation)."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Self:
        """Switch to evaluation: ``train(False)``."""
        return self.train(False)

    @contextmanager
    def evaluating(self) -> Iterator[Self]:
        """A context in evaluation; each module inside then goes back to the mode it was in."""
        modes = [(module, module.training) for module in self.modules()]
        try:
            yield self.eval()
        finally:
            for module, mode in modes:
                module.training = mode

    def zero_grad(self) -> None:
        """Forget the gradients of all parameters."""
        for parameter in self.parameters():
            parameter.grad = None

    def to(self, device: str) -> Self:
        """Move all parameters and buffers to ``device``; make optimizers afterwards."""
        device = check_device(device)
        for held in self._state().values():
            if device_of(held.data) != device:
                held.data = asarray(held.data, device=device)
                held.grad = None
        return self

    def summary(self, input_shape: tuple[int, ...]) -> str:
        """A table of the layers, their output shapes and parameter counts, for an input of ``input_shape`` without N.

        >>> from gpunn import nn
        >>> print(nn.Sequential(nn.Linear(4, 3), nn.ReLU()).summary((4,)))
        layer      output shape  parameters
        Linear     (N, 3)                15
        ReLU       (N, 3)                 0
        total                            15
        """
        first = next(iter(self.parameters()), None)
        dtype, device = (first.dtype, first.device) if first is not None else (np.dtype(np.float32), None)
        token = _visits.set([])
        try:
            with no_grad(), self.evaluating():
                self(asarray(np.zeros((1, *input_shape), dtype), device=device))
            visits = _visits.get() or []
        finally:
            _visits.reset(token)
        rows = [("layer", "output shape", "parameters")]
        for module, shape in visits:
            count = sum(value.size for value in vars(module).values() if isinstance(value, Parameter))
            if count or not any(module.named_children()):
                rows.append((type(module).__name__, f"(N, {', '.join(map(str, shape[1:]))})", f"{count:,}"))
        rows.append(("total", "", f"{sum(parameter.size for parameter in self.parameters()):,}"))
        left, middle, right = (max(len(row[column]) for row in rows) for column in range(3))
        left = max(left, len("total") + 4)
        return "\n".join(f"{a:<{left}}  {b:<{middle}}  {c:>{right}}" for a, b, c in rows)
