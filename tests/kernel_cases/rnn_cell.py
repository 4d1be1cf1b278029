import numpy as np

from gpunn.ops import rnn_cell


def run():
    """Every kernel of rnn_cell.cu, with 16-byte accesses and without, on more than a block."""
    rng = np.random.default_rng(0)
    for n, hidden in ((7, 80), (23, 7)):
        four, three, other, two, c, gy, gq = (
            rng.standard_normal((n, k * hidden)).astype(np.float32) for k in (4, 3, 3, 2, 1, 1, 1)
        )
        yield rnn_cell.lstm_cell(four, c)
        yield from rnn_cell.lstm_cell_backward(np.stack([gy, gq]), four, c)
        yield rnn_cell.gru_cell(three, other, c)
        yield from rnn_cell.gru_cell_backward(gy, three, other, c)
        yield rnn_cell.gru_reset(two, c)
        yield rnn_cell.gru_update(two, gq, c)
        yield rnn_cell.gru_update_backward_n(gy, two, gq)
        yield from rnn_cell.gru_reset_backward(gy, gq, two, c, c)
