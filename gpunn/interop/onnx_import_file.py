"""What stands in an ONNX file, checked before any of it runs: sizes, dtypes, names, operators, where data lies.

A file is read whole, and its weights as they are: nothing in it is executed. Arrays that lie in other files are read
from the model's folder alone. Model-local functions are put in the place of their calls. Source of the format:
https://github.com/onnx/onnx/blob/main/docs/IR.md
"""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Callable, Container
from dataclasses import dataclass, field
from math import prod
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, NoReturn

import numpy as np

from gpunn.errors import FileError, check, fail
from gpunn.files import open_file
from gpunn.interop.onnx_graph import package

OLDEST = 7
"""Of the operators' versions that are read."""

LARGEST = 2**31 - 1
"""Bytes in a file: protobuf, its format, has no more."""

DTYPES = {"bool", "float16", "bfloat16", "float32", "float64"} | {
    f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)
}

_MOST_NODES = 1_000_000
_MOST_AXES = 64
_LONGEST = 1000
"""Letters of an equation."""
_SHAPED = {"ConstantOfShape": 0, "Expand": 1, "Reshape": 1, "Tile": 1, "Unsqueeze": 1}
"""The operators whose results have as many axes as one of their inputs has numbers, and which one."""
_MOST_INLINED = 256 << 20
"""Bytes of a model with its functions put in place, beyond its own."""
_SMALL = 4096
"""Bytes of an array that the check of types looks into: it may be the shape of another."""


@dataclass(frozen=True)
class Node:
    """A node of the graph: what it computes, and the names of the arrays that it takes and makes."""

    where: str
    """The file and the node, for errors."""
    op: str
    version: int
    """Of the operator: the opset in which it became what it is here."""
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]

    def fail(self, rule: str, **values: object) -> NoReturn:
        fail(FileError, self.where, rule, **values)


@dataclass(frozen=True)
class End:
    """An input of the graph; a size is a number, a name, or None where it is not known."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | str | None, ...] | None


@dataclass(frozen=True)
class Content:
    """What a file holds: the graph, and the arrays in it."""

    path: str
    inputs: list[End]
    outputs: list[str]
    nodes: list[Node]
    arrays: dict[str, np.ndarray[Any, Any]] = field(default_factory=dict)


def read(path: str | os.PathLike[str], operators: Container[str]) -> Content:
    """The content of the file ``path``, which may use ``operators``."""
    onnx = package("import")
    place = Path(path)
    try:
        with open_file(place) as file:
            size, first = os.fstat(file.fileno()).st_size, file.read(1)
            begins = not first or first[0] in {_tag(field) for field in onnx.ModelProto.DESCRIPTOR.fields}
            check(begins, FileError, str(place), "this is not an ONNX file", first=first)
            check(size <= LARGEST, FileError, str(place), f"it must have at most {LARGEST} bytes", bytes=size)
            content = first + file.read()
    except (MemoryError, OSError) as error:
        raise FileError(f"{place}: the model cannot be read: {_reason(error)}") from error
    try:
        model = onnx.ModelProto.FromString(content)
    except Exception as error:  # protobuf has several, by its implementation
        raise FileError(f"{place}: this is not an ONNX file: {error}") from error
    return parsed(model, str(place), place.parent, operators)


def parsed(model: Any, path: str, folder: Path | None, operators: Container[str]) -> Content:
    """The content of a model that was read from ``path``; arrays in other files must lie in ``folder``."""
    try:
        return _Reader(package("import"), path, folder, operators).content(model)
    except (LookupError, TypeError, UnicodeError) as error:  # names that are no texts
        raise FileError(f"{path}: the model is damaged: {error}") from error


class _Reader:
    def __init__(self, onnx: Any, path: str, folder: Path | None, operators: Container[str]) -> None:
        self.onnx, self.path, self.folder, self.operators = onnx, path, folder, operators
        self.opset = 0
        self.taken: Counter[str] = Counter()
        self.context = onnx.checker.C.CheckerContext()
        self.context.ir_version = onnx.IR_VERSION

    def content(self, model: Any) -> Content:
        self._check_versions(model)
        model = self._without_functions(model)
        graph = model.graph
        self._require(len(graph.node) <= _MOST_NODES, f"there must be at most {_MOST_NODES} nodes", n=len(graph.node))
        self._require(not graph.sparse_initializer, "sparse arrays are not supported")
        arrays = {each.name: self.array(each, f"the initialiser {each.name!r}") for each in graph.initializer}
        self._require(len(arrays) == len(graph.initializer), "each initialiser must have a name of its own")
        nodes = [self._node(node, number) for number, node in enumerate(graph.node)]
        inputs = [self._end(each) for each in graph.input if each.name not in arrays]
        given = [each.name for each in inputs]
        self._require(len(set(given)) == len(given), "each input must have a name of its own", inputs=given[:100])
        self._check_names(nodes, {each.name for each in inputs} | arrays.keys(), [each.name for each in graph.output])
        self._check_types(graph, nodes, arrays)
        return Content(self.path, inputs, [each.name for each in graph.output], nodes, arrays)

    def _require(self, holds: bool, rule: str, **values: object) -> None:
        check(holds, FileError, self.path, rule, **values)

    # ---- versions, functions --------------------------------------------------------------------------------------

    def _check_versions(self, model: Any) -> None:
        onnx = self.onnx
        whole = model.HasField("graph") and len(model.opset_import) > 0
        self._require(whole, "this is not an ONNX model: a graph and the version of its operators must be there")
        known = 3 <= model.ir_version <= onnx.IR_VERSION
        rule = f"the version of the format must be from 3 to {onnx.IR_VERSION}"
        self._require(known, rule, ir_version=model.ir_version)
        own = [each.version for each in model.opset_import if each.domain in ("", "ai.onnx")]
        newest = onnx.defs.onnx_opset_version()
        rule = f"the version of the operators (opset) must be one, from {OLDEST} to {newest}"
        self._require(len(set(own)) == 1 and OLDEST <= own[0] <= newest, rule, opset=own)
        self.opset = own[0]
        self.context.opset_imports = {"": self.opset}

    def _without_functions(self, model: Any) -> Any:
        """The model with each call of a function of its own replaced by what the function does."""
        if not model.functions:
            return model
        functions = {(each.domain, each.name, each.overload): each for each in model.functions}
        alone = len(functions) == len(model.functions)
        self._require(alone, "each function must have a name of its own")
        sizes: dict[tuple[str, str, str], tuple[int, int]] = {}

        def size(nodes: Any, above: tuple[tuple[str, str, str], ...]) -> tuple[int, int]:
            count = content = 0
            for number, node in enumerate(nodes):
                self._check_flat(node, self._where(node, number))
                key = node.domain, node.op_type, node.overload
                if key not in functions:
                    count, content = count + 1, content + node.ByteSize()
                    continue
                rule = f"the function {node.op_type!r} may not call itself"
                self._require(key not in above and len(above) < 100, rule)
                if key not in sizes:
                    sizes[key] = size(functions[key].node, (*above, key))
                count, content = count + sizes[key][0], content + sizes[key][1]
            return count, content

        count, content = size(model.graph.node, ())
        self._require(count <= _MOST_NODES, f"there must be at most {_MOST_NODES} nodes", nodes=count)
        rule = f"its functions, put in place, must take at most {_MOST_INLINED >> 20} MiB more than the model"
        self._require(content <= model.ByteSize() + _MOST_INLINED, rule, bytes=content)
        try:
            inlined = self.onnx.inliner.inline_local_functions(model)
        except Exception as error:
            raise FileError(f"{self.path}: the functions of the model cannot be put in place: {error}") from error
        return inlined

    # ---- nodes ----------------------------------------------------------------------------------------------------

    def _where(self, node: Any, number: int) -> str:
        name = repr(node.name[:200]) if node.name else f"number {number}"
        return f"{self.path}: node {name} ({node.op_type[:60]})"

    def _check_flat(self, node: Any, where: str) -> None:
        inner = [each.name for each in node.attribute if each.HasField("g") or each.graphs]
        check(not inner, FileError, where, "nodes with graphs inside (If, Loop, Scan) cannot be imported", graphs=inner)

    def _node(self, node: Any, number: int) -> Node:
        where = self._where(node, number)
        if (found := self._squeezing(node, where)) is not None:
            return found
        rule = f"the operators of the domain {node.domain!r} are not known"
        check(node.domain in ("", "ai.onnx"), FileError, where, rule)
        self._check_flat(node, where)
        try:
            schema = self.onnx.defs.get_schema(node.op_type, self.opset, "")
        except Exception:
            fail(FileError, where, f"there is no such operator in version {self.opset} of the operators")
        check(node.op_type in self.operators, FileError, where, "this operator cannot be imported")
        check(not schema.deprecated, FileError, where, f"this operator was taken out before version {self.opset}")
        attributes = {each.name: self._attribute(each, where) for each in node.attribute}
        for each in node.attribute:  # the package would look for the file in the current folder
            if each.type == self.onnx.AttributeProto.TENSOR and each.t.data_location == self.onnx.TensorProto.EXTERNAL:
                each.t.CopyFrom(self.onnx.numpy_helper.from_array(attributes[each.name]))
        unknown = sorted(attributes.keys() - schema.attributes.keys())
        check(not unknown, FileError, where, "the operator has no such attributes", attributes=unknown)
        try:
            self.onnx.checker.check_node(node, self.context)
        except Exception as error:
            raise FileError(f"{where}: {' '.join(str(error).split())}") from error
        return Node(where, node.op_type, schema.since_version, tuple(node.input), tuple(node.output), attributes)

    def _squeezing(self, node: Any, where: str) -> Node | None:
        """The node, if it is what PyTorch writes for ``squeeze(axis)`` of a size that it does not know.

        That is ``If(size == 1)``, then Squeeze, else Identity, of the same array. It becomes a node "If" with the
        condition and that array as inputs, and the axes.
        """
        branches = {each.name: each.g for each in node.attribute if each.HasField("g")}
        if node.op_type != "If" or node.domain or branches.keys() != {"then_branch", "else_branch"}:
            return None
        squeeze, constants = _only_step(branches["then_branch"], "Squeeze")
        identity, _ = _only_step(branches["else_branch"], "Identity")
        if squeeze is None or identity is None or squeeze.input[0] != identity.input[0]:
            return None
        source = constants.get(squeeze.input[1]) if len(squeeze.input) == 2 else squeeze
        given = {each.name: self._attribute(each, where) for each in source.attribute} if source is not None else {}
        axes = given.get("axes", given.get("value"))
        if axes is None or len(node.input) != 1 or len(node.output) != 1:
            return None
        return Node(where, "If", 1, (node.input[0], squeeze.input[0]), tuple(node.output), {"axes": axes})

    def _attribute(self, attribute: Any, where: str) -> Any:
        kinds = self.onnx.AttributeProto
        if attribute.type == kinds.TENSOR:
            return self.array(attribute.t, f"{where}: the attribute {attribute.name!r}", prefix="")
        plain: dict[int, Callable[[Any], Any]] = {
            kinds.FLOAT: float, kinds.INT: int, kinds.FLOATS: list, kinds.INTS: list, kinds.STRING: bytes.decode,
            kinds.STRINGS: lambda texts: [each.decode() for each in texts],
        }  # fmt: skip
        rule = f"attributes of the kind of {attribute.name!r} cannot be imported"
        check(attribute.type in plain, FileError, where, rule, type=attribute.type)
        try:
            return plain[attribute.type](self.onnx.helper.get_attribute_value(attribute))
        except (ValueError, UnicodeDecodeError) as error:
            raise FileError(f"{where}: the attribute {attribute.name!r} cannot be read: {error}") from error

    def _check_names(self, nodes: list[Node], known: set[str], outputs: list[str]) -> None:
        """Check that what each node takes is made before it, and by one alone."""
        made = {name for node in nodes for name in node.outputs}
        texts = all(isinstance(name, str) for name in known | made)
        self._require(texts, "the model is damaged: names must be texts in UTF-8")
        for node in nodes:
            for name in node.inputs:
                if name and name not in known:
                    circle = (
                        "made only behind it: nodes must be in order, without cycles" if name in made else "missing"
                    )
                    node.fail(f"its input {name!r} is {circle}")
            twice = [name for name in node.outputs if name and name in known]
            check(not twice, FileError, node.where, "each array must be made by one node alone", arrays=twice)
            known |= set(node.outputs) - {""}
        missing = [name for name in outputs if name not in known]
        self._require(not missing and bool(outputs), "the outputs of the graph must be made by a node", missing=missing)

    def _check_types(self, graph: Any, nodes: list[Node], arrays: dict[str, Any]) -> None:
        """Check dtypes and shapes all through the graph, as far as they are known, by the package ``onnx``.

        It goes node by node: of the whole graph at once a few nodes can make arrays of millions of axes.
        """
        declared = {each.name: each.type for each in (*graph.value_info, *graph.output, *graph.input)}
        for name, kind in declared.items():
            rank = len(kind.tensor_type.shape.dim)
            self._require(rank <= _MOST_AXES, f"{name[:200]!r} may have at most {_MOST_AXES} axes", axes=rank)
        types = {name: self._type(array) for name, array in arrays.items()}
        types |= {each.name: each.type for each in graph.input if each.name not in types}
        known = {each.name: each for each in graph.initializer if self._is_small(each, arrays[each.name])}
        for node, content in zip(nodes, graph.node, strict=True):
            if node.op == "If":  # the number of its axes is open
                continue
            self._check_axes(node, types)
            if node.op == "Constant":
                known |= {name: each.t for name in node.outputs for each in content.attribute
                          if each.HasField("t") and self._is_small(each.t, node.attributes[each.name])}  # fmt: skip
            if node.op == "MeanVarianceNormalization" and not content.attribute:
                content.attribute.append(self.onnx.helper.make_attribute("axes", [0, 2, 3]))  # onnx forgets the default
            for name, kind in self._results(node, content, types, known).items():
                tensor, wanted = kind.tensor_type, declared.get(name)
                check(len(tensor.shape.dim) <= _MOST_AXES, FileError, node.where, "its result has too many axes",
                      result=name[:200], axes=len(tensor.shape.dim))  # fmt: skip
                if wanted is not None and not _agree(kind, wanted):
                    node.fail(
                        "its result is not what the model says",
                        result=name[:200],
                        made=_written(self.onnx, kind),
                        declared=_written(self.onnx, wanted),
                    )
                types[name] = kind if tensor.HasField("shape") or wanted is None else wanted

    def _is_small(self, tensor: Any, array: np.ndarray[Any, Any]) -> bool:
        return array.nbytes <= _SMALL and bool(tensor.data_location == self.onnx.TensorProto.DEFAULT)

    def _type(self, array: np.ndarray[Any, Any]) -> Any:
        helper = self.onnx.helper
        return helper.make_tensor_type_proto(helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)

    def _check_axes(self, node: Node, types: dict[str, Any]) -> None:
        """Check that no list of sizes or axes is longer than there may be axes, and what else the package trusts."""
        if node.op in _SHAPED:
            dims = [types[name].tensor_type.shape.dim for name in node.inputs[_SHAPED[node.op] :][:1] if name in types]
            lengths = [dim[0].dim_value for dim in dims if len(dim) == 1]
            rule = f"there may be at most {_MOST_AXES} axes"
            check(max(lengths, default=0) <= _MOST_AXES, FileError, node.where, rule, axes=lengths)
        if node.op in ("LayerNormalization", "RMSNormalization") and node.inputs[0] in types:
            rank, axis = len(types[node.inputs[0]].tensor_type.shape.dim), node.attributes.get("axis", -1)
            rule = "its axis must be one of its input"  # the package writes beyond the shape for a larger one
            known = types[node.inputs[0]].tensor_type.HasField("shape")
            check(not known or -rank <= axis < rank, FileError, node.where, rule, axis=axis, axes=rank)
        if node.op == "Split":
            parts, rule = len(node.outputs), "num_outputs must be the number of its results"
            check(node.attributes.get("num_outputs", parts) == parts, FileError, node.where, rule, results=parts)
        if node.op == "Einsum":
            size = len(str(node.attributes.get("equation", "")))
            check(size <= _LONGEST, FileError, node.where, "the equation is too long", letters=size)

    def _results(self, node: Node, content: Any, types: dict[str, Any], known: dict[str, Any]) -> dict[str, Any]:
        """The types of a node's results, by name, where those of its inputs are known."""
        taken = {name: types[name] for name in node.inputs if name in types}
        if len(taken) < len(set(node.inputs) - {""}):
            return {}
        schema = self.onnx.defs.get_schema(node.op, self.opset, "")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = self.onnx.shape_inference.infer_node_outputs(
                    schema, content, taken, {name: known[name] for name in node.inputs if name in known},
                    opset_imports=[self.onnx.helper.make_opsetid("", self.opset)],
                )  # fmt: skip
        except Exception as error:
            raise FileError(f"{node.where}: {' '.join(str(error).split())}") from error
        return {name: kind for name, kind in found.items() if name}

    # ---- arrays ---------------------------------------------------------------------------------------------------

    def _end(self, end: Any) -> End:
        kind = end.type.WhichOneof("value")
        self._require(kind == "tensor_type", f"the input {end.name!r} must be an array", value=kind)
        tensor = end.type.tensor_type
        shape = None
        if tensor.HasField("shape"):
            shape = tuple(_size(size) for size in tensor.shape.dim)
        return End(end.name, self._dtype(tensor.elem_type, f"the input {end.name!r}"), shape)

    def _dtype(self, number: int, what: str) -> np.dtype[Any]:
        wanted: np.dtype[Any] | None = None
        if number in self.onnx.TensorProto.DataType.values() and number != self.onnx.TensorProto.UNDEFINED:
            wanted = np.dtype(self.onnx.helper.tensor_dtype_to_np_dtype(number))
        if wanted is None or wanted.name not in DTYPES:
            fail(FileError, f"{self.path}: {what}", "its dtype is not supported", data_type=number)
        return wanted

    def array(self, tensor: Any, what: str, prefix: str | None = None) -> np.ndarray[Any, Any]:
        """The array that a tensor of the file holds, in its own dtype."""
        where = f"{self.path}: {what}" if prefix is None else what
        dtype, dims = self._dtype(tensor.data_type, what), tuple(tensor.dims)
        fits = len(dims) <= _MOST_AXES and all(size >= 0 for size in dims)
        check(
            fits, FileError, where, f"sizes must be at least 0, of at most {_MOST_AXES} axes", sizes=dims[:_MOST_AXES]
        )
        count = prod(dims)
        if tensor.data_location == self.onnx.TensorProto.EXTERNAL:
            content = self._external(tensor, count * dtype.itemsize, where)
        elif tensor.HasField("raw_data"):
            content = tensor.raw_data
        else:
            return self._typed(tensor, dtype, dims, where)
        rule = f"its bytes must be those of {count} elements of {dtype}"
        check(len(content) == count * dtype.itemsize, FileError, where, rule, bytes=len(content), sizes=dims)
        self._check_small(dims, where)
        return np.frombuffer(content, dtype.newbyteorder("<")).astype(dtype, copy=False).reshape(dims)

    def _check_small(self, dims: tuple[int, ...], where: str) -> None:
        rule = "sizes beside one of 0 must be below 2**31"
        check(all(size < 2**31 for size in dims) or 0 not in dims, FileError, where, rule, sizes=dims)

    def _typed(self, tensor: Any, dtype: np.dtype[Any], dims: tuple[int, ...], where: str) -> np.ndarray[Any, Any]:
        """The array of a tensor that is written as numbers."""
        field_name = self.onnx.helper.tensor_dtype_to_field(tensor.data_type)
        held, rule = len(getattr(tensor, field_name)), "it must hold as many numbers as its sizes say"
        check(held == prod(dims), FileError, where, rule, numbers=held, sizes=dims)
        self._check_small(dims, where)
        try:
            return np.array(self.onnx.numpy_helper.to_array(tensor)).reshape(dims)
        except (ValueError, TypeError, OverflowError) as error:
            raise FileError(f"{where}: its numbers cannot be read: {error}") from error

    def _external(self, tensor: Any, size: int, where: str) -> bytes:
        """Bytes of a file in the model's folder."""
        entries = {each.key: each.value for each in tensor.external_data}
        location = entries.get("location", "")
        inside = bool(location) and "\0" not in location
        for path in (PurePosixPath(location), PureWindowsPath(location)):
            inside = inside and not (path.is_absolute() or path.anchor or ".." in path.parts)
        rule = "its data must lie in a file in the model's folder"
        if self.folder is None or not inside:
            fail(FileError, where, rule, location=location)
        try:
            start, length = (int(entries.get(key, other)) for key, other in (("offset", 0), ("length", size)))
        except ValueError:
            fail(FileError, where, "offset and length must be integers", **entries)
        check(length == size and start >= 0, FileError, where, f"its sizes need {size} bytes", **entries)
        try:
            with open_file(self.folder / location, self.folder) as file:
                whole = os.fstat(file.fileno()).st_size
                rule = f"the file of its data has no {size} bytes there"
                check(start + size <= whole, FileError, where, rule, location=location, offset=start, bytes=whole)
                place = os.path.realpath(self.folder / location)
                self.taken[place] += size
                rule = "arrays that lie in one file may not take more than twice its bytes"
                check(self.taken[place] <= 2 * whole, FileError, where, rule, location=location, bytes=whole)
                file.seek(start)
                return file.read(size)
        except FileError:
            raise
        except (MemoryError, OSError) as error:
            raise FileError(f"{where}: its data in {location!r} cannot be read: {_reason(error)}") from error


def _tag(field: Any) -> int:
    """The first byte of a field of a message."""
    wire = {field.TYPE_STRING: 2, field.TYPE_BYTES: 2, field.TYPE_MESSAGE: 2}.get(field.type, 0)
    tag = field.number << 3 | wire
    return tag if tag < 128 else tag & 127 | 128  # type: ignore[no-any-return]


def _reason(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error) or "it does not fit into memory"


def _size(size: Any) -> int | str | None:
    """A size of an input: some programs write a name without letters, or a number below 0, for one that is open."""
    if size.WhichOneof("value") == "dim_param":
        return size.dim_param or None
    known = size.WhichOneof("value") == "dim_value" and size.dim_value >= 0
    return int(size.dim_value) if known else None


def _only_step(graph: Any, op: str) -> tuple[Any, dict[str, Any]]:
    """The one node ``op`` that a graph consists of, None if it is another graph; and its constants by name."""
    constants = {each.output[0]: each for each in graph.node if each.op_type == "Constant" and each.output}
    steps = [each for each in graph.node if each.op_type != "Constant"]
    own = bool(graph.input or graph.initializer or graph.sparse_initializer or any(each.domain for each in graph.node))
    if own or len(steps) != 1 or len(graph.output) != 1 or steps[0].op_type != op or not steps[0].input:
        return None, constants
    made = list(steps[0].output) == [graph.output[0].name] and steps[0].input[0] not in constants
    return (steps[0] if made else None), constants


def _agree(made: Any, declared: Any) -> bool:
    """Whether two types can be that of one array."""
    if declared.WhichOneof("value") not in (None, "tensor_type"):
        return False
    made, declared = made.tensor_type, declared.tensor_type
    same = 0 in (made.elem_type, declared.elem_type) or made.elem_type == declared.elem_type
    if not same or not (made.HasField("shape") and declared.HasField("shape")):
        return bool(same)
    sizes = [[size.dim_value if size.HasField("dim_value") else None for size in each.shape.dim]
             for each in (made, declared)]  # fmt: skip
    both = zip(*sizes, strict=False)
    return len(sizes[0]) == len(sizes[1]) and all(n == m or None in (n, m) or min(n, m) < 0 for n, m in both)


def _written(onnx: Any, kind: Any) -> str:
    """A type as text."""
    if not kind.HasField("tensor_type"):
        return str(kind.WhichOneof("value"))
    tensor = kind.tensor_type
    sizes = [_size(size) for size in tensor.shape.dim] if tensor.HasField("shape") else "of any shape"
    return f"{onnx.TensorProto.DataType.Name(tensor.elem_type)} {sizes}"
