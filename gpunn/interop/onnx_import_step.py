"""What an operator knows of the node that it computes, and what several operators need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from gpunn.backend import get_array_module
from gpunn.errors import GraphError, fail
from gpunn.functional.record import differentiable
from gpunn.interop.onnx_graph import package
from gpunn.interop.onnx_import_file import DTYPES, Node
from gpunn.tensor import Tensor, wrapped


@dataclass(frozen=True)
class Step:
    """One run of a node."""

    node: Node
    training: bool
    """Whether the module is in training."""
    as_written: bool
    """Whether the node is in training if the file has it so."""

    @property
    def version(self) -> int:
        """Of the operator."""
        return self.node.version

    def dtype(self, number: int) -> np.dtype[Any]:
        """The dtype that has ``number`` in ONNX."""
        onnx = package("import")
        try:
            wanted = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(number))
        except (KeyError, TypeError, ValueError):
            self.fail("this dtype is not known", data_type=number)
        self.need(wanted.name in DTYPES, "this dtype is not supported", dtype=str(wanted))
        return wanted  # type: ignore[no-any-return]

    def wants(self, place: int) -> bool:
        """Whether the result at ``place`` is used."""
        return place < len(self.node.outputs) and bool(self.node.outputs[place])

    def fail(self, rule: str, **values: object) -> NoReturn:
        """Raise GraphError about this node."""
        fail(GraphError, self.node.where, rule, **values)

    def need(self, holds: bool, rule: str, **values: object) -> None:
        """Raise GraphError about this node unless ``holds``."""
        if not holds:
            self.fail(rule, **values)


def values(setting: Any) -> list[Any]:
    """The numbers of a setting: an attribute, or an input, whose values an exporter is told that the model looks at."""
    return np.ravel(setting.tolist() if isinstance(setting, Tensor) else setting).tolist()  # type: ignore[no-any-return]


def numbers(setting: Any) -> list[int]:
    """The integers of a setting."""
    return [int(number) for number in values(setting)]


def number(setting: Any) -> Any:
    """The only number of a setting."""
    (found,) = values(setting)
    return found


def untranslated(y: Any, *xs: Tensor) -> Tensor:
    """``y``, without a gradient, computed from the arrays of ``xs``: an exporter sees that, and has no name for it."""
    result: Tensor = differentiable(y, [x.detach() for x in xs], lambda gy, needs: [None for _ in needs])
    return result


def module_of(x: Tensor) -> Any:
    """NumPy or CuPy, whose array ``x`` holds."""
    return get_array_module(x.data)


def fixed(array: Any, x: Tensor) -> Tensor:
    """An array of the CPU beside ``x``, on its device."""
    return wrapped(module_of(x).asarray(array))


def axes_from(axes: Any, ndim: int) -> tuple[int, ...]:
    """Axes counted from the first one."""
    return tuple(axis + ndim if axis < 0 else axis for axis in numbers(axes))


def normal(axis: int, ndim: int) -> int:
    """An axis counted from the first one."""
    return axis + ndim if axis < 0 else axis


def around(x: Tensor, axis: int, at: Any) -> tuple[Any, ...]:
    """The index that is ``at`` along ``axis`` and whole along the axes before it."""
    return (*(slice(None),) * normal(axis, x.ndim), at)


def row_major(shape: Sequence[int]) -> list[int]:
    """By how many elements one step along each axis moves."""
    steps = [1] * len(shape)
    for axis in range(len(shape) - 2, -1, -1):
        steps[axis] = steps[axis + 1] * shape[axis + 1]
    return steps
