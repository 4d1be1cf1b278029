"""The calls of ``cupy.cudnn``, which CuPy had up to version 13: the same names, arguments and results, without cuDNN.

Code that was written for it changes one line::

    from cupy import cudnn          # up to CuPy 13; also: from cupyx import cudnn
    from gpunn.interop import cudnn

Arrays are CuPy's or NumPy's, of float16 (summed in float32), float32 or float64; outputs are written in place where
they were. The numbers ``CUDNN_...`` that ``cupy.cuda.cudnn`` had are here, too. What only tunes cuDNN (``auto_tune``,
``tensor_core``, ``deterministic``, the workspace) is taken and changes nothing: every result is the same in every run.
``gpunn/guide/cudnn.md`` says what is computed otherwise, and what is not there.
"""

from typing import NoReturn

from gpunn.interop.cudnn import constants
from gpunn.interop.cudnn.constants import *  # noqa: F403
from gpunn.interop.cudnn.convolution import convolution_backward_data, convolution_backward_filter, convolution_forward
from gpunn.interop.cudnn.dropout import DropoutStates
from gpunn.interop.cudnn.normalization import (
    batch_normalization_backward,
    batch_normalization_forward_inference,
    batch_normalization_forward_training,
    batch_normalization_forward_training_ex,
)
from gpunn.interop.cudnn.padded import (
    rnn_backward_data_ex,
    rnn_backward_weights_ex,
    rnn_forward_inference_ex,
    rnn_forward_training_ex,
)
from gpunn.interop.cudnn.pointwise import activation_backward, activation_forward, softmax_backward, softmax_forward
from gpunn.interop.cudnn.pooling import pooling_backward, pooling_forward
from gpunn.interop.cudnn.recurrent import (
    rnn_backward_data,
    rnn_backward_weights,
    rnn_forward_inference,
    rnn_forward_training,
)
from gpunn.interop.cudnn.settings import get_handle, get_max_workspace_size, set_max_workspace_size

__all__ = [
    "DropoutStates",
    "activation_backward",
    "activation_forward",
    "batch_normalization_backward",
    "batch_normalization_forward_inference",
    "batch_normalization_forward_training",
    "batch_normalization_forward_training_ex",
    "convolution_backward_data",
    "convolution_backward_filter",
    "convolution_forward",
    "get_handle",
    "get_max_workspace_size",
    "pooling_backward",
    "pooling_forward",
    "rnn_backward_data",
    "rnn_backward_data_ex",
    "rnn_backward_weights",
    "rnn_backward_weights_ex",
    "rnn_forward_inference",
    "rnn_forward_inference_ex",
    "rnn_forward_training",
    "rnn_forward_training_ex",
    "set_max_workspace_size",
    "softmax_backward",
    "softmax_forward",
    *(name for name in vars(constants) if name.startswith("CUDNN_")),
]


def __getattr__(name: str) -> NoReturn:
    raise AttributeError(f"gpunn.interop.cudnn has no {name!r}: gpunn/guide/cudnn.md says what of cupy.cudnn is here")
