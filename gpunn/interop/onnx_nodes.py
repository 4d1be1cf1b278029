"""Each function of gpunn in ONNX: a table from its name to what adds its nodes to a graph.

A translation takes the graph and the function's arguments by name (``x`` for the tensor of a method) and returns the
name of the result, or a list of names. Arrays come as :class:`gpunn.interop.trace.Value`, with the shapes of the run;
sizes may be taken from there but for axes that grow with the number of examples.

Source: https://onnx.ai/onnx/operators/
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from gpunn.interop import onnx_arrays as arrays
from gpunn.interop import onnx_layers as layers
from gpunn.interop.onnx_activations import ACTIVATIONS
from gpunn.interop.onnx_elementary import ELEMENTARY
from gpunn.interop.onnx_graph import Name
from gpunn.interop.onnx_images import IMAGES
from gpunn.interop.onnx_losses import LOSSES
from gpunn.interop.onnx_moves import MOVES
from gpunn.ops.activation.smooth import SELU_ALPHA, SELU_SCALE

Result = Name | list[Name]

_UNARY: dict[str, dict[str, Any]] = {
    "relu": {"op": "Relu"},
    "sigmoid": {"op": "Sigmoid"},
    "tanh": {"op": "Tanh"},
    "hardsigmoid": {"op": "HardSigmoid", "alpha": 1 / 6, "beta": 0.5},
    "selu": {"op": "Selu", "alpha": SELU_ALPHA, "gamma": SELU_SCALE},
    "exp": {"op": "Exp"},
    "log": {"op": "Log"},
    "sqrt": {"op": "Sqrt"},
    "abs": {"op": "Abs"},
    "Tensor.__abs__": {"op": "Abs"},
    "Tensor.__neg__": {"op": "Neg"},
}
_BINARY = {
    "add": "Add", "mul": "Mul", "sub": "Sub", "eq": "Equal", "lt": "Less", "le": "LessOrEqual", "gt": "Greater",
    "ge": "GreaterOrEqual", "and": "And", "or": "Or", "xor": "Xor", "matmul": "MatMul",
}  # fmt: skip
_REDUCE = {"sum": "ReduceSum", "mean": "ReduceMean", "prod": "ReduceProd", "max": "ReduceMax", "min": "ReduceMin"}

TRANSLATIONS: dict[str, Callable[..., Result]] = {
    **{name: partial(arrays.unary, **how) for name, how in _UNARY.items()},
    **{f"Tensor.__{name}__": partial(arrays.binary, op=op) for name, op in _BINARY.items()},
    **{f"Tensor.{name}": partial(arrays.reduce, op=op) for name, op in _REDUCE.items()},
    **{f"conv{rank}d": layers.conv for rank in (1, 2, 3)},
    **{f"conv_transpose{rank}d": layers.conv_transpose for rank in (1, 2, 3)},
    **{f"max_pool{rank}d": layers.max_pool for rank in (1, 2, 3)},
    **{f"avg_pool{rank}d": layers.avg_pool for rank in (1, 2, 3)},
    **{f"adaptive_avg_pool{rank}d": partial(layers.adaptive_pool, reduce="ReduceMean") for rank in (1, 2, 3)},
    **{f"adaptive_max_pool{rank}d": partial(layers.adaptive_pool, reduce="ReduceMax") for rank in (1, 2, 3)},
    **{f"global_avg_pool{rank}d": partial(layers.global_pool, op="GlobalAveragePool") for rank in (1, 2, 3)},
    **{f"global_max_pool{rank}d": partial(layers.global_pool, op="GlobalMaxPool") for rank in (1, 2, 3)},
    **ACTIVATIONS,
    **ELEMENTARY,
    **IMAGES,
    **LOSSES,
    **MOVES,
    "Tensor.__getitem__": arrays.getitem,
    "Tensor.__invert__": arrays.invert,
    "Tensor.__ne__": arrays.unequal,
    "Tensor.__pow__": arrays.power,
    "Tensor.__rmatmul__": partial(arrays.matmul, swapped=True),
    "Tensor.__rpow__": arrays.reversed_power,
    "Tensor.__rsub__": partial(arrays.binary, op="Sub", swapped=True),
    "Tensor.__rtruediv__": partial(arrays.divide, swapped=True),
    "Tensor.__truediv__": arrays.divide,
    "Tensor.all": partial(arrays.truth, op="ReduceMin"),
    "Tensor.any": partial(arrays.truth, op="ReduceMax"),
    "Tensor.argmax": partial(arrays.extreme_index, op="ArgMax"),
    "Tensor.argmin": partial(arrays.extreme_index, op="ArgMin"),
    "Tensor.astype": arrays.astype,
    "Tensor.clip": arrays.clip,
    "Tensor.copy": arrays.same,
    "Tensor.cumsum": arrays.cumsum,
    "Tensor.repeat": arrays.repeat,
    "Tensor.reshape": arrays.reshape,
    "Tensor.std": arrays.deviation,
    "Tensor.swapaxes": arrays.swapaxes,
    "Tensor.take": arrays.take,
    "Tensor.transpose": arrays.transpose,
    "Tensor.var": arrays.variance,
    "batch_norm": layers.batch_norm,
    "bias_relu_lrn_pool": partial(layers.block, pool_first=False),
    "bias_relu_pool_lrn": partial(layers.block, pool_first=True),
    "bilinear": layers.bilinear,
    "clip": arrays.clip,
    "concatenate": arrays.concatenate,
    "cosine_similarity": arrays.cosine_similarity,
    "einsum": arrays.einsum,
    "elu": arrays.elu,
    "embedding": layers.embedding,
    "embedding_bag": layers.embedding_bag,
    "gelu": arrays.gelu,
    "group_norm": layers.group_norm,
    "gru": layers.gru,
    "gru_cell": layers.gru_cell,
    "instance_norm": layers.instance_norm,
    "layer_norm": layers.layer_norm,
    "leaky_relu": arrays.leaky_relu,
    "linear": layers.linear,
    "local_response_norm": layers.lrn,
    "log_softmax": partial(arrays.softmax, op="LogSoftmax"),
    "logsumexp": partial(arrays.reduce, op="ReduceLogSumExp"),
    "lstm": layers.lstm,
    "lstm_cell": layers.lstm_cell,
    "matmul": partial(arrays.two, op="MatMul"),
    "maximum": partial(arrays.two, op="Max"),
    "minimum": partial(arrays.two, op="Min"),
    "one_hot": arrays.one_hot,
    "pad": arrays.pad,
    "rnn": layers.rnn,
    "silu": arrays.silu,
    "softmax": partial(arrays.softmax, op="Softmax"),
    "softplus": arrays.softplus,
    "stack": arrays.stack,
    "to_device": arrays.same,
    "where": arrays.where,
}
