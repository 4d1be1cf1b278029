"""``Backend``: gpunn behind the interface that the package onnx has for those who run models."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from gpunn.backend import asarray, check_device, to_cpu, why_no_gpu
from gpunn.errors import ArgumentError, FileError, check
from gpunn.interop.onnx_graph import package
from gpunn.interop.onnx_import import OnnxModel
from gpunn.interop.onnx_import_file import Content, parsed
from gpunn.interop.onnx_import_operators import OPERATORS
from gpunn.tensor import no_grad


@cache
def backend_class() -> Any:
    """The class, a subclass of ``onnx.backend.base.Backend``.

    Devices are ``"CPU"`` and, where there is one, ``"CUDA"`` or ``"CUDA:1"``.

    >>> from onnx import TensorProto, helper
    >>> node = helper.make_node("Relu", ["x"], ["y"])
    >>> ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in "xy"]
    >>> model = helper.make_model(helper.make_graph([node], "g", ends[:1], ends[1:]))
    >>> backend_class().run_model(model, [np.array([-1, 2], np.float32)])[0].tolist()
    [0.0, 2.0]
    """
    base = package("import").backend.base

    class Prepared(base.BackendRep):  # type: ignore[misc, name-defined]
        """A model that runs on NumPy arrays."""

        def __init__(self, model: OnnxModel, device: str) -> None:
            self.model, self.device = model.to(device), device

        def run(self, inputs: Any, **settings: Any) -> tuple[Any, ...]:
            """The outputs for ``inputs``: a list in order, or a dict by name."""
            given = [inputs[name] for name in self.model.input_names] if isinstance(inputs, dict) else inputs
            arrays = [asarray(np.asarray(x), device=self.device) for x in given]
            with no_grad(), self.model.evaluating():
                y = self.model(*arrays)
            return tuple(to_cpu(each.data) for each in (y if isinstance(y, tuple) else (y,)))

    class Backend(base.Backend):  # type: ignore[misc, name-defined]
        """Runs ONNX models with gpunn."""

        @classmethod
        def prepare(cls, model: Any, device: str = "CPU", **settings: Any) -> Prepared:
            check(cls.supports_device(device), ArgumentError, "prepare", "there must be such a device", device=device)
            return Prepared(OnnxModel(_content(model), as_written=True).eval(), _ours(device))

        @classmethod
        def run_model(cls, model: Any, inputs: Any, device: str = "CPU", **settings: Any) -> tuple[Any, ...]:
            return cls.prepare(model, device, **settings).run(inputs)

        @classmethod
        def run_node(
            cls, node: Any, inputs: Any, device: str = "CPU", outputs_info: Any = None, **settings: Any
        ) -> tuple[Any, ...]:
            """The outputs of one node; ``opset_version`` says which version of the operators it is of.

            ``inputs`` are all of the node's, None for one that it goes without, or those alone that it has.
            """
            names = [name for name in node.input if name or len(inputs) == len(node.input)]
            pairs = zip(names, inputs, strict=True)
            given = [(name, np.asarray(x)) for name, x in pairs if name and x is not None]
            model = _alone(node, given, settings.get("opset_version"))
            return cls.run_model(model, [x for _, x in given], device)

        @classmethod
        def is_compatible(cls, model: Any, device: str = "CPU", **settings: Any) -> bool:
            """Whether the model can be imported."""
            try:
                _content(model)
            except FileError:
                return False
            return bool(cls.supports_device(device))

        @classmethod
        def supports_device(cls, device: str) -> bool:
            kind, _, number = device.partition(":")
            return kind == "CPU" or (kind == "CUDA" and (not number or number.isdigit()) and not why_no_gpu())

    return Backend


def _ours(device: str) -> str:
    kind, _, number = device.partition(":")
    return check_device("cpu" if kind == "CPU" else f"gpu:{number or 0}")


def _content(model: Any) -> Content:
    """What stands in a model, which stays as it is."""
    return parsed(type(model).FromString(model.SerializeToString()), "the model", None, OPERATORS)


def _alone(node: Any, inputs: list[tuple[str, np.ndarray[Any, Any]]], opset: int | None) -> Any:
    """A model of one node."""
    onnx = package("import")
    helper = onnx.helper
    given = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape) for name, x in inputs
    ]
    made = [helper.make_empty_tensor_value_info(name) for name in node.output if name]
    graph = helper.make_graph([node], "node", given, made)
    operators = helper.make_opsetid("", opset or onnx.defs.onnx_opset_version())
    model = helper.make_model(graph, opset_imports=[operators])
    return onnx.shape_inference.infer_shapes(model)  # which gives the results their types
