import peer
import pytest

from gpunn import functional as F
from gpunn import tensor

SHAPES = {"small": (32, 28, 64), "middle": (64, 256, 256)}  # rows, inputs, hidden units
GATES = {"rnn": 1, "gru": 3, "lstm": 4}


@pytest.mark.parametrize("side", peer.SIDES)
@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("kind", GATES)
@pytest.mark.parametrize("backward", [False, True], ids=["forward", "both ways"])
def bench_rnn_cell(benchmark, kind, name, backward, side):
    torch = pytest.importorskip("torch")
    n, size, hidden = SHAPES[name]
    rows = GATES[kind] * hidden
    arrays = peer.arrays((n, size), (n, hidden), (n, hidden), (rows, size), (rows, hidden), (rows,), (rows,))
    cells = {"rnn": torch.rnn_tanh_cell, "gru": torch.gru_cell, "lstm": torch.lstm_cell}

    def run(cell, leaves):
        x, h, c, *rest = leaves
        y = cell(x, (h, c), *rest)[0] if kind == "lstm" else cell(x, h, *rest)
        if backward:
            y.sum().backward()

    ours = [tensor(a, requires_grad=backward) for a in arrays]
    theirs = [t.requires_grad_(backward) for t in peer.tensors(*arrays)]
    sides = {"gpunn": lambda: run(getattr(F, f"{kind}_cell"), ours), "pytorch": lambda: run(cells[kind], theirs)}
    peer.measure(benchmark, side, f"{kind} cell {'both ways' if backward else 'forward'}", name, sides)
