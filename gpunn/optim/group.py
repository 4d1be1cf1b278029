"""What an optimizer is given, read and checked; and ``Group``, parameters that share their settings and one buffer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import numpy as np

from gpunn.backend import (
    Array,
    accumulation_dtype,
    cast,
    device_context,
    device_of,
    get_array_module,
    is_array,
    is_floating,
)
from gpunn.errors import ArgumentError, DeviceError, ShapeError, check, fail
from gpunn.tensor import Tensor

Named = list[tuple[str, Tensor]]
Settings = dict[str, Any]
Predicate = Callable[[str, Tensor], bool]
Shape = tuple[int, ...]


def has_several_axes(name: str, parameter: Tensor) -> bool:
    """True for weights of linear and convolution layers, False for biases and the parameters of normalisation."""
    return parameter.ndim > 1


def named_tensors(op: str, parameters: Iterable[Any], first: int = 0) -> Named:
    """``parameters`` with their names; those given without are named by their number, counted from ``first``.

    A frozen parameter of a module is one of them, as it may learn later; any other tensor without gradient is refused.
    """
    alone = isinstance(parameters, Tensor)
    check(not alone, ArgumentError, op, "parameters must be a list of them, or of (name, parameter), not a tensor")
    named: Named = []
    for number, entry in enumerate(parameters, first):
        pair = isinstance(entry, tuple) and len(entry) == 2 and isinstance(entry[0], str)
        name, tensor = entry if pair else (str(number), entry)
        learned = isinstance(tensor, Tensor) and (tensor.requires_grad or getattr(tensor, "frozen", False))
        rule = "parameters must be tensors with requires_grad=True"
        check(learned, ArgumentError, op, rule, parameter=name, type=type(tensor).__name__)
        named.append((name, tensor))
    first_names: dict[int, str] = {}
    for name, tensor in named:
        if id(tensor) in first_names:
            fail(ArgumentError, op, "each parameter must be given once", parameter=first_names[id(tensor)], again=name)
        first_names[id(tensor)] = name
    return named


def plain(value: Any) -> Any:
    """``value``, an array or a number, as Python numbers; several as a tuple. NumPy's numbers would promote arrays."""
    numbers = np.asarray(value).tolist()
    return tuple(numbers) if isinstance(numbers, list) else numbers


def setting(name: str, value: Any) -> Any:
    """``value`` of the setting ``name`` as :func:`plain` makes it; a learning rate may be an array of one element."""
    value = plain(value.numpy() if isinstance(value, Tensor) else value)
    return value[0] if name == "lr" and isinstance(value, tuple) and len(value) == 1 else value


def all_finite(arrays: Iterable[Array]) -> bool:
    """Whether all elements are; a sum of squares that overflows is looked at again, element by element."""
    given = list(arrays)
    totals: dict[str, Any] = {}  # one for each device, and so one wait for it
    with np.errstate(over="ignore", invalid="ignore"):
        for g in given:
            with device_context(g):
                flat, device = cast(g.reshape(-1), accumulation_dtype(g.dtype)), device_of(g)
                square = get_array_module(g).dot(flat, flat)
                totals[device] = totals[device] + square if device in totals else square
    if all(math.isfinite(float(total)) for total in totals.values()):
        return True
    return all(bool(get_array_module(g).isfinite(g).all()) for g in given)


_GATHERED = ("_flat", "_gradient", "_long", "_views", "slices")


class Part(NamedTuple):
    """Neighbours in a buffer that all have gradients, and took the same number of steps."""

    p: Array
    g: Array
    states: dict[str, Array]
    steps: int
    shapes: list[Shape]

    def pieces(self) -> Iterator[tuple[slice, Shape]]:
        """Where each of the parameters lies in the part, and its shape."""
        start = 0
        for shape in self.shapes:
            yield slice(start, start := start + math.prod(shape)), shape


_LONG = 1 << 17  # elements of a gradient; a step of its own costs some microseconds


class Chain:
    """What a group's learning rate comes from: ``base``, which the user set, and the schedules in ``links``.

    ``start`` is the rate that the group had when each of them was where its ``since`` says; that of now follows from
    where they have gone from there. A schedule that is made goes from -1, before its first step, to 0.
    """

    def __init__(self, number: int, base: float) -> None:
        self._number = number
        self.base = self.start = base
        self.links: list[Any] = []

    def rate(self) -> float:
        """The learning rate, with each schedule where it is now."""
        rate = self.start
        for schedule in self.links:
            since, place = schedule.since[self._number], schedule.place
            if since != place:
                rate = schedule.onward(self._number, since, place, rate)
        return rate

    def begin(self, start: float) -> None:
        """Go on from this rate, with the schedules where they are."""
        self.start = start
        for schedule in self.links:
            schedule.since[self._number] = schedule.place

    def settle(self, schedule: Any) -> None:
        """Begin at the rate of now before a step of ``schedule``, if it has to know what the others made of it."""
        others = (s for s in self.links if s is not schedule and s.since[self._number] != s.place)
        if schedule.walks or not all(schedule.commutes and other.commutes for other in others):
            self.begin(self.rate())


class Group:
    """Parameters that share their settings: ``group["lr"]`` reads one, ``group["lr"] = 0.1`` changes it, checked.

    ``names`` and ``parameters`` say which they are. They lie in one flat buffer, of which each ``parameter.data`` is a
    view. ``initial_lr`` is the learning rate before any schedule.
    """

    def __init__(
        self,
        op: str,
        named: Named,
        settings: Settings,
        regularise: Predicate,
        checked: Callable[[Settings], None],
        state_shape: Callable[[str, Shape], Shape | None],
    ) -> None:
        self._op, self._checked, self._state_shape = op, checked, state_shape
        self.settings = {name: setting(name, value) for name, value in settings.items()}
        checked(self.settings)
        self.initial_lr: float = self.settings["lr"]
        self.chain: Chain | None = None  # of the schedules that were made since the user set the rate
        self.names = [name for name, _ in named]
        self.parameters = [parameter for _, parameter in named]
        devices = sorted({p.device for p in self.parameters})
        check(len(devices) == 1, DeviceError, op, "parameters must be on one device", devices=devices)
        dtypes = sorted({str(p.dtype) for p in self.parameters})
        check(len(dtypes) == 1, ArgumentError, op, "parameters must have one dtype", dtypes=dtypes)
        xp = get_array_module(self.parameters[0].data)
        for name, parameter in named:
            with self.device():
                finite = bool(xp.isfinite(parameter.data).all())
            check(finite, ArgumentError, op, "parameters must be finite, without NaN", parameter=name)
        self.state_dtype = accumulation_dtype(self.parameters[0].dtype)
        self._regularised = [regularise(name, p) for name, p in named]
        self.steps = [0] * len(named)
        self.states: dict[str, Array] = {}
        self._layouts: dict[str, list[slice]] = {}  # of the states that are not of the parameters' shapes

    def device(self) -> AbstractContextManager[None]:
        """A context in which the device of the parameters is the current one."""
        return device_context(self.parameters[0].data)

    def gather(self) -> None:
        """Move the parameters into one buffer."""
        xp = get_array_module(self.parameters[0].data)
        self._flat = xp.concatenate([p.data.ravel() for p in self.parameters])
        # In float32 for float16 parameters, as the states: the terms of l1 and l2 would be lost in float16.
        self._gradient = xp.zeros(self._flat.shape, self.state_dtype)
        ends = np.cumsum([p.size for p in self.parameters]).tolist()
        self.slices = [slice(end - p.size, end) for end, p in zip(ends, self.parameters, strict=True)]
        self._long = [p.size >= _LONG for p in self.parameters]
        self._views = [self._flat[s].reshape(p.shape) for s, p in zip(self.slices, self.parameters, strict=True)]
        for parameter, view in zip(self.parameters, self._views, strict=True):
            parameter.hold(view)

    # ---- copies ---------------------------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        """Without what :meth:`gather` makes, which a copy makes of its own parameters."""
        self.check_views()
        return {name: value for name, value in vars(self).items() if name not in _GATHERED}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        with self.device():
            self.gather()

    def __copy__(self) -> Group:
        fail(ArgumentError, self._op, "a shallow copy of a group would part the parameters from it: use copy.deepcopy")

    # ---- settings -------------------------------------------------------------------------------------------------

    def __getitem__(self, name: str) -> Any:
        if name in ("params", "initial_lr"):
            return self.parameters if name == "params" else self.initial_lr
        self._check_name(name)
        return self.settings[name]

    def __contains__(self, name: object) -> bool:
        return name in ("params", "initial_lr") or name in self.settings

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def keys(self) -> list[str]:
        """``"params"`` and the names of the settings."""
        return ["params", *self.settings, "initial_lr"]

    def items(self) -> list[tuple[str, Any]]:
        """The parameters and the settings, with their names."""
        return [(name, self[name]) for name in self.keys()]

    def get(self, name: str, default: Any = None) -> Any:
        """What the name stands for, or ``default`` where the group has none such."""
        return dict(self.items()).get(name, default)

    def __setitem__(self, name: str, value: Any) -> None:
        self.schedule(name, value)
        if name == "lr":
            self.initial_lr, self.chain = self.settings["lr"], None

    def schedule(self, name: str, value: Any) -> None:
        """Change a setting as a schedule does: ``initial_lr`` stays."""
        self._check_name(name)
        changed = self.settings | {name: setting(name, value)}
        self._checked(changed)
        self.settings = changed

    def _check_name(self, name: str) -> None:
        if name not in self.settings:
            fail(ArgumentError, self._op, f"a group has the settings {', '.join(self.settings)}", setting=name)

    # ---- a step ---------------------------------------------------------------------------------------------------

    def check_views(self) -> None:
        """Check that the parameters lie where they did."""
        for name, parameter, view in zip(self.names, self.parameters, self._views, strict=True):
            if parameter._data is not view:
                rule = "a parameter was moved or replaced after the optimizer was made; make the optimizer afterwards"
                fail(ArgumentError, self._op, rule, parameter=name)

    def check_gradients(self) -> None:
        """Check that the gradients fit their parameters."""
        for name, parameter, view in zip(self.names, self.parameters, self._views, strict=True):
            g = parameter.grad
            if g is None or (type(g) is np.ndarray and g.dtype == view.dtype and g.shape == view.shape):
                continue
            if not is_array(g) or g.shape != view.shape or not is_floating(g.dtype):
                given = {"grad": g.shape, "dtype": str(g.dtype)} if is_array(g) else {"grad": type(g).__name__}
                rule = "grad must be a raw floating array of the parameter's shape"
                fail(ShapeError, self._op, rule, **given, parameter=name, shape=view.shape)

    def keep_states(self, wanted: dict[str, float]) -> None:
        """Have the named states, and no others."""
        self.states = self.states_for(wanted)

    def states_for(self, wanted: dict[str, float]) -> dict[str, Array]:
        """The named states; new ones are filled with their value."""
        return {
            name: self.states[name] if name in self.states else self._new_state(name, value)
            for name, value in wanted.items()
        }

    def _new_state(self, name: str, value: float) -> Array:
        xp = get_array_module(self._flat)
        shapes = [self._state_shape(name, p.shape) for p in self.parameters]
        if shapes == [p.shape for p in self.parameters]:
            return xp.full_like(self._gradient, value)
        sizes = [0 if shape is None else math.prod(shape) for shape in shapes]
        ends = np.cumsum(sizes).tolist()
        self._layouts[name] = [slice(end - size, end) for end, size in zip(ends, sizes, strict=True)]
        return xp.full(ends[-1], value, self.state_dtype)

    def whole_states(self, wanted: dict[str, float]) -> dict[str, Array]:
        """The named states of all parameters, as :meth:`state_places` says where they lie."""
        return self.states_for(wanted)

    def put_state(self, name: str, place: slice, values: Array) -> None:
        """Fill a place of :meth:`state_places`."""
        self.states[name][place] = values

    def state_places(self, name: str) -> list[tuple[slice, Shape] | None]:
        """Of each parameter where its state of that name lies, and its shape; None for one that has none."""
        shapes = (self._state_shape(name, p.shape) for p in self.parameters)
        places = zip(self._layouts.get(name, self.slices), shapes, strict=True)
        return [None if shape is None else (where, shape) for where, shape in places]

    def take_gradients(self) -> None:
        """Copy the gradients into their buffer, but for those that stay where they are, and add those of l1 and l2.

        With ``maximize`` they are turned round before.
        """
        taken: list[tuple[int, slice, Array]] = []
        for number, (parameter, part) in enumerate(zip(self.parameters, self.slices, strict=True)):
            if parameter.grad is None or (self._long[number] and self._stays(number)):
                continue
            g = self._gradient[part]
            g[...] = parameter.grad.ravel()
            taken.append((number, part, g))
        self._add_terms(taken)

    def _add_terms(self, taken: list[tuple[int, slice, Array]]) -> None:
        """Turn gradients round and add the terms, in place, of parameters: their numbers, and places in the buffer."""
        l1, l2, maximize = self.settings["l1"], self.settings["l2"], self.settings["maximize"]
        if not (l1 or l2 or maximize):
            return
        xp = get_array_module(self._flat)
        for number, place, g in taken:
            if maximize:
                xp.negative(g, out=g)
            if self._regularised[number]:
                p = self._flat[place].astype(g.dtype, copy=False)
                if l1:
                    g += l1 * xp.sign(p)
                if l2:
                    g += 2 * l2 * p

    # ---- all elements as one vector -------------------------------------------------------------------------------

    def vector(self) -> Array:
        """A copy of the parameters, one behind the other, in the dtype of the states."""
        return self._flat.astype(self.state_dtype)

    def gradient_vector(self) -> Array:
        """A copy of the gradients, one behind the other, in the dtype of the states; 0 where there is none."""
        vector = get_array_module(self._flat).zeros(self._flat.shape, self.state_dtype)
        for parameter, part in zip(self.parameters, self.slices, strict=True):
            if parameter.grad is not None:
                vector[part] = parameter.grad.ravel()
        return vector

    def move_to(self, vector: Array) -> None:
        """Give the parameters the values of ``vector``."""
        self._flat[...] = vector
        for parameter in self.parameters:
            parameter.mark_changed()

    # ---- a step of all --------------------------------------------------------------------------------------------

    def count_step(self) -> None:
        """Count the step of the parameters that have gradients, which it changes in place."""
        for number, parameter in enumerate(self.parameters):
            if parameter.grad is not None:
                self.steps[number] += 1
                parameter.mark_changed()

    def _stays(self, number: int) -> bool:
        """Whether a long gradient is used where it is: on a CPU, as a copy takes as long as the step."""
        g = self.parameters[number].grad
        if type(g) is not np.ndarray or g.dtype != self.state_dtype:
            return False
        terms = self._regularised[number] and (self.settings["l1"] or self.settings["l2"])
        changed = terms or self.settings["maximize"]
        # A view of parameters would change within the step.
        return bool(g.flags.c_contiguous and not changed and not np.may_share_memory(g, self._flat))

    def parts(self) -> Iterator[Part]:
        """The longest stretches of the buffer whose parameters all have gradients and took the same number of steps.

        A gradient that stays where it is makes a stretch of its own.
        """
        first = 0
        keys = [
            None if p.grad is None else (steps, number if self._long[number] and self._stays(number) else None)
            for number, (p, steps) in enumerate(zip(self.parameters, self.steps, strict=True))
        ]
        for number, key in enumerate(keys):
            if number + 1 == len(keys) or keys[number + 1] != key:
                if key is not None:
                    yield self._part(first, number + 1, *key)
                first = number + 1

    def _part(self, first: int, end: int, steps: int, stays: int | None) -> Part:
        where = slice(self.slices[first].start, self.slices[end - 1].stop)
        states = {name: state[where] for name, state in self.states.items()}
        for name, places in self._layouts.items():
            if name in states:
                states[name] = self.states[name][places[first].start : places[end - 1].stop]
        shapes = [p.shape for p in self.parameters[first:end]]
        own: Any = None if stays is None else self.parameters[stays].grad
        g = self._gradient[where] if own is None else own.reshape(-1)
        return Part(self._flat[where], g, states, steps, shapes)
