"""The base of the optimizers: flat buffers that hold every parameter of a group, its gradients, and its states.

A step is then one kernel a group, or a few operations on long arrays, however many parameters there are.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, TypedDict

from gpunn.backend import Array, asarray
from gpunn.errors import ArgumentError, ShapeError, check, fail
from gpunn.optim.group import Group, Named, Part, Predicate, Settings, has_several_axes, named_tensors, plain
from gpunn.tensor import Tensor

Parameters = Iterable[Tensor] | Iterable[tuple[str, Tensor]] | Iterable[Mapping[str, Any]]
"""Parameters, or (name, parameter) as ``model.named_parameters()`` gives them, or groups: see :class:`Optimizer`."""

_BELOW = {"alpha": 1.0, "rho": 1.0, "momentum": 1.0}


class Common(TypedDict, total=False):
    """What every optimizer takes besides its own settings; see :class:`Optimizer`."""

    l1: float
    l2: float
    regularise: Predicate | None


class Optimizer:
    """Moves ``parameters`` into flat buffers, of which each ``parameter.data`` becomes a view.

    ``parameters`` is a list of tensors, of (name, tensor), or of groups: dicts of ``"params"``, such a list, and of
    settings of this group alone, such as ``"lr"``. Parameters without a name are named by their number. The groups are
    in ``groups``: ``optimizer.groups[0]["lr"] = 0.1`` changes a setting from the next step on, and
    ``optimizer.lr = 0.1`` the learning rate of all groups. Parameters without a gradient stay as they are in a step.

    ``l1`` and ``l2`` add the gradients of the terms ``l1 sum(|p|) + l2 sum(p^2)`` of the loss, ``l1 sign(p) + 2 l2 p``,
    for the parameters where ``regularise(name, parameter)`` is true; without it, for those of more than one axis: no
    biases, and no parameters of normalisation layers. ``weight_decay`` is for all parameters of a group.

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

    _copied: list[Any] | None = None  # the gradients that a copy came with, until one has come since

    def __init__(
        self,
        parameters: Parameters,
        settings: Settings,
        l1: float = 0.0,
        l2: float = 0.0,
        regularise: Predicate | None = None,
    ) -> None:
        op = type(self).__name__
        defaults = settings | {"l1": l1, "l2": l2}
        self.defaults = {name: plain(value) for name, value in defaults.items()}
        self.check_settings(self.defaults)
        regularise = has_several_axes if regularise is None else regularise
        self.groups = [
            Group(op, named, self.defaults | own, regularise, self.check_settings)
            for named, own in _groups(op, parameters, self.defaults)
        ]
        for group in self.groups:
            with group.device():
                group.gather()
                group.keep_states(self.states(group.settings))

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._copied = [p.grad for group in self.groups for p in group.parameters]

    # ---- what a subclass says -------------------------------------------------------------------------------------

    def states(self, settings: Settings) -> dict[str, float]:
        """The states that an optimizer with these settings keeps beside each parameter, and their first value."""
        raise NotImplementedError

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
                check_range(op, name, value, _BELOW.get(name, math.inf))

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

    def zero_grad(self) -> None:
        """Forget the gradients, so that the next backward pass starts from none."""
        for group in self.groups:
            for parameter in group.parameters:
                parameter.grad = None

    def step(self) -> None:
        """Update every parameter that has a gradient."""
        self._check_step()
        for group in self.groups:
            with group.device():
                group.keep_states(self.states(group.settings))
                group.take_gradients()
                self._move(group)

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
            learned = [p.grad for group in self.groups for p in group.parameters if p.grad is not None]
            check(bool(learned), ArgumentError, type(self).__name__, rule, parameters=self.groups[0].names[:3])
            if any(all(g is not old for old in self._copied) for g in learned):
                self._copied = None

    def _move(self, group: Group) -> None:
        group.count_step()
        own = {name: value for name, value in group.settings.items() if name not in Common.__annotations__}
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
                states = group.states_for(self.states(group.settings))
                for name, p, part, steps in zip(group.names, group.parameters, group.slices, group.steps, strict=True):
                    state[f"parameters.{name}.steps"] = steps
                    for kind, array in states.items():
                        state[f"parameters.{name}.{kind}"] = array[part].reshape(p.shape).copy()
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from a :meth:`state_dict` of the same optimizer of parameters of the same names, shapes and groups.

        Numbers may be arrays, as files hold them. Raises ArgumentError or ShapeError if a name, shape, dtype or number
        does not fit; nothing is changed then.
        """
        op = type(self).__name__
        settings = [self._settings_in(state, number, group) for number, group in enumerate(self.groups)]
        wanted = {f"groups.{number}.{name}" for number, read in enumerate(settings) for name in read}
        for group, read in zip(self.groups, settings, strict=True):
            kinds = self.states(read)
            wanted |= {f"parameters.{name}.{kind}" for name in group.names for kind in ("steps", *kinds)}
        check_names(op, wanted, state)
        for group, read in zip(self.groups, settings, strict=True):
            dtype = group.state_dtype
            for name, parameter in zip(group.names, group.parameters, strict=True):
                steps = plain(state[f"parameters.{name}.steps"])
                rule = f"steps of {name} must be an integer of at least 0"
                check(isinstance(steps, int) and steps >= 0, ArgumentError, op, rule, steps=steps)
                for kind in self.states(read):
                    array = state[f"parameters.{name}.{kind}"]
                    rule = f"{kind} of {name} must have shape {parameter.shape}"
                    check(array.shape == parameter.shape, ShapeError, op, rule, shape=array.shape)
                    rule = f"{kind} of {name} must be {dtype}"
                    check(array.dtype == dtype, ArgumentError, op, rule, dtype=str(array.dtype))
        for group, read in zip(self.groups, settings, strict=True):
            group.initial_lr = read.pop("initial_lr")
            group.settings = read
            group.steps = [plain(state[f"parameters.{name}.steps"]) for name in group.names]
            with group.device():
                group.keep_states(self.states(read))
                for name, parameter, part in zip(group.names, group.parameters, group.slices, strict=True):
                    for kind, array in group.states.items():
                        array[part] = asarray(state[f"parameters.{name}.{kind}"], device=parameter.device).ravel()

    def _settings_in(self, state: Mapping[str, Any], number: int, group: Group) -> Settings:
        names = {name: f"groups.{number}.{name}" for name in (*group.settings, "initial_lr")}
        missing = sorted(key for key in names.values() if key not in state)
        check(not missing, ArgumentError, type(self).__name__, _NAMES, missing=missing)
        read = {name: plain(state[key]) for name, key in names.items()}
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


def check_names(op: str, wanted: Iterable[str], state: Mapping[str, Any]) -> None:
    """Check that ``state`` holds the ``wanted`` names, and no others."""
    missing, unknown = sorted(set(wanted) - state.keys()), sorted(state.keys() - set(wanted))
    check(not (missing or unknown), ArgumentError, op, _NAMES, missing=missing, unknown=unknown)


def check_range(op: str, name: str, value: float, below: float = math.inf) -> None:
    """Check that ``0 <= value < below``."""
    rule = f"{name} must be at least 0" + (f" and less than {below}" if below < math.inf else " and finite")
    number = isinstance(value, int | float)
    check(number and 0 <= value < below, ArgumentError, op, rule, **{name: value})


def _groups(op: str, parameters: Any, defaults: Settings) -> list[tuple[Named, Settings]]:
    """The named parameters of each group, and the settings that it has of its own."""
    rule = "parameters must be a list of them, of (name, parameter), or of groups: for a module its parameters()"
    check(isinstance(parameters, Iterable), ArgumentError, op, rule, type=type(parameters).__name__)
    entries: Any = parameters if isinstance(parameters, Tensor) else list(parameters)
    grouped = not isinstance(entries, Tensor) and any(isinstance(entry, Mapping) for entry in entries)
    groups: list[tuple[Named, Settings]] = []
    everything: Named = []
    for number, entry in enumerate(entries if grouped else [{"params": entries}]):
        holds = isinstance(entry, Mapping) and "params" in entry
        check(holds, ArgumentError, op, 'each group must be a dict with "params"', group=number)
        own = {name: value for name, value in entry.items() if name != "params"}
        unknown = sorted(own.keys() - defaults.keys())
        if unknown:
            fail(ArgumentError, op, f"a group has the settings {', '.join(defaults)}", group=number, unknown=unknown)
        named = named_tensors(op, entry["params"], len(everything))
        where = {"group": number} if grouped else {}
        check(bool(named), ArgumentError, op, "there must be at least one parameter", **where)
        everything += named
        groups.append((named, own))
    named_tensors(op, everything)  # each once
    names = sorted({name for name, _ in everything})
    twice = [name for name in names if sum(name == other for other, _ in everything) > 1]
    check(not twice, ArgumentError, op, "names must be of one parameter each", names=twice)
    return groups
