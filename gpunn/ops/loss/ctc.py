"""Connectionist temporal classification: the probability of a sequence of labels over all its alignments.

    loss = -log sum_paths prod_t p[t, path[t]]

A path gives one of C classes to each step; without repetitions and then without blanks it is the target. With l the
target with a blank before, between and after its labels, and L = 2 S + 1 of those, in logarithms::

    a[t, s] = log p[t, l[s]] + log(exp(a[t-1, s]) + exp(a[t-1, s-1]) + exp(a[t-1, s-2]) [l[s] not blank, nor l[s-2]])
    b[t, s] = log(exp(q[s]) + exp(q[s+1]) + exp(q[s+2]) [l[s+2] not blank, nor l[s]])
    q[s] = b[t+1, s] + log p[t+1, l[s]]
    gradient[t, c] = p[t, c] - sum_{s: l[s] = c} exp(a[t, s] + b[t, s] + loss)

That is the gradient for a log p that is a log_softmax, which has to add up to 1: what changes the sum of p is not in
it, and log_softmax would remove it. The steps are taken one after the other, the examples of the batch and the labels
together. float16 is computed in float32. Source: Graves et al. 2006, "Connectionist temporal classification: labelling
unsegmented sequence data with recurrent neural networks".
"""

from __future__ import annotations

from numbers import Integral
from typing import Any, NamedTuple

import numpy as np

from gpunn import cuda
from gpunn.backend import Array, accumulation_dtype, check_array, device_of, is_array, operands, to_cpu
from gpunn.errors import ArgumentError, DeviceError, DtypeError, ShapeError, check, fail
from gpunn.ops.loss.reduction import Reduction, check_reduction, reduce, reduce_backward
from gpunn.ops.shared.checks import check_shape


class Kept(NamedTuple):
    """What the gradient needs of the forward pass: the classes of the states (N, L), into which of them a step may skip
    another, log p of them (T, N, L), the sums a (T, N, L), the losses (N,), and the lengths of inputs and targets."""

    states: Array
    skips: Array
    emitted: Array
    sums: Array
    losses: Array
    steps: Array
    labels: Array


def ctc_loss(
    log_probs: Array,
    targets: Array,
    input_lengths: Any,
    target_lengths: Any,
    blank: int = 0,
    reduction: Reduction = "mean",
    zero_infinity: bool = False,
) -> Array:
    """The loss of ``targets`` (N, S), or (the sum of their lengths,), under ``log_probs`` (T, N, C).

    Of each example the first ``input_lengths`` steps and the first ``target_lengths`` labels count; both are N
    integers. A single example is (T, C) and (S,). ``"mean"`` divides each loss by the length of its target first. A
    target that is too long for its input has an infinite loss, or with ``zero_infinity`` none.

    >>> p = np.array([[[0.5, 0.5]], [[0.25, 0.75]]])
    >>> loss = ctc_loss(np.log(p), np.array([[1]]), [2], [1])  # the paths 11, 01 and 10
    >>> round(float(np.exp(-loss)), 4)
    0.875
    """
    args = log_probs, targets, input_lengths, target_lengths, blank, reduction, zero_infinity
    return ctc_loss_kept(*args)[0]


def ctc_loss_kept(
    log_probs: Array,
    targets: Array,
    input_lengths: Any,
    target_lengths: Any,
    blank: int = 0,
    reduction: Reduction = "mean",
    zero_infinity: bool = False,
) -> tuple[Array, Kept]:
    """The loss, and what :func:`ctc_loss_backward` needs."""
    op = "ctc_loss"
    xp, wide, places, (steps, labels) = _checked(op, log_probs, targets, input_lengths, target_lengths, reduction)
    states = _states(op, xp, wide, targets, places, labels, blank)
    skips = xp.zeros(states.shape, bool)
    skips[:, 3::2] = states[:, 3::2] != states[:, 1:-2:2]
    emitted = xp.take_along_axis(wide, states[None], 2)
    sums = _forward(xp, emitted, skips)
    steps, labels = xp.asarray(steps), xp.asarray(labels)
    losses = _losses(xp, sums, steps, labels)
    shown = xp.where(losses == np.inf, 0, losses) if zero_infinity else losses
    if reduction == "mean":
        shown = shown / xp.maximum(labels, 1).astype(wide.dtype)
    y = reduce(xp, shown if log_probs.ndim == 3 else shown[0], reduction, log_probs.dtype)
    return y, Kept(states, skips, emitted, sums, losses, steps, labels)


def ctc_loss_backward(
    gy: Array, log_probs: Array, kept: Kept, reduction: Reduction = "mean", zero_infinity: bool = False
) -> Array:
    """The gradient with respect to log_probs."""
    op = "ctc_loss_backward"
    xp = operands(op, gy=gy, log_probs=log_probs)
    batched, count = log_probs.ndim == 3, len(kept.losses)
    slope = reduce_backward(op, gy, (count,) if batched else (), reduction, count)
    if reduction == "mean":
        slope = slope / xp.maximum(kept.labels, 1).astype(slope.dtype)
    slope = xp.broadcast_to(slope, (count,))[:, None]
    wide = log_probs.reshape(len(log_probs), count, -1).astype(slope.dtype, copy=False)
    with np.errstate(invalid="ignore", over="ignore"):  # infinite losses
        shares = xp.exp(kept.sums + _backward(xp, kept) + kept.losses[:, None])
        classes = (kept.states[:, :, None] == xp.arange(wide.shape[2])).astype(wide.dtype)
        gx = xp.exp(wide) - xp.matmul(shares.transpose(1, 0, 2), classes).transpose(1, 0, 2)
        gx *= slope
    unused = xp.arange(len(wide))[:, None] >= kept.steps
    if zero_infinity:
        unused = unused | (kept.losses == np.inf)
    return xp.where(unused[:, :, None], 0, gx).reshape(log_probs.shape).astype(log_probs.dtype, copy=False)


def _forward(xp: Any, emitted: Array, skips: Array) -> Array:
    """The sums a (T, N, L) over the beginnings of paths that end in a state."""
    steps, count, length = emitted.shape
    sums = xp.empty(emitted.shape, emitted.dtype)
    sums[0] = -np.inf
    sums[0, :, :2] = emitted[0, :, :2]
    before = xp.full((count, length + 2), -np.inf, emitted.dtype)  # two states more, from which nothing comes
    with np.errstate(divide="ignore"):
        for t in range(1, steps):
            before[:, 2:] = sums[t - 1]
            skipped = xp.where(skips, before[:, :-2], -np.inf)
            sums[t] = _log_sum(xp, before[:, 2:], before[:, 1:-1], skipped) + emitted[t]
    return sums


def _backward(xp: Any, kept: Kept) -> Array:
    """The sums b (T, N, L) over the ends of paths after a state."""
    steps, count, length = kept.emitted.shape
    sums = xp.empty(kept.emitted.shape, kept.emitted.dtype)
    state = xp.arange(length)
    last = 2 * kept.labels[:, None]
    ends = xp.where((state == last) | (state == last - 1), 0, -np.inf).astype(sums.dtype)
    into = xp.zeros((count, length), bool)
    into[:, :-2] = kept.skips[:, 2:]
    after = xp.full((count, length + 2), -np.inf, sums.dtype)
    with np.errstate(divide="ignore"):
        for t in range(steps - 1, -1, -1):
            here = _log_sum(xp, after[:, :-2], after[:, 1:-1], xp.where(into, after[:, 2:], -np.inf))
            left = (kept.steps - 1 - t)[:, None]
            sums[t] = xp.where(left > 0, here, xp.where(left == 0, ends, -np.inf))
            after[:, :-2] = sums[t] + kept.emitted[t]
    return sums


def _log_sum(xp: Any, a: Array, b: Array, c: Array) -> Array:
    """``log(exp(a) + exp(b) + exp(c))``."""
    top = xp.maximum(xp.maximum(a, b), c)
    top = xp.where(top == -np.inf, 0, top)
    return xp.log(xp.exp(a - top) + xp.exp(b - top) + xp.exp(c - top)) + top


def _losses(xp: Any, sums: Array, steps: Array, labels: Array) -> Array:
    """The loss of each example: of the paths that end in the last label, or the blank after it, at its last step."""
    each, last = xp.arange(len(steps)), xp.maximum(steps - 1, 0)
    blank = sums[last, each, 2 * labels]
    label = xp.where(labels > 0, sums[last, each, xp.maximum(2 * labels - 1, 0)], -np.inf)
    with np.errstate(divide="ignore"):
        total = _log_sum(xp, blank, label, xp.full_like(blank, -np.inf))
    return -xp.where(steps > 0, total, xp.where(labels > 0, -np.inf, 0).astype(total.dtype))


def _states(op: str, xp: Any, wide: Array, targets: Array, places: Array | None, labels: Any, blank: int) -> Array:
    """The classes of the states (N, L): the labels of each example, blanks around them, and behind its last."""
    classes = wide.shape[2]
    inside = isinstance(blank, Integral) and 0 <= blank < classes
    check(inside, ArgumentError, op, f"blank must lie in 0 to {classes - 1}", blank=blank)
    longest = int(labels.max(initial=0))
    used = xp.asarray(np.arange(longest) < labels[:, None])
    given = targets[:, :longest] if places is None else targets[xp.asarray(places)]
    wrong = used & ((given < 0) | (given >= classes) | (given == blank))
    if wrong.any():
        first = int(given[wrong][0])
        check(False, ArgumentError, op, f"targets must lie in 0 to {classes - 1} and not be blank", target=first)
    states = xp.full((len(labels), 2 * longest + 1), blank, np.int64)
    states[:, 1::2] = xp.where(used, given, blank)
    return states


def _checked(
    op: str, log_probs: Array, targets: Array, input_lengths: Any, target_lengths: Any, reduction: str
) -> tuple[Any, Array, Array | None, tuple[Any, Any]]:
    """The array module, log_probs (T, N, C) wide, where the labels of concatenated targets are, and the lengths."""
    xp = operands(op, log_probs=log_probs)
    check_reduction(op, reduction)
    cuda.refuse_capture(op, "lengths are read on the CPU")
    rule = "log_probs must have the dimensions (T, N, C) or (T, C)"
    check(log_probs.ndim in (2, 3), ShapeError, op, rule, shape=log_probs.shape)
    wide = log_probs.astype(accumulation_dtype(log_probs.dtype), copy=False)
    wide = wide if log_probs.ndim == 3 else wide[:, None]
    steps, count, _ = wide.shape
    check(0 not in (steps, wide.shape[2]), ShapeError, op, "log_probs must not be empty", shape=log_probs.shape)
    check_array(op, targets=targets)
    if targets.dtype.kind not in "iu":
        fail(DtypeError, op, "targets must hold integer classes", dtype=str(targets.dtype))
    here, there = device_of(log_probs), device_of(targets)
    check(here == there, DeviceError, op, "log_probs and targets must be on one device", log_probs=here, targets=there)
    inputs = _lengths(op, "input_lengths", input_lengths, count, steps)
    if targets.ndim == 1:
        total = int(targets.size)
        labels = _lengths(op, "target_lengths", target_lengths, count, total)
        rule = "target_lengths must add up to the size of concatenated targets"
        check(labels.sum() == total, ShapeError, op, rule, targets=targets.shape, total=int(labels.sum()))
        starts = np.cumsum(labels) - labels
        places = starts[:, None] + np.arange(labels.max(initial=0))
        return xp, wide, np.minimum(places, max(0, total - 1)), (inputs, labels)
    check_shape(op, "targets", targets, (count, *targets.shape[1:2]))
    return xp, wide, None, (inputs, _lengths(op, "target_lengths", target_lengths, count, targets.shape[1]))


def _lengths(op: str, name: str, given: Any, count: int, most: int) -> Any:
    """``given`` as NumPy's array of ``count`` integers from 0 to ``most``."""
    lengths = np.asarray(to_cpu(given) if is_array(given) else given).reshape(-1)
    integers = lengths.dtype.kind in "iu" or lengths.size == 0
    rule = f"{name} must be integers, one for each of {count} examples"
    check(integers and lengths.size == count, ArgumentError, op, rule, **{name: given})
    inside = bool(((lengths >= 0) & (lengths <= most)).all())
    check(inside, ArgumentError, op, f"{name} must lie in 0 to {most}", **{name: lengths.tolist()})
    return lengths.astype(np.int64)
