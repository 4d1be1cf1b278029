"""ONNX's operators that are layers: convolution, pooling, normalisation, dropout, sequences and losses.

How an operator looks says :mod:`gpunn.interop.onnx_import_operators`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import prod
from typing import Any

import numpy as np

from gpunn import functional as F
from gpunn.backend import is_floating
from gpunn.interop.onnx_import_step import (
    Step,
    axes_from,
    fixed,
    module_of,
    normal,
    number,
    numbers,
    row_major,
    untranslated,
)
from gpunn.tensor import Tensor, wrapped

Pads = tuple[tuple[int, int], ...]

# ---- windows --------------------------------------------------------------------------------------------------------


def _pads(
    step: Step,
    x: Tensor,
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    pads: Any,
    auto_pad: str,
) -> Pads:
    """(before, after) for each axis of the image."""
    rank = len(kernel)
    if auto_pad == "NOTSET":
        ends = [0] * 2 * rank if pads is None else list(pads)
        step.need(len(ends) == 2 * rank and x.ndim == rank + 2, "there must be two pads for each axis", pads=ends)
        return tuple(zip(ends[:rank], ends[rank:], strict=True))
    if auto_pad == "VALID":
        return ((0, 0),) * rank
    step.need(auto_pad in ("SAME_UPPER", "SAME_LOWER"), "this auto_pad is not known", auto_pad=auto_pad)
    made = []
    for n, k, s, d in zip(x.shape[2:], kernel, strides, dilations, strict=True):
        whole = max(0, (-(-n // s) - 1) * s + d * (k - 1) + 1 - n)
        made.append((whole // 2, whole - whole // 2) if auto_pad == "SAME_UPPER" else (whole - whole // 2, whole // 2))
    return tuple(made)


def _function(name: str, rank: int, step: Step) -> Callable[..., Any]:
    step.need(1 <= rank <= 3, "images may have one to three axes", axes=rank)
    function: Callable[..., Any] = getattr(F, f"{name}{rank}d")
    return function


def _padded(x: Tensor, pads: Pads, value: float = 0.0) -> Tensor:
    if not any(map(any, pads)):
        return x
    return F.pad(x, tuple(n for pair in reversed(pads) for n in pair), "constant", value)


# ---- convolution ----------------------------------------------------------------------------------------------------


def conv(
    step: Step, x: Tensor, w: Tensor, b: Tensor | None = None, auto_pad: str = "NOTSET", dilations: Any = None,
    group: int = 1, kernel_shape: Any = None, pads: Any = None, strides: Any = None,
) -> Tensor:  # fmt: skip
    rank = w.ndim - 2
    same = kernel_shape is None or tuple(kernel_shape) == w.shape[2:]
    step.need(same, "kernel_shape must be that of the weights", kernel_shape=kernel_shape, w=w.shape)
    stride, dilation = tuple(strides or [1] * rank), tuple(dilations or [1] * rank)
    padding = _pads(step, x, w.shape[2:], stride, dilation, pads, auto_pad)
    y: Tensor = _function("conv", rank, step)(x, w, b, stride, padding, dilation, group)
    return y


def conv_transpose(
    step: Step, x: Tensor, w: Tensor, b: Tensor | None = None, auto_pad: str = "NOTSET", dilations: Any = None,
    group: int = 1, kernel_shape: Any = None, output_padding: Any = None, output_shape: Any = None, pads: Any = None,
    strides: Any = None,
) -> Tensor:  # fmt: skip
    rank = w.ndim - 2
    stride, dilation = tuple(strides or [1] * rank), tuple(dilations or [1] * rank)
    more = tuple(output_padding or [0] * rank)
    spans = [d * (k - 1) + 1 for d, k in zip(dilation, w.shape[2:], strict=True)]
    full = [(n - 1) * s + e + m for n, s, e, m in zip(x.shape[2:], stride, spans, more, strict=True)]
    wanted = None if output_shape is None else list(output_shape)[-rank:]
    if wanted is None and auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        wanted = [n * s for n, s in zip(x.shape[2:], stride, strict=True)]
    if wanted is None:
        ends = _pads(step, x, w.shape[2:], stride, dilation, pads, auto_pad)
    else:
        over = [n - m for n, m in zip(full, wanted, strict=True)]
        halves = [(n // 2, n - n // 2) for n in over]
        ends = tuple(halves if auto_pad == "SAME_UPPER" else [half[::-1] for half in halves])
    transposed = _function("conv_transpose", rank, step)
    small = all(m < max(s, d) for m, s, d in zip(more, stride, dilation, strict=True))
    if small and min(n for pair in ends for n in pair) >= 0:
        y: Tensor = transposed(x, w, b, stride, ends, more, group, dilation)
        return y
    y = transposed(x, w, None, stride, 0, 0, group, dilation)
    y = _padded(y, tuple((-before, m - after) for (before, after), m in zip(ends, more, strict=True)))
    return y if b is None else y + b.reshape(-1, *(1,) * rank)


# ---- pooling --------------------------------------------------------------------------------------------------------


class _Windows:
    """The windows of a pooling node over an image."""

    def __init__(
        self,
        step: Step,
        x: Tensor,
        kernel_shape: Any,
        strides: Any,
        dilations: Any,
        pads: Any,
        auto_pad: str,
        ceil_mode: int,
    ) -> None:
        self.kernel = tuple(kernel_shape)
        rank = len(self.kernel)
        self.stride, self.dilation = tuple(strides or [1] * rank), tuple(dilations or [1] * rank)
        settings = *self.kernel, *self.stride, *self.dilation
        step.need(
            min(settings) > 0 and len(settings) == 3 * rank, "windows must have sizes above 0", kernel=self.kernel
        )
        self.pads = _pads(step, x, self.kernel, self.stride, self.dilation, pads, auto_pad)
        self.ceil, self.size = bool(ceil_mode), x.shape[2:]
        self.extent = tuple(d * (k - 1) + 1 for d, k in zip(self.dilation, self.kernel, strict=True))
        self.out = []
        for n, extent, stride, (before, after) in zip(self.size, self.extent, self.stride, self.pads, strict=True):
            room = n + before + after - extent
            step.need(room >= 0, "the window must fit into the padded image", window=self.extent, image=self.size)
            count = (-(-room // stride) if self.ceil else room // stride) + 1
            self.out.append(count - 1 if self.ceil and (count - 1) * stride >= n + before else count)

    @property
    def plain(self) -> bool:
        """Whether gpunn's pooling takes these pads."""
        each = zip(self.pads, self.extent, strict=True)
        return all(before == after and 2 * before <= extent for (before, after), extent in each)

    @property
    def reach(self) -> Pads:
        """The pads with which the last window ends at the end of the padded image, or before it."""
        spans = zip(self.pads, self.out, self.stride, self.extent, self.size, strict=True)
        return tuple((before, max(0, (m - 1) * s + e - before - n)) for (before, _), m, s, e, n in spans)

    def counts(self, with_pads: bool) -> Any:
        """How many elements each window has, of the image or of the padded one."""
        whole = np.ones(())
        for axis, n in enumerate(self.size):
            before, after = self.pads[axis]
            first, last = (-before, n + after) if with_pads else (0, n)
            starts = np.arange(self.out[axis])[:, None] * self.stride[axis] - before
            taps = starts + np.arange(self.kernel[axis]) * self.dilation[axis]
            whole = whole[..., None] * ((taps >= first) & (taps < last)).sum(1)
        return whole

    def sums(self, step: Step, x: Tensor) -> Tensor:
        """The sum over each window."""
        maps = _padded(x, self.reach)
        rows = maps.reshape(-1, 1, *maps.shape[2:])
        ones = wrapped(module_of(x).ones((1, 1, *self.kernel), x.dtype))
        rank = len(self.kernel)
        y = _function("conv", rank, step)(rows, ones, None, self.stride, 0, self.dilation)
        summed: Tensor = y.reshape(*x.shape[:2], *y.shape[2:])[(..., *(slice(n) for n in self.out))]
        return summed


def max_pool(
    step: Step, x: Tensor, kernel_shape: Any, auto_pad: str = "NOTSET", ceil_mode: int = 0, dilations: Any = None,
    pads: Any = None, storage_order: int = 0, strides: Any = None,
) -> Any:  # fmt: skip
    if not is_floating(x.dtype):  # these are 8 bits wide
        y = max_pool(
            step, x.astype(np.float32), kernel_shape, auto_pad, ceil_mode, dilations, pads, storage_order, strides
        )
        return [y[0].astype(x.dtype), y[1]] if isinstance(y, list) else y.astype(x.dtype)
    win = _Windows(step, x, kernel_shape, strides, dilations, pads, auto_pad, ceil_mode)
    pool = partial(_function("max_pool", len(win.kernel), step), return_indices=step.wants(1))
    if win.plain:
        y, ends = (
            pool(x, win.kernel, win.stride, tuple(p for p, _ in win.pads), win.dilation, win.ceil),
            ((0, 0),) * len(win.out),
        )
    else:
        ends = win.reach
        y = pool(_padded(x, ends, -np.inf), win.kernel, win.stride, 0, win.dilation, False)
    if not step.wants(1):
        return y[(..., *(slice(n) for n in win.out))]
    cut = (..., *(slice(n) for n in win.out))
    return [y[0][cut], _places(wrapped(y[1])[cut], x, ends, bool(storage_order))]


def _places(found: Tensor, x: Tensor, ends: Pads, columns: bool) -> Tensor:
    """Where maxima of a padded image lie in all of x, counted by rows or, within an image, by columns."""
    image = x.shape[2:]
    first = np.arange(prod(x.shape[:2])).reshape(*x.shape[:2], *(1,) * len(image)) * prod(image)
    if not columns and not any(map(any, ends)):
        return found + fixed(first, x)
    xp = module_of(x)
    padded = [n + before + after for n, (before, after) in zip(image, ends, strict=True)]
    at = [index - before for index, (before, _) in zip(xp.unravel_index(found.data, padded), ends, strict=True)]
    steps = row_major(image[::-1])[::-1] if columns else row_major(image)
    within = sum(index * by for index, by in zip(at, steps, strict=True))
    return untranslated((within + xp.asarray(first)).astype(np.int64), found)


def average_pool(
    step: Step, x: Tensor, kernel_shape: Any, auto_pad: str = "NOTSET", ceil_mode: int = 0, count_include_pad: int = 0,
    dilations: Any = None, pads: Any = None, strides: Any = None,
) -> Tensor:  # fmt: skip
    win = _Windows(step, x, kernel_shape, strides, dilations, pads, auto_pad, ceil_mode)
    if win.plain and set(win.dilation) == {1}:
        padding = tuple(before for before, _ in win.pads)
        pool = _function("avg_pool", len(win.kernel), step)
        pooled: Tensor = pool(x, win.kernel, win.stride, padding, win.ceil, bool(count_include_pad))
        return pooled
    return win.sums(step, x) / fixed(win.counts(bool(count_include_pad)).astype(x.dtype), x)


def lp_pool(
    step: Step, x: Tensor, kernel_shape: Any, auto_pad: str = "NOTSET", ceil_mode: int = 0, dilations: Any = None,
    p: int = 2, pads: Any = None, strides: Any = None,
) -> Tensor:  # fmt: skip
    win = _Windows(step, x, kernel_shape, strides, dilations, pads, auto_pad, ceil_mode)
    return win.sums(step, F.abs(x) ** p) ** (1 / p)


def max_unpool(
    step: Step, x: Tensor, indices: Tensor, output_shape: Any = None, kernel_shape: Any = None, pads: Any = None,
    strides: Any = None,
) -> Tensor:  # fmt: skip
    """Each element of x at its place in the whole result, 0 elsewhere."""
    rank = len(kernel_shape)
    stride, ends = tuple(strides or [1] * rank), pads or [0] * 2 * rank
    sizes = tuple(
        (n - 1) * s + k - ends[axis] - ends[axis + rank]
        for axis, (n, s, k) in enumerate(zip(x.shape[2:], stride, kernel_shape, strict=True))
    )
    unpool = _function("max_unpool", rank, step)
    y: Tensor = unpool(x, F.remainder(indices, prod(sizes)), tuple(kernel_shape), stride, tuple(ends[:rank]), sizes)
    wanted = sizes if output_shape is None else tuple(numbers(output_shape))[2:]
    return y if wanted == sizes else _padded(y, tuple((0, m - n) for n, m in zip(sizes, wanted, strict=True)))


def col2im(
    step: Step, x: Tensor, image_shape: Any, block_shape: Any, dilations: Any = None, pads: Any = None,
    strides: Any = None,
) -> Tensor:  # fmt: skip
    """Columns added up to images, with their pads, which are then cut off."""
    image, kernel = numbers(image_shape), tuple(numbers(block_shape))
    step.need(len(image) == len(kernel) == 2, "images must have two axes", image_shape=image, block_shape=kernel)
    stride, dilation, ends = tuple(strides or (1, 1)), tuple(dilations or (1, 1)), list(pads or [0] * 4)
    step.need(len(ends) == 4 and min(ends) >= 0, "there must be two pads of at least 0 for each axis", pads=ends)
    if ends[:2] == ends[2:]:
        return F.fold(x, (image[0], image[1]), kernel, dilation, tuple(ends[:2]), stride)  # type: ignore[arg-type]
    whole = tuple(n + before + after for n, before, after in zip(image, ends[:2], ends[2:], strict=True))
    y: Tensor = F.fold(x, whole, kernel, dilation, 0, stride)  # type: ignore[arg-type]
    return y[(..., *(slice(before, before + n) for n, before in zip(image, ends[:2], strict=True)))]


def grid_sample(
    step: Step, x: Tensor, grid: Tensor, align_corners: int = 0, mode: str = "linear", padding_mode: str = "zeros"
) -> Tensor:
    ways: dict[str, Any] = {"linear": "bilinear", "cubic": "bicubic"}  # as they are called from version 20 on
    return F.grid_sample(x, grid, ways.get(mode, mode), padding_mode, bool(align_corners))  # type: ignore[arg-type]


def global_pool(name: str) -> Callable[..., Any]:
    """An operator over whole images, ``"global_avg_pool"`` or ``"global_max_pool"``."""
    return lambda step, x: _function(name, x.ndim - 2, step)(x)


def global_lp_pool(step: Step, x: Tensor, p: int = 2) -> Tensor:
    return (F.abs(x) ** p).sum(tuple(range(2, x.ndim)), True) ** (1 / p)


# ---- normalisation --------------------------------------------------------------------------------------------------


def batch_norm(
    step: Step, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, var: Tensor, epsilon: float = 1e-5,
    momentum: float = 0.9, training_mode: int = 0, spatial: int = 1,
) -> Any:  # fmt: skip
    """The momentum is the share of the old statistics that stays."""
    step.need(spatial == 1, "statistics of each pixel cannot be imported", spatial=spatial)
    w, b = (each.astype(x.dtype) if each.dtype != x.dtype else each for each in (scale, bias))
    if not (training_mode and step.as_written):
        y = F.batch_norm(x, mean, var, w, b, step.training, 1 - momentum, epsilon)
        return [y, mean, var, mean, var]
    y = F.batch_norm(x, None, None, w, b, training=True, eps=epsilon)
    axes = tuple(axis for axis in range(x.ndim) if axis != 1)
    wide = x.detach().astype(mean.dtype)
    moved = [old * momentum + new * (1 - momentum) for old, new in ((mean, wide.mean(axes)), (var, wide.var(axes)))]
    return [y, *moved]


def instance_norm(step: Step, x: Tensor, scale: Tensor, bias: Tensor, epsilon: float = 1e-5) -> Tensor:
    return F.instance_norm(x, weight=scale, bias=bias, eps=epsilon)


def group_norm(
    step: Step, x: Tensor, scale: Tensor, bias: Tensor, num_groups: int, epsilon: float = 1e-5, stash_type: int = 1
) -> Tensor:
    if step.version < 21:  # one for each group
        scale, bias = (each.repeat(x.shape[1] // num_groups, 0) for each in (scale, bias))
    return F.group_norm(x, num_groups, scale, bias, epsilon)


def layer_norm(
    step: Step, x: Tensor, scale: Tensor, bias: Tensor | None = None, axis: int = -1, epsilon: float = 1e-5,
    stash_type: int = 1,
) -> Any:  # fmt: skip
    first = normal(axis, x.ndim)
    shape = x.shape[first:]
    if scale.shape == shape and (bias is None or bias.shape == shape):
        y = F.layer_norm(x, shape, scale, bias, epsilon)
    else:
        y = F.layer_norm(x, shape, eps=epsilon) * scale
        y = y if bias is None else y + bias
    if not (step.wants(1) or step.wants(2)):
        return y
    wide, axes = x.astype(np.float32) if x.dtype.itemsize == 2 else x, tuple(range(first, x.ndim))
    return [y, wide.mean(axes, True), (wide.var(axes, keepdims=True) + epsilon) ** -0.5]


def rms_norm(
    step: Step, x: Tensor, scale: Tensor, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1
) -> Tensor:
    shape = x.shape[normal(axis, x.ndim) :]
    if scale.shape == shape:
        return F.rms_norm(x, shape, scale, epsilon)
    return F.rms_norm(x, shape, eps=epsilon) * scale


def lrn(step: Step, x: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, bias: float = 1.0) -> Tensor:
    """Of an even number of channels ONNX has the larger half on the other side."""
    turned = x if size % 2 else x[:, ::-1]
    y = F.local_response_norm(turned, size, alpha, beta, bias)
    return y if size % 2 else y[:, ::-1]


def lp_norm(step: Step, x: Tensor, axis: int = -1, p: int = 2) -> Tensor:
    sizes = F.abs(x).sum(axis, True) if p == 1 else F.sqrt((x * x).sum(axis, True))
    nothing = sizes == 0
    return F.where(nothing, 0 * x, x / F.where(nothing, 1.0, sizes))


def mean_variance_norm(step: Step, x: Tensor, axes: Sequence[int] = (0, 2, 3)) -> Tensor:
    along = axes_from(axes, x.ndim)
    away = x - x.mean(along, True)
    return away / (F.sqrt((away * away).mean(along, True)) + 1e-9)


def dropout(step: Step, x: Tensor, ratio: Any = 0.5, training_mode: Any = None, seed: int | None = None) -> Any:
    p = float(number(ratio))
    active = step.training or (step.as_written and training_mode is not None and bool(number(training_mode)))
    xp = module_of(x)
    if not step.wants(1):
        return F.dropout(x, p) if active else x
    kept = xp.ones(x.shape, bool)
    if active:
        kept = F.dropout(xp.ones(x.shape, x.dtype), p) != 0
    y = x * wrapped(kept.astype(x.dtype)) * (1 / (1 - p) if p < 1 else 0.0) if active else x
    return [y, wrapped(kept)]


# ---- sequences ------------------------------------------------------------------------------------------------------

_ORDER = {"RNN": [0], "LSTM": [0, 2, 3, 1], "GRU": [1, 0, 2]}
"""Where our gates (i, f, g, o and r, z, n) lie among ONNX's (i, o, f, c and z, r, h)."""

_DEFAULTS = {"RNN": ["Tanh"], "LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"]}

_ACTIVATIONS: dict[str, Callable[[Tensor, float, float], Tensor]] = {
    "Affine": lambda x, a, b: x * a + b,
    "Elu": lambda x, a, b: F.elu(x, a),
    "HardSigmoid": lambda x, a, b: F.clip(x * a + b, 0.0, 1.0),
    "LeakyRelu": lambda x, a, b: F.leaky_relu(x, a),
    "Relu": lambda x, a, b: F.relu(x),
    "ScaledTanh": lambda x, a, b: F.tanh(x * b) * a,
    "Sigmoid": lambda x, a, b: F.sigmoid(x),
    "Softplus": lambda x, a, b: F.softplus(x),
    "Softsign": lambda x, a, b: x / (F.abs(x) + 1),
    "Tanh": lambda x, a, b: F.tanh(x),
    "ThresholdedRelu": lambda x, a, b: F.where(x > a, x, 0.0),
}

_FACTORS = {"Elu": (1.0, 0.0), "HardSigmoid": (0.2, 0.5), "LeakyRelu": (0.01, 0.0), "ThresholdedRelu": (1.0, 0.0)}
"""What alpha and beta of an activation are unless they are given."""


def recurrent_layer(op: str) -> Callable[..., Any]:
    """RNN, LSTM or GRU."""

    def operator(
        step: Step, x: Tensor, w: Tensor, r: Tensor, b: Tensor | None = None, lengths: Any = None,
        h: Tensor | None = None, c: Tensor | None = None, p: Tensor | None = None, activations: Any = None,
        activation_alpha: Any = (), activation_beta: Any = (), clip: float | None = None, direction: str = "forward",
        hidden_size: int | None = None, layout: int = 0, input_forget: int = 0, linear_before_reset: int = 0,
    ) -> list[Tensor]:  # fmt: skip
        ways = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}
        step.need(direction in ways and len(ways[direction]) == w.shape[0], "directions must be those of the weights",
                  direction=direction, w=w.shape)  # fmt: skip
        hidden = r.shape[-1]
        fits = hidden_size in (None, hidden) and r.shape[1] == len(_ORDER[op]) * hidden
        step.need(fits, "hidden_size must be that of the weights", hidden_size=hidden_size, r=r.shape)
        if layout:
            x = x.transpose(1, 0, 2)
            h, c = (None if state is None else state.transpose(1, 0, 2) for state in (h, c))
        named = list(activations or _DEFAULTS[op] * w.shape[0])
        each = len(_DEFAULTS[op])
        made = []
        for number_, reverse in enumerate(ways[direction]):
            own = named[each * number_ : each * (number_ + 1)]
            first = [None if state is None else state[number_] for state in ((h, c) if op == "LSTM" else (h,))]
            weights = w[number_], r[number_], None if b is None else b[number_]
            usual = own == _DEFAULTS[op] or (op == "RNN" and own == ["Relu"])
            if usual and not clip and lengths is None and p is None and not input_forget:
                made.append(_layer(op, x, first, *weights, own[0], bool(linear_before_reset), reverse))
            else:
                functions = _functions(step, own, list(activation_alpha), list(activation_beta), clip, each * number_)
                peepholes = None if p is None else p[number_]
                loop = _Loop(op, functions, peepholes, bool(input_forget), bool(linear_before_reset))
                made.append(loop(x, first, *weights, lengths, reverse))
        y = F.stack([result[0] for result in made], 1)
        last = [F.stack(states, 0) for states in zip(*(result[1:] for result in made), strict=True)]
        if layout:
            return [y.transpose(2, 0, 1, 3), *(state.transpose(1, 0, 2) for state in last)]
        return [y, *last]

    return operator


def _reordered(op: str, a: Tensor) -> Tensor:
    """The rows of a weight or bias in our order of the gates."""
    order = _ORDER[op]
    size = a.shape[0] // len(order)
    if len(order) == 1:
        return a
    return F.concatenate([a[place * size : (place + 1) * size] for place in order])


def _layer(
    op: str, x: Tensor, states: list[Any], w: Tensor, r: Tensor, b: Tensor | None, activation: str, reset_after: bool,
    reverse: bool,
) -> list[Tensor]:  # fmt: skip
    """All outputs (T, N, H) and the last of each state (N, H)."""
    rows = r.shape[0]
    b_ih, b_hh = (None, None) if b is None else (_reordered(op, b[:rows]), _reordered(op, b[rows:]))
    weights = _reordered(op, w), _reordered(op, r), b_ih, b_hh
    if op == "LSTM":
        zeros = wrapped(module_of(x).zeros((x.shape[1], r.shape[1]), x.dtype))
        h, c = (zeros if each is None else each for each in states)
        y, (h, c) = F.lstm(x, (h, c), *weights, None, reverse)
        return [y, h, c]
    if op == "GRU":
        return list(F.gru(x, states[0], *weights, reset_after, None, reverse))
    return list(F.rnn(x, states[0], *weights, activation.lower(), None, reverse))


def _functions(
    step: Step, names: list[str], alphas: list[float], betas: list[float], limit: float | None, first: int
) -> list[Callable[[Tensor], Tensor]]:
    """The activations of a direction, of which ``limit`` bounds what they are given."""
    unknown = [name for name in names if name not in _ACTIVATIONS]
    step.need(not unknown, "these activations are not known", activations=unknown)
    made: list[Callable[[Tensor], Tensor]] = []
    for place, name in enumerate(names, first):
        alpha, beta = _FACTORS.get(name, (1.0, 1.0) if name != "Affine" else (1.0, 0.0))
        alpha = alphas[place] if place < len(alphas) else alpha
        beta = betas[place] if place < len(betas) else beta
        made.append(partial(_bounded, _ACTIVATIONS[name], alpha, beta, limit))
    return made


def _bounded(function: Callable[..., Tensor], alpha: float, beta: float, limit: float | None, x: Tensor) -> Tensor:
    return function(x if limit is None else F.clip(x, -limit, limit), alpha, beta)


class _Loop:
    """A recurrent layer step by step, with any activations, peepholes, and sequences of different lengths."""

    def __init__(
        self, op: str, functions: list[Any], peepholes: Tensor | None, coupled: bool, reset_after: bool
    ) -> None:
        self.cell = {"RNN": self._rnn, "LSTM": self._lstm, "GRU": self._gru}[op]
        self.functions, self.peepholes, self.coupled, self.reset_after = functions, peepholes, coupled, reset_after

    def __call__(
        self, x: Tensor, states: list[Any], w: Tensor, r: Tensor, b: Tensor | None, lengths: Any, reverse: bool
    ) -> list[Tensor]:
        xp = module_of(x)
        steps, n = x.shape[:2]
        zeros = wrapped(xp.zeros((n, r.shape[1]), x.dtype))
        states = [zeros if state is None else state for state in states]
        rows = r.shape[0]
        both = (wrapped(xp.zeros(rows, x.dtype)),) * 2 if b is None else (b[:rows], b[rows:])
        counts = wrapped(xp.full(n, steps)) if lengths is None else lengths
        outputs: list[Any] = [None] * steps
        for t in range(steps - 1, -1, -1) if reverse else range(steps):
            new = self.cell(x[t] @ w.T + both[0], states, r, both[1])
            runs = (counts > t).reshape(-1, 1)
            states = [F.where(runs, after, before) for after, before in zip(new, states, strict=True)]
            outputs[t] = F.where(runs, states[0], 0.0)
        return [F.stack(outputs), *states]

    def _rnn(self, x: Tensor, states: list[Tensor], r: Tensor, b: Tensor) -> list[Tensor]:
        return [self.functions[0](x + states[0] @ r.T + b)]

    def _lstm(self, x: Tensor, states: list[Tensor], r: Tensor, b: Tensor) -> list[Tensor]:
        f, g, out = self.functions
        h, c = states
        size = h.shape[1]
        gates = x + h @ r.T + b
        i, o, forget, new = (gates[:, place * size : (place + 1) * size] for place in range(4))
        holes = (
            [self.peepholes[place * size : (place + 1) * size] for place in range(3)]
            if self.peepholes is not None
            else []
        )
        i = f(i + holes[0] * c if holes else i)
        forget = 1 - i if self.coupled else f(forget + holes[2] * c if holes else forget)
        c = forget * c + i * g(new)
        return [f(o + holes[1] * c if holes else o) * out(c), c]

    def _gru(self, x: Tensor, states: list[Tensor], r: Tensor, b: Tensor) -> list[Tensor]:
        f, g = self.functions
        h = states[0]
        size = h.shape[1]
        parts = [slice(place * size, (place + 1) * size) for place in range(3)]
        z, reset = (f(x[:, part] + h @ r[part].T + b[part]) for part in parts[:2])
        last = parts[2]
        if self.reset_after:
            new = g(x[:, last] + reset * (h @ r[last].T + b[last]))
        else:
            new = g(x[:, last] + (reset * h) @ r[last].T + b[last])
        return [(1 - z) * new + z * h]


# ---- losses ---------------------------------------------------------------------------------------------------------


def nll_loss(
    step: Step, x: Tensor, target: Tensor, weight: Any = None, ignore_index: int = -100, reduction: str = "mean"
) -> Tensor:
    return F.nll_loss(x, target, weight, ignore_index, reduction)  # type: ignore[arg-type]


def cross_entropy(
    step: Step, x: Tensor, target: Tensor, weight: Any = None, ignore_index: int = -100, reduction: str = "mean"
) -> Any:
    loss = F.cross_entropy(x, target, weight, ignore_index, reduction)  # type: ignore[arg-type]
    return [loss, F.log_softmax(x, 1)] if step.wants(1) else loss
