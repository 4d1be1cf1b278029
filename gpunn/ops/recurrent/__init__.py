"""Recurrent nets, forward and backward: the pointwise part of a cell, and whole sequences through one layer.

    cell             LSTM and GRU, given what the matrix products gave          kernels/rnn_cell.cu
    sequence         rnn, lstm, gru over the packed rows of a batch of sequences
    reset_before     the GRU that multiplies h by r before the product, one step and a whole sequence
    inputs           the gradients of what a sequence was computed from, given those of its gates

Each file has the formulas and the sources; :mod:`gpunn.ops.recurrent.rows` says how the rows of sequences lie.
"""

from gpunn.ops.recurrent.cell import (
    gru_cell,
    gru_cell_backward,
    gru_reset,
    gru_reset_backward,
    gru_update,
    gru_update_backward_n,
    lstm_cell,
    lstm_cell_backward,
)
from gpunn.ops.recurrent.inputs import input_gradients
from gpunn.ops.recurrent.sequence import gru, gru_backward, lstm, lstm_backward, rnn, rnn_backward

__all__ = [
    "gru",
    "gru_backward",
    "gru_cell",
    "gru_cell_backward",
    "gru_reset",
    "gru_reset_backward",
    "gru_update",
    "gru_update_backward_n",
    "input_gradients",
    "lstm",
    "lstm_backward",
    "lstm_cell",
    "lstm_cell_backward",
    "rnn",
    "rnn_backward",
]
