"""An exponential moving average of weights, which often does better on new data than the last weights do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from gpunn.backend import Array, accumulation_dtype, asarray, device_context
from gpunn.context import context
from gpunn.errors import ArgumentError, ShapeError, check
from gpunn.optim.group import named_tensors, plain
from gpunn.optim.optimizer import check_names, check_range
from gpunn.tensor import Tensor


class EMA:
    """``a = decay a + (1 - decay) p`` for each parameter; a begins as a copy of p.

    ``parameters`` are tensors, or (name, tensor) as ``model.named_parameters()`` gives them. The averages of float16
    parameters are float32. The buffers of a model, such as running means, are not averaged. Source: Polyak and
    Juditsky 1992, for averages of iterates.

    >>> import gpunn
    >>> p = gpunn.tensor([1.0], requires_grad=True)
    >>> ema = EMA([p], decay=0.75)
    >>> p.data[:] = 5
    >>> ema.update()
    >>> with ema.averages():
    ...     p.item()
    2.0
    >>> p.item()
    5.0

    Raises ArgumentError for a decay outside [0, 1), or an empty list.
    """

    def __init__(self, parameters: Iterable[Tensor] | Iterable[tuple[str, Tensor]], decay: float = 0.999) -> None:
        check_range("EMA", "decay", decay, 1.0)
        self.decay = decay
        named = named_tensors("EMA", parameters)
        check(bool(named), ArgumentError, "EMA", "there must be at least one parameter")
        self._parameters = dict(named)
        check(len(self._parameters) == len(named), ArgumentError, "EMA", "names must be of one parameter each")
        self._averages: dict[str, Array] = {}
        for name, p in named:
            with device_context(p.data):
                self._averages[name] = p.data.astype(accumulation_dtype(p.dtype))
        self._swapped = False

    def update(self) -> None:
        """Take the present weights into the averages: after each step of the optimizer."""
        check(not self._swapped, ArgumentError, "EMA", "update is for the trained weights, not within averages()")
        for name, p in self._parameters.items():
            average = self._averages[name]
            with device_context(average):
                average += (1 - self.decay) * (p.data.astype(average.dtype, copy=False) - average)

    @context
    def averages(self) -> Iterator[None]:
        """A context in which the parameters are the averages; afterwards they are the trained weights again."""
        check(not self._swapped, ArgumentError, "EMA", "averages() is entered already")
        trained = _copies({name: p.data for name, p in self._parameters.items()})
        self._write(self._averages)
        self._swapped = True
        try:
            yield
        finally:
            self._write(trained)
            self._swapped = False

    def _write(self, arrays: Mapping[str, Array]) -> None:
        for name, p in self._parameters.items():
            with device_context(p.data):
                p.data[...] = arrays[name]  # in place: an optimizer holds a view
            p.mark_changed()

    def __getstate__(self) -> dict[str, Any]:
        check(not self._swapped, ArgumentError, "EMA", "within averages() it cannot be copied or pickled")
        return vars(self)

    def state_dict(self) -> dict[str, Any]:
        """A copy of the averages, by the names ``averages.<name>``, and ``decay``."""
        return {"decay": self.decay} | {f"averages.{name}": a for name, a in _copies(self._averages).items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take averages and decay from a :meth:`state_dict`; if a name, shape or dtype differs, change nothing."""
        check_names("EMA", {"decay"} | {f"averages.{name}" for name in self._averages}, state)
        decay = plain(state["decay"])
        check_range("EMA", "decay", decay, 1.0)
        for name, own in self._averages.items():
            array = state[f"averages.{name}"]
            check(array.shape == own.shape, ShapeError, "EMA", f"{name} must have shape {own.shape}", shape=array.shape)
            check(array.dtype == own.dtype, ArgumentError, "EMA", f"{name} must be {own.dtype}", dtype=str(array.dtype))
        self.decay = decay
        for name, own in self._averages.items():
            with device_context(own):
                own[...] = asarray(state[f"averages.{name}"], device=self._parameters[name].device)


def _copies(arrays: Mapping[str, Array]) -> dict[str, Array]:
    copies = {}
    for name, a in arrays.items():
        with device_context(a):
            copies[name] = a.copy()
    return copies
