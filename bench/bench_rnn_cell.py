import peer
import pytest
from peer import torch

from gpunn import functional as F
from gpunn import tensor

SHAPES = {"small": (32, 28, 64), "middle": (64, 256, 256)}  # rows, inputs, hidden units
GATES = {"rnn": 1, "gru": 3, "lstm": 4}


def inputs_of(kind, name):
    n, size, hidden = SHAPES[name]
    rows = GATES[kind] * hidden
    return peer.arrays((n, size), (n, hidden), (n, hidden), (rows, size), (rows, hidden), (rows,), (rows,))


def counts(kind, name):
    n, size, hidden = SHAPES[name]
    rows, states = GATES[kind] * hidden, 4 if kind == "lstm" else 2
    moved = 4 * (n * size + states * n * hidden + rows * (size + hidden + 2))
    return {"moved": moved, "operations": 2 * n * rows * (size + hidden)}


def call(cell, kind, arrays):
    x, h, c, *rest = arrays
    return cell(x, (h, c), *rest)[0] if kind == "lstm" else cell(x, h, *rest)


def of_pytorch(kind):
    return {"rnn": torch.rnn_tanh_cell, "gru": torch.gru_cell, "lstm": torch.lstm_cell}[kind]


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("kind", GATES)
def bench_forward(bench, kind, name):
    ours, theirs = getattr(F, f"{kind}_cell"), of_pytorch(kind)
    bench.measure(
        f"{kind} cell forward", f"{name} {SHAPES[name]}", inputs_of(kind, name),
        lambda *arrays: lambda: call(ours, kind, arrays), lambda *arrays: lambda: call(theirs, kind, arrays),
        **counts(kind, name),
    )  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("kind", GATES)
def bench_both_ways(bench, kind, name):
    """Through the graph: the gradients of a cell are products of its own, and have no function to themselves."""

    def ours(*arrays):
        leaves = [tensor(a, requires_grad=True) for a in arrays]
        return lambda: call(getattr(F, f"{kind}_cell"), kind, leaves).sum().backward()

    def theirs(*arrays):
        leaves = [a.requires_grad_() for a in arrays]
        return lambda: call(of_pytorch(kind), kind, leaves).sum().backward()

    bench.measure(f"{kind} cell both ways", f"{name} {SHAPES[name]}", inputs_of(kind, name), ours, theirs)
