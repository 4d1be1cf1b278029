import pytest
from peer import torch

GATES = {"rnn": 1, "lstm": 4, "gru": 3}
STEPS, INPUTS, HIDDEN = 32, 64, 128
BATCH = (32, 256)


@pytest.mark.parametrize("kind", GATES)
def bench_training(bench, kind):
    """A layer over a sequence, from states of zeros."""
    n, rows = bench.batch(*BATCH), GATES[kind] * HIDDEN
    shapes = [(STEPS, n, INPUTS), (rows, INPUTS), (rows, HIDDEN), (rows,), (rows,)]

    def ours(F, x, *weights):
        return getattr(F, kind)(x, None, *weights)[0]

    def theirs(F, x, *weights):
        zeros = x.new_zeros(1, n, HIDDEN)
        state = (zeros, zeros) if kind == "lstm" else zeros
        function = torch.rnn_tanh if kind == "rnn" else getattr(torch, kind)
        return function(x, state, weights, True, 1, 0.0, True, False, False)[0]

    operations = 3 * 2 * STEPS * n * rows * (INPUTS + HIDDEN)
    bench.training(
        "recurrent", kind.upper(), shapes, (STEPS, n, HIDDEN), ours, theirs=theirs, operations=operations
    )  # fmt: skip
