"""Models as ONNX files: written for other programs by :func:`export`, and read by :func:`load` from what those wrote.

:mod:`gpunn.interop.onnx_nodes` has what can be written, :mod:`gpunn.interop.onnx_import_operators` what can be read;
``Backend`` runs models behind the interface of the package onnx (``onnx.backend.base.Backend``). A file needs nothing
of gpunn. Source of the format: https://onnx.ai/onnx/intro/concepts.html
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import gpunn
from gpunn.errors import ArgumentError, FileError, check
from gpunn.files import write_atomically
from gpunn.functional.record import raw
from gpunn.interop.onnx_backend import backend_class
from gpunn.interop.onnx_graph import Graph, Name, package
from gpunn.interop.onnx_import import OnnxModel as OnnxModel
from gpunn.interop.onnx_import import load as load
from gpunn.interop.onnx_nodes import TRANSLATIONS
from gpunn.interop.trace import Call, Trace, Value, leaves, trace
from gpunn.nn import Module, PackedSequence

OPSET = 18
"""The oldest version of the operators in which all translations are valid; more programs read it than newer ones."""

LARGEST = 2**31 - 1
"""Bytes in a file: protobuf, its format, has no more."""


if TYPE_CHECKING:
    Backend: Any
else:

    def __getattr__(name: str) -> Any:
        """``Backend``, which needs the package onnx: it comes when it is first asked for."""
        if name == "Backend":
            return backend_class()
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def export(
    model: Module,
    example: Any,
    path: str | os.PathLike[str],
    *,
    opset: int = OPSET,
    input_name: str = "input",
    output_name: str = "output",
    dynamic_batch: bool = True,
    dynamic_axes: Mapping[str, Mapping[int, str]] | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Write what ``model`` computes in evaluation to ``path``, an ONNX file.

    The model runs on ``example``, an array of any values like those it will get (a tuple for several inputs), and what
    it calls is followed: layers, functions of :mod:`gpunn.functional`, methods and operators of tensors. Other sizes
    than the example's need another export; but axis 0 of every input counts the examples, and may have any size later,
    unless ``dynamic_batch`` is False. ``dynamic_axes`` gives other axes of the inputs, by number, a name for a size
    that may be any later: ``{"input": {2: "H", 3: "W"}}``. The model then runs on larger inputs, too.

    Several inputs are called ``input_name``, ``input_name_1`` and so on, outputs alike. ``metadata`` stands in the
    file: texts as they are, other values as JSON. Weights keep their names in the model. ``opset`` is the version of
    ONNX's operators.

    >>> import tempfile, numpy as np
    >>> from gpunn import nn
    >>> path = Path(tempfile.mkdtemp(), "model.onnx")
    >>> net = nn.Sequential(nn.Linear(4, 3), nn.Softmax())
    >>> export(net, np.zeros((1, 4), np.float32), path, metadata={"classes": ["a", "b", "c"]})
    >>> import onnx.reference
    >>> y = onnx.reference.ReferenceEvaluator(str(path)).run(None, {"input": np.ones((5, 4), np.float32)})
    >>> y[0].shape
    (5, 3)

    Raises GraphError, before a file is written, for a function without a translation, which it names with its layer,
    and for what depends on the values of the input or in a way unknown to gpunn; ArgumentError for settings out of
    range and for weights beyond 2 GB; FileError if ``path`` cannot be written; PackageError without the package onnx.
    """
    onnx = package()
    newest = onnx.defs.onnx_opset_version()
    check(OPSET <= opset <= newest, ArgumentError, "export", f"opset must be from {OPSET} to {newest}", opset=opset)
    texts = {name: _text(name, value) for name, value in (metadata or {}).items()}
    packed = isinstance(example, PackedSequence)
    check(not packed, ArgumentError, "export", "sequences must be of one length, not packed", type="PackedSequence")
    inputs = example if isinstance(example, tuple | list) else [example]
    dynamic = _dynamic(inputs, input_name, dynamic_batch, dynamic_axes or {})
    found = trace(model, inputs, TRANSLATIONS, dynamic_batch, dynamic)
    graph = Graph(found.examples, opset)
    ends = _translated(graph, found, input_name, output_name, dynamic_batch, dynamic)
    content = _content(graph, ends, opset, type(model).__name__, texts)
    target = Path(path)
    if not target.parent.is_dir():
        raise FileError(f"{target}: the model cannot be written: No such folder: {target.parent}")
    try:
        write_atomically(target, content)
    except OSError as error:
        raise FileError(f"{target}: the model cannot be written: {error.strerror or error}") from error


def _dynamic(
    inputs: Any, input_name: str, dynamic_batch: bool, axes: Mapping[str, Mapping[int, str]]
) -> list[Mapping[int, str]]:
    """The names of dynamic axes for each array of the input."""
    shapes = [tuple(np.shape(raw(x))) for x in leaves(inputs)]
    names = _names(input_name, len(shapes))
    unknown = sorted(axes.keys() - set(names))
    check(not unknown, ArgumentError, "export", f"dynamic_axes is for the inputs {names}", unknown=unknown)
    sizes: dict[str, int] = {}
    for name, shape in zip(names, shapes, strict=True):
        for axis, size in axes.get(name, {}).items():
            inside = isinstance(axis, int) and int(dynamic_batch) <= axis < len(shape)
            rule = (
                f"dynamic_axes of {name!r} must be axes from {int(dynamic_batch)} to {len(shape) - 1} with their names"
            )
            check(inside and isinstance(size, str) and size != "N", ArgumentError, "export", rule, axis=axis, name=size)
            rule = "axes of one name must have one size"
            one = sizes.setdefault(size, shape[axis]) == shape[axis]
            check(one, ArgumentError, "export", rule, name=size, sizes=(sizes[size], shape[axis]))
    return [axes.get(name, {}) for name in names]


def _text(name: object, value: Any) -> str:
    check(isinstance(name, str), ArgumentError, "export", "names in metadata must be texts", name=name)
    try:
        return value if isinstance(value, str) else json.dumps(value)
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"export: metadata {name!r} must be a text, or what JSON has: {error}") from error


def _translated(
    graph: Graph, found: Trace, input_name: str, output_name: str, dynamic_batch: bool,
    dynamic: Sequence[Mapping[int, str]],
) -> tuple[list[Any], list[Any]]:  # fmt: skip
    """Fill the graph; the descriptions of its inputs and its outputs."""
    given, named = _names(input_name, len(found.inputs)), _names(output_name, len(found.outputs))
    for name in (*given, *named):
        clear = graph.new_name(name) == name
        check(clear, ArgumentError, "export", "inputs and outputs must have different names", name=name)
    for value, name in zip(found.inputs, given, strict=True):
        graph.bind(value, name)
    if dynamic_batch:
        graph.count_examples(given[0])
    for call in _needed(found):
        graph.call = call
        if call.function not in TRANSLATIONS:
            graph.refuse("it has no translation to ONNX")
        made = TRANSLATIONS[call.function](graph, **call.arguments)
        for value, name in zip(call.results, [made] if isinstance(made, str) else made, strict=True):
            graph.bind(value, name)
    graph.call = None
    for value, name in zip(found.outputs, named, strict=True):
        graph.nodes.append(graph.onnx.helper.make_node("Identity", [graph.name(value)], [name], name=f"/{name}"))
    sizes = {value.sizes(axis): name for value, axes in zip(found.inputs, dynamic, strict=True)
             for axis, name in axes.items()}  # fmt: skip
    ends = [[_described(graph, sizes, *each) for each in zip(values, names, strict=True)]
            for values, names in ((found.inputs, given), (found.outputs, named))]  # fmt: skip
    return ends[0], ends[1]


def _names(name: str, count: int) -> list[Name]:
    return [f"{name}_{number}" if number else name for number in range(count)]


def _needed(found: Trace) -> list[Call]:
    """The calls that the outputs depend on, in order."""
    wanted, needed = set(map(id, found.outputs)), []
    for call in reversed(found.calls):
        if any(id(value) in wanted for value in call.results):
            wanted.update(id(value) for value in leaves(call.arguments) if isinstance(value, Value))
            needed.append(call)
    return needed[::-1]


def _described(graph: Graph, names: Mapping[tuple[int, ...], str], value: Value, name: Name) -> Any:
    """The type and shape of an input or output; an axis that holds as many as there are examples is called N."""
    sizes = []
    for axis, (size, growth) in enumerate(zip(value.shape, value.growth, strict=True)):
        counts = (size, growth) == (graph.examples, 1) and not value.varies(axis)
        word = "N" if counts else names.get(value.sizes(axis)) if value.varies(axis) and not growth else None
        sizes.append(size if value.fixed(axis) else word)
    helper = graph.onnx.helper
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), sizes)


def _content(graph: Graph, ends: tuple[list[Any], list[Any]], opset: int, title: str, texts: dict[str, str]) -> bytes:
    helper, numpy_helper = graph.onnx.helper, graph.onnx.numpy_helper
    operators = helper.make_opsetid("", opset)
    model = helper.make_model(
        helper.make_graph(graph.nodes, title, *ends),
        opset_imports=[operators],
        ir_version=helper.find_min_ir_version_for([operators]),  # the newest one is not read by programs before it
        producer_name="gpunn",
        producer_version=gpunn.__version__,
    )
    helper.set_model_props(model, texts)
    size = model.ByteSize() + sum(array.nbytes + len(name) + 64 for name, array in graph.weights.items())
    rule = "an ONNX file cannot be larger than 2 GB, weights included"
    check(size <= LARGEST, ArgumentError, "export", rule, bytes=size)
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in graph.weights.items())
    return bytes(model.SerializeToString())
