"""Losses in ONNX, from their parts but for those of classes, which have operators of their own.

How a translation looks says :mod:`gpunn.interop.onnx_nodes`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gpunn.interop.onnx_arrays import cosine_similarity
from gpunn.interop.onnx_graph import Graph, Name
from gpunn.interop.trace import Value


def _reduced(g: Graph, losses: Name, reduction: str) -> Name:
    if reduction == "none":
        return g.name(losses)
    return g.node("ReduceMean" if reduction == "mean" else "ReduceSum", losses, keepdims=0)


def _weighted(g: Graph, losses: Name, weight: Value | None) -> Name:
    return losses if weight is None else g.node("Mul", losses, weight)


def _rest(g: Graph, x: Name | Value, like: Value) -> Name:
    """``1 - x``."""
    return g.node("Sub", g.like(1, like), x)


def _softplus(g: Graph, name: Name, x: Value) -> Name:
    """``log(1 + exp(v))`` of an array of the dtype of ``x``, without large exponentials."""
    tail = g.node("Log", g.node("Add", g.like(1, x), g.node("Exp", g.node("Neg", g.node("Abs", name)))))
    return g.node("Add", tail, g.node("Relu", name))


# ---- of differences -------------------------------------------------------------------------------------------------


def mse_loss(g: Graph, x: Value, target: Value, reduction: str, weight: Value | None) -> Name:
    d = g.node("Sub", x, target)
    return _by_weights(g, g.node("Mul", d, d), weight, reduction)


def l1_loss(g: Graph, x: Value, target: Value, reduction: str, weight: Value | None) -> Name:
    return _by_weights(g, g.node("Abs", g.node("Sub", x, target)), weight, reduction)


def _by_weights(g: Graph, losses: Name, weight: Value | None, reduction: str) -> Name:
    """Times weights, by whose sum the mean divides."""
    if weight is None or reduction != "mean":
        return _reduced(g, _weighted(g, losses, weight), reduction)
    return g.node("Div", _reduced(g, g.node("Mul", losses, weight), "sum"), _reduced(g, g.name(weight), "sum"))


def smooth_l1_loss(g: Graph, x: Value, target: Value, reduction: str, beta: float) -> Name:
    if beta == 0:
        return l1_loss(g, x, target, reduction, None)
    return _reduced(g, _bent(g, x, target, beta, 1 / beta), reduction)


def huber_loss(g: Graph, x: Value, target: Value, reduction: str, delta: float, weight: Value | None) -> Name:
    return _reduced(g, _weighted(g, _bent(g, x, target, delta, 1), weight), reduction)


def _bent(g: Graph, x: Value, target: Value, corner: float, scale: float) -> Name:
    """``scale d^2 / 2`` up to the corner, from there straight on."""
    d = g.node("Abs", g.node("Sub", x, target))
    curve = g.node("Mul", g.node("Mul", d, d), g.like(scale / 2, x))
    line = g.node("Mul", g.node("Sub", d, g.like(corner / 2, x)), g.like(scale * corner, x))
    return g.node("Where", g.node("Less", d, g.like(corner, x)), curve, line)


# ---- of probabilities -----------------------------------------------------------------------------------------------


def binary_cross_entropy(g: Graph, p: Value, target: Value, weight: Value | None, reduction: str) -> Name:
    def logarithm(x: Name | Value) -> Name:
        return g.node("Max", g.node("Log", x), g.like(-100, p))

    yes = g.node("Mul", target, logarithm(p))
    no = g.node("Mul", _rest(g, target, p), logarithm(_rest(g, p, p)))
    return _reduced(g, _weighted(g, g.node("Neg", g.node("Add", yes, no)), weight), reduction)


def binary_cross_entropy_with_logits(
    g: Graph, x: Value, target: Value, weight: Value | None, reduction: str, pos_weight: Value | None
) -> Name:
    """``(1 - t) x + (1 + (pos_weight - 1) t) log(1 + exp(-x))``."""
    curve = _softplus(g, g.node("Neg", x), x)
    if pos_weight is not None:
        more = g.node("Mul", g.node("Sub", pos_weight, g.like(1, x)), target)
        curve = g.node("Mul", curve, g.node("Add", more, g.like(1, x)))
    losses = g.node("Add", g.node("Mul", _rest(g, target, x), x), curve)
    return _reduced(g, _weighted(g, losses, weight), reduction)


def kl_div(g: Graph, x: Value, target: Value, reduction: str, log_target: bool) -> Name:
    if log_target:
        losses = g.node("Mul", g.node("Exp", target), g.node("Sub", target, x))
    else:
        some = g.node("Greater", target, g.like(0, x))
        logs = g.node("Log", g.node("Where", some, target, g.like(1, x)))
        losses = g.node("Mul", target, g.node("Sub", logs, x))
    if reduction != "batchmean":
        return _reduced(g, losses, reduction)
    count = g.node("Squeeze", g.node("Shape", x, start=0, end=1), g.integers(0))
    return g.node("Div", _reduced(g, losses, "sum"), g.cast(count, x.dtype))


# ---- of classes -----------------------------------------------------------------------------------------------------


def nll_loss(
    g: Graph, x: Value, target: Value, weight: Value | None, ignore_index: int, reduction: str, *,
    op: str = "NegativeLogLikelihoodLoss",
) -> Name:  # fmt: skip
    if x.ndim < 2:
        g.refuse("scores must have an axis of examples", shape=x.shape)
    return g.node(op, x, target, weight, ignore_index=ignore_index, reduction=reduction)


def cross_entropy(
    g: Graph, x: Value, target: Value, weight: Value | None, ignore_index: int, reduction: str, label_smoothing: float
) -> Name:
    classes = target.dtype.kind in "iu"
    if classes and not label_smoothing:
        return nll_loss(g, x, target, weight, ignore_index, reduction, op="SoftmaxCrossEntropyLoss")
    if x.ndim < 2:
        g.refuse("scores must have an axis of examples", shape=x.shape)
    count, logs = x.shape[1], g.node("LogSoftmax", x, axis=1)
    if weight is not None:
        each = g.node("Reshape", weight, g.integers(-1, *(1,) * (x.ndim - 2)))
        logs = g.node("Mul", logs, each)
    share = g.like(label_smoothing / count, x)
    spread = g.node("Mul", g.node("ReduceSum", logs, g.integers(1), keepdims=0), share)
    kept = g.like(1 - label_smoothing, x)
    if not classes:
        likely = g.node("ReduceSum", g.node("Mul", target, logs), g.integers(1), keepdims=0)
        return _reduced(g, g.node("Neg", g.node("Add", g.node("Mul", likely, kept), spread)), reduction)
    counts = g.node("Not", g.node("Equal", target, g.constant(ignore_index, target.dtype)))
    named = g.node("Where", counts, target, g.constant(0, target.dtype))
    likely = g.node("GatherElements", logs, g.node("Unsqueeze", named, g.integers(1)), axis=1)
    losses = g.node("Neg", g.node("Add", g.node("Mul", g.node("Squeeze", likely, g.integers(1)), kept), spread))
    losses = g.node("Where", counts, losses, g.like(0, x))
    if reduction != "mean":
        return _reduced(g, losses, reduction)
    ones = g.cast(counts, x.dtype)
    scale = ones if weight is None else g.node("Mul", g.node("Gather", weight, named, axis=0), ones)
    return g.node("Div", _reduced(g, losses, "sum"), _reduced(g, scale, "sum"))


# ---- of margins -----------------------------------------------------------------------------------------------------


def _together(g: Graph, target: Value) -> Name:
    return g.node("Greater", target, g.like(0, target))


def hinge_embedding_loss(g: Graph, x: Value, target: Value, margin: float, reduction: str) -> Name:
    apart = g.node("Relu", g.node("Sub", g.like(margin, x), x))
    return _reduced(g, g.node("Where", _together(g, target), x, apart), reduction)


def multi_margin_loss(
    g: Graph, x: Value, target: Value, p: int, margin: float, weight: Value | None, reduction: str
) -> Name:
    if x.ndim < 2:
        g.refuse("scores must have an axis of examples", shape=x.shape)
    own = g.node("GatherElements", x, g.node("Unsqueeze", target, g.integers(1)), axis=1)
    within = g.node("Relu", g.node("Add", g.node("Sub", x, own), g.like(margin, x)))
    within = g.node("Mul", within, within) if p == 2 else within
    others = g.node("OneHot", target, g.constant(x.shape[1], np.int64), g.constant([1, 0], x.dtype), axis=-1)
    losses = g.node("ReduceSum", g.node("Mul", within, others), g.integers(1), keepdims=0)
    losses = g.node("Div", losses, g.like(x.shape[1], x))
    scale = None if weight is None else g.node("Gather", weight, target, axis=0)
    return _reduced(g, losses if scale is None else g.node("Mul", losses, scale), reduction)


def cosine_embedding_loss(g: Graph, x1: Value, x2: Value, target: Value, margin: float, reduction: str) -> Name:
    cosines = cosine_similarity(g, x1, x2, -1, 1e-8)
    apart = g.node("Relu", g.node("Sub", cosines, g.like(margin, x1)))
    return _reduced(g, g.node("Where", _together(g, target), _rest(g, cosines, x1), apart), reduction)


def margin_ranking_loss(g: Graph, x1: Value, x2: Value, target: Value, margin: float, reduction: str) -> Name:
    d = g.node("Mul", g.cast(target, x1.dtype), g.node("Sub", x1, x2))
    return _reduced(g, g.node("Relu", g.node("Sub", g.like(margin, x1), d)), reduction)


def soft_margin_loss(g: Graph, x: Value, target: Value, reduction: str) -> Name:
    wrong = g.node("Neg", g.node("Mul", g.cast(target, x.dtype), x))
    return _reduced(g, _softplus(g, wrong, x), reduction)


def multilabel_soft_margin_loss(g: Graph, x: Value, target: Value, weight: Value | None, reduction: str) -> Name:
    rest = g.node("Mul", _rest(g, g.cast(target, x.dtype), x), x)
    losses = _weighted(g, g.node("Add", rest, _softplus(g, g.node("Neg", x), x)), weight)
    return _reduced(g, g.node("ReduceMean", losses, g.integers(-1), keepdims=0), reduction)


# ---- of distributions -----------------------------------------------------------------------------------------------


def poisson_nll_loss(
    g: Graph, x: Value, target: Value, log_input: bool, full: bool, eps: float, reduction: str
) -> Name:
    counts = g.cast(target, x.dtype)
    if log_input:
        losses = g.node("Sub", g.node("Exp", x), g.node("Mul", counts, x))
    else:
        losses = g.node("Sub", x, g.node("Mul", counts, g.node("Log", g.node("Add", x, g.like(eps, x)))))
    if full:
        some = g.node("Greater", counts, g.like(1, x))
        safe = g.node("Where", some, counts, g.like(1, x))
        about = g.node("Sub", g.node("Mul", safe, g.node("Log", safe)), safe)
        about = g.node(
            "Add", about, g.node("Mul", g.node("Log", g.node("Mul", safe, g.like(2 * np.pi, x))), g.like(0.5, x))
        )
        losses = g.node("Add", losses, g.node("Where", some, about, g.like(0, x)))
    return _reduced(g, losses, reduction)


def gaussian_nll_loss(
    g: Graph, x: Value, target: Value, var: Value | float, full: bool, eps: float, reduction: str
) -> Name:
    wide: Value | Name = var if isinstance(var, Value) else g.like(var, x)
    if isinstance(var, Value) and var.shape != x.shape and var.shape == x.shape[:-1]:
        wide = g.node("Unsqueeze", var, g.integers(-1))
    v = g.node("Max", wide, g.like(eps, x))
    d = g.node("Sub", x, target)
    losses = g.node("Add", g.node("Log", v), g.node("Div", g.node("Mul", d, d), v))
    losses = g.node("Mul", losses, g.like(0.5, x))
    if full:
        losses = g.node("Add", losses, g.like(0.5 * np.log(2 * np.pi), x))
    return _reduced(g, losses, reduction)


LOSSES: dict[str, Any] = {
    each.__name__: each
    for each in (
        binary_cross_entropy, binary_cross_entropy_with_logits, cosine_embedding_loss, cross_entropy, gaussian_nll_loss,
        hinge_embedding_loss, huber_loss, kl_div, l1_loss, margin_ranking_loss, mse_loss, multi_margin_loss,
        multilabel_soft_margin_loss, nll_loss, poisson_nll_loss, smooth_l1_loss, soft_margin_loss,
    )
}  # fmt: skip
"""The translations by the names of the functions."""
