"""``Module``, the base of all layers; ``Parameter``, a tensor that is learned; ``Buffer``, one that is only kept."""

from __future__ import annotations

import builtins
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from numbers import Integral
from typing import TYPE_CHECKING, Any, NamedTuple, ParamSpec, Protocol, Self, TypeVar

import numpy as np

from gpunn.backend import (
    Array,
    asarray,
    cast,
    check_array,
    check_device,
    check_holds_array,
    device_context,
    device_of,
    from_dlpack,
    get_array_module,
    half_dtype,
    is_array,
    is_floating,
)
from gpunn.errors import ArgumentError, DtypeError, GpunnError, ShapeError, check, fail
from gpunn.graph import copy_of, raw
from gpunn.nn.hooks import Entry, Hook, Hooks, RemovableHandle
from gpunn.notebook import Table
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

    @property
    def frozen(self) -> bool:
        """Whether it does not learn at present: :meth:`Module.requires_grad_` changes that."""
        return not self.requires_grad

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


class IncompatibleKeys(NamedTuple):
    """The names that :meth:`Module.load_state_dict` missed in a state, and those that it found no place for."""

    missing_keys: list[str]
    unexpected_keys: list[str]


def _each_once(named: Iterator[tuple[str, Held]]) -> Iterator[tuple[str, Held]]:
    seen: set[int] = set()
    for name, held in named:
        if id(held) not in seen:
            seen.add(id(held))
            yield name, held


def ndim_of(layer: Module, x: Any) -> int:
    """``x.ndim``; DtypeError for what is neither a tensor nor an array, as the tuple that a recurrent layer gives."""
    try:
        return x.ndim
    except AttributeError:
        check_array(type(layer).__name__, x=x)
        raise


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


P = ParamSpec("P")
R = TypeVar("R", covariant=True)


class Runs(Protocol[P, R]):
    """What has a ``forward``: a call takes and gives what that does."""

    def forward(self, *args: P.args, **settings: P.kwargs) -> R: ...


class Module:
    """A function with parameters. A subclass sets parameters, buffers and modules as attributes, and has a ``forward``.

    What an attribute holds of these can be replaced by its like, or by None, and by nothing else: DtypeError, which is
    a TypeError. Modules in a plain list or dict would not be found: DtypeError at the first call, and when the module
    is saved, moved or trained; :class:`~gpunn.nn.ModuleList` is a list whose modules are. An error of gpunn's that a
    layer raises names the layer, as in ``..., in features.2 of Net``.

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
    _places: tuple[tuple[str, builtins.type[Tensor | Module]], ...] = ()  # what belongs where None is, by name
    _transient: tuple[str, ...] = ()  # the buffers that are not saved
    _module_hooks: Hooks | None = None
    _looked_through = False  # whether it was looked through for what is not found
    _called = False  # whether a call is that of forward alone: it was looked through, and has no hooks

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

    if TYPE_CHECKING:

        def __call__(self: Runs[P, R], *args: P.args, **settings: P.kwargs) -> R: ...

    else:

        def __call__(self, *args: Any, **settings: Any) -> Any:
            run: Callable[..., Any] = self.forward if self._called else self._prepared()
            for observer in observers.get():
                run = observer.around_module(self, run)
            if settings:
                settings = translated(getattr(self.forward, "__func__", self.forward), settings)
            try:
                return run(*args, **settings)
            except GpunnError as error:
                _name_layer(error, self)
                raise

    def _prepared(self) -> Callable[..., Any]:
        """What a call runs, of a module that has hooks or was not called before."""
        if not self._looked_through:
            self._check_found()
            for module in self.modules():
                vars(module)["_looked_through"], vars(module)["_called"] = True, not module._module_hooks
        hooks = self._module_hooks
        return (lambda *args, **settings: hooks.call(self, args, settings)) if hooks else self.forward

    def __repr__(self) -> str:
        """The modules inside as a nested listing; a layer with :meth:`extra_repr`."""
        lines = [f"{type(self).__name__}({self.extra_repr()}"]
        lines += [f"({name}): {child!r}".replace("\n", "\n  ") for name, child in self.named_children()]
        return "\n  ".join(lines) + ("\n)" if len(lines) > 1 else ")")

    def extra_repr(self) -> str:
        """What the listing shows of the module itself: its settings, and parameters by their shapes."""
        public = ((name, value) for name, value in vars(self).items() if name[0] != "_" and name != "training")
        return ", ".join(f"{name}={text}" for name, value in public if (text := _setting_text(value)) is not None)

    # ---- hooks ----------------------------------------------------------------------------------------------------

    def register_forward_pre_hook(
        self, hook: Hook, *, prepend: bool = False, with_kwargs: bool = False
    ) -> RemovableHandle:
        """Have ``hook(module, args)`` called before :meth:`forward`; what it gives, if not None, takes args' place.

        With ``with_kwargs`` it is ``hook(module, args, kwargs)``, and gives both or None. ``prepend`` has it run before
        those that are there.

        >>> from gpunn import nn
        >>> layer = nn.Identity()
        >>> _ = layer.register_forward_pre_hook(lambda module, args: args[0] + 1)
        >>> layer(1)
        2
        """
        return self._add_hook("before", hook, prepend, with_kwargs)

    def register_forward_hook(self, hook: Hook, *, prepend: bool = False, with_kwargs: bool = False) -> RemovableHandle:
        """Have ``hook(module, args, output)`` called after :meth:`forward`; what it gives, if not None, is the output.

        With ``with_kwargs`` it is ``hook(module, args, kwargs, output)``.

        >>> from gpunn import nn
        >>> net, seen = nn.Sequential(nn.Linear(4, 3), nn.ReLU()), []
        >>> handle = net[0].register_forward_hook(lambda module, args, output: seen.append(output.shape))
        >>> _ = net(np.zeros((2, 4), np.float32))
        >>> handle.remove()
        >>> seen
        [(2, 3)]
        """
        return self._add_hook("after", hook, prepend, with_kwargs)

    def register_full_backward_hook(self, hook: Hook, prepend: bool = False) -> RemovableHandle:
        """Have ``hook(module, grad_input, grad_output)`` called when the gradients of the module's inputs are known.

        Both are tuples of raw arrays, one for each argument given by position, and one for each output; None for what
        has no gradient. If the hook gives a tuple, it takes the place of ``grad_input``. The output is a tensor, or a
        tuple or list of them.

        >>> import gpunn
        >>> layer, seen = gpunn.nn.Linear(2, 1), []
        >>> handle = layer.register_full_backward_hook(lambda module, gx, gy: seen.append((gx[0].shape, gy[0].shape)))
        >>> layer(gpunn.tensor([[1.0, 2.0]], requires_grad=True)).sum().backward()
        >>> seen
        [((1, 2), (1, 1))]
        """
        return self._add_hook("backward", hook, prepend)

    def register_full_backward_pre_hook(self, hook: Hook, prepend: bool = False) -> RemovableHandle:
        """Have ``hook(module, grad_output)`` called before the gradients of the module are computed.

        If it gives a tuple, that takes the place of ``grad_output``; see :meth:`register_full_backward_hook`.
        """
        return self._add_hook("backward_before", hook, prepend)

    def _add_hook(self, kind: str, hook: Hook, prepend: bool, with_kwargs: bool = False) -> RemovableHandle:
        check(callable(hook), DtypeError, type(self).__name__, "a hook is a function", type=type(hook).__name__)
        if self._module_hooks is None:
            vars(self)["_module_hooks"] = Hooks()
        vars(self)["_called"] = False
        return RemovableHandle(getattr(self._module_hooks, kind), Entry(hook, with_kwargs), prepend)

    # ---- what it holds --------------------------------------------------------------------------------------------

    def register_buffer(self, name: str, tensor: Tensor | Array | None, persistent: bool = True) -> None:
        """Hold a :class:`Buffer` by that name; one that is not ``persistent`` is not in the :meth:`state_dict`.

        >>> from gpunn import nn
        >>> module = nn.Module()
        >>> module.register_buffer("mean", np.zeros(3, np.float32))
        >>> module.register_buffer("cache", np.zeros(9, np.float32), persistent=False)
        >>> list(module.state_dict()), [name for name, _ in module.named_buffers()]
        (['mean'], ['mean', 'cache'])
        """
        array = None if tensor is None else raw(tensor)
        if array is not None:
            check_array("register_buffer", tensor=array)
        self._hold(name, Buffer, tensor if array is None or isinstance(tensor, Buffer) else Buffer(array))
        vars(self)["_transient"] = (*(n for n in self._transient if n != name), *([] if persistent else [name]))

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Hold a :class:`Parameter` by that name, or None in its place."""
        self._hold(name, Parameter, param)

    def add_module(self, name: str, module: Module | None) -> None:
        """Hold a module by that name, or None in its place."""
        self._hold(name, Module, module)

    def register_module(self, name: str, module: Module | None) -> None:
        """:meth:`add_module`, by its other name."""
        self.add_module(name, module)

    def _hold(self, name: str, kind: builtins.type[Any], value: Any) -> None:
        op = type(self).__name__
        check(isinstance(name, str) and name != "", ArgumentError, op, "a name is a string, not empty", name=name)
        check("." not in name, ArgumentError, op, "a name has no dot", name=name)
        fits = value is None or isinstance(value, kind)
        check(fits, DtypeError, op, f"{name} must be a {kind.__name__} or None", type=type(value).__name__)
        held = vars(self).get(name)
        free = isinstance(held, kind) or dict(self._places).get(name) is kind or not hasattr(self, name)
        check(free, ArgumentError, op, "there is such an attribute", name=name)
        if value is None and held is None:
            vars(self)["_places"] = (*self._places, (name, kind))
        setattr(self, name, value)

    def get_submodule(self, target: str) -> Module:
        """The module of a dotted name, as :meth:`named_modules` gives them; itself for an empty one.

        >>> from gpunn import nn
        >>> nn.Sequential(nn.Sequential(nn.ReLU())).get_submodule("0.0")
        ReLU()

        Raises ArgumentError if there is none.
        """
        module = self
        for part in target.split(".") if target else ():
            inside = dict(module.named_children()).get(part)
            if inside is None:
                fail(ArgumentError, type(self).__name__, "there is no such module", target=target, part=part)
            module = inside
        return module

    def get_parameter(self, target: str) -> Parameter:
        """The parameter of a dotted name; ArgumentError if there is none."""
        return self._get_held(Parameter, target)

    def get_buffer(self, target: str) -> Buffer:
        """The buffer of a dotted name; ArgumentError if there is none."""
        return self._get_held(Buffer, target)

    def _get_held(self, kind: builtins.type[Held], target: str) -> Held:
        path, _, name = target.rpartition(".")
        held = dict(self.get_submodule(path)._named_held()).get(name)
        if not isinstance(held, kind):
            fail(ArgumentError, type(self).__name__, f"there is no such {kind.__name__.lower()}", target=target)
        return held

    def children(self) -> Iterator[Module]:
        """The modules held directly, each once."""
        return (module for _, module in _each_once(self.named_children()))

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The modules held directly, by attribute name, in the order in which they were set."""
        return ((name, value) for name, value in vars(self).items() if isinstance(value, Module))

    def _named_held(self) -> Iterable[tuple[str, Any]]:
        """What the module holds itself, among other things its parameters and buffers, by name."""
        return vars(self).items()

    def _walk(self, name: str = "") -> Iterator[tuple[str, Module]]:
        yield name, self
        for own, child in self.named_children():
            yield from child._walk(f"{name}.{own}" if name else own)

    def named_modules(self, prefix: str = "", remove_duplicate: bool = True) -> Iterator[tuple[str, Module]]:
        """This module, whose name is ``prefix``, and all inside it, with dotted names.

        One that is held twice comes once if ``remove_duplicate``.
        """
        return _each_once(self._walk(prefix)) if remove_duplicate else self._walk(prefix)

    def modules(self) -> Iterator[Module]:
        """This module and all modules inside it, each once."""
        return (module for _, module in self.named_modules())

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """All parameters with their dotted names, behind ``prefix`` and a dot if that is given.

        Those of the modules inside only if ``recurse``; one that is held twice comes once if ``remove_duplicate``.
        """
        named = self._all_named(Parameter, prefix, recurse)
        return _each_once(named) if remove_duplicate else named

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Buffer]]:
        """All buffers with their dotted names, as :meth:`named_parameters` gives parameters."""
        named = self._all_named(Buffer, prefix, recurse)
        return _each_once(named) if remove_duplicate else named

    def _all_named(self, kind: builtins.type[Held], prefix: str, recurse: bool = True) -> Iterator[tuple[str, Held]]:
        for path, module in self._walk(prefix) if recurse else [(prefix, self)]:
            for name, value in module._named_held():
                if isinstance(value, kind):
                    yield f"{path}.{name}" if path else name, value

    def _check_found(self) -> None:
        """Refuse parameters, buffers and modules in plain lists and dicts: saving, training and moving miss them."""
        walked = list(_each_once(self._walk()))
        found = {id(module) for _, module in walked}
        found |= {id(held) for _, module in walked for _, held in module._named_held()}
        for path, module in walked:
            for name, value in vars(module).items():
                for held in _in_containers(value):
                    where = f"{path}.{name}" if path else name
                    rule = "what a plain list or dict holds is not found: use nn.ModuleList, or attributes"
                    fits = id(held) in found
                    check(fits, DtypeError, type(self).__name__, rule, attribute=where, type=type(held).__name__)

    def _all_held(self) -> dict[str, Tensor]:
        self._check_found()
        return {**dict(self.named_parameters()), **dict(self.named_buffers())}

    def _state(self) -> dict[str, Tensor]:
        """What is saved."""
        held, unsaved = self._all_held(), set()
        for path, module in self._walk():
            unsaved |= {f"{path}.{name}" if path else name for name in module._transient}
        return {name: each for name, each in held.items() if name not in unsaved} if unsaved else held

    def parameters(self, recurse: bool = True) -> list[Parameter]:
        """All parameters, each once; without those of the modules inside unless ``recurse``."""
        self._check_found()
        return [parameter for _, parameter in self.named_parameters(recurse=recurse)]

    def buffers(self, recurse: bool = True) -> list[Buffer]:
        """All buffers, each once; without those of the modules inside unless ``recurse``."""
        self._check_found()
        return [buffer for _, buffer in self.named_buffers(recurse=recurse)]

    def state_dict(self, *, prefix: str = "") -> dict[str, Array]:
        """A copy of the array of every parameter and every buffer that is saved, by name, behind ``prefix``."""
        state = {}
        for name, held in self._state().items():
            with device_context(held.data):  # CuPy copies to the current device
                state[prefix + name] = held.data.copy()
        return state

    def load_state_dict(self, state_dict: Mapping[str, Array | Tensor], strict: bool = True) -> IncompatibleKeys:
        """Copy arrays into what has the same names here; if a name, shape or dtype differs, nothing is changed.

        Arrays of other libraries are taken by DLPack, such as the tensors of PyTorch's ``state_dict()``. With
        ``strict=False`` names may differ: what is not in both stays as it is. Returns the names that were missing, and
        those that were not expected.

        >>> from gpunn import nn
        >>> nn.Linear(2, 1).load_state_dict({"weight": np.ones((1, 2), np.float32), "scale": 3}, strict=False)
        IncompatibleKeys(missing_keys=['bias'], unexpected_keys=['scale'])
        """
        given = isinstance(state_dict, Mapping)
        check(given, DtypeError, "load_state_dict", "a state must be a dict", type=type(state_dict).__name__)
        own, state = self._state(), {name: _array(raw(value)) for name, value in state_dict.items()}
        missing, unknown = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
        rule = "the names must be those of the module's parameters and buffers"
        fits = not (strict and (missing or unknown))
        check(fits, ArgumentError, "load_state_dict", rule, missing=missing, unknown=unknown)
        own = {name: held for name, held in own.items() if name in state}
        for name, held in own.items():
            array = state[name]
            check_holds_array("load_state_dict", name, array)
            fits = array.shape == held.shape
            check(fits, ShapeError, "load_state_dict", f"{name} must have shape {held.shape}", shape=array.shape)
            same = array.dtype == held.dtype
            check(same, ArgumentError, "load_state_dict", f"{name} must be {held.dtype}", dtype=str(array.dtype))
        for name, held in own.items():
            with device_context(held.data):
                held.data[...] = asarray(state[name], device=held.device)
            held.mark_changed()
        return IncompatibleKeys(missing, unknown)

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

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters, or make them 0."""
        for _, parameter in self.named_parameters():
            if set_to_none:
                parameter.grad = None
            elif parameter.grad is not None:
                with device_context(parameter.grad):
                    parameter.grad = get_array_module(parameter.grad).zeros_like(parameter.grad)

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

    def to(self, device: str | Any = None, dtype: Any = None) -> Self:
        """Move all parameters and buffers to ``device``, and give those of floats the ``dtype``.

        Either is enough, and a dtype may come alone: ``to(np.float64)``. Make optimizers afterwards.

        >>> from gpunn import nn
        >>> nn.Linear(3, 2).to(np.float64).weight.dtype
        dtype('float64')
        """
        if device is not None and not isinstance(device, str):
            rule = "to takes a device and a dtype"
            check(dtype is None, ArgumentError, type(self).__name__, rule, device=device, dtype=dtype)
            device, dtype = None, device
        where = None if device is None else check_device(device)
        kind = None if dtype is None else _float_dtype(type(self).__name__, dtype)
        for held in self._all_held().values():
            array = held.data
            if where is not None and device_of(array) != where:
                array = asarray(array, device=where)
            if kind is not None and is_floating(array.dtype):
                array = cast(array, kind)
            if array is not held.data:
                held.hold(array)
                held.grad = None
        return self

    def cpu(self) -> Self:
        """``to("cpu")``."""
        return self.to("cpu")

    def cuda(self, device: int | None = None) -> Self:
        """To the GPU, or the one of that number."""
        return self.to("gpu" if device is None else f"gpu:{device}")

    def float(self) -> Self:
        """Parameters and buffers of floats in float32: ``to(np.float32)``."""
        return self.to(np.float32)

    def double(self) -> Self:
        """Parameters and buffers of floats in float64."""
        return self.to(np.float64)

    def half(self) -> Self:
        """Parameters and buffers of floats in float16."""
        return self.to(np.float16)

    def bfloat16(self) -> Self:
        """Parameters and buffers of floats in bfloat16, of the package ``ml_dtypes``."""
        return self.to(half_dtype("bfloat16", "bf16"))

    def type(self, dst_type: Any) -> Self:
        """Parameters and buffers of floats in ``dst_type``: ``to(dst_type)``."""
        return self.to(dtype=dst_type)

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

    def summary(self, input_shape: tuple[int, ...], dtype: Any = None) -> Table:
        """A table of the layers in the order in which they run, for an input of ``input_shape`` without N.

        It is a text, which a notebook shows as a table.

        The input is of ``dtype`` (default: that of the parameters; give an integer one where ids come in). A layer
        is called by its dotted name. A parameter is counted in the first row that has it; a layer that runs again is
        "shared". The last row counts all parameters, those too that this input did not reach.

        >>> from gpunn import nn
        >>> print(nn.Sequential(nn.Linear(4, 3), nn.ReLU()).summary((4,)))
        name      layer   output shape  parameters  bytes
        0         Linear  (N, 3)                15     60
        1         ReLU    (N, 3)                 0      0
        total                                   15     60

        Raises ArgumentError where ``input_shape`` is an input, or anything but sizes.
        """
        listed = isinstance(input_shape, tuple | list) and all(
            isinstance(size, Integral) and size >= 0 for size in input_shape
        )
        rule = "input_shape must be the sizes of one example, as x.shape[1:]"
        check(listed, ArgumentError, "summary", rule, type=type(input_shape).__name__)
        first = next(iter(self.parameters()), None)
        device = "cpu" if first is None else first.device
        dtype = dtype or (np.float32 if first is None else first.dtype)
        visits = self._run(asarray(np.zeros((1, *input_shape), dtype), device=device))
        names = {id(module): name for name, module in self.named_modules()}
        rows = [("name", "layer", "output shape", "parameters", "bytes")]
        counted: set[int] = set()
        for module, y in visits:
            own = [value for _, value in module._named_held() if isinstance(value, Parameter)]
            if own or not any(module.named_children()):
                new = [value for value in own if id(value) not in counted]
                counted.update(map(id, new))
                sizes = _sizes(new) if new or not own else ("shared", "")
                rows.append((names.get(id(module), ""), type(module).__name__, _shape_text(y), *sizes))
        rows.append(("total", "", "", *_sizes(self.parameters())))
        widths = [max(len(row[column]) for row in rows) for column in range(5)]
        widths[0] = max(widths[0], len("total") + 3)
        aligned = [[f"{text:{'<' if at < 3 else '>'}{widths[at]}}" for at, text in enumerate(row)] for row in rows]
        return Table("\n".join("  ".join(row) for row in aligned), rows, left=3, sums=1)


_evaluations: dict[int, tuple[int, bool]] = {}
"""Of each module, by its id, that is within :meth:`Module.evaluating`: how often, and the mode it was in before."""

_evaluations_lock = threading.RLock()

_HELD = (Parameter, Buffer, Module)
_CONTAINERS = (list, tuple, set, frozenset, dict)


def _float_dtype(op: str, dtype: Any) -> np.dtype[Any]:
    try:
        kind: np.dtype[Any] = np.dtype(dtype)
    except TypeError:
        fail(DtypeError, op, "dtype must be one of floats", dtype=dtype)
    check(is_floating(kind), DtypeError, op, "dtype must be one of floats", dtype=str(kind))
    return kind


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


def _array(value: Any) -> Any:
    """Another library's array as one of NumPy or CuPy; anything else as it is."""
    foreign = hasattr(value, "__dlpack__") and not isinstance(value, np.generic) and not is_array(value)
    return from_dlpack(value) if foreign else value


def _name_layer(error: GpunnError, module: Module) -> None:
    """Have the message say in which layer of ``module`` it arose; the module around it says it anew, and outer ones."""
    layer, message = vars(error).setdefault("_arose", (id(module), str(error)))
    name = next((name for name, inside in module.named_modules() if id(inside) == layer), "")
    if name:
        error.args = (f"{message}, in {name} of {type(module).__name__}",)
