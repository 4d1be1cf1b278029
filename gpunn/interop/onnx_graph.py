"""An ONNX graph as it grows: nodes, constants, and the names that join them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from math import gcd
from typing import Any, NoReturn

import numpy as np

from gpunn.errors import GraphError, PackageError, fail, install_command
from gpunn.interop.trace import Call, Value

Name = str
"""Of an array in the graph; empty for an input that a node goes without."""


def package(op: str = "export") -> Any:
    """The package ``onnx``; raises PackageError, with the command that mends it, where it is not installed."""
    try:
        import onnx
        import onnx.backend.base
        import onnx.helper
        import onnx.inliner
        import onnx.numpy_helper
        import onnx.shape_inference
    except ImportError as error:
        raise PackageError(f"{op}: ONNX files need the package onnx ({error}): {install_command('onnx')}") from error
    return onnx


class Graph:
    """Nodes and constants of one file, traced on ``examples``; ``call`` is the call that is being translated.

    Translations are valid from :data:`gpunn.interop.onnx.OPSET` on; one that is not in all versions looks at ``opset``.
    """

    def __init__(self, examples: int, opset: int) -> None:
        self.onnx = package()
        self.examples, self.opset = examples, opset
        self.nodes: list[Any] = []
        self.weights: dict[Name, np.ndarray[Any, Any]] = {}
        self.call: Call | None = None
        self._names: dict[int, Name] = {}
        self._values: list[Value] = []  # one that is gone could lend its identity to another
        self._constants: dict[tuple[str, tuple[int, ...], bytes], Name] = {}
        self._used: set[Name] = set()
        self._examples: Name = ""

    @property
    def results(self) -> list[Value]:
        """Of the call that is being translated."""
        return [] if self.call is None else self.call.results

    def refuse(self, rule: str, **values: object) -> NoReturn:
        """Raise GraphError about the call that is being translated, or else about the outputs."""
        where = f"{self.call.function} in {self.call.layer}" if self.call else "the model's result"
        fail(GraphError, "export", f"{where}: {rule}", **values)

    def need_fixed(self, x: Value, axes: Sequence[int]) -> None:
        """Refuse ``x`` if its size along one of ``axes`` depends on the number of examples or the input's sizes."""
        if any(x.growth[axis] for axis in axes):
            self.refuse("sizes may not depend on the number of examples but along axis 0", shape=x.shape)
        if any(x.varies(axis) for axis in axes):
            self.refuse("it needs sizes that dynamic_axes leaves open", shape=x.shape)

    # ---- names ----------------------------------------------------------------------------------------------------

    def bind(self, value: Value, name: Name) -> None:
        """Say what ``value`` is called."""
        self._names[id(value)] = name
        self._values.append(value)

    def name(self, value: Value | Name | None) -> Name:
        """What ``value`` is called; constants come into the file when they are first named."""
        if value is None or isinstance(value, str):
            return value or ""
        if id(value) not in self._names:
            if value.array is None:
                self.refuse("an array was computed where it cannot be followed", shape=value.shape)
            if value.name:
                self.bind(value, self.new_name(value.name))
                self.weights[self._names[id(value)]] = value.array
            else:
                self.bind(value, self._expanded(value))
        return self._names[id(value)]

    def new_name(self, wanted: str) -> Name:
        """``wanted``, with a number behind it if there is one of that name."""
        name, number = wanted, 1
        while name in self._used:
            name, number = f"{wanted}_{number}", number + 1
        self._used.add(name)
        return name

    # ---- nodes and constants --------------------------------------------------------------------------------------

    def node(self, op: str, *inputs: Value | Name | None, **attributes: Any) -> Name:
        """Add a node with one result, and return its name."""
        return self.nodes_of(op, 1, *inputs, **attributes)[0]

    def nodes_of(self, op: str, results: int, *inputs: Value | Name | None, **attributes: Any) -> list[Name]:
        """Add a node with several results, and return their names."""
        layer = self.call.layer.split(" (")[0] if self.call else ""
        names = [self.name(each) for each in inputs]
        while not names[-1]:  # allowed by ONNX, but onnxruntime can crash on it
            names.pop()
        title = self.new_name(f"{layer}/{op}" if layer else op)
        made = [self.new_name(f"{title}:{number}") for number in range(results)]
        self.nodes.append(self.onnx.helper.make_node(op, names, made, name=title, **attributes))
        return made

    def constant(self, array: Any, dtype: Any = None) -> Name:
        """A constant array; equal ones are kept once."""
        array = np.ascontiguousarray(np.asarray(array, dtype)).reshape(np.shape(array))
        key = str(array.dtype), array.shape, array.tobytes()
        if key not in self._constants:
            self._constants[key] = self.new_name("constant")
            self.weights[self._constants[key]] = array
        return self._constants[key]

    def integers(self, *numbers: int) -> Name:
        """A constant vector of int64, in which ONNX gives sizes and axes."""
        return self.constant(np.array(numbers, np.int64))

    # ---- shapes ---------------------------------------------------------------------------------------------------

    def count_examples(self, of: Name) -> None:
        """Say of which input axis 0 counts the examples."""
        self._examples = of

    def shape_of(self, value: Value) -> Name:
        """The shape of ``value`` for the sizes at hand, as a vector."""
        axes = range(value.ndim)
        if all(map(value.fixed, axes)):
            return self.integers(*value.shape)
        return self.node("Concat", *map(partial(self.size_of, value), axes), axis=0)

    def size_of(self, value: Value, axis: int) -> Name:
        """The size of ``value`` along an axis for the sizes at hand, as a vector of one."""
        size, growth = value.shape[axis], value.growth[axis]
        if value.varies(axis):
            like = self._like(value, axis)
            if like is None:
                self.refuse("how a size depends on those of the input is not known", sizes=value.sizes(axis))
            known, place, times, parts = like
            made = self.node("Shape", known, start=place, end=place + 1)
            made = self.node("Mul", made, self.integers(times)) if times > 1 else made
            return self.node("Div", made, self.integers(parts)) if parts > 1 else made
        if not growth:
            return self.integers(size)
        count = self.node("Shape", self._examples, start=0, end=1)
        rest = size - growth * self.examples
        grown = self.node("Mul", count, self.integers(growth)) if growth != 1 else count
        return self.node("Add", grown, self.integers(rest)) if rest else grown

    def _like(self, value: Value, axis: int) -> tuple[Value, int, int, int] | None:
        """An array in the graph and its axis of which a size is so many times a part: in all runs, and exactly."""
        wanted = value.sizes(axis)
        found = None
        for known in self._values:
            for place in range(known.ndim):
                sizes = known.sizes(place)
                if not known.varies(place) or known.growth[place] or value.growth[axis]:
                    continue
                if sizes == wanted:
                    return known, place, 1, 1
                times, parts = wanted[0] // (common := gcd(wanted[0], sizes[0])), sizes[0] // common
                if found is None and all(size * times == own * parts for size, own in zip(sizes, wanted, strict=True)):
                    found = known, place, times, parts
        return found

    def reshape(self, x: Value | Name, like: Value) -> Name:
        """``x`` in the shape of ``like``."""
        fixed = list(map(like.fixed, range(like.ndim)))
        if fixed.count(False) <= 1 and 0 not in like.shape:
            sizes = (size if known else -1 for known, size in zip(fixed, like.shape, strict=True))
            return self.node("Reshape", x, self.integers(*sizes))
        new = [axis for axis in range(like.ndim) if like.varies(axis) and self._like(like, axis) is None]
        if len(new) != 1 or 0 in like.shape:
            return self.node("Reshape", x, self.shape_of(like), allowzero=1)
        each = (self.integers(-1) if axis in new else self.size_of(like, axis) for axis in range(like.ndim))
        return self.node("Reshape", x, self.node("Concat", *each, axis=0))

    def _expanded(self, value: Value) -> Name:
        kept = self.constant(value.array)
        fixed = all(map(value.fixed, range(value.ndim)))
        return kept if fixed else self.node("Expand", kept, self.shape_of(value))

    # ---- what several translations need ---------------------------------------------------------------------------

    def like(self, number: Any, x: Value) -> Name:
        """A number as a constant of the dtype of ``x``."""
        return self.constant(np.asarray(number, x.dtype))

    def cast(self, x: Value | Name, dtype: np.dtype[Any]) -> Name:
        """``x`` in ``dtype``."""
        if isinstance(x, Value) and x.dtype == dtype:
            return self.name(x)
        return self.node("Cast", x, to=self.onnx.helper.np_dtype_to_tensor_dtype(dtype))

    def slice(self, x: Value | Name, axes: Sequence[int], starts: Sequence[int], ends: Sequence[int],
              steps: Sequence[int] | None = None) -> Name:  # fmt: skip
        """``x[start:end:step]`` along each of ``axes``."""
        vectors = [self.integers(*each) for each in (starts, ends, axes, steps or [1] * len(axes))]
        return self.node("Slice", x, *vectors)
