"""Differentiable attention, made of the products, softmax and dropout of this package."""

from __future__ import annotations

from math import inf, sqrt
from typing import Any

import numpy as np

from gpunn.backend import Array, accumulation_dtype, check_array, get_array_module, operands
from gpunn.errors import ArgumentError, DtypeError, ShapeError, check, check_number
from gpunn.functional.activation import softmax
from gpunn.functional.array import matmul, where
from gpunn.functional.dropout import dropout
from gpunn.functional.record import Input, Y, raw
from gpunn.tensor import Tensor

_OP = "scaled_dot_product_attention"


def scaled_dot_product_attention(
    query: Input[Y],
    key: Input[Y],
    value: Input[Y],
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    *,
    generator: np.random.Generator | None = None,
) -> Y:
    """``softmax(scale Q K^T + mask) V`` for Q (..., L, E), K (..., S, E), V (..., S, Ev): (..., L, Ev).

    The axes before the last two broadcast. ``scale`` is 1 / sqrt(E) unless given. ``attn_mask`` broadcasts to
    (..., L, S): booleans, True where a query may look at a key, or floats that are added. ``is_causal`` lets query i
    look at the keys 0 to i. A query that may look at no key gets zeros. ``dropout_p`` is the probability with which
    each weight is dropped, always: pass 0 in evaluation. With ``enable_gqa`` each head of K and V (..., H, S, E) serves
    several of Q. Source: Vaswani et al. 2017, "Attention is all you need", 3.2.1.

    >>> q, k, v = np.zeros((1, 2)), np.ones((2, 2)), np.array([[1.0], [3.0]])
    >>> scaled_dot_product_attention(q, k, v).tolist()
    [[2.0]]
    """
    q, k, v = (_as_tensor(_OP, name, x) for name, x in (("query", query), ("key", key), ("value", value)))
    operands(_OP, query=q.data, key=k.data, value=v.data)
    check_number(_OP, dropout_p=dropout_p, scale=1 if scale is None else scale)
    rule = "query, key and value must have at least 2 dimensions, (..., length, E)"
    shapes = {"query": q.shape, "key": k.shape, "value": v.shape}
    check(min(map(len, shapes.values())) >= 2, ShapeError, _OP, rule, **shapes)
    mask = None if attn_mask is None else _as_tensor(_OP, "attn_mask", attn_mask)
    dtype, sums = q.dtype, accumulation_dtype(q.dtype)
    if mask is not None:
        rule = "attn_mask must be of booleans, or of the dtype of query"
        check(mask.dtype in (bool, dtype), DtypeError, _OP, rule, attn_mask=str(mask.dtype), query=str(dtype))
    if sums != dtype:  # half types lose too much where the scores are large
        if mask is not None and mask.dtype == dtype:
            mask = mask.astype(sums)
        q, k, v = (x.astype(sums) for x in (q, k, v))
    if enable_gqa:
        k, v = (_for_each_head(name, x, q) for name, x in (("key", k), ("value", v)))
    if is_causal:
        check(mask is None, ArgumentError, _OP, "attn_mask must be None where is_causal is True", is_causal=True)
        mask = Tensor(_causal(q, k))
    weights = attention_weights(_OP, q, k, mask, scale, hidden=0.0)
    if dropout_p:
        weights = dropout(weights, dropout_p, generator=generator)
    y: Any = matmul(weights, v)
    y = y.astype(dtype) if sums != dtype else y
    return y if any(isinstance(x, Tensor) for x in (query, key, value, attn_mask)) else y.data


def attention_weights(
    op: str, q: Tensor, k: Tensor, mask: Tensor | None, scale: float | None = None, hidden: float = 0.0
) -> Tensor:
    """``softmax(scale Q K^T + mask)``, (..., L, S); ``hidden`` are the weights of a query that may look at no key.

    >>> q, k, mask = Tensor(np.zeros((2, 1))), Tensor(np.ones((2, 1))), Tensor(np.array([[True, True], [False, False]]))
    >>> attention_weights("attention", q, k, mask).tolist()
    [[0.5, 0.5], [0.0, 0.0]]
    """
    length, source, size = q.shape[-2], k.shape[-2], q.shape[-1]
    check(k.shape[-1] == size, ShapeError, op, "query and key must have one size E", query=q.shape, key=k.shape)
    scores = matmul(q * (1 / sqrt(max(1, size)) if scale is None else float(scale)), k.swapaxes(-1, -2))
    if mask is None:
        return softmax(scores) if source else scores
    rule = f"attn_mask must broadcast to (..., {length}, {source})"
    fits = all(given in (1, wanted) for given, wanted in zip(mask.shape[-2:], (length, source), strict=False))
    check(fits, ShapeError, op, rule, shape=mask.shape)
    scores = where(mask, scores, -inf) if mask.dtype == bool else scores + mask
    if not source:
        return scores
    open_to = mask.data if mask.dtype == bool else mask.data > -inf
    blind = ~open_to.any(-1, keepdims=True)
    if type(blind) is np.ndarray and not blind.any():  # on a GPU nobody waits for the answer
        return softmax(scores)
    return where(blind, hidden, softmax(where(blind, 0.0, scores)))  # softmax would make NaN of it, and its gradient


def _as_tensor(op: str, name: str, x: Any) -> Tensor:
    if isinstance(x, Tensor):
        return x
    array = raw(x)
    check_array(op, **{name: array})
    return Tensor(array)


def _causal(q: Tensor, k: Tensor) -> Array:
    """True where a query may look at a key: at those before it, and its own."""
    xp, length, source = get_array_module(q.data), q.shape[-2], k.shape[-2]
    return xp.arange(length)[:, None] >= xp.arange(source)


def _for_each_head(name: str, x: Tensor, q: Tensor) -> Tensor:
    """x (..., h, S, E) with each of its heads so often that there are as many as q has."""
    rule = "with enable_gqa the heads of query must be a multiple of those of key and value"
    shapes = {"query": q.shape, name: x.shape}
    fits = q.ndim >= 3 and x.ndim >= 3 and x.shape[-3] > 0 and q.shape[-3] % x.shape[-3] == 0
    check(fits, ShapeError, _OP, rule, **shapes)
    return x.repeat(q.shape[-3] // x.shape[-3], -3)
