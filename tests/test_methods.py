"""Every method and operator of a Tensor: those with a gradient in one table, the others named."""

import operator
from types import FunctionType

import numpy as np
import pytest

from gpunn import Tensor
from gpunn.backend import get_array_module
from gpunn.testing import check_gradients

M = (3, 4)


def beside(x, values):
    return get_array_module(x.data).asarray(values)


METHODS = {
    "__add__": (lambda x, y: x + y, [M, (4,)]),
    "__radd__": (lambda x: 2 + x, [M]),
    "__iadd__": (lambda x, y: operator.iadd(x * 1, y), [M, M]),
    "__sub__": (lambda x, y: x - y, [M, (3, 1)]),
    "__rsub__": (lambda x: 2 - x, [M]),
    "__isub__": (lambda x, y: operator.isub(x * 1, y), [M, M]),
    "__mul__": (lambda x, y: x * y, [M, (4,)]),
    "__rmul__": (lambda x: 2 * x, [M]),
    "__imul__": (lambda x, y: operator.imul(x * 1, y), [M, M]),
    "__truediv__": (lambda x, y: x / (2 + y * y), [M, M]),
    "__rtruediv__": (lambda x: 2 / (1 + x * x), [M]),
    "__itruediv__": (lambda x, y: operator.itruediv(x * 1, 2 + y * y), [M, M]),
    "__floordiv__": (lambda x, y: x * 0 + x // (2 + y * y), [M, M]),
    "__rfloordiv__": (lambda x: 9 // (x * 0 + 4) + x, [M]),
    "__ifloordiv__": (lambda x: operator.ifloordiv(x * 1, 2) + x, [M]),
    "__mod__": (lambda x, y: x % (2 + y * y), [M, M]),
    "__rmod__": (lambda x: 5 % (2 + x * x), [M]),
    "__imod__": (lambda x: operator.imod(x * 1, 2), [M]),
    "__pow__": (lambda x, y: (1 + x * x) ** y, [M, M]),
    "__pow__ a number": (lambda x: x**3, [M]),
    "__rpow__": (lambda x: 2**x, [M]),
    "__ipow__": (lambda x: operator.ipow(x * 1, 2), [M]),
    "__matmul__": (lambda x, y: x @ y, [(2, 3, 4), (4, 5)]),
    "__rmatmul__": (lambda x: beside(x, np.linspace(-1, 1, 6).reshape(2, 3)) @ x, [M]),
    "__imatmul__": (lambda x, y: operator.imatmul(x * 1, y), [M, (4, 4)]),
    "__neg__": (lambda x: -x, [M]),
    "__abs__": (abs, [M]),
    "__getitem__": (lambda x: x[1:, [0, 2, 0]], [M]),
    "__iter__": (lambda x: [row * (n + 1) for n, row in enumerate(x)], [M]),
    "T": (lambda x: x.T, [M]),
    "abs": (lambda x: x.abs(), [M]),
    "add": (lambda x, y: x.add(y), [M, (4,)]),
    "astype": (lambda x: (x * x).astype(np.float64), [M]),
    "clip": (lambda x: x.clip(-0.5, 0.7), [M]),
    "clone": (lambda x: x.clone(), [M]),
    "contiguous": (lambda x: x.T.contiguous(), [M]),
    "copy": (lambda x: x.copy(), [M]),
    "cpu": (lambda x: x.cpu(), [M]),
    "cumprod": (lambda x: x.cumprod(1), [M]),
    "cumprod, of all": (lambda x: x.cumprod(), [(3, 2)]),
    "cumsum": (lambda x: x.cumsum(1), [M]),
    "diagonal": (lambda x: x.diagonal(1, 2, 0), [(3, 4, 2)]),
    "diagonal, below": (lambda x: x.diagonal(-1), [M]),
    "div": (lambda x, y: x.div(2 + y * y), [M, M]),
    "dot": (lambda x, y: x.dot(y), [M, (4,)]),
    "exp": (lambda x: x.exp(), [M]),
    "expand": (lambda x: x.expand(2, 3, -1), [(1, 4)]),
    "flatten": (lambda x: x.flatten(), [M]),
    "flatten, some axes": (lambda x: x.flatten(1), [(3, 4, 2)]),
    "log": (lambda x: (1 + x * x).log(), [M]),
    "masked_fill": (lambda x: x.masked_fill(x.data[0] > 0, 2.0), [M]),
    "matmul": (lambda x, y: x.matmul(y), [M, (4, 2)]),
    "max": (lambda x: x.max(1), [M]),
    "mean": (lambda x: x.mean((0, 2), keepdims=True), [(3, 4, 2)]),
    "min": (lambda x: x.min(), [M]),
    "mul": (lambda x, y: x.mul(y), [M, M]),
    "neg": (lambda x: x.neg(), [M]),
    "permute": (lambda x: x.permute(2, 0, 1), [(3, 4, 2)]),
    "pow": (lambda x: x.pow(3), [M]),
    "prod": (lambda x: x.prod(0), [M]),
    "ravel": (lambda x: x.ravel(), [M]),
    "relu": (lambda x: x.relu(), [M]),
    "repeat": (lambda x: x.repeat([1, 0, 3], 0), [M]),
    "repeat, each": (lambda x: x.repeat(2), [M]),
    "reshape": (lambda x: x.reshape(2, -1), [M]),
    "round": (lambda x: x.round(), [M]),
    "sigmoid": (lambda x: x.sigmoid(), [M]),
    "sqrt": (lambda x: (1 + x * x).sqrt(), [M]),
    "squeeze": (lambda x: x.squeeze(1), [(3, 1, 4)]),
    "std": (lambda x: x.std(0, 1), [M]),
    "sub": (lambda x, y: x.sub(y), [M, M]),
    "sum": (lambda x: x.sum(-1), [M]),
    "swapaxes": (lambda x: x.swapaxes(0, 2), [(3, 4, 2)]),
    "t": (lambda x: x.t(), [M]),
    "take": (lambda x: x.take(beside(x, [[0, 2], [2, 1]]), 1), [M]),
    "tanh": (lambda x: x.tanh(), [M]),
    "to": (lambda x: x.to(x), [M]),
    "trace": (lambda x: x.trace(), [M]),
    "transpose": (lambda x: x.transpose(2, 0, 1), [(3, 4, 2)]),
    "unsqueeze": (lambda x: x.unsqueeze(1), [M]),
    "var": (lambda x: x.var(1, ddof=1), [M]),
    "view": (lambda x: x.view(4, -1), [M]),
}  # fmt: skip

# A value of Python, a copy elsewhere, a change in place, another dtype, booleans and indices, or the graph itself.
WITHOUT_GRADIENT = {
    "__and__", "__array__", "__bool__", "__contains__", "__eq__", "__float__", "__format__", "__ge__", "__gt__",
    "__hash__", "__init__", "__int__", "__invert__", "__le__", "__len__", "__lt__", "__ne__", "__or__", "__rand__",
    "__repr__", "__ror__", "__round__", "__rxor__", "__setitem__", "__xor__", "all", "any", "argmax", "argmin",
    "argsort", "bfloat16", "bool", "cuda", "detach", "device", "dim", "double", "dtype", "fill", "float", "half",
    "int", "item", "long", "ndim", "nonzero", "numel", "numpy", "searchsorted", "shape", "size", "sort", "tolist",
}  # fmt: skip


FOR_OTHER_LIBRARIES = {"__cuda_array_interface__", "__dlpack__", "__dlpack_device__"}


@pytest.mark.parametrize("name", METHODS)
def test_the_gradient_of_every_method_is_its_slope(run_xp, name, rng):
    function, shapes = METHODS[name]
    arrays = [np.asarray(rng.standard_normal(shape)) for shape in shapes]
    run_xp(lambda *a: check_gradients(function, a) or a[0], *arrays)


def test_every_method_is_in_the_table():
    own = {name for name, kind in vars(Tensor).items() if isinstance(kind, FunctionType | property)}
    public = {name for name in own if not name.startswith("_") or name.endswith("__")} | {"__hash__"}
    assert {name.split(" ")[0].rstrip(",") for name in METHODS} | WITHOUT_GRADIENT | FOR_OTHER_LIBRARIES == public
