"""``Module``, the base of all layers; ``Parameter``, a tensor that is learned; ``Buffer``, one that is only kept."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self, TypeVar

import numpy as np

from gpunn.backend import Array, asarray, check_device, device_context, device_of, is_array
from gpunn.errors import ArgumentError, DtypeError, ShapeError, check
from gpunn.graph import copy_of
from gpunn.observer import Observer, observers
from gpunn.spelling import translated
from gpunn.tensor import Tensor, no_grad


class Parameter(Tensor):
    """A Tensor that a module learns: it requires a gradient, and :meth:`Module.parameters` finds it.

    It begins as a copy of ``data``.

    >>> Parameter(np.zeros(2, np.float32))
    tensor([0., 0.], dtype=float32, requires_grad=True)
    """

    __slots__ = ()

    def __init__(self, data: Array) -> None:
        super().__init__(data, requires_grad=True)


class Buffer(Tensor):
    """A Tensor that a module keeps beside its parameters: saved and moved with them, but not learned.

    It begins as a copy of ``data``.

    >>> Buffer(np.zeros(2, np.float32)).requires_grad
    False
    """

    __slots__ = ()

    def __init__(self, data: Array) -> None:
        super().__init__(data)
        self.hold(copy_of(self.data))
        self._memory[1] = False  # nobody else holds it


Held = TypeVar("Held")


def _each_once(named: Iterator[tuple[str, Held]]) -> Iterator[tuple[str, Held]]:
    seen: set[int] = set()
    for name, held in named:
        if id(held) not in seen:
            seen.add(id(held))
            yield name, held


class _Visits(Observer):
    def __init__(self) -> None:
        self.seen: list[tuple[Module, Any]] = []

    def around_module(self, module: Module, run: Callable[..., Any]) -> Callable[..., Any]:
        def visited(*args: Any, **settings: Any) -> Any:
            y = run(*args, **settings)
            self.seen.append((module, y))
            return y

        return visited


@contextmanager
def visiting() -> Iterator[list[tuple[Module, Any]]]:
    """A context that lists each module that runs, with its output, behind those that run inside it."""
    with _Visits() as visits:
        yield visits.seen


def _shape_text(y: Any) -> str:
    """``(N, 3)`` for an array of shape (1, 3); a tuple gives a tuple of such texts, a dict its keys with them."""
    if isinstance(y, tuple | list):
        return f"({', '.join(map(_shape_text, y))})"
    if isinstance(y, Mapping):
        return f"{{{', '.join(f'{key}: {_shape_text(value)}' for key, value in y.items())}}}"
    if not hasattr(y, "shape"):
        return type(y).__name__
    sizes = ["N" if axis == 0 and size == 1 else str(size) for axis, size in enumerate(y.shape)]
    return f"({', '.join(sizes)}{',' if len(sizes) == 1 else ''})"


def _setting_text(value: Any) -> str | None:
    """How a layer's listing shows one of its attributes; None for what it leaves out."""
    if isinstance(value, Tensor):
        return repr(value.shape)
    plain = all(
        isinstance(item, bool | int | float | str | None) for item in (value if isinstance(value, tuple) else (value,))
    )
    return repr(value) if plain else None


class Module:
    """A function with parameters. A subclass sets parameters, buffers and modules as attributes, and has a ``forward``.

    What an attribute holds of these can be replaced by its like, or by None, and by nothing else: DtypeError, which is
    a TypeError. Modules in a plain list or dict would not be found: DtypeError at the first call, and when the module
    is saved, moved or trained; :class:`~gpunn.nn.ModuleList` is a list whose modules are.

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
    _places: tuple[tuple[str, type[Tensor | Module]], ...] = ()  # what belongs where None is, by name
    _called = False

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; TypeError for what would push a parameter, buffer or module out of the module's state."""
        if name in (own := vars(self)):
            kind = _kind(own[name]) if own[name] is not None else dict(self._places).get(name)
            if kind is not None and not isinstance(value, kind):
                rule = f"{name} can become another {kind.__name__} or None, and nothing else"
                rule += "" if kind is Module else f"; new values go in by `with no_grad(): {name}[...] = ...`"
                check(value is None, DtypeError, type(self).__name__, rule, type=type(value).__name__)
                super().__setattr__("_places", (*self._places, (name, kind)))
        super().__setattr__(name, value)

    def forward(self, *args: Any, **settings: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} must define forward")

    def __call__(self, *args: Any, **settings: Any) -> Any:
        if not self._called:
            self._check_found()
            for module in self.modules():
                vars(module)["_called"] = True
        run: Callable[..., Any] = self.forward
        for observer in observers.get():
            run = observer.around_module(self, run)
        if settings:
            settings = translated(getattr(self.forward, "__func__", self.forward), settings)
        return run(*args, **settings)

    def __repr__(self) -> str:
        """The modules inside as a nested listing; a layer with its settings, parameters by their shapes."""
        public = ((name, value) for name, value in vars(self).items() if name[0] != "_" and name != "training")
        shown = [f"{name}={text}" for name, value in public if (text := _setting_text(value)) is not None]
        lines = [f"{type(self).__name__}({', '.join(shown)}"]
        lines += [f"({name}): {child!r}".replace("\n", "\n  ") for name, child in self.named_children()]
        return "\n  ".join(lines) + ("\n)" if len(lines) > 1 else ")")

    # ---- what it holds --------------------------------------------------------------------------------------------

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The modules held directly, by attribute name, in the order in which they were set."""
        return ((name, value) for name, value in vars(self).items() if isinstance(value, Module))

    def _walk(self, name: str = "") -> Iterator[tuple[str, Module]]:
        yield name, self
        for own, child in self.named_children():
            yield from child._walk(f"{name}.{own}" if name else own)

    def named_modules(self) -> Iterator[tuple[str, Module]]:
        """This module (its name is empty) and all inside it, with dotted names; one that is held twice comes once."""
        return _each_once(self._walk())

    def modules(self) -> Iterator[Module]:
        """This module and all modules inside it, each once."""
        return (module for _, module in self.named_modules())

    def named_parameters(self, prefix: str = "") -> Iterator[tuple[str, Parameter]]:
        """All parameters with their dotted names; one that is held twice comes once."""
        return _each_once(self._all_named(Parameter, prefix))

    def named_buffers(self, prefix: str = "") -> Iterator[tuple[str, Buffer]]:
        """All buffers with their dotted names; one that is held twice comes once."""
        return _each_once(self._all_named(Buffer, prefix))

    def _all_named(self, kind: type[Held], prefix: str) -> Iterator[tuple[str, Held]]:
        for path, module in self._walk():
            for name, value in vars(module).items():
                if isinstance(value, kind):
                    yield f"{prefix}{path}.{name}" if path else prefix + name, value

    def _check_found(self) -> None:
        """Refuse parameters, buffers and modules in plain lists and dicts: saving, training and moving miss them."""
        walked = list(_each_once(self._walk()))
        found = {id(held) for _, module in walked for held in (module, *vars(module).values())}
        for path, module in walked:
            for name, value in vars(module).items():
                for held in _in_containers(value):
                    where = f"{path}.{name}" if path else name
                    rule = "what a plain list or dict holds is not found: use nn.ModuleList, or attributes"
                    fits = id(held) in found
                    check(fits, DtypeError, type(self).__name__, rule, attribute=where, type=type(held).__name__)

    def _state(self) -> dict[str, Tensor]:
        self._check_found()
        return {**dict(self.named_parameters()), **dict(self.named_buffers())}

    def parameters(self) -> list[Parameter]:
        """All parameters, each once."""
        self._check_found()
        return [parameter for _, parameter in self.named_parameters()]

    def state_dict(self) -> dict[str, Array]:
        """A copy of the array of every parameter and every buffer, by name."""
        state = {}
        for name, held in self._state().items():
            with device_context(held.data):  # CuPy copies to the current device
                state[name] = held.data.copy()
        return state

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
            with device_context(held.data):
                held.data[...] = asarray(state[name], device=held.device)
            held.mark_changed()

    # ---- what it does ---------------------------------------------------------------------------------------------

    def train(self, mode: bool = True) -> Self:
        """Switch this module and those inside it to training (or, with False, to evaluation)."""
        self._check_found()
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Self:
        """Switch to evaluation: ``train(False)``."""
        return self.train(False)

    @contextmanager
    def evaluating(self) -> Iterator[Self]:
        """A context in evaluation; each module inside then goes back to the mode it was in.

        Several threads may be in it at once: the last to leave gives the modes back.
        """
        modules = list(self.modules())
        with _evaluations_lock:
            for module in modules:
                count, mode = _evaluations.get(id(module), (0, module.training))
                _evaluations[id(module)] = count + 1, mode
            self.eval()
        try:
            yield self
        finally:
            with _evaluations_lock:
                for module in modules:
                    count, mode = _evaluations.pop(id(module))
                    if count > 1:
                        _evaluations[id(module)] = count - 1, mode
                    else:
                        module.training = mode

    def zero_grad(self) -> None:
        """Forget the gradients of all parameters."""
        for _, parameter in self.named_parameters():
            parameter.grad = None

    def requires_grad_(self, mode: bool = True) -> Self:
        """Let all parameters learn or, with False, freeze them: no gradient is computed, and the old one forgotten.

        >>> from gpunn import nn
        >>> net = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
        >>> _ = net[0].requires_grad_(False)
        >>> [name for name, parameter in net.named_parameters() if parameter.requires_grad]
        ['2.weight', '2.bias']
        """
        for parameter in self.parameters():
            parameter.requires_grad = mode
            parameter.grad = parameter.grad if mode else None
        return self

    def apply(self, function: Callable[[Module], object]) -> Self:
        """Call ``function`` with every module inside this one, then with this one."""
        for _, child in self.named_children():
            child.apply(function)
        function(self)
        return self

    def to(self, device: str) -> Self:
        """Move all parameters and buffers to ``device``; make optimizers afterwards."""
        device = check_device(device)
        for held in self._state().values():
            if device_of(held.data) != device:
                held.hold(asarray(held.data, device=device))
                held.grad = None
        return self

    def _run(self, x: Array) -> list[tuple[Module, Any]]:
        """The modules that run on x, in evaluation mode, and their outputs; each behind those inside it."""
        with visiting() as visits, no_grad(), self.evaluating(), device_context(x):
            self(x)
        return visits

    def activations(self, x: Array) -> dict[str, Array]:
        """What each layer makes of the input ``x``, by the layer's dotted name, in evaluation mode.

        Of layers without layers inside and with one output; of one that runs several times, the last. What
        :func:`gpunn.plot.activation_statistics` draws.

        >>> from gpunn import nn
        >>> found = nn.Sequential(nn.Linear(4, 3), nn.ReLU()).activations(np.ones((2, 4), np.float32))
        >>> {name: y.shape for name, y in found.items()}
        {'0': (2, 3), '1': (2, 3)}
        """
        names = {id(module): name for name, module in self.named_modules()}
        leaves = ((module, y) for module, y in self._run(x) if not any(module.named_children()))
        return {
            names[id(module)]: getattr(y, "data", y) for module, y in leaves if isinstance(y, Tensor) or is_array(y)
        }

    def summary(self, input_shape: tuple[int, ...], dtype: Any = None) -> str:
        """A table of the layers in the order in which they run, for an input of ``input_shape`` without N.

        The input is of ``dtype`` (default: that of the parameters; give an integer one where ids come in). A layer
        is called by its dotted name. A parameter is counted in the first row that has it; a layer that runs again is
        "shared". The last row counts all parameters, those too that this input did not reach.

        >>> from gpunn import nn
        >>> print(nn.Sequential(nn.Linear(4, 3), nn.ReLU()).summary((4,)))
        name      layer   output shape  parameters  bytes
        0         Linear  (N, 3)                15     60
        1         ReLU    (N, 3)                 0      0
        total                                   15     60
        """
        first = next(iter(self.parameters()), None)
        device = "cpu" if first is None else first.device
        dtype = dtype or (np.float32 if first is None else first.dtype)
        visits = self._run(asarray(np.zeros((1, *input_shape), dtype), device=device))
        names = {id(module): name for name, module in self.named_modules()}
        rows = [("name", "layer", "output shape", "parameters", "bytes")]
        counted: set[int] = set()
        for module, y in visits:
            own = [value for value in vars(module).values() if isinstance(value, Parameter)]
            if own or not any(module.named_children()):
                new = [value for value in own if id(value) not in counted]
                counted.update(map(id, new))
                sizes = _sizes(new) if new or not own else ("shared", "")
                rows.append((names.get(id(module), ""), type(module).__name__, _shape_text(y), *sizes))
        rows.append(("total", "", "", *_sizes(self.parameters())))
        widths = [max(len(row[column]) for row in rows) for column in range(5)]
        widths[0] = max(widths[0], len("total") + 3)
        aligned = [[f"{text:{'<' if at < 3 else '>'}{widths[at]}}" for at, text in enumerate(row)] for row in rows]
        return "\n".join("  ".join(row) for row in aligned)


_evaluations: dict[int, tuple[int, bool]] = {}
"""Of each module, by its id, that is within :meth:`Module.evaluating`: how often, and the mode it was in before."""

_evaluations_lock = threading.RLock()

_HELD = (Parameter, Buffer, Module)
_CONTAINERS = (list, tuple, set, frozenset, dict)


def _kind(value: Any) -> type[Tensor | Module] | None:
    return next((kind for kind in _HELD if isinstance(value, kind)), None)


def _in_containers(value: Any) -> Iterator[Parameter | Buffer | Module]:
    """What the lists, tuples, sets and dicts that ``value`` is, or holds, have of what a module can hold."""
    pending = [value] if isinstance(value, _CONTAINERS) else []
    seen: set[int] = set()
    while pending:
        container = pending.pop()
        seen.add(id(container))
        for item in container.values() if isinstance(container, dict) else container:
            if isinstance(item, _HELD):
                yield item
            elif isinstance(item, _CONTAINERS) and id(item) not in seen:
                pending.append(item)


def _sizes(parameters: list[Parameter]) -> tuple[str, str]:
    """Their elements and their bytes, for the summary."""
    return f"{sum(p.size for p in parameters):,}", f"{sum(p.data.nbytes for p in parameters):,}"
