"""Recurrent nets, forward and backward: the pointwise part of a cell, and whole sequences through one layer.

    cell             LSTM and GRU, given what the matrix products gave          kernels/rnn_cell.cu
    reset_before     one step of the GRU that multiplies h by r before the product
    layer            one layer in one direction over the packed rows of a batch of sequences
    projected        the same for an LSTM whose h is smaller than its c

Each file has the formulas and the sources; :mod:`gpunn.ops.recurrent.rows` says how the rows of sequences lie. The ways
to compute a sequence are :mod:`gpunn.ops.recurrent.onednn` and :mod:`gpunn.ops.recurrent.steps`.
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
from gpunn.ops.recurrent.layer import sequence, sequence_backward
from gpunn.ops.recurrent.projected import parts, projected, projected_backward
from gpunn.ops.recurrent.rows import Inputs, Needs, Sizes, Weights

__all__ = [
    "Inputs",
    "Needs",
    "Sizes",
    "Weights",
    "gru_cell",
    "gru_cell_backward",
    "gru_reset",
    "gru_reset_backward",
    "gru_update",
    "gru_update_backward_n",
    "lstm_cell",
    "lstm_cell_backward",
    "parts",
    "projected",
    "projected_backward",
    "sequence",
    "sequence_backward",
]
