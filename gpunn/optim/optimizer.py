"""The base of the optimizers: flat buffers that hold every parameter of a group, its gradients, and its states.

A step is then one kernel a group, or a few operations on long arrays, however many parameters there are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypedDict, TypeVar, overload

from gpunn.backend import Array, accumulation_dtype, asarray, cast, check_holds_array, device_context, get_array_module
from gpunn.errors import ArgumentError, DtypeError, ShapeError, check, fail
from gpunn.optim.group import (
    Group,
    Named,
    Part,
    Predicate,
    Settings,
    Shape,
    all_finite,
    has_several_axes,
    named_tensors,
    plain,
    setting,
)
from gpunn.tensor import Tensor

Parameters = Iterable[Tensor] | Iterable[tuple[str, Tensor]] | Iterable[Mapping[str, Any]]
"""Parameters, or (name, parameter) as ``model.named_parameters()`` gives them, or groups: see :class:`Optimizer`."""

Loss = TypeVar("Loss")
"""What a closure gives, and so does the step that calls it."""

_LATER = ("maximize", "amsgrad", "dampening", "decoupled_weight_decay")
"""Settings that states saved before there were these do not have: they were as the optimizer's defaults are."""


class Common(TypedDict, total=False):
    """What every optimizer takes besides its own settings; see :class:`Optimizer`."""

    l1: float
    l2: float
    regularise: Predicate | None
    maximize: bool
    foreach: bool | None
    fused: bool | None
    capturable: bool
    differentiable: bool


_COMMON = frozenset(Common.__annotations__)


class Optimizer:
    """Moves ``params`` into flat buffers, of which each ``parameter.data`` becomes a view.

    ``params`` is a list of tensors, of (name, tensor), or of groups: dicts of ``"params"``, such a list, and of
    settings of this group alone, such as ``"lr"``. Without names, parameters are named by their number. The groups are
    in ``groups``: ``optimizer.groups[0]["lr"] = 0.1`` changes a setting from the next step on, and
    ``optimizer.lr = 0.1`` the learning rate of all groups. Parameters without a gradient, those that are frozen among
    them, stay as they are in a step.

    ``l1`` and ``l2`` add the gradients of the terms ``l1 sum(|p|) + l2 sum(p^2)`` of the loss, ``l1 sign(p) + 2 l2 p``,
    for the parameters where ``regularise(name, parameter)`` is true; without it, for those of more than one axis: no
    biases, and no parameters of normalisation layers. ``weight_decay`` is for all parameters of a group.

    ``maximize=True`` goes up instead of down: the gradients are turned round, and then what decays weights is added.
    ``foreach``, ``fused`` and ``capturable``, which say how PyTorch computes a step, are taken and change nothing;
    ``differentiable=True`` is refused, as gradients are first-order.

    ``copy.deepcopy((model, optimizer))`` and a pickle of both give a pair that trains as this one. An optimizer copied
    alone has copies of the parameters, which no model computes with: its first step, without a gradient, is refused.

    A subclass has the settings that it passes on, names its states in :meth:`states`, and moves in :meth:`update`; what
    is in :class:`Common` it takes besides.

    >>> from gpunn import nn, optim
    >>> layer = nn.Linear(3, 2)
    >>> adam = optim.Adam([{"params": [layer.weight], "weight_decay": 0.1}, {"params": [layer.bias]}], lr=0.01)
    >>> adam.groups[1]["lr"] = 0.02
    >>> [(group["lr"], group["weight_decay"]) for group in adam.groups]
    [(0.01, 0.1), (0.02, 0.0)]

    Raises ArgumentError for a parameter that is NaN or infinite, naming it, for one given twice, for an empty list,
    and for a setting outside its range; nothing is moved then.
    """

    elementwise = False
    """Whether :meth:`update` moves each element by itself, so that a part may begin and end within a parameter."""

    _copied: list[Any] | None = None  # the gradients that a copy came with, until one has come since

    def __init__(
        self,
        params: Parameters,
        settings: Settings,
        l1: float = 0.0,
        l2: float = 0.0,
        regularise: Predicate | None = None,
        maximize: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None:
        op = type(self).__name__
        rule = "a step cannot be differentiated, as gradients are first-order"
        check(not differentiable, ArgumentError, op, rule, differentiable=differentiable)
        defaults = settings | {"l1": l1, "l2": l2, "maximize": maximize}
        self.defaults = {name: setting(name, value) for name, value in defaults.items()}
        self.check_settings(self.defaults)
        rule = "regularise must be a function of a name and a parameter"
        check(regularise is None or callable(regularise), ArgumentError, op, rule, type=type(regularise).__name__)
        self._regularise = has_several_axes if regularise is None else regularise
        self.groups: list[Group] = []
        self._add(_groups(op, params, self.defaults))

    def _add(self, given: list[tuple[Named, Settings]]) -> None:
        """Make groups of named parameters, and the settings that each has of its own."""
        op = type(self).__name__
        for named, _ in given:
            self.check_parameters(named)
        made = [
            Group(op, named, self.defaults | own, self._regularise, self.check_settings, self.state_shape)
            for named, own in given
        ]
        for group in made:
            with group.device():
                group.gather()
                group.keep_states(self.states(group.settings))
        self.groups += made

    def add_param_group(self, param_group: Mapping[str, Any]) -> None:
        """Add a group: a dict of ``"params"``, and of settings of its own. Schedules are made afterwards.

        >>> from gpunn import nn, optim
        >>> one, other = nn.Linear(3, 2), nn.Linear(2, 1)
        >>> sgd = optim.SGD(one.parameters(), lr=0.1)
        >>> sgd.add_param_group({"params": other.parameters(), "lr": 0.01})
        >>> [(group["lr"], group.names) for group in sgd.groups]
        [(0.1, ['0', '1']), (0.01, ['2', '3'])]
        """
        op = type(self).__name__
        fits = isinstance(param_group, Mapping)
        check(fits, ArgumentError, op, "param_group must be a dict", type=type(param_group).__name__)
        self._add(_groups(op, [param_group], self.defaults, self.groups))

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._copied = [p.grad for group in self.groups for p in group.parameters]

    @property
    def param_groups(self) -> list[Group]:
        """The ``groups``, by PyTorch's name."""
        return self.groups

    # ---- what a subclass says -------------------------------------------------------------------------------------

    def states(self, settings: Settings) -> dict[str, float]:
        """The states that an optimizer with these settings keeps beside each parameter, and their first value."""
        raise NotImplementedError

    def state_shape(self, kind: str, shape: Shape) -> Shape | None:
        """The shape of a state beside a parameter of ``shape``; None if that has no such state."""
        return shape

    def update(self, part: Part, settings: Settings) -> None:
        """Change ``part.p`` and ``part.states`` in place, given the subclass's settings and the gradients ``part.g``.

        These stay as they are: they may be those of the parameters themselves.

        All are flat; ``part.steps`` counts this step, from 1.
        """
        raise NotImplementedError

    def check_settings(self, settings: Settings) -> None:
        """Raise ArgumentError for a setting outside its range."""
        op = type(self).__name__
        for name, value in settings.items():
            if name == "betas":
                pair = isinstance(value, tuple) and len(value) == 2
                check(pair, ArgumentError, op, "betas must be two numbers", betas=value)
                for beta in value:
                    check_range(op, "beta", beta, 1.0)
            else:
                check_range(op, name, value)

    def check_parameters(self, named: Named) -> None:
        """Raise an error for parameters that the optimizer cannot move."""

    # ---- training -------------------------------------------------------------------------------------------------

    @property
    def lr(self) -> float:
        """The learning rate; setting it sets that of all groups, reading it needs them to have the same."""
        rates: list[float] = [group["lr"] for group in self.groups]
        rule = 'the groups differ in lr; read groups[number]["lr"]'
        check(len(set(rates)) == 1, ArgumentError, type(self).__name__, rule, lr=rates)
        return rates[0]

    @lr.setter
    def lr(self, value: float) -> None:
        for group in self.groups:
            group["lr"] = value

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients, so that the next backward pass starts from none; or make them 0."""
        for group in self.groups:
            for parameter in group.parameters:
                if set_to_none:
                    parameter.grad = None
                elif parameter.grad is not None:
                    with device_context(parameter.grad):
                        parameter.grad = get_array_module(parameter.grad).zeros_like(parameter.grad)

    def learned(self) -> list[Tensor]:
        """The parameters that have a gradient, which the next step moves."""
        return [p for group in self.groups for p in group.parameters if p.grad is not None]

    def scale_gradients(self, factor: float) -> bool:
        """Multiply all gradients, those of half parameters in float32; return whether they are finite then.

        >>> import numpy as np, gpunn
        >>> p = gpunn.tensor([1.0, 1.0], requires_grad=True)
        >>> p.grad = np.float32([2.0, 4.0])
        >>> gpunn.optim.SGD([p]).scale_gradients(0.5), p.grad.tolist()
        (True, [1.0, 2.0])
        """
        for p in self.learned():
            with device_context(p.data):
                scaled = cast(p.grad, accumulation_dtype(p.dtype)) * factor
                p.grad = get_array_module(p.data).asarray(scaled)  # of an array without dimensions: a number
        return self.gradients_are_finite()

    def gradients_are_finite(self) -> bool:
        """Whether all elements of all gradients are."""
        return all_finite(p.grad for p in self.learned())

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], Loss]) -> Loss: ...
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient.

        ``closure``, if given, is called first: it computes the gradients, and what it gives, the loss, is returned.
        """
        loss = None if closure is None else closure()
        self._check_step()
        for group in self.groups:
            with group.device():
                group.keep_states(self.states(group.settings))
                group.take_gradients()
                self._move(group)
        return loss

    def repeat_step(self) -> None:
        """What the host does in :meth:`step`, before a CUDA graph that has captured a step is replayed.

        It counts the step and computes the numbers that the captured kernels read; the graph moves the parameters.
        """
        self._check_step()
        for group in self.groups:
            self._move(group)

    def _check_step(self) -> None:
        for group in self.groups:
            group.check_views()
            group.check_gradients()
        if self._copied is not None:
            rule = "no parameter of this copy has a gradient: copy or pickle the model and its optimizer together"
            learned = self.learned()
            check(bool(learned), ArgumentError, type(self).__name__, rule, parameters=self.groups[0].names[:3])
            if any(all(p.grad is not old for old in self._copied) for p in learned):
                self._copied = None

    def _move(self, group: Group) -> None:
        group.count_step()
        own = {name: value for name, value in group.settings.items() if name not in _COMMON}
        for part in group.parts():
            self.update(part, own)

    def captured_settings(self) -> list[Any]:
        """The settings whose values are fixed in a captured step; it reads the others anew at each replay."""
        fixed = [{k: v for k, v in g.settings.items() if isinstance(v, bool) or k in ("l1", "l2")} for g in self.groups]
        return [(f, list(self.states(g.settings))) for f, g in zip(fixed, self.groups, strict=True)]

    # ---- saving and resuming --------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """What training needs to resume bit for bit, beside the parameters: a copy of the states, steps and settings.

        The names are ``groups.<number>.<setting>``, of Python numbers and tuples of them, and
        ``parameters.<name>.<state>``, of arrays of the parameter's shape, and of ``steps``, an integer.
        """
        state: dict[str, Any] = {}
        for number, group in enumerate(self.groups):
            settings = group.settings | {"initial_lr": group.initial_lr}
            state |= {f"groups.{number}.{name}": value for name, value in settings.items()}
            with group.device():
                states = group.whole_states(self.states(group.settings))
                places = {kind: group.state_places(kind) for kind in states}
                for position, (name, steps) in enumerate(zip(group.names, group.steps, strict=True)):
                    state[f"parameters.{name}.steps"] = steps
                    for kind, array in states.items():
                        if (place := places[kind][position]) is not None:
                            state[f"parameters.{name}.{kind}"] = array[place[0]].reshape(place[1]).copy()
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from a :meth:`state_dict` of the same optimizer of parameters of the same names, shapes and groups.

        Numbers may be arrays, as files hold them. Settings that there were not when a state was saved are those of
        now. Raises ArgumentError or ShapeError if a name, shape, dtype or number
        does not fit; nothing is changed then.
        """
        op = type(self).__name__
        check_dict(op, state)
        settings = [self._settings_in(state, number, group) for number, group in enumerate(self.groups)]
        wanted = {f"groups.{number}.{name}" for number, read in enumerate(settings) for name in read}
        wanted = {name for name in wanted if name in state or name.rpartition(".")[2] not in _LATER}
        for group, read in zip(self.groups, settings, strict=True):
            wanted |= {f"parameters.{name}.steps" for name in group.names}
            for name, p in zip(group.names, group.parameters, strict=True):
                kinds = (kind for kind in self.states(read) if self.state_shape(kind, p.shape) is not None)
                wanted |= {f"parameters.{name}.{kind}" for kind in kinds}
        check_names(op, wanted, state)
        for group, read in zip(self.groups, settings, strict=True):
            dtype = group.state_dtype
            for name, parameter in zip(group.names, group.parameters, strict=True):
                steps = plain(state[f"parameters.{name}.steps"])
                rule = f"steps of {name} must be an integer of at least 0"
                check(isinstance(steps, int) and steps >= 0, ArgumentError, op, rule, steps=steps)
                for kind in self.states(read):
                    shape = self.state_shape(kind, parameter.shape)
                    if shape is None:
                        continue
                    array = state[f"parameters.{name}.{kind}"]
                    check_holds_array(op, f"{kind} of {name}", array)
                    rule = f"{kind} of {name} must have shape {shape}"
                    check(array.shape == shape, ShapeError, op, rule, shape=array.shape)
                    rule = f"{kind} of {name} must be {dtype}"
                    check(array.dtype == dtype, ArgumentError, op, rule, dtype=str(array.dtype))
        for group, read in zip(self.groups, settings, strict=True):
            group.initial_lr = read.pop("initial_lr")
            group.settings = read
            group.steps = [plain(state[f"parameters.{name}.steps"]) for name in group.names]
            with group.device():
                group.keep_states(self.states(read))
                device = group.parameters[0].device
                for kind in group.states:
                    for name, place in zip(group.names, group.state_places(kind), strict=True):
                        if place is not None:
                            values = asarray(state[f"parameters.{name}.{kind}"], device=device).ravel()
                            group.put_state(kind, place[0], values)

    def _settings_in(self, state: Mapping[str, Any], number: int, group: Group) -> Settings:
        names = {name: f"groups.{number}.{name}" for name in (*group.settings, "initial_lr")}
        missing = sorted(key for name, key in names.items() if key not in state and name not in _LATER)
        check(not missing, ArgumentError, type(self).__name__, _NAMES, missing=missing)
        read = {name: plain(state[key]) if key in state else group[name] for name, key in names.items()}
        self.check_settings(read)
        return read


class Moments(Optimizer):
    """The base of Adam and its kin: running means of the gradient, ``mean``, and of its square, ``square``."""

    def states(self, settings: Settings) -> dict[str, float]:
        return {"mean": 0.0, "square": 0.0}


def moments(part: Part) -> tuple[Array, Array, Array, Array]:
    """What the rules of :class:`Moments` begin with."""
    return part.p, part.g, part.states["mean"], part.states["square"]


_NAMES = "the names must be those of its own state_dict"


def check_dict(op: str, state: Any) -> None:
    """Check that a saved ``state`` is a dict."""
    check(isinstance(state, Mapping), DtypeError, op, "a state must be a dict", type=type(state).__name__)


def check_names(op: str, wanted: Iterable[str], state: Mapping[str, Any]) -> None:
    """Check that ``state`` is a dict that holds the ``wanted`` names, and no others."""
    check_dict(op, state)
    missing, unknown = sorted(set(wanted) - state.keys()), sorted(state.keys() - set(wanted))
    check(not (missing or unknown), ArgumentError, op, _NAMES, missing=missing, unknown=unknown)


def check_range(op: str, name: str, value: float, below: float = math.inf) -> None:
    """Check that ``0 <= value < below``."""
    rule = f"{name} must be at least 0" + (f" and less than {below}" if below < math.inf else " and finite")
    number = isinstance(value, int | float)
    check(number and 0 <= value < below, ArgumentError, op, rule, **{name: value})


def check_numbers(op: str, settings: Settings, **lengths: int) -> list[tuple[float, ...]]:
    """The named settings, checked to be that many finite numbers each."""
    values = [settings[name] for name in lengths]
    for (name, length), value in zip(lengths.items(), values, strict=True):
        fits = isinstance(value, tuple) and len(value) == length
        fits = fits and all(isinstance(number, int | float) and math.isfinite(number) for number in value)
        check(fits, ArgumentError, op, f"{name} must be {length} numbers", **{name: value})
    return values


def _groups(op: str, parameters: Any, defaults: Settings, there: Sequence[Group] = ()) -> list[tuple[Named, Settings]]:
    """The named parameters of each group, beside those ``there``, and the settings that it has of its own."""
    rule = "parameters must be a list of them, of (name, parameter), or of groups: for a module its parameters()"
    check(isinstance(parameters, Iterable), ArgumentError, op, rule, type=type(parameters).__name__)
    entries: Any = parameters if isinstance(parameters, Tensor) else list(parameters)
    grouped = not isinstance(entries, Tensor) and any(isinstance(entry, Mapping) for entry in entries)
    groups: list[tuple[Named, Settings]] = []
    everything: Named = [pair for group in there for pair in zip(group.names, group.parameters, strict=True)]
    with_names = {not all(name.isdigit() for name in group.names) for group in there}
    for number, entry in enumerate(entries if grouped else [{"params": entries}]):
        holds = isinstance(entry, Mapping) and "params" in entry
        check(holds, ArgumentError, op, 'each group must be a dict with "params"', group=number)
        own = {name: value for name, value in entry.items() if name != "params"}
        unknown = sorted(own.keys() - defaults.keys())
        if unknown:
            fail(ArgumentError, op, f"a group has the settings {', '.join(defaults)}", group=number, unknown=unknown)
        given = entry["params"]
        if not isinstance(given, Tensor):
            given = list(given)
            with_names |= {isinstance(each, tuple) for each in given}
        elif grouped:
            given = [given]
            with_names.add(False)
        check(len(with_names) < 2, ArgumentError, op, "names must be given to all parameters, or to none", group=number)
        named = named_tensors(op, given, len(everything))
        where = {"group": number} if grouped else {}
        check(bool(named), ArgumentError, op, "there must be at least one parameter", **where)
        everything += named
        groups.append((named, own))
    named_tensors(op, everything)  # each once
    names = sorted({name for name, _ in everything})
    twice = [name for name in names if sum(name == other for other, _ in everything) > 1]
    check(not twice, ArgumentError, op, "names must be of one parameter each", names=twice)
    return groups
