"""PyTorch's names of arguments, taken beside gpunn's: ``dim`` for ``axis``, ``input`` for ``x``, and so on.

Only names of the same thing are in the table: what an argument means does not depend on how it is spelt.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any, TypeVar, cast

Function = TypeVar("Function", bound=Callable[..., Any])

_OURS = {
    "bias": ("b",),
    "dim": ("axis",),
    "dim1": ("axis1",),
    "dim2": ("axis2",),
    "dims": ("axis", "axes", "reps"),
    "exponent": ("b",),
    "hx": ("h", "state"),
    "index": ("indices",),
    "input": ("x", "a", "indices", "image", "p"),
    "input1": ("x1",),
    "input2": ("x2",),
    "end": ("b",),
    "keepdim": ("keepdims",),
    "logits": ("x",),
    "ord": ("p",),
    "other": ("b",),
    "pad": ("pads",),
    "tensor": ("x", "target", "a"),
    "size": ("shape",),
    "sorted_sequence": ("x",),
    "tensors": ("arrays",),
    "unflattened_size": ("sizes",),
    "value": ("src",),
    "vec2": ("b",),
    "weight": ("w",),
}
"""PyTorch's name, and those that the same argument may have here: the first that the function has is meant."""


def spelled(function: Function) -> Function:
    """``function``, which also takes PyTorch's names of its arguments.

    >>> @spelled
    ... def total(x, axis=None):
    ...     return x.sum(axis)
    >>> import numpy as np
    >>> total(input=np.ones((2, 3)), dim=1).tolist()
    [3.0, 3.0]
    """
    known = _parameters(function)

    @wraps(function)
    def spelling(*args: Any, **settings: Any) -> Any:
        if settings and not settings.keys() <= known.keys():
            settings = translated(function, settings)
        return function(*args, **settings)

    return cast(Function, spelling)


def translated(function: Callable[..., Any], settings: dict[str, Any]) -> dict[str, Any]:
    """``settings`` under the names that ``function`` has for them; what it has no name for stays as it is.

    >>> translated(lambda x, axis: None, {"dim": 1})
    {'axis': 1}

    Raises TypeError where both names of an argument are given.
    """
    known = _parameters(function)
    found: dict[str, Any] = {}
    spelt: dict[str, str] = {}
    for name, value in settings.items():
        ours = name if name in known else next((each for each in _OURS.get(name, ()) if each in known), name)
        if ours in found:
            two = f"{spelt[ours]!r} and {name!r}"
            raise TypeError(f"{function.__name__}() got {two}, which are two names of one argument")
        found[ours], spelt[ours] = value, name
    return found


@lru_cache(512)
def _parameters(function: Callable[..., Any]) -> dict[str, None]:
    """The names that a function has for its arguments; none, if it takes any name."""
    parameters = inspect.signature(function).parameters.values()
    takes_any = any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters)
    return {} if takes_any else {each.name: None for each in parameters}
