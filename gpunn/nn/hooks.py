"""Functions that a module calls around its work: before and after ``forward``, and on the way back."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from gpunn.backend import Array, is_array
from gpunn.errors import DtypeError, ShapeError, check
from gpunn.graph import is_recorded, raw
from gpunn.tensor import Tensor, record

Hook = Callable[..., Any]
Gradients = tuple[Array | None, ...]


class Entry(NamedTuple):
    """A hook, and whether it takes the keyword arguments, too."""

    hook: Hook
    with_kwargs: bool


class Hooks:
    """The hooks of one module, each in the order in which they run."""

    def __init__(self) -> None:
        self.before: dict[int, Entry] = {}
        self.after: dict[int, Entry] = {}
        self.backward_before: dict[int, Entry] = {}
        self.backward: dict[int, Entry] = {}

    def __bool__(self) -> bool:
        return bool(self.before or self.after or self.backward_before or self.backward)

    def call(self, module: Any, args: tuple[Any, ...], settings: dict[str, Any]) -> Any:
        """What the module computes, with all hooks."""
        for entry in list(self.before.values()):
            given = entry.hook(module, args, settings) if entry.with_kwargs else entry.hook(module, args)
            if given is not None and entry.with_kwargs:
                rule = "a pre-hook with kwargs returns None, or the new arguments and keyword arguments"
                fits = isinstance(given, tuple) and len(given) == 2 and isinstance(given[0], tuple)
                check(fits, DtypeError, type(module).__name__, rule, type=type(given).__name__)
                args, settings = given
            elif given is not None:
                args = given if isinstance(given, tuple) else (given,)
        watch = _Watch(self, module) if self.backward or self.backward_before else None
        if watch is not None:
            args = watch.enter(args)
        y = module.forward(*args, **settings)
        for entry in list(self.after.values()):
            given = entry.hook(module, args, settings, y) if entry.with_kwargs else entry.hook(module, args, y)
            y = y if given is None else given
        return y if watch is None else watch.leave(y)


_next_number = itertools.count().__next__


class RemovableHandle:
    """What registering a hook gives: ``remove()`` takes it away again, as the end of a ``with`` block does.

    >>> from gpunn import nn
    >>> layer, seen = nn.ReLU(), []
    >>> with layer.register_forward_hook(lambda module, args, y: seen.append(y.shape)):
    ...     _ = layer(np.zeros((2, 3)))
    >>> _ = layer(np.zeros((2, 3)))
    >>> seen
    [(2, 3)]
    """

    def __init__(self, entries: dict[int, Entry], entry: Entry, prepend: bool) -> None:
        self._entries, self.id = entries, _next_number()
        before = dict(entries) if prepend else {}
        if prepend:
            entries.clear()
        entries[self.id] = entry
        entries.update(before)

    def remove(self) -> None:
        """Take the hook away; again, it does nothing."""
        self._entries.pop(self.id, None)

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *error: object) -> None:
        self.remove()


class _Watch:
    """The gradients of what goes into one call of a module and of what comes out, for its hooks.

    Each tensor passes a node of its own, which notes its gradient, and all of these one node behind them, which comes
    next on the way back, when the gradients are complete.
    """

    def __init__(self, hooks: Hooks, module: Any) -> None:
        self._hooks, self._module = hooks, module
        self._of_outputs: Gradients = ()
        self._inputs, self._recorded = 0, False

    def enter(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        self._inputs, self._recorded = len(args), is_recorded(*args)
        return tuple(_gated(args, self._given_inputs))

    def leave(self, y: Any) -> Any:
        if isinstance(y, tuple | list):
            made = _gated(y, self._given_outputs)
            return type(y)(*made) if hasattr(y, "_fields") else type(y)(made)
        return _gated((y,), self._given_outputs)[0]

    def _given_outputs(self, gradients: Gradients) -> Gradients:
        for entry in list(self._hooks.backward_before.values()):
            gradients = _replaced(entry.hook(self._module, gradients), gradients)
        self._of_outputs = gradients
        if not self._recorded:
            self._given_inputs((None,) * self._inputs)
        return gradients

    def _given_inputs(self, gradients: Gradients) -> Gradients:
        for entry in list(self._hooks.backward.values()):
            gradients = _replaced(entry.hook(self._module, gradients, self._of_outputs), gradients)
        return gradients


def _replaced(given: Any, gradients: Gradients) -> Gradients:
    """What a hook gave for the gradients, or these themselves."""
    if given is None:
        return gradients
    op = "backward hook"
    new = tuple(map(raw, given if isinstance(given, tuple | list) else (given,)))
    rule = "a hook of the backward pass returns None, or as many gradients as there are"
    check(len(new) == len(gradients), DtypeError, op, rule, given=len(new), wanted=len(gradients))
    for g in new:
        check(g is None or is_array(g), DtypeError, op, "gradients are arrays or None", type=type(g).__name__)
    return new


def _gated(values: Sequence[Any], noted: Callable[[Gradients], Gradients]) -> list[Any]:
    """``values``; ``noted`` is called with the gradients of them, before these are passed on, and may change them."""
    if not is_recorded(*values):
        return list(values)
    places = [place for place, value in enumerate(values) if isinstance(value, Tensor)]
    found: dict[int, Array] = {}

    def behind(gy: Array, needs: tuple[bool, ...]) -> list[Array | None]:
        gradients = noted(tuple(found.get(place) for place in range(len(values))))
        known = [_fitting(gradients[place], found.get(place, values[place].data)) for place in places]
        found.clear()
        return known

    gate = record(np.zeros((), np.float32), [values[place] for place in places], behind)
    made = list(values)
    for place in places:
        made[place] = _passed(values[place], gate, place, found) if values[place].requires_grad else values[place]
    return made


def _fitting(g: Array | None, like: Array) -> Array | None:
    """``g``, if it can be a gradient in the place of ``like``."""
    if g is not None and g is not like:
        rule = "a gradient in the place of another must have its shape and dtype"
        given, wanted = (g.shape, str(g.dtype)), (like.shape, str(like.dtype))
        check(given == wanted, ShapeError, "backward hook", rule, given=given, wanted=wanted)
    return g


def _passed(x: Tensor, gate: Tensor, place: int, found: dict[int, Array]) -> Tensor:
    def note(gy: Array, needs: tuple[bool, ...]) -> list[Array | None]:
        found[place] = gy
        return [np.zeros((), np.float32)]

    return record(x.data, [gate], note).sharing_memory(x)
