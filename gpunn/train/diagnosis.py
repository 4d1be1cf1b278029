"""Where in a network a number stopped being finite."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from gpunn.backend import get_array_module, is_floating
from gpunn.graph import arrays_in
from gpunn.nn import Module, Parameter
from gpunn.nn.module import visiting
from gpunn.tensor import Tensor

NOWHERE = "nowhere"
"""How the answer begins where everything is finite."""


def first_not_finite(model: Module, loss: Callable[[Any], tuple[Tensor, int]], batches: Iterable[Any]) -> str:
    """Run ``loss`` forward and backward on each of ``batches`` again, and say where infinity or NaN comes first.

    A module counts by its output, and on the way back by the gradients of its own parameters. Gradients are forgotten.

    >>> from gpunn import nn, tensor
    >>> net = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    >>> net[0].bias.data[0] = np.inf
    >>> first_not_finite(net, lambda x: (net(tensor(x)).sum(), 1), [np.ones((1, 2), np.float32)])
    "forward, in the output of '0' (Linear), whose bias is not finite itself"
    """
    names = {id(module): name for name, module in model.named_modules()}

    def called(module: Module) -> str:
        name = names.get(id(module), "")
        return f"{name!r} ({type(module).__name__})" if name else type(module).__name__

    for batch in batches:
        model.zero_grad()
        if not all(map(_finite, arrays_in(batch))):
            return "in the batch itself"
        with visiting() as visits, np.errstate(all="ignore"):
            value, _ = loss(batch)
        for module, output in visits:
            if not all(map(_finite, arrays_in(output))):
                spoiled = [name for name, p in _own(module) if not _finite(p.data)]
                because = f", whose {spoiled[0]} is not finite itself" if spoiled else ""
                return f"forward, in the output of {called(module)}{because}"
        if not _finite(value.data):
            return "forward, in the loss: the outputs of all modules are finite"
        with np.errstate(all="ignore"):
            value.backward()
        try:
            for module, _ in reversed(visits):
                for name, p in _own(module):
                    if p.grad is not None and not _finite(p.grad):
                        return f"backward, in the gradient of {name} of {called(module)}"
        finally:
            model.zero_grad()
    return f"{NOWHERE}: repeated, the step is finite"


def _own(module: Module) -> Iterator[tuple[str, Parameter]]:
    return module.named_parameters(recurse=False, remove_duplicate=False)


def _finite(x: Any) -> bool:
    return not is_floating(x.dtype) or bool(get_array_module(x).isfinite(x).all())
