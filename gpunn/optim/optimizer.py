"""The base of the optimizers: one flat buffer that holds every parameter, and one that holds every gradient.

A step is then one kernel, or a few operations on long arrays, however many parameters there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from gpunn.backend import Array, accumulation_dtype, get_array_module
from gpunn.errors import ArgumentError, DeviceError, check
from gpunn.tensor import Tensor


class Optimizer:
    """Moves ``parameters`` into one buffer, of which each ``parameter.data`` becomes a view.

    A subclass defines :meth:`update`. Parameters without a gradient stay as they are in a step. ``lr`` may be
    changed between steps.
    """

    def __init__(self, parameters: Iterable[Tensor], lr: float) -> None:
        op = type(self).__name__
        self._parameters = list(parameters)
        check(bool(self._parameters), ArgumentError, op, "there must be at least one parameter")
        check_range(op, "lr", lr)
        self.lr = lr
        learned = all(isinstance(p, Tensor) and p.requires_grad for p in self._parameters)
        check(learned, ArgumentError, op, "parameters must be tensors with requires_grad=True")
        once = len({id(p) for p in self._parameters}) == len(self._parameters)
        check(once, ArgumentError, op, "each parameter must be given once")
        devices = sorted({p.device for p in self._parameters})
        check(len(devices) == 1, DeviceError, op, "parameters must be on one device", devices=devices)
        dtypes = sorted({str(p.dtype) for p in self._parameters})
        check(len(dtypes) == 1, ArgumentError, op, "parameters must have one dtype", dtypes=dtypes)

        xp = get_array_module(self._parameters[0].data)
        self._flat = xp.concatenate([p.data.ravel() for p in self._parameters])
        self._gradient = xp.zeros_like(self._flat)
        ends = np.cumsum([p.size for p in self._parameters]).tolist()
        self._slices = [slice(end - p.size, end) for end, p in zip(ends, self._parameters, strict=True)]
        self._views = [self._flat[s].reshape(p.shape) for s, p in zip(self._slices, self._parameters, strict=True)]
        for parameter, view in zip(self._parameters, self._views, strict=True):
            parameter.data = view
        self._steps = [0] * len(self._parameters)

    def zero_grad(self) -> None:
        """Forget the gradients, so that the next backward pass starts from none."""
        for parameter in self._parameters:
            parameter.grad = None

    def step(self) -> None:
        """Update every parameter that has a gradient."""
        for number, (parameter, view) in enumerate(zip(self._parameters, self._views, strict=True)):
            rule = "a parameter was moved or replaced after the optimizer was made; make the optimizer afterwards"
            check(parameter.data is view, ArgumentError, type(self).__name__, rule, parameter=number)
        for number, parameter in enumerate(self._parameters):
            if parameter.grad is not None:
                self._gradient[self._slices[number]] = parameter.grad.ravel()
                self._steps[number] += 1
                parameter.mark_changed()
        for part, steps in self._runs():
            self.update(self._flat[part], self._gradient[part], part, steps)

    def _runs(self) -> Iterator[tuple[slice, int]]:
        """The longest stretches of the buffer whose parameters all have gradients and took the same number of steps."""
        start = end = steps = 0
        for parameter, part, count in zip(self._parameters, self._slices, self._steps, strict=True):
            has_gradient = parameter.grad is not None
            if end > start and not (has_gradient and count == steps):
                yield slice(start, end), steps
                start = end = part.start
            if has_gradient:
                if end == start:
                    start, steps = part.start, count
                end = part.stop
        if end > start:
            yield slice(start, end), steps

    def update(self, p: Array, g: Array, part: slice, steps: int) -> None:
        """Change ``p`` in place, given its gradient ``g``.

        Both are flat; ``part`` is where they lie in the buffer, ``steps`` counts this step, from 1.
        """
        raise NotImplementedError

    def _state(self) -> Array:
        """Zeros beside each parameter of the buffer, in float32 for float16 parameters."""
        xp = get_array_module(self._flat)
        return xp.zeros(self._flat.shape, accumulation_dtype(self._flat.dtype))


def check_range(op: str, name: str, value: float, below: float = float("inf")) -> None:
    """Check that ``0 <= value < below``."""
    rule = f"{name} must be at least 0" + (f" and less than {below}" if below < float("inf") else " and finite")
    check(0 <= value < below, ArgumentError, op, rule, **{name: value})
