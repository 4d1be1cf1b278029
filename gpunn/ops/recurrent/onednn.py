"""Sequences of one length of float32 by oneDNN, on the CPU: all steps in one call, all gradients in another.

Its gates lie as ours, but for the GRU's: z, r, n, with a fourth bias, that of h in n, where the reset comes after the
product. What forward leaves for backward, its workspace, is spent there; a second pass back computes it anew.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from gpunn import cuda
from gpunn.backend import Array
from gpunn.cpu import onednn
from gpunn.ops.recurrent.rows import Inputs, Needs

_LEFT_TO_RIGHT, _RIGHT_TO_LEFT = 1, 2
_TANH = 0x21
_LEAST_STEPS = 8
_NANOSECONDS = 0.02  # of a product and its sum, about
_OVERWRITE = 1  # gradients of weights are added to what is there otherwise
_X, _STATES, _W_IH, _W_HH, _B = 1, (2, 3), 33, 34, 41
_Y, _LAST, _WORKSPACE = 17, (18, 19), 64
_GRADIENT = 128  # of an argument: that much further on


class _Kind(NamedTuple):
    """A cell of oneDNN: the name of its primitives; for each of our gates its place among oneDNN's, which is the same
    the other way round, and that of its bias of h among the biases; how many states it has, and its activation."""

    name: str
    places: tuple[int, ...]
    bias_places: tuple[int, ...]
    states: int = 1
    activation: tuple[int, ...] = ()

    @property
    def biases(self) -> int:
        """How many biases, of ``hidden`` numbers each."""
        return 1 + max(self.bias_places)


_KINDS = {
    "tanh": _Kind("vanilla_rnn", (0,), (0,), activation=(_TANH,)),
    "lstm": _Kind("lstm", (0, 1, 2, 3), (0, 1, 2, 3), states=2),
    "gru": _Kind("lbr_gru", (1, 0, 2), (1, 0, 3)),
    "gru before": _Kind("gru", (1, 0, 2), (1, 0, 2)),
}


def takes(inputs: Inputs) -> bool:
    """True for float32 on the CPU where the library is, unless kernels are emulated, and sequences of one length.

    Its relu makes 0 of NaN, so that cell is left out; a short loop of the plain one is faster step by step.
    """
    sizes, kind = inputs.sizes, _KINDS.get(inputs.cell)
    if kind is None or not sizes.of_one_length or 0 in inputs.states[0].shape or cuda.takes(inputs.x):
        return False
    pays = kind.name != "vanilla_rnn" or len(sizes.batch_sizes) >= _LEAST_STEPS
    if not onednn.takes(inputs.x, pays):
        return False
    return all(onednn.job(_work(inputs), make, *_settings(inputs)) is not None for make in (_forward, _backward))


class _Saved(NamedTuple):
    """The arrays that forward took, and its workspace until backward spends it."""

    given: list[Array]
    workspace: list[Array]


def forward(inputs: Inputs) -> tuple[Array, _Saved]:
    """The outputs and last states, and what backward wants back."""
    given = _arrays(inputs)
    out, workspace = _run_forward(inputs, given)
    return out, _Saved(given, [workspace])


def backward(inputs: Inputs, gout: Array, out: Array, saved: _Saved, needs: Needs) -> list[Array | None]:
    """The gradients of x, the states and the weights."""
    given, kind = saved.given, _KINDS[inputs.cell]
    try:
        workspace = saved.workspace.pop()
    except IndexError:
        _, workspace = _run_forward(inputs, given)
    results = [np.empty(a.shape, a.dtype) for a in given]
    ends = *_parts(inputs, out), *_parts(inputs, np.ascontiguousarray(gout))
    _job(_backward, inputs)(*given, *ends, *results, workspace)
    gx, *gstates, gw_ih, gw_hh, gb = results
    of_weights = [_ordered(kind, g) for g in (gw_ih, gw_hh)]
    of_biases = [_gates(gb, out.shape[1], places) for places in (kind.places, kind.bias_places)]
    gradients = [gx, *gstates, *of_weights, *of_biases]
    return [g if needed else None for g, needed in zip(gradients, needs, strict=True)]


# ---- arrays ---------------------------------------------------------------------------------------------------------


def _arrays(inputs: Inputs) -> list[Array]:
    """x (S, in), the states (N, H), the weights (gates H, in) and (gates H, H), and the bias, as oneDNN has them."""
    kind, weights, hidden = _KINDS[inputs.cell], inputs.weights, inputs.states[0].shape[1]
    bias = np.zeros(kind.biases * hidden, inputs.x.dtype)
    for b, places in ((weights.b_ih, kind.places), (weights.b_hh, kind.bias_places)):
        if b is not None:
            bias.reshape(-1, hidden)[list(places)] += b.reshape(-1, hidden)
    of_weights = [_ordered(kind, w) for w in (weights.w_ih, weights.w_hh)]
    return [*map(np.ascontiguousarray, (inputs.x, *inputs.states, *of_weights)), bias]


def _ordered(kind: _Kind, weights: Array) -> Array:
    """The weights of all gates (gates H, in) in oneDNN's order, or from that in ours: both times the same exchange."""
    gates = len(kind.places)
    return weights if kind.places == tuple(range(gates)) else _gates(weights, len(weights) // gates, kind.places)


def _gates(a: Array, hidden: int, places: tuple[int, ...]) -> Array:
    """The gates at these places of an array that has ``hidden`` rows for each."""
    y = np.empty((len(places) * hidden, *a.shape[1:]), a.dtype)
    np.take(a.reshape(-1, hidden, *a.shape[1:]), places, 0, y.reshape(-1, hidden, *a.shape[1:]), "clip")
    return y


def _parts(inputs: Inputs, out: Array) -> list[Array]:
    """The outputs of all rows, and the last of each state, in one array."""
    count, n = len(inputs.x), len(inputs.states[0])
    return [out[:count], *(out[count + k * n :][:n] for k in range(len(inputs.states)))]


# ---- jobs -----------------------------------------------------------------------------------------------------------


def _run_forward(inputs: Inputs, given: list[Array]) -> tuple[Array, Array]:
    job, (n, hidden) = _job(_forward, inputs), inputs.states[0].shape
    out = np.empty((len(inputs.x) + len(inputs.states) * n, hidden), inputs.x.dtype)
    workspace = np.empty(job.bytes_of(_WORKSPACE), np.uint8)
    job(*given, *_parts(inputs, out), workspace)
    return out, workspace


def _job(make: Any, inputs: Inputs) -> onednn.Job:
    job = onednn.job(_work(inputs), make, *_settings(inputs))
    assert job is not None
    return job


def _work(inputs: Inputs) -> float:
    weights = inputs.weights
    products = len(inputs.x) * int(weights.w_ih.size + weights.w_hh.size)
    return products * _NANOSECONDS


def _settings(inputs: Inputs) -> tuple[Any, ...]:
    n, hidden = inputs.states[0].shape
    sizes = inputs.sizes
    return inputs.cell, len(sizes.batch_sizes), n, inputs.x.shape[1], hidden, sizes.reverse


class _Problem:
    """What the two passes share: the settings, and the layouts of what forward takes and gives."""

    def __init__(self, cell: str, steps: int, n: int, size: int, hidden: int, reverse: bool) -> None:
        self.kind, layout = _KINDS[cell], onednn.Layout
        gates = len(self.kind.places)
        state = layout((1, 1, n, hidden))
        self.states = [state] * self.kind.states
        self.x, self.y = layout((steps, n, size)), layout((steps, n, hidden))
        self.bias = layout((1, 1, self.kind.biases, hidden))
        shapes = [(1, 1, inputs, gates, hidden) for inputs in (size, hidden)]
        self.weights = [layout(s, strides=(s[2] * gates * hidden,) * 2 + (1, hidden * s[2], s[2])) for s in shapes]
        free = [layout(s, free=True) for s in shapes]
        none = [None, None] if cell == "lstm" else []  # neither peepholes nor a projection
        self.free = [self.x, *self.states, *free, *none, self.bias, self.y, *self.states]
        self.how = *self.kind.activation, _RIGHT_TO_LEFT if reverse else _LEFT_TO_RIGHT
        self.slope = (0.0, 0.0) if self.kind.activation else ()

    def forward(self) -> onednn.Description:
        name = f"{self.kind.name}_forward"
        return onednn.Description(name, onednn.FORWARD, *self.how, *self.free, 0, *self.slope)

    def backward(self) -> onednn.Description:
        name, hint = f"{self.kind.name}_backward", self.forward()
        settings = onednn.BACKWARD, *self.how, *self.free, *self.free, _OVERWRITE, *self.slope
        return onednn.Description(name, *settings, hint)

    def given(self, gradients: bool = False) -> list[onednn.Argument]:
        """What forward takes, or the gradients of it."""
        numbers = _X, *_STATES[: self.kind.states], _W_IH, _W_HH, _B
        return _arguments(numbers, [self.x, *self.states, *self.weights, self.bias], gradients, gradients)

    def ends(self, gradients: bool = False, written: bool = False) -> list[onednn.Argument]:
        """What forward gives, or the gradients of it."""
        return _arguments((_Y, *_LAST[: self.kind.states]), [self.y, *self.states], gradients, written)


def _arguments(
    numbers: tuple[int, ...], layouts: list[onednn.Layout], gradients: bool, written: bool
) -> list[onednn.Argument]:
    shift = _GRADIENT if gradients else 0
    return [(n + shift, layout, written) for n, layout in zip(numbers, layouts, strict=True)]


def _forward(*settings: Any) -> onednn.Job:
    problem = _Problem(*settings)
    return onednn.Job(problem.forward(), [*problem.given(), *problem.ends(written=True), (_WORKSPACE, None, True)])


def _backward(*settings: Any) -> onednn.Job:
    problem = _Problem(*settings)
    given = *problem.given(), *problem.ends(), *problem.ends(gradients=True), *problem.given(gradients=True)
    return onednn.Job(problem.backward(), [*given, (_WORKSPACE, None, False)])
