"""Activations that ONNX has no operator for, or one that not every program has, and lengths of vectors.

How a translation looks says :mod:`gpunn.interop.onnx_nodes`.
"""

from __future__ import annotations

from math import inf
from typing import Any

import numpy as np

from gpunn.interop.onnx_arrays import axes_vector, softplus
from gpunn.interop.onnx_graph import Graph, Name
from gpunn.interop.trace import Value
from gpunn.ops.shared.window import Sizes


def hardtanh(g: Graph, x: Value, min_val: float, max_val: float) -> Name:
    return g.node("Clip", x, g.like(min_val, x), g.like(max_val, x))


def hardswish(g: Graph, x: Value) -> Name:
    gate = g.node("Clip", g.node("Add", x, g.like(3, x)), g.like(0, x), g.like(6, x))
    return g.node("Div", g.node("Mul", x, gate), g.like(6, x))


def threshold(g: Graph, x: Value, threshold: float, value: float) -> Name:
    return g.node("Where", g.node("Greater", x, g.like(threshold, x)), x, g.like(value, x))


def hardshrink(g: Graph, x: Value, lambd: float) -> Name:
    return g.node("Where", g.node("Greater", g.node("Abs", x), g.like(lambd, x)), x, g.like(0, x))


def softshrink(g: Graph, x: Value, lambd: float) -> Name:
    return g.node("Sub", x, g.node("Clip", x, g.like(-lambd, x), g.like(lambd, x)))


def softsign(g: Graph, x: Value) -> Name:
    return g.node("Softsign", x)


def tanhshrink(g: Graph, x: Value) -> Name:
    return g.node("Sub", x, g.node("Tanh", x))


def logsigmoid(g: Graph, x: Value) -> Name:
    tail = g.node("Log", g.node("Add", g.like(1, x), g.node("Exp", g.node("Neg", g.node("Abs", x)))))
    return g.node("Sub", g.node("Min", x, g.like(0, x)), tail)


def mish(g: Graph, x: Value) -> Name:
    return g.node("Mul", x, g.node("Tanh", softplus(g, x, 1, 20)))


def celu(g: Graph, x: Value, alpha: float) -> Name:
    curve = g.node("Sub", g.node("Exp", g.node("Div", g.node("Min", x, g.like(0, x)), g.like(alpha, x))), g.like(1, x))
    return g.node("Add", g.node("Relu", x), g.node("Mul", curve, g.like(alpha, x)))


def glu(g: Graph, x: Value, axis: int) -> Name:
    a, b = g.nodes_of("Split", 2, x, axis=axis, num_outputs=2)
    return g.node("Mul", a, g.node("Sigmoid", b))


def prelu(g: Graph, x: Value, weight: Value) -> Name:
    slope: Value | Name = weight
    if weight.ndim == 1 and weight.shape[0] > 1 and x.ndim > 2:
        slope = g.node("Reshape", weight, g.integers(-1, *(1,) * (x.ndim - 2)))
    return g.node("PRelu", x, slope)


def softmin(g: Graph, x: Value, axis: int, dtype: Any) -> Name:
    return g.node("Softmax", g.node("Neg", g.cast(x, g.results[0].dtype)), axis=axis)


def rms_norm(g: Graph, x: Value, normalized_shape: Sizes, weight: Value | None, eps: float | None) -> Name:
    count = 1 if isinstance(normalized_shape, int) else len(tuple(normalized_shape or ()))
    least = eps if eps is not None else np.finfo(np.float32 if x.dtype.itemsize < 4 else x.dtype).eps
    means = g.node("ReduceMean", g.node("Mul", x, x), g.integers(*range(-count, 0)), keepdims=1)
    y = g.node("Div", x, g.node("Sqrt", g.node("Add", means, g.like(least, x))))
    return y if weight is None else g.node("Mul", y, weight)


# ---- lengths --------------------------------------------------------------------------------------------------------


def length(g: Graph, vectors: Name, x: Value, p: float, axes: Name, keepdims: bool) -> Name:
    """``(sum_i |v_i|^p)^(1/p)`` in the dtype of ``x``."""
    settings: dict[str, Any] = {"keepdims": int(keepdims)}
    if p in (1, 2):
        return g.node(f"ReduceL{int(p)}", vectors, axes, **settings)
    sizes = g.node("Abs", vectors)
    if p in (inf, -inf):
        return g.node("ReduceMax" if p > 0 else "ReduceMin", sizes, axes, **settings)
    if p == 0:
        return g.node("ReduceSum", g.node("Sign", sizes), axes, **settings)
    total = g.node("ReduceSum", g.node("Pow", sizes, g.like(p, x)), axes, **settings)
    return g.node("Pow", total, g.like(1 / p, x))


def normalize(g: Graph, x: Value, p: float, axis: Any, eps: float) -> Name:
    size = length(g, g.name(x), x, p, axes_vector(g, x, axis), True)
    return g.node("Div", x, g.node("Max", size, g.like(eps, x)))


def pairwise_distance(g: Graph, x1: Value, x2: Value, p: float, eps: float, keepdims: bool) -> Name:
    apart = g.node("Add", g.node("Sub", x1, x2), g.like(eps, x1))
    return length(g, apart, x1, p, g.integers(-1), keepdims)


ACTIVATIONS: dict[str, Any] = {
    each.__name__: each
    for each in (
        celu, glu, hardshrink, hardswish, hardtanh, logsigmoid, mish, normalize, pairwise_distance, prelu, rms_norm,
        softmin, softshrink, softsign, tanhshrink, threshold,
    )
}  # fmt: skip
"""The translations by the names of the functions."""
