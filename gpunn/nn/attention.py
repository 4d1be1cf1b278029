"""Attention of several heads; see :func:`gpunn.functional.scaled_dot_product_attention` for the formula."""

from __future__ import annotations

from math import inf, nan
from typing import Any

import numpy as np

from gpunn import functional as F
from gpunn.backend import Array, check_array, get_array_module, is_floating, operands, where
from gpunn.errors import ArgumentError, DtypeError, ShapeError, check, check_sizes
from gpunn.functional.attention import attention_weights
from gpunn.functional.record import raw
from gpunn.nn.init import constant_, xavier_normal_, xavier_uniform_
from gpunn.nn.linear import Linear
from gpunn.nn.module import Module, Parameter
from gpunn.ops.dropout import check_probability
from gpunn.tensor import Tensor


class MultiheadAttention(Module):
    """Each of ``num_heads`` heads looks by its own projections of E / num_heads numbers; their results are mixed.

        head_i = softmax((Q W_qi^T) (K W_ki^T)^T / sqrt(E / num_heads)) (V W_vi^T)         y = [head_1 ... head_h] W_o^T

    Queries are (L, N, E), keys (S, N, kdim), values (S, N, vdim), with ``batch_first`` (N, L, E) and so on, without a
    batch (L, E) and so on. The result is like the queries, and comes with the weights: see :meth:`forward`.

    Parameters: ``in_proj_weight`` (3 E, E), or where kdim or vdim differs from E ``q_proj_weight``, ``k_proj_weight``,
    ``v_proj_weight``; ``in_proj_bias`` (3 E,); ``out_proj``, a Linear; with ``add_bias_kv`` also ``bias_k`` and
    ``bias_v`` (1, 1, E), a key and value more. ``add_zero_attn`` adds a key and value of zeros. ``dropout`` is that of
    weights, in training. Source: Vaswani et al. 2017, "Attention is all you need", 3.2.2.

    >>> x = np.zeros((5, 2, 8), np.float32)
    >>> y, weights = MultiheadAttention(8, 2)(x, x, x)
    >>> y.shape, weights.shape
    ((5, 2, 8), (2, 5, 5))
    """

    _places = (
        ("in_proj_weight", Parameter),
        ("q_proj_weight", Parameter),
        ("k_proj_weight", Parameter),
        ("v_proj_weight", Parameter),
        ("in_proj_bias", Parameter),
        ("bias_k", Parameter),
        ("bias_v", Parameter),
    )

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        *,
        generator: np.random.Generator | None = None,
        dtype: Any = np.float32,
    ) -> None:
        op, e = "MultiheadAttention", embed_dim
        kdim, vdim = e if kdim is None else kdim, e if vdim is None else vdim
        check_sizes(op, embed_dim=e, num_heads=num_heads, kdim=kdim, vdim=vdim)
        check_probability(op, dropout)
        divides = e % num_heads == 0
        check(divides, ArgumentError, op, "num_heads must divide embed_dim", num_heads=num_heads, embed_dim=e)
        self.embed_dim, self.num_heads, self.kdim, self.vdim = e, num_heads, kdim, vdim
        self.head_dim, self.dropout, self.batch_first = e // num_heads, dropout, batch_first
        self.add_zero_attn, self.generator = add_zero_attn, generator

        def drawn(*shape: int) -> Parameter:
            return xavier_uniform_(Parameter(np.empty(shape, dtype)), generator=generator)

        one = kdim == vdim == e
        self.in_proj_weight = drawn(3 * e, e) if one else None
        self.q_proj_weight = None if one else drawn(e, e)
        self.k_proj_weight = None if one else drawn(e, kdim)
        self.v_proj_weight = None if one else drawn(e, vdim)
        self.in_proj_bias = Parameter(np.zeros(3 * e, dtype)) if bias else None
        self.out_proj = Linear(e, e, bias, generator=generator, dtype=dtype)
        if self.out_proj.bias is not None:
            constant_(self.out_proj.bias, 0)

        def added() -> Parameter | None:
            return xavier_normal_(Parameter(np.empty((1, 1, e), dtype)), generator=generator) if add_bias_kv else None

        self.bias_k, self.bias_v = added(), added()

    def forward(
        self,
        query: Any,
        key: Any,
        value: Any,
        key_padding_mask: Any = None,
        need_weights: bool = True,
        attn_mask: Any = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Any]:
        """The result, and with ``need_weights`` the weights (N, L, S), the mean of the heads, else None.

        Masks are of booleans, True where a query must *not* look, or of floats that are added and get no gradient:
        ``key_padding_mask`` (N, S) or (S,), ``attn_mask`` (L, S), or (N num_heads, L, S) for each head. Without
        ``average_attn_weights`` the weights are (N, num_heads, L, S). ``is_causal`` says that attn_mask, which must be
        given, is the causal one; nothing depends on it. A query that may look at no key gets NaN with ``need_weights``,
        and zeros before the last projection without: PyTorch's ways.
        """
        op = "MultiheadAttention"
        given = {"query": query, "key": key, "value": value}
        q, k, v = (x if isinstance(x, Tensor) else Tensor(_array(op, name, x)) for name, x in given.items())
        operands(op, query=q.data, key=k.data, value=v.data)
        batched = q.ndim == 3
        sizes = {"query": (q, self.embed_dim), "key": (k, self.kdim), "value": (v, self.vdim)}
        leading = "length" if not batched else "N, length" if self.batch_first else "length, N"
        for name, (x, size) in sizes.items():
            rule = f"{name} must have the dimensions ({leading}, {size})"
            fits = q.ndim in (2, 3) and x.ndim == q.ndim and x.shape[-1] == size
            check(fits, ShapeError, op, rule, shape=x.shape)
        rule = "is_causal says what attn_mask is: give it, too"
        check(not is_causal or attn_mask is not None, ArgumentError, op, rule, attn_mask=attn_mask)
        same = key is query and value is query
        if not batched:
            q, k, v = (x.reshape(len(x), 1, x.shape[1]) for x in (q, k, v))
        elif self.batch_first:
            q, k, v = (x.swapaxes(0, 1) for x in (q, k, v))
        (length, examples), source = q.shape[:2], k.shape[0]
        agree = k.shape[:2] == v.shape[:2] and k.shape[1] == examples
        rule = "query, key and value must have one batch, key and value one length"
        check(agree, ShapeError, op, rule, query=query.shape, key=key.shape, value=value.shape)
        mask = self._mask(q, (length, source), examples, key_padding_mask, attn_mask)
        q, k, v = self._projected(q, k, v, same)
        more_keys, more_values = self._more(k, self.bias_k), self._more(v, self.bias_v)
        if more_keys:
            k, v = F.concatenate([k, *more_keys]), F.concatenate([v, *more_values])
            mask = None if mask is None else F.pad(mask, (0, len(k) - source))
        q, k, v = (self._by_head(x) for x in (q, k, v))
        weights = attention_weights(op, q, k, mask, hidden=nan if need_weights else 0.0)
        weights = F.dropout(weights, self.dropout, self.training and self.dropout > 0, generator=self.generator)
        y = F.matmul(weights, v).transpose((2, 0, 1, 3)).reshape(length, examples, self.embed_dim)
        y = self.out_proj(y)
        y = y.reshape(length, self.embed_dim) if not batched else y.swapaxes(0, 1) if self.batch_first else y
        if not need_weights:
            return y, None
        shown = weights.mean(1) if average_attn_weights else weights
        return y, shown if batched else shown[0]

    def _projected(self, q: Tensor, k: Tensor, v: Tensor, same: bool) -> tuple[Tensor, Tensor, Tensor]:
        e, weight, bias = self.embed_dim, self.in_proj_weight, self.in_proj_bias
        if weight is not None and same:
            q, k, v = F.split(F.linear(q, weight, bias), e, -1)
            return q, k, v
        each: Any = (
            (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight) if weight is None else F.split(weight, e)
        )
        biases: Any = (None,) * 3 if bias is None else F.split(bias, e)
        q, k, v = (F.linear(x, w, b) for x, w, b in zip((q, k, v), each, biases, strict=True))
        return q, k, v

    def _more(self, x: Tensor, bias: Parameter | None) -> list[Any]:
        """What comes behind the keys, or the values, x (S, N, E): rows (1, N, E)."""
        zeros = F.pad(x[:0], (0, 0, 0, 0, 0, 1))
        return ([] if bias is None else [zeros + bias]) + ([zeros] if self.add_zero_attn else [])

    def _by_head(self, x: Tensor) -> Tensor:
        """x (length, N, E) as (N, num_heads, length, E / num_heads)."""
        return x.reshape(*x.shape[:2], self.num_heads, self.head_dim).transpose((1, 2, 0, 3))

    def _mask(self, q: Tensor, shape: tuple[int, int], examples: int, padding: Any, mask: Any) -> Tensor | None:
        """Both masks as one of floats, to be added to (N, num_heads, L, S)."""
        op, (length, source), heads = "MultiheadAttention", shape, self.num_heads
        total = None
        if mask is not None:
            total = _additive(op, "attn_mask", mask, q)
            own = total.shape == (examples * heads, length, source)
            rule = f"attn_mask must have shape {shape} or {(examples * heads, *shape)}"
            check(own or total.shape == shape, ShapeError, op, rule, shape=total.shape)
            total = total.reshape(examples, heads, length, source) if own else total
        if padding is not None:
            keys = _additive(op, "key_padding_mask", padding, q)
            rule = f"key_padding_mask must have shape {(examples, source)}"
            fits = keys.shape == (examples, source) or (examples == 1 and keys.shape == (source,))
            check(fits, ShapeError, op, rule, shape=keys.shape)
            keys = keys.reshape(examples, 1, 1, source)
            total = keys if total is None else total + keys
        return None if total is None else Tensor(total)


def _array(op: str, name: str, x: Any) -> Array:
    array = raw(x)
    check_array(op, **{name: array})
    return array


def _additive(op: str, name: str, mask: Any, q: Tensor) -> Array:
    """A mask of booleans or floats as one of floats."""
    array = _array(op, name, mask)
    if array.dtype == bool:
        return where(array, -inf, get_array_module(array).zeros(array.shape, q.dtype))
    fits = is_floating(array.dtype) and array.dtype == q.dtype
    rule = f"{name} must be of booleans, or of the dtype of query"
    check(fits, DtypeError, op, rule, mask=str(array.dtype), query=str(q.dtype))
    return array
