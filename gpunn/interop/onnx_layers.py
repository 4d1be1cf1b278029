"""Layers in ONNX: products with weights, convolution, pooling, normalisation, and sequences.

How a translation looks says :mod:`gpunn.interop.onnx_nodes`. What ONNX's operators and their implementations do
differently is avoided rather than relied on: windows of pooling never overhang (the padding at the end is chosen so
that they do not), and normalisation over an even number of channels is written out.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from operator import le
from typing import Any

import numpy as np

from gpunn.interop.onnx_graph import Graph, Name
from gpunn.interop.trace import Value
from gpunn.ops.pool import Plan, max_plan
from gpunn.ops.shared.window import Window, window

# ---- layers with weights --------------------------------------------------------------------------------------------


def linear(g: Graph, x: Value, w: Value, b: Value | None) -> Name:
    if x.ndim == 2:
        return g.node("Gemm", x, w, b, transB=1)
    y = g.node("MatMul", x, g.node("Transpose", w, perm=[1, 0]))
    return y if b is None else g.node("Add", y, b)


def bilinear(g: Graph, x1: Value, x2: Value, w: Value, b: Value | None) -> Name:
    batch = "abcdefgh"[: x1.ndim - 1]
    y = g.node("Einsum", x1, w, x2, equation=f"{batch}i,kij,{batch}j->{batch}k")
    return y if b is None else g.node("Add", y, b)


def _both_ends(win: Window) -> list[int]:
    """The padding as ONNX has it: before, for all axes, then after."""
    return [before for before, _ in win.pads] + [after for _, after in win.pads]


def conv(g: Graph, x: Value, w: Value, b: Value | None, stride: Any, padding: Any, dilation: Any, groups: int) -> Name:
    win = window("conv", w.shape[2:], stride, padding, dilation, x.ndim - 2)
    attributes = {"strides": win.stride, "pads": _both_ends(win), "dilations": win.dilation, "group": groups}
    return g.node("Conv", x, w, b, kernel_shape=win.kernel, **attributes)


def conv_transpose(
    g: Graph, x: Value, w: Value, b: Value | None, stride: Any, padding: Any, output_padding: Any, groups: int,
    dilation: Any,
) -> Name:  # fmt: skip
    rank = x.ndim - 2
    win = window("conv_transpose", w.shape[2:], stride, padding, dilation, rank)
    more = [output_padding] * rank if isinstance(output_padding, int) else list(output_padding)
    # onnxruntime takes less than a stride, so what would be cut off there is kept instead, and zeros are added.
    large = any(add >= step for add, step in zip(more, win.stride, strict=True))
    kept = [min(add, after) if large else 0 for add, (_, after) in zip(more, win.pads, strict=True)]
    pads = tuple((before, after - keep) for keep, (before, after) in zip(kept, win.pads, strict=True))
    zeros = [add - keep for add, keep in zip(more, kept, strict=True)]
    attributes: dict[str, Any] = {"strides": win.stride, "dilations": win.dilation, "kernel_shape": win.kernel}
    attributes |= {"pads": _both_ends(win._replace(pads=pads)), "group": groups}
    if all(add < step for add, step in zip(zeros, win.stride, strict=True)):
        return g.node("ConvTranspose", x, w, b, output_padding=zeros, **attributes)
    y = g.node("ConvTranspose", x, w, **attributes)
    y = g.node("Pad", y, g.integers(*[0] * (rank + 2), 0, 0, *zeros))
    return y if b is None else g.node("Add", y, g.node("Reshape", b, g.integers(-1, *[1] * rank)))


def embedding(
    g: Graph, indices: Value, weight: Value, padding_idx: int | None, max_norm: float | None = None, **_: Any
) -> Name:
    if max_norm is not None:
        g.refuse("a largest norm changes the weights, which has no translation", max_norm=max_norm)
    return g.node("Gather", weight, indices, axis=0)


def embedding_bag(
    g: Graph, indices: Value, weight: Value, offsets: Value | None, max_norm: float | None, mode: str,
    per_sample_weights: Value | None, padding_idx: int | None, **_: Any,
) -> Name:  # fmt: skip
    """Of rows of indices: the rows that they name, reduced; those of ``padding_idx`` as what does not matter."""
    if offsets is not None or indices.ndim != 2:
        g.refuse("bags must be rows of indices, not runs between offsets", shape=indices.shape)
    rows, axis = embedding(g, indices, weight, None, max_norm), g.integers(1)
    if per_sample_weights is not None:
        rows = g.node("Mul", rows, g.node("Unsqueeze", per_sample_weights, g.integers(-1)))
    if padding_idx is None:
        return g.node({"sum": "ReduceSum", "mean": "ReduceMean", "max": "ReduceMax"}[mode], rows, axis, keepdims=0)
    place = g.constant(padding_idx % weight.shape[0], indices.dtype)
    counts = g.node("Unsqueeze", g.node("Not", g.node("Equal", indices, place)), g.integers(-1))
    number = g.node("ReduceSum", g.cast(counts, weight.dtype), axis, keepdims=0)
    nothing = g.like(0 if mode != "max" else -np.inf, weight)
    op = "ReduceMax" if mode == "max" else "ReduceSum"
    y = g.node(op, g.node("Where", counts, rows, nothing), axis, keepdims=0)
    if mode == "mean":
        return g.node("Div", y, g.node("Max", number, g.like(1, weight)))
    return y if mode == "sum" else g.node("Where", g.node("Greater", number, g.like(0, weight)), y, g.like(0, weight))


# ---- pooling --------------------------------------------------------------------------------------------------------


def _windows(
    g: Graph, x: Value, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool
) -> tuple[Window, tuple[int, ...]]:
    """The window with the padding at the end that lets the last one end inside it, and the size of the output.

    Where sizes are open the padding is what was asked for.
    """
    if not ceil_mode and any(map(x.varies, range(2, x.ndim))):
        plan = _plan(x, kernel_size, stride, padding, dilation, ceil_mode)
        return plan.window, plan.out
    g.need_fixed(x, range(2, x.ndim))
    plan = _plan(x, kernel_size, stride, padding, dilation, ceil_mode)
    win, out = plan.window, plan.out
    spans = zip(win.pads, win.reach((0,) * len(out), out), x.shape[2:], strict=True)
    return win._replace(pads=tuple((before, max(0, reach - before - n)) for (before, _), reach, n in spans)), out


def _plan(x: Value, *settings: Any) -> Plan:
    return max_plan(x.ndim - 2, tuple(x.shape), *settings, "pool")


def max_pool(
    g: Graph, x: Value, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool,
    return_indices: bool,
) -> Name | list[Name]:  # fmt: skip
    asked = _plan(x, kernel_size, stride, padding, dilation, ceil_mode).window
    # ONNX lets a window start in the padding at the end; where there is none, and no window starts behind x, we agree.
    agrees = not any(sum(asked.pads, ())) and all(map(le, asked.stride, asked.kernel))
    overhang = ceil_mode and agrees and any(map(x.varies, range(2, x.ndim)))
    win, _ = _windows(g, x, kernel_size, stride, padding, dilation, ceil_mode and not overhang)
    attributes: dict[str, Any] = {"strides": win.stride, "pads": _both_ends(win), "dilations": win.dilation}
    attributes |= {"ceil_mode": 1} if overhang else {}
    if not return_indices:
        return g.node("MaxPool", x, kernel_shape=win.kernel, **attributes)
    y, places = g.nodes_of("MaxPool", 2, x, kernel_shape=win.kernel, **attributes)
    sizes = g.node("Concat", *(g.size_of(x, axis) for axis in range(2, x.ndim)), axis=0)
    return [y, g.node("Mod", places, g.node("ReduceProd", sizes, keepdims=1))]  # of all images to those of its own


def avg_pool(
    g: Graph, x: Value, kernel_size: Any, stride: Any, padding: Any, ceil_mode: bool, count_include_pad: bool,
    divisor_override: int | None = None,
) -> Name:  # fmt: skip
    win, out = _windows(g, x, kernel_size, stride, padding, 1, ceil_mode)
    attributes = {"strides": win.stride, "pads": _both_ends(win), "kernel_shape": win.kernel}
    if divisor_override is not None:
        y = g.node("AveragePool", x, count_include_pad=1, **attributes)
        return g.node("Mul", y, g.like(np.array(prod(win.kernel) / divisor_override), x))
    y = g.node("AveragePool", x, count_include_pad=int(count_include_pad), **attributes)
    if not count_include_pad or not ceil_mode:
        return y
    # It was divided by all elements of the window, but what lies beyond the padding that was asked for does not count.
    asked, share = _plan(x, kernel_size, stride, padding, 1, ceil_mode).window.pads, np.ones(out)
    for axis, (n, (before, after)) in enumerate(zip(x.shape[2:], asked, strict=True)):
        start = np.arange(out[axis]) * win.stride[axis] - before
        counted = np.minimum(win.kernel[axis], n + after - start)
        share = share * (win.kernel[axis] / counted).reshape(-1, *(1,) * (len(out) - 1 - axis))
    return y if (share == 1).all() else g.node("Mul", y, g.like(share, x))


def adaptive_pool(
    g: Graph, x: Value, output_size: Any, return_indices: bool = False, *, reduce: str
) -> Name | list[Name]:
    if return_indices:
        return _adaptive_places(g, x)
    y, out = g.name(x), g.results[0]
    for axis, (n, bins) in enumerate(zip(x.shape[2:], out.shape[2:], strict=True), 2):
        if bins == 1:
            y = g.node(reduce, y, g.integers(axis), keepdims=1)
        elif out.sizes(axis) != x.sizes(axis):
            g.need_fixed(x, [axis])
            edges = [(i * n // bins, -(-(i + 1) * n // bins)) for i in range(bins)]
            parts = [g.slice(y, [axis], [start], [end]) for start, end in edges]
            y = g.node("Concat", *(g.node(reduce, part, g.integers(axis), keepdims=1) for part in parts), axis=axis)
    return y


def _adaptive_places(g: Graph, x: Value) -> list[Name]:
    """The maxima of bins and where they lie in x, axis by axis, the last one first: so the first of equal ones wins."""
    g.need_fixed(x, range(2, x.ndim))
    y, places, step = g.name(x), "", 1
    for axis in reversed(range(2, x.ndim)):
        n, bins = x.shape[axis], g.results[0].shape[axis]
        maxima, found = [], []
        for start, end in ((i * n // bins, -(-(i + 1) * n // bins)) for i in range(bins)):
            part = g.slice(y, [axis], [start], [end])
            first = g.node("ArgMax", part, axis=axis, keepdims=1)
            maxima.append(g.node("GatherElements", part, first, axis=axis))
            here = g.node("Mul", g.node("Add", first, g.integers(start)), g.integers(step))
            if places:
                behind = g.node("GatherElements", g.slice(places, [axis], [start], [end]), first, axis=axis)
                here = g.node("Add", here, behind)
            found.append(here)
        y, places = g.node("Concat", *maxima, axis=axis), g.node("Concat", *found, axis=axis)
        step *= n
    return [y, places]


def global_pool(g: Graph, x: Value, *, op: str) -> Name:
    return g.node(op, x)


# ---- normalisation --------------------------------------------------------------------------------------------------


def batch_norm(
    g: Graph, x: Value, running_mean: Value, running_var: Value, weight: Value | None, bias: Value | None,
    training: bool, momentum: float, eps: float, relu: bool, whole: None = None,
) -> Name:  # fmt: skip
    g.need_fixed(x, [1])
    if training:
        if running_mean is not None:
            g.refuse("running statistics that change have no translation; export in evaluation", training=True)
        return _by_batch(g, x, weight, bias, eps, relu)
    channels = x.shape[1:2]
    scale = weight or g.like(np.ones(channels), x)
    y = g.node("BatchNormalization", x, scale, bias or g.like(np.zeros(channels), x), running_mean, running_var,
               epsilon=eps)  # fmt: skip
    return g.node("Relu", y) if relu else y


def _by_batch(g: Graph, x: Value, weight: Value | None, bias: Value | None, eps: float, relu: bool) -> Name:
    """Normalised by the statistics of the batch: ``(x - mean) / sqrt(var + eps)`` of each channel."""
    axes = g.integers(0, *range(2, x.ndim))
    away = g.node("Sub", x, g.node("ReduceMean", x, axes, keepdims=1))
    var = g.node("ReduceMean", g.node("Mul", away, away), axes, keepdims=1)
    y = g.node("Div", away, g.node("Sqrt", g.node("Add", var, g.like(eps, x))))
    y = _scaled(g, y, weight, bias, x.ndim - 2)
    return g.node("Relu", y) if relu else y


def _scaled(g: Graph, y: Name, weight: Value | None, bias: Value | None, rank: int) -> Name:
    """``y`` times a weight and plus a bias of each channel."""
    for op, each in (("Mul", weight), ("Add", bias)):
        if each is not None:
            y = g.node(op, y, g.node("Reshape", each, g.integers(-1, *(1,) * rank)))
    return y


def instance_norm(
    g: Graph, x: Value, running_mean: Value | None, running_var: Value | None, weight: Value | None,
    bias: Value | None, use_input_stats: bool, momentum: float, eps: float,
) -> Name:  # fmt: skip
    if not use_input_stats:
        given = {"running_mean": running_mean, "running_var": running_var, "weight": weight, "bias": bias}
        return batch_norm(g, x, **given, training=False, momentum=momentum, eps=eps, relu=False)  # type: ignore[arg-type]
    g.need_fixed(x, [1])
    channels = x.shape[1:2]
    scale = weight or g.like(np.ones(channels), x)
    return g.node("InstanceNormalization", x, scale, bias or g.like(np.zeros(channels), x), epsilon=eps)


def group_norm(g: Graph, x: Value, num_groups: int, weight: Value | None, bias: Value | None, eps: float) -> Name:
    g.need_fixed(x, [1])
    rows = g.node("Reshape", x, g.integers(0, num_groups, -1))
    ones, zeros = g.like(np.ones(num_groups), x), g.like(np.zeros(num_groups), x)
    y = g.reshape(g.node("InstanceNormalization", rows, ones, zeros, epsilon=eps), g.results[0])
    return _scaled(g, y, weight, bias, x.ndim - 2)


def layer_norm(g: Graph, x: Value, normalized_shape: Any, weight: Value | None, bias: Value | None, eps: float) -> Name:
    shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    scale = weight or g.like(np.ones(shape), x)
    return g.node("LayerNormalization", x, scale, bias, axis=-len(shape), epsilon=eps)


def lrn(g: Graph, x: Value, size: int, alpha: float, beta: float, k: float, alpha_mode: str) -> Name:
    settings = x, size, alpha, beta, k, alpha_mode
    if x.ndim == 4:
        return _normalised_channels(g, g.name(x), *settings)
    g.need_fixed(x, [1])
    maps = g.node("Reshape", x, g.integers(0, x.shape[1], -1, 1))
    return g.reshape(_normalised_channels(g, maps, *settings), x)


def _normalised_channels(
    g: Graph, maps: Name, x: Value, size: int, alpha: float, beta: float, k: float, alpha_mode: str
) -> Name:
    """Of ``maps`` (N, C, H, W), in the dtype of ``x``."""
    total = alpha * size if alpha_mode == "sum" else alpha  # ONNX divides it by size
    if size % 2:
        return g.node("LRN", maps, size=size, alpha=total, beta=beta, bias=k)
    # ONNX has the larger half of an even size at the other side, and some implementations refuse it.
    squares = g.node("Transpose", g.node("Mul", maps, maps), perm=[0, 2, 1, 3])
    means = g.node("AveragePool", squares, kernel_shape=[size, 1], pads=[size // 2, 0, (size - 1) // 2, 0],
                   strides=[1, 1], count_include_pad=1)  # fmt: skip
    means = g.node("Transpose", means, perm=[0, 2, 1, 3])
    base = g.node("Add", g.node("Mul", means, g.like(total, x)), g.like(k, x))
    return g.node("Div", maps, g.node("Pow", base, g.like(beta, x)))


def block(
    g: Graph, x: Value, b: Value, kernel_size: Any, stride: Any, padding: Any, size: int, alpha: float, beta: float,
    k: float, alpha_mode: str, *, pool_first: bool,
) -> Name:  # fmt: skip
    """A fused block of AlexNet, in its parts."""
    biased: Value | Name = x
    if b.array is None or b.name or b.array.any():
        biased = g.node("Add", x, g.node("Reshape", b, g.integers(-1, 1, 1)))
    win, _ = _windows(g, x, kernel_size, stride, padding, 1, False)
    y = g.node("Relu", biased)
    for pools in (pool_first, not pool_first):
        if pools:
            y = g.node("MaxPool", y, kernel_shape=win.kernel, strides=win.stride, pads=_both_ends(win))
        else:
            y = _normalised_channels(g, y, x, size, alpha, beta, k, alpha_mode)
    return y


# ---- sequences ------------------------------------------------------------------------------------------------------

_ORDER = {"RNN": [0], "LSTM": [0, 3, 1, 2], "GRU": [1, 0, 2]}
"""Where ONNX's gates (i, o, f, c and z, r, h) lie among ours (i, f, g, o and r, z, n)."""


def _recurrent(
    g: Graph, op: str, x: Value | Name, states: Sequence[Value | None], w_ih: Value, w_hh: Value, b_ih: Value | None,
    b_hh: Value | None, reverse: bool = False, batch_sizes: Any = None, w_hr: Value | None = None,
    **attributes: Any,
) -> list[Name]:  # fmt: skip
    """All outputs (T, N, H), and the last of each state (N, H)."""
    if w_hr is not None:
        g.refuse("a projection of h has no translation", w_hr="given")
    if batch_sizes is not None:
        g.refuse("sequences must be of one length, not packed", batch_sizes="given")
    weights = [_gates(g, w, op) for w in (w_ih, w_hh)]
    biases = None
    if b_ih is not None or b_hh is not None:
        zeros = Value((w_ih.shape[0],), w_ih.dtype, np.zeros(w_ih.shape[0], w_ih.dtype))
        each = [_gates(g, zeros if b is None else b, op) for b in (b_ih, b_hh)]
        if any(isinstance(part, str) for part in each):
            named = [part if isinstance(part, str) else g.constant(part) for part in each]
            biases = _step(g, g.node("Concat", *named, axis=0))
        else:
            biases = g.constant(np.concatenate(each)[None])
    first = [None if state is None else g.node("Unsqueeze", state, g.integers(0)) for state in states]
    inputs = [x, *(_step(g, w) if isinstance(w, str) else g.constant(w[None]) for w in weights), biases, None, *first]
    direction = "reverse" if reverse else "forward"
    y, *last = g.nodes_of(op, 1 + len(states), *inputs, hidden_size=w_hh.shape[1], direction=direction, **attributes)
    return [g.node("Squeeze", y, g.integers(1)), *(g.node("Squeeze", state, g.integers(0)) for state in last)]


def _gates(g: Graph, value: Value, op: str) -> Any:
    """The rows of a weight or bias in ONNX's order: an array, or the name of what is computed."""
    order = _ORDER[op]
    if value.array is not None:
        parts = np.split(value.array, len(order))
        return np.concatenate([parts[place] for place in order])
    rows = value.shape[0] // len(order)
    return g.node("Concat", *(g.slice(value, [0], [at * rows], [at * rows + rows]) for at in order), axis=0)


def rnn(g: Graph, x: Value, h: Value | None, nonlinearity: str, **how: Any) -> list[Name]:
    return _recurrent(g, "RNN", x, [h], activations=[nonlinearity.capitalize()], **how)


def lstm(g: Graph, x: Value, state: Sequence[Value] | None, **how: Any) -> list[Name]:
    return _recurrent(g, "LSTM", x, state or [None, None], **how)


def gru(g: Graph, x: Value, h: Value | None, reset_after: bool, **how: Any) -> list[Name]:
    return _recurrent(g, "GRU", x, [h], linear_before_reset=int(reset_after), **how)


def _step(g: Graph, x: Value | Name) -> Name:
    """One step as a sequence, or the weights of one direction as those of all."""
    return g.node("Unsqueeze", x, g.integers(0))


def lstm_cell(g: Graph, x: Value, state: Sequence[Value], **weights: Any) -> list[Name]:
    return _recurrent(g, "LSTM", _step(g, x), state, **weights)[1:]


def gru_cell(g: Graph, x: Value, h: Value, reset_after: bool, **weights: Any) -> Name:
    return _recurrent(g, "GRU", _step(g, x), [h], linear_before_reset=int(reset_after), **weights)[1]
