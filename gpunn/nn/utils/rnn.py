"""Sequences of different lengths, by the names of PyTorch's ``nn.utils.rnn``; see :mod:`gpunn.nn.recurrent`.

>>> import gpunn
>>> from gpunn.nn.utils.rnn import pad_sequence
>>> pad_sequence([gpunn.tensor([1.0]), gpunn.tensor([2.0, 3.0])], batch_first=True).data.tolist()
[[1.0, 0.0], [2.0, 3.0]]
"""

from gpunn.nn.recurrent import PackedSequence, pack_padded_sequence, pack_sequence, pad_packed_sequence, pad_sequence

__all__ = ["PackedSequence", "pack_padded_sequence", "pack_sequence", "pad_packed_sequence", "pad_sequence"]
