"""What a model computes from its inputs, as the list of the functions it calls.

The model runs as it is. An :class:`gpunn.observer.Observer` says which layer is running, and Python's profiling hook
(``sys.setprofile``) names each call of a function of :mod:`gpunn.functional`, or of a method of a Tensor, with its
arguments and its result. The functions do not announce themselves: a wrapper of each would be paid for in every small
operation of every training, and replacing them in their modules would miss those that a model already holds. The hook
belongs to this thread alone. Arrays are known by identity.

It runs twice, the second time on other values and on one example more. What then differs in size depends on the number
of examples; what differs in value was computed from the input behind the tracer's back, and is an error: the trace
would hold the values of this example for all others. Where other axes of the input may change their size, it runs on
larger inputs, too.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import CodeType, FrameType
from typing import Any

import numpy as np

from gpunn import functional as F
from gpunn.backend import asarray, device_context, device_of, is_array, to_cpu
from gpunn.errors import ArgumentError, GraphError, ShapeError, check, fail
from gpunn.functional import recurrent
from gpunn.functional.record import raw
from gpunn.nn import Module
from gpunn.observer import Observer, Run
from gpunn.tensor import Tensor, no_grad, record

# ---- what a trace holds ---------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Value:
    """An array of the run: an input, a result, or a constant, which has its ``array``.

    ``growth`` says by how much each axis is longer for one example more, ``others`` the shapes in the runs on larger
    inputs. A constant has size 1 along axes that grow or differ there (its elements are equal along them), and
    ``shape`` says what it was.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    array: np.ndarray[Any, Any] | None = None
    name: str = ""
    """Of a parameter or buffer, in the model; empty for others."""
    follows_input: bool = False
    growth: tuple[int, ...] = ()
    others: tuple[tuple[int, ...], ...] = ()

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def sizes(self, axis: int) -> tuple[int, ...]:
        """Of an axis in all runs with this number of examples: two axes whose sizes agree depend on the input alike."""
        return (self.shape[axis], *(other[axis] for other in self.others))

    def varies(self, axis: int) -> bool:
        """Whether the size of an axis depends on that of another axis of the input than that of the examples."""
        return len(set(self.sizes(axis))) > 1

    def fixed(self, axis: int) -> bool:
        """Whether an axis has the size that it had, always."""
        return not self.growth[axis] and not self.varies(axis)


@dataclass(eq=False)
class Call:
    """A call of a function: its name, the layer that made it, and its arguments by name, with Values for arrays."""

    function: str
    layer: str
    arguments: dict[str, Any]
    results: list[Value]
    known: bool
    """Whether the caller of :func:`trace` knows the function."""


@dataclass(eq=False)
class Trace:
    """The calls of a run in order, its inputs, and its outputs, both flattened."""

    inputs: list[Value]
    calls: list[Call]
    outputs: list[Value]
    examples: int


def leaves(tree: Any) -> Iterator[Any]:
    """What lists, tuples and dicts, nested in one another, hold.

    >>> list(leaves([1, (2, {"a": 3})]))
    [1, 2, 3]
    """
    if isinstance(tree, dict):
        tree = list(tree.values())
    if isinstance(tree, list | tuple):
        for branch in tree:
            yield from leaves(branch)
    else:
        yield tree


def _each_leaf(tree: Any, change: Callable[[Any], Any]) -> Any:
    """The tree with ``change`` done to each leaf; named tuples become tuples."""
    if isinstance(tree, dict):
        return {key: _each_leaf(branch, change) for key, branch in tree.items()}
    if isinstance(tree, list | tuple):
        branches = [_each_leaf(branch, change) for branch in tree]
        return branches if isinstance(tree, list) else tuple(branches)
    return change(tree)


# ---- one run --------------------------------------------------------------------------------------------------------

_LOOKS = tuple(
    f"Tensor.{name}"
    for name in ("__bool__", "__float__", "__format__", "__int__", "__round__", "item", "tolist", "numpy")
)


def _watched() -> dict[CodeType, str]:
    """The names of the functions that are watched, by their code."""
    functions = {name: getattr(F, name) for name in F.__all__}
    functions |= {"pick": recurrent.pick, "place": recurrent.place}
    for name, method in vars(Tensor).items():
        if name == "__init__":  # the object that it is called with holds nothing yet
            continue
        if inspect.isfunction(method) and (name.startswith("__") or not name.startswith("_")):
            functions[f"Tensor.{method.__name__}"] = method
    return {inspect.unwrap(function).__code__: name for name, function in functions.items()}


@dataclass(eq=False)
class _Open:
    """A watched function that has not returned yet."""

    frame: FrameType
    function: str
    layer: str
    arguments: dict[str, Any]
    first_call: int
    first_value: int


@dataclass(eq=False)
class _Run(Observer):
    """The hooks, and what they have seen."""

    names: dict[int, str]
    known: Container[str]
    values: dict[int, Value] = field(default_factory=dict)
    ages: dict[int, int] = field(default_factory=dict)
    held: list[Any] = field(default_factory=list)  # an array that is gone could lend its identity to another
    calls: list[Call] = field(default_factory=list)
    opened: list[_Open] = field(default_factory=list)
    layers: list[str] = field(default_factory=list)
    watched: dict[CodeType, str] = field(default_factory=_watched)

    def around_module(self, module: Any, run: Run) -> Run:
        name = self.names.get(id(module), "")

        def within(*args: Any, **settings: Any) -> Any:
            self.layers.append(f"{name} ({type(module).__name__})" if name else type(module).__name__)
            try:
                return run(*args, **settings)
            finally:
                self.layers.pop()

        return within

    def watch(self, frame: FrameType, event: str, result: Any) -> None:
        """What Python calls when a function begins or returns."""
        if event == "call":
            if function := self.watched.get(frame.f_code):
                self._begin(frame, function, _arguments(frame))
            elif frame.f_code is record.__code__:
                self._begin(frame, _caller(frame), {"parents": frame.f_locals["parents"]})
        elif event == "return" and self.opened and self.opened[-1].frame is frame:
            self._end(self.opened.pop(), result)

    def _begin(self, frame: FrameType, function: str, arguments: dict[str, Any]) -> None:
        where = self.layers[-1] if self.layers else "the model"
        if not self.opened:
            self._check_can_be_followed(function, where, arguments)
        if function in _LOOKS:
            return
        arguments = _each_leaf(arguments, self._leaf)
        self.opened.append(_Open(frame, function, where, arguments, len(self.calls), len(self.held)))

    def _check_can_be_followed(self, function: str, where: str, arguments: dict[str, Any]) -> None:
        if function == "Tensor.__setitem__":
            fail(GraphError, "export", f"a change in place cannot be followed, made in {where}", function=function)
        if function in _LOOKS and self._leaf(arguments["x"]).follows_input:
            rule = f"what a model does may not depend on the values of its input, as it does in {where}"
            fail(GraphError, "export", rule, function=function)

    def _leaf(self, x: Any) -> Any:
        array = raw(x)
        return self._value(array) if is_array(array) else x

    def _value(self, array: Any) -> Value:
        """The Value of an array; one that is not known yet is a constant, and copied: it may change later."""
        if id(array) not in self.values:
            self._add(array, Value(array.shape, array.dtype, np.array(to_cpu(array))))
        return self.values[id(array)]

    def _add(self, array: Any, value: Value) -> Value:
        self.values[id(array)], self.ages[id(array)] = value, len(self.held)
        self.held.append(array)
        return value

    def _end(self, call: _Open, result: Any) -> None:
        """Keep the call in place of those inside it, unless those say it all."""
        arrays = [array for array in map(raw, leaves(result)) if is_array(array)]
        made = [array for array in arrays if self.ages.get(id(array), call.first_value) >= call.first_value]
        inner = self.calls[call.first_call :]
        known = call.function in self.known
        told = all(id(array) in self.values for array in made) and all(each.known for each in inner)
        # What the function records has its name too, but other arguments.
        calls_itself = any((e.function, *e.arguments) == (call.function, *call.arguments) for e in inner)
        if not made or (told and (calls_itself or not known)):
            return
        del self.calls[call.first_call :]
        follows = any(isinstance(value, Value) and value.follows_input for value in leaves(call.arguments))
        if not known and not follows:  # of constants alone: constants
            for array in made:
                self._add(array, Value(array.shape, array.dtype, np.array(to_cpu(array))))
            return
        for array in made:
            self._add(array, Value(array.shape, array.dtype, follows_input=follows))
        results = [self.values[id(array)] for array in arrays]
        self.calls.append(Call(call.function, call.layer, call.arguments, results, known))


def _arguments(frame: FrameType) -> dict[str, Any]:
    """The arguments of a function that begins, by name; the tensor of a method is called x; but ``inplace``."""
    code, given = frame.f_code, frame.f_locals
    flags = bool(code.co_flags & inspect.CO_VARARGS) + bool(code.co_flags & inspect.CO_VARKEYWORDS)
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount + flags]
    return {"x" if name == "self" else name: given[name] for name in names if name != "inplace"}


def _caller(frame: FrameType) -> str:
    """The name of the function that computed what a frame of ``record`` was given."""
    caller = frame.f_back
    while caller is not None and caller.f_globals.get("__name__") == "gpunn.functional.record":
        caller = caller.f_back
    return "record" if caller is None else caller.f_code.co_name


def _run(model: Module, inputs: Sequence[Any], known: Container[str]) -> Trace:
    names = {id(module): name for name, module in model.named_modules()}
    run = _Run(names, known)
    for name, held in (*model.named_parameters(), *model.named_buffers()):
        run._add(held.data, Value(held.shape, held.dtype, to_cpu(held.data), name))
    given = _each_leaf(list(inputs), Tensor)
    arrays = [each.data for each in leaves(given)]
    values = [run._add(array, Value(array.shape, array.dtype, follows_input=True)) for array in arrays]
    before = sys.getprofile()
    rule = "it takes the place of Python's profiler, and this one could not be put back: export while none is on"
    check(before is None or callable(before), ArgumentError, "export", rule, profiler=type(before).__name__)
    with no_grad(), model.evaluating(), device_context(arrays[0]), run:
        sys.setprofile(run.watch)
        try:
            y = model(*given)
        finally:
            sys.setprofile(before)
    outputs = [raw(each) for each in leaves(y)]
    whole = bool(outputs) and all(map(is_array, outputs))
    rule = "the model must return an array, or several"
    check(whole, ArgumentError, "export", rule, types=[type(each).__name__ for each in outputs])
    return Trace(values, run.calls, [run._value(array) for array in outputs], len(arrays[0]) if arrays[0].ndim else 0)


# ---- two runs -------------------------------------------------------------------------------------------------------


def trace(
    model: Module, inputs: Sequence[Any], known: Container[str], grows: bool = True,
    dynamic: Sequence[Mapping[int, str]] = (),
) -> Trace:  # fmt: skip
    """Follow ``model(*inputs)`` in evaluation mode; each of ``inputs`` is an array, or a list or tuple of them.

    A call of a function in ``known`` is one call of the trace, whatever it calls, but for one that calls itself, as for
    an input without a batch. That, and any other call, is replaced by the calls inside it, if all of those are in
    ``known`` and their results include everything that it returns; else it is one call too. With ``grows`` axis 0 of
    every input counts the examples. ``dynamic`` names, for each of the arrays of the input, axes that may have other
    sizes; those of one name have one size.

    >>> from gpunn import nn
    >>> found = trace(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), [np.ones((2, 2, 2), np.float32)], {"linear"})
    >>> [(call.function, call.layer) for call in found.calls]
    [('Tensor.reshape', '0 (Flatten)'), ('linear', '1 (Linear)')]
    >>> found.outputs[0].shape, found.outputs[0].growth
    ((2, 3), (1, 0))

    Raises GraphError where the values of the input, or the number of examples, decide what is computed.
    """
    device = next((parameter.device for parameter in model.parameters()), None)
    # Copies: an array that comes as two inputs, or as input and as weight, could not be told apart.
    first = _each_leaf(list(inputs), lambda x: asarray(raw(x), device=device).copy())
    arrays = list(leaves(first))
    check(bool(arrays), ArgumentError, "export", "there must be an example of the input")
    if grows:
        shapes = [a.shape for a in arrays]
        fits = all(a.ndim > 0 and len(a) == len(arrays[0]) > 0 for a in arrays)
        rule = "axis 0 of each input must count the examples, or pass dynamic_batch=False"
        check(fits, ArgumentError, "export", rule, shapes=shapes)
    one = _run(model, first, known)
    _compare(one, _other_run(model, first, known, grows), "the number of examples, or their values,", _grow)
    if any(dynamic):
        _compare_larger(one, model, first, known, dynamic)
    return one


def _other_run(model: Module, first: Sequence[Any], known: Container[str], grows: bool) -> Trace:
    """On other values; where the model refuses those, on the same ones elsewhere, first of integers, then of all."""
    for kept in ("", "iu"):
        try:
            return _run(model, _each_leaf(first, partial(_other, grows=grows, kept=kept)), known)
        except (ArgumentError, IndexError):
            continue
    return _run(model, _each_leaf(first, partial(_other, grows=grows, kept="iufb")), known)


def _other(x: Any, grows: bool, kept: str) -> Any:
    """Other values in the range of those of ``x``, so that logarithms exist and indices name something.

    An array of one of the kinds ``kept`` has those that there are, each at another place: they may be indices into a
    single row, or answers of which there are two.
    """
    host = to_cpu(x)
    rows = np.concatenate([host, host[:1]]) if grows else host
    if rows.dtype.kind in kept:
        other = np.roll(rows, 1)
    elif rows.dtype.kind == "b":
        other = ~rows
    elif rows.dtype.kind in "iu":
        other = np.where(rows > 0, rows - 1, rows + 1).astype(rows.dtype)
    else:
        other = (rows / 2 + 0.25).astype(rows.dtype)
    return asarray(other, device=device_of(x))


def _compare_larger(
    one: Trace, model: Module, first: Sequence[Any], known: Container[str], dynamic: Sequence[Mapping[int, str]]
) -> None:
    """Give the values of ``one`` their sizes for larger inputs, of which the second ones have odd sizes, if they may.

    Each name has its own difference, a multiple of 32: networks halve their images up to five times.
    """
    numbers = {name: number for number, name in enumerate(dict.fromkeys(n for axes in dynamic for n in axes.values()))}
    for odd in (0, 1):
        more = [{axis: 32 * (numbers[name] + 1) + odd * (2 * numbers[name] + 1) for axis, name in axes.items()}
                for axes in dynamic]  # fmt: skip
        larger = _each_leaf(first, partial(_larger, pending=iter(more)))
        try:
            found = _run(model, larger, known)
        except (ArgumentError, ShapeError, IndexError) as error:
            if odd:  # only such sizes as the first ones
                return
            shapes = [x.shape for x in leaves(larger)]
            raise GraphError(f"export: the model does not take inputs of the shapes {shapes}: {error}") from error
        _compare(one, found, "sizes along dynamic axes", _resize)


def _larger(x: Any, pending: Iterator[Mapping[int, int]]) -> Any:
    """``x`` with so many more elements along axes as the next one says, its own from the start again."""
    host = to_cpu(x)
    for axis, count in next(pending).items():
        host = np.take(host, np.arange(host.shape[axis] + count), axis, mode="wrap")
    return asarray(host, device=device_of(x))


def _compare(one: Trace, two: Trace, what: str, note: Callable[[Value, Value, str, str], None]) -> None:
    """Compare the runs, which may differ in sizes alone; ``note`` writes those of ``two`` into values of ``one``."""
    for call, other in zip(one.calls, two.calls, strict=False):
        rule = f"{what} may not decide what {call.layer} calls"
        same = (call.function, call.layer) == (other.function, other.layer)
        check(same, GraphError, "export", rule, first=call.function, then=other.function)
    rule = f"{what} may not decide how many functions are called"
    check(len(one.calls) == len(two.calls), GraphError, "export", rule, first=len(one.calls), then=len(two.calls))
    pairs = [(*values, "the input") for values in zip(one.inputs, two.inputs, strict=True)]
    for call, other in zip(one.calls, two.calls, strict=True):
        where = f"{call.function} in {call.layer}"
        given, others = list(leaves(call.arguments)), list(leaves(other.arguments))
        if call.function not in ("Tensor.reshape", "Tensor.expand"):  # these are known by their results
            same = len(given) == len(others) and all(map(_same_setting, given, others))
            rule = f"{what} may not decide the settings of {where}"
            differing = next(((a, b) for a, b in zip(given, others, strict=False) if not _same_setting(a, b)), ())
            check(same, GraphError, "export", rule, settings=differing)
        values, other_values = ([v for v in each if isinstance(v, Value)] for each in (given, others))
        pairs += [(*each, where) for each in zip(values, other_values, strict=True)]
        pairs += [(*each, where) for each in zip(call.results, other.results, strict=True)]
    pairs += [(*each, "the model's result") for each in zip(one.outputs, two.outputs, strict=True)]
    partners: dict[int, Value] = {}
    for value, other_value, where in pairs:
        if id(value) not in partners:
            partners[id(value)] = other_value
            note(value, other_value, what, where)
        constant = value.array is not None and other_value.array is not None and not value.name
        rule = f"{what} may not decide which array {where} takes"
        check(constant or partners[id(value)] is other_value, GraphError, "export", rule, shape=value.shape)


def _same_setting(a: Any, b: Any) -> bool:
    if isinstance(a, Value) or isinstance(b, Value):
        return isinstance(a, Value) and isinstance(b, Value)
    return a is b or (type(a) is type(b) and bool(a == b))


def _check_alike(value: Value, other: Value, what: str, where: str) -> None:
    same = value.name == other.name and (value.array is None) == (other.array is None)
    rule = f"{what} may not decide which array {where} takes"
    check(same, GraphError, "export", rule, first=value.shape, then=other.shape)
    rule = f"an array of {where} may not change its number of axes"
    check(value.ndim == other.ndim, GraphError, "export", rule, first=value.shape, then=other.shape)


def _grow(value: Value, other: Value, what: str, where: str) -> None:
    _check_alike(value, other, what, where)
    value.growth = tuple(b - a for a, b in zip(value.shape, other.shape, strict=True))
    _check_uniform(value, other, where)


def _resize(value: Value, other: Value, what: str, where: str) -> None:
    _check_alike(value, other, what, where)
    value.others = (*value.others, other.shape)
    _check_uniform(value, other, where)


def _check_uniform(value: Value, other: Value, where: str) -> None:
    """A constant is the same in both runs, and along axes whose size changes each element is the next."""
    if value.array is None or other.array is None or value.name:
        return
    index = tuple(slice(None) if value.fixed(axis) else slice(0, 1) for axis in range(value.ndim))
    kept, others = value.array[index], other.array[index]
    uniform = all(
        np.broadcast_to(part, whole.shape).tobytes() == whole.tobytes()
        for part, whole in ((kept, value.array), (others, other.array))
    )
    rule = f"an array that {where} uses was computed from the input, but not by functions of gpunn on tensors"
    check(uniform and kept.tobytes() == others.tobytes(), GraphError, "export", rule, shape=value.shape)
    value.array = kept
