import numpy as np

from gpunn.ops import recurrent as ops


def run():
    """Every kernel of ops.cu, with 16-byte accesses and without, on more than a block."""
    rng = np.random.default_rng(0)
    for n, hidden in ((7, 80), (23, 7)):
        four, three, other, two, c, gy, gq = (
            rng.standard_normal((n, k * hidden)).astype(np.float32) for k in (4, 3, 3, 2, 1, 1, 1)
        )
        yield ops.lstm_cell(four, c)
        yield from ops.lstm_cell_backward(np.stack([gy, gq]), four, c)
        yield ops.gru_cell(three, other, c)
        yield from ops.gru_cell_backward(gy, three, other, c)
        yield ops.gru_reset(two, c)
        yield ops.gru_update(two, gq, c)
        yield ops.gru_update_backward_n(gy, two, gq)
        yield from ops.gru_reset_backward(gy, gq, two, c, c)
