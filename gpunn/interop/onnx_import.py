"""Models read from ONNX files, which other programs wrote: modules that run, train, and can be exported again.

:mod:`gpunn.interop.onnx_import_operators` has the operators, :mod:`gpunn.interop.onnx_import_file` reads the file.

While a model runs, what follows from its inputs and its parameters are Tensors. What follows from constants and from
shapes alone are NumPy arrays, which stay on the CPU: so the sizes that other programs compute in the graph, for images
of any size, are numbers here when they are needed.
"""

from __future__ import annotations

import os
from collections.abc import Set
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gpunn.backend import asarray, is_array, is_floating
from gpunn.errors import ArgumentError, DtypeError, GpunnError, GraphError, ShapeError, check
from gpunn.functional.record import raw
from gpunn.interop.onnx_import_file import Content, End, Node, read
from gpunn.interop.onnx_import_operators import HOST, OPERATORS, SETTINGS, STATISTICS, UNLEARNED
from gpunn.interop.onnx_import_step import Step
from gpunn.nn import Buffer, Module, Parameter
from gpunn.tensor import Tensor, wrapped


def load(path: str | os.PathLike[str]) -> OnnxModel:
    """The model in the ONNX file ``path``, in evaluation mode.

    It takes the inputs of the file in order, and returns its output, or a tuple of several. Weights (initialisers of
    floats) are parameters with the names that they have in the file (with _ behind it, if the module has an attribute
    of that name, and without one in front), running statistics are buffers; numbers without axes, integers, and
    settings such as the bounds of Clip stay constants. After ``model.train()`` dropout and batch normalisation do what
    the layers do.

    >>> import tempfile, numpy as np
    >>> from pathlib import Path
    >>> from gpunn import nn
    >>> from gpunn.interop.onnx import export
    >>> net, path = nn.Sequential(nn.Linear(4, 3), nn.ReLU()), Path(tempfile.mkdtemp(), "model.onnx")
    >>> export(net, np.zeros((1, 4), np.float32), path)
    >>> model = load(path)
    >>> {name: weight.shape for name, weight in model.named_parameters()}
    {'0.weight': (3, 4), '0.bias': (3,)}
    >>> x = np.ones((5, 4), np.float32)
    >>> np.allclose(model(x).data, net(x).data)
    True

    Files with operators of versions 7 and newer are read. Raises FileError, which names the file and the node, for
    what is no such file or is damaged, for operators that are not known and nodes with graphs inside (If, Loop, Scan;
    but for the If that PyTorch writes for ``squeeze`` of an open size), dtypes and sizes that do not fit, and for data
    outside of the model's folder; PackageError without the package onnx.
    """
    return OnnxModel(read(path, OPERATORS)).eval()


@dataclass(frozen=True)
class _Plan:
    """How a model runs: its nodes, and the attribute that holds each of its weights."""

    path: str
    inputs: list[End]
    outputs: list[str]
    nodes: list[Node]
    constants: dict[str, np.ndarray[Any, Any]]
    held: dict[str, str]
    last: list[tuple[str, ...]]
    """The arrays that nothing needs after each node."""
    as_written: bool
    """Whether nodes that the file has in training are so, whatever mode the module is in."""


class OnnxModel(Module):
    """A graph of ONNX operators as a module, made by :func:`load`."""

    def __init__(self, content: Content, as_written: bool = False) -> None:
        held, constants = {}, {}
        places = _places(content.nodes)
        for name, array in content.arrays.items():
            kind = _kind(array, places.get(name, []))
            if kind is None:
                constants[name] = array
                continue
            own = name if "." in name else name.lstrip("_") or "w"  # attributes that begin with _ are the module's own
            while hasattr(type(self), own) or hasattr(self, own):
                own += "_"
            setattr(self, own, kind(array))
            held[name] = own
        nodes, last = _needed(content, constants.keys() | held.keys())
        self._plan = _Plan(content.path, content.inputs, content.outputs, nodes, constants, held, last, as_written)

    @property
    def input_names(self) -> list[str]:
        """What the file calls the inputs, in order."""
        return [end.name for end in self._plan.inputs]

    @property
    def output_names(self) -> list[str]:
        """What the file calls the outputs, in order."""
        return list(self._plan.outputs)

    def forward(self, *inputs: Any) -> Any:
        plan = self._plan
        names = self.input_names
        rule = "the model takes as many inputs as its file names"
        check(len(inputs) == len(names), ArgumentError, plan.path, rule, inputs=len(inputs), names=names)
        values: dict[str, Any] = dict(plan.constants)
        values |= {name: getattr(self, own) for name, own in plan.held.items()}
        sizes: dict[str, int] = {}
        for end, x in zip(plan.inputs, inputs, strict=True):
            values[end.name] = _given(plan.path, end, x, sizes)
        for node, gone in zip(plan.nodes, plan.last, strict=True):
            step = Step(node, self.training, plan.as_written)
            results = _run(step, [values[name] if name else None for name in node.inputs])
            values.update((name, y) for name, y in zip(node.outputs, results, strict=False) if name)
            for name in gone:
                values.pop(name, None)
        outputs = [values[name] if isinstance(values[name], Tensor) else wrapped(values[name]) for name in plan.outputs]
        return outputs[0] if len(outputs) == 1 else tuple(outputs)


def _needed(content: Content, kept: Set[str]) -> tuple[list[Node], list[tuple[str, ...]]]:
    """The nodes that the outputs depend on, with the results that are used, and what nothing needs after each of them.

    What is ``kept`` does not go.
    """
    used = set(content.outputs)
    nodes: list[Node] = []
    last: list[tuple[str, ...]] = []
    for node in reversed(content.nodes):
        if used.isdisjoint(node.outputs):
            continue
        nodes.append(replace(node, outputs=tuple(name if name in used else "" for name in node.outputs)))
        new = set(node.inputs) - used - {""}
        last.append(tuple(new - kept))
        used |= new
    return nodes[::-1], last[::-1]


def _places(nodes: list[Node]) -> dict[str, list[tuple[str, int]]]:
    """Where each array is taken: the operators, and at which of their inputs."""
    places: dict[str, list[tuple[str, int]]] = {}
    for node in nodes:
        for place, name in enumerate(node.inputs):
            places.setdefault(name, []).append((node.op, place))
    return places


def _kind(array: np.ndarray[Any, Any], places: list[tuple[str, int]]) -> type[Parameter | Buffer] | None:
    """What an initialiser becomes: None for a constant."""
    if not is_floating(array.dtype) or not places:
        return None
    if any(place in STATISTICS.get(op, ()) for op, place in places):
        return Buffer
    settings = all(place in (*SETTINGS.get(op, ()), *UNLEARNED.get(op, ())) for op, place in places)
    return None if settings or array.ndim == 0 else Parameter


def _given(path: str, end: End, x: Any, sizes: dict[str, int]) -> Tensor:
    """An input as a Tensor, checked; ``sizes`` are those that have names."""
    what = f"{path}: input {end.name!r}"
    array = raw(x)
    check(is_array(array), DtypeError, what, "it must be an array", type=type(x).__name__)
    check(array.dtype == end.dtype, DtypeError, what, f"it must be {end.dtype}", dtype=str(array.dtype))
    if end.shape is not None:
        wanted = tuple(sizes.setdefault(size, n) if isinstance(size, str) else n if size is None else size
                       for size, n in zip(end.shape, array.shape, strict=False))  # fmt: skip
        fits = len(end.shape) == array.ndim and wanted == array.shape
        check(fits, ShapeError, what, f"its shape must be {end.shape}", shape=array.shape)
    return x if isinstance(x, Tensor) else Tensor(array)


def _run(step: Step, inputs: list[Any]) -> Any:
    """The results of a node; its errors say which one it is."""
    node = step.node
    try:
        return _results(step, inputs)
    except GpunnError as error:
        if str(error).startswith(node.where):
            raise
        raise type(error)(f"{node.where}: {error}") from error
    except (ArithmeticError, AttributeError, LookupError, MemoryError, TypeError, ValueError) as error:
        raise GraphError(f"{node.where}: it cannot be computed: {error}") from error


def _results(step: Step, inputs: list[Any]) -> Any:
    node = step.node
    settings = SETTINGS.get(node.op, ())
    tensors = [x for place, x in enumerate(inputs) if isinstance(x, Tensor) and place not in settings]
    if not tensors and node.op in HOST and not any(isinstance(x, Tensor) for x in inputs):
        made = HOST[node.op](step, *inputs, **node.attributes)
        results = made if isinstance(made, list | tuple) else [made]
        return [np.asarray(y) for y in results]
    device = tensors[0].device if tensors else "cpu"
    given = [
        wrapped(x if place in settings or device == "cpu" else asarray(x, device=device)) if is_array(x) else x
        for place, x in enumerate(inputs)
    ]
    made = OPERATORS[node.op](step, *given, **node.attributes)
    results = made if isinstance(made, list | tuple) else [made]
    # What came of constants alone stays one.
    return results if tensors else [y.data if isinstance(y, Tensor) else y for y in results]
