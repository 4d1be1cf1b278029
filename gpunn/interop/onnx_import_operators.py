"""Each ONNX operator in functions of gpunn: a table from its name to what computes it.

An operator takes the :class:`~gpunn.interop.onnx_import_step.Step`, which knows its version, and its inputs in order,
Tensors on one device, or None where the node goes without; then its attributes by their names. What was an attribute in
one version and is an input in another has one name here. It returns its result, or a list of them. Settings (sizes,
axes, bounds) are read on the CPU, where they stay. :data:`HOST` computes on NumPy arrays what is known without the
inputs' values.

Source: https://onnx.ai/onnx/operators/
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from gpunn import functional as F
from gpunn.interop import onnx_import_arrays as arrays
from gpunn.interop import onnx_import_layers as layers
from gpunn.interop import onnx_import_shapes as shapes
from gpunn.interop.onnx_import_arrays import binary, reduced, several, unary

SETTINGS: dict[str, tuple[int, ...]] = {
    "Clip": (1, 2),
    "Col2Im": (1, 2),
    "ConstantOfShape": (0,),
    "CumSum": (1,),
    "Dropout": (1, 2),
    "Expand": (1,),
    "If": (0,),
    "MaxUnpool": (2,),
    "OneHot": (1, 2),
    "Pad": (1, 2, 3),
    "Pow": (1,),
    "Range": (0, 1, 2),
    "Resize": (1, 2, 3),
    "Reshape": (1,),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
    "Squeeze": (1,),
    "Tile": (1,),
    "TopK": (1,),
    "Trilu": (1,),
    "Unsqueeze": (1,),
    "Upsample": (1,),
    **{f"Reduce{name}": (1,) for name in
       ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")},
}  # fmt: skip
"""Which inputs of an operator are settings: constants, which are not learned."""

STATISTICS = {"BatchNormalization": (3, 4)}
"""Which inputs of an operator are running statistics."""

_ELEMENTARY = (
    "Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Ceil", "Cos", "Cosh", "Erf", "Exp", "Floor", "HardSwish",
    "IsNaN", "Mish", "Relu", "Round", "Sigmoid", "Sign", "Sin", "Sinh", "Softplus", "Softsign", "Sqrt", "Tan", "Tanh",
)  # fmt: skip
"""The operators that have our names."""

UNLEARNED = {"NegativeLogLikelihoodLoss": (2,), "SoftmaxCrossEntropyLoss": (2,)}
"""Which other inputs of an operator are not learned: the weights of classes."""

OPERATORS: dict[str, Callable[..., Any]] = {
    # element by element
    **{name: unary(getattr(F, name.lower())) for name in _ELEMENTARY},
    "Add": binary(operator.add),
    "And": binary(operator.and_),
    "Cast": arrays.cast,
    "CastLike": arrays.cast_like,
    "Celu": arrays.celu,
    "Clip": arrays.clip,
    "Div": arrays.divide,
    "Elu": arrays.elu,
    "Equal": binary(operator.eq),
    "Gelu": arrays.gelu,
    "Greater": binary(operator.gt),
    "GreaterOrEqual": binary(operator.ge),
    "HardSigmoid": arrays.hard_sigmoid,
    "Hardmax": arrays.along(arrays.hardmax),
    "IsInf": arrays.is_infinite,
    "LeakyRelu": arrays.leaky_relu,
    "Less": binary(operator.lt),
    "LessOrEqual": binary(operator.le),
    "Log": unary(arrays.log),
    "LogSoftmax": arrays.along(F.log_softmax),
    "Max": several(F.maximum),
    "Mean": arrays.mean_of,
    "Min": several(F.minimum),
    "Mod": arrays.remainder,
    "Mul": binary(operator.mul),
    "Neg": unary(operator.neg),
    "Not": unary(operator.invert),
    "Or": binary(operator.or_),
    "PRelu": arrays.prelu,
    "Pow": arrays.power,
    "Reciprocal": unary(lambda x: 1 / x),
    "Selu": arrays.selu,
    "Shrink": arrays.shrink,
    "Softmax": arrays.along(F.softmax),
    "Sub": binary(operator.sub),
    "Sum": several(operator.add),
    "Swish": arrays.swish,
    "ThresholdedRelu": arrays.thresholded_relu,
    "Where": arrays.where,
    "Xor": binary(operator.xor),
    # reductions and products
    "ArgMax": arrays.extreme_index("argmax"),
    "ArgMin": arrays.extreme_index("argmin"),
    "CumSum": arrays.cumsum,
    "Einsum": arrays.einsum,
    "Gemm": arrays.gemm,
    "MatMul": arrays.matmul,
    "ReduceL1": reduced(arrays.total, F.abs),
    "ReduceL2": reduced(arrays.total, lambda x: x * x, arrays.root),
    "ReduceLogSum": reduced(arrays.total, after=arrays.log),
    "ReduceLogSumExp": reduced(arrays.logsumexp),
    "ReduceMax": reduced(arrays.extremum("max")),
    "ReduceMean": reduced(arrays.mean),
    "ReduceMin": reduced(arrays.extremum("min")),
    "ReduceProd": reduced(arrays.product),
    "ReduceSum": reduced(arrays.total),
    "ReduceSumSquare": reduced(arrays.total, lambda x: x * x),
    "TopK": arrays.top,
    # shapes and elements
    "Concat": shapes.concat,
    "Constant": shapes.constant,
    "ConstantOfShape": shapes.constant_of_shape,
    "DepthToSpace": shapes.depth_to_space,
    "Expand": shapes.expand,
    "EyeLike": shapes.eye_like,
    "Flatten": shapes.flatten,
    "Gather": shapes.gather,
    "GatherElements": shapes.gather_elements,
    "GatherND": shapes.gather_nd,
    "Identity": shapes.identity,
    "If": shapes.squeeze_if,
    "NonZero": shapes.non_zero,
    "OneHot": shapes.one_hot,
    "Pad": shapes.pad,
    "Range": shapes.span,
    "Reshape": shapes.reshape,
    "Resize": shapes.resize,
    "Scatter": shapes.scatter_elements,
    "ScatterElements": shapes.scatter_elements,
    "ScatterND": shapes.scatter_nd,
    "Shape": shapes.shape,
    "Size": shapes.size,
    "Slice": shapes.cut,
    "SpaceToDepth": shapes.space_to_depth,
    "Split": shapes.split,
    "Squeeze": shapes.squeeze,
    "Tile": shapes.tile,
    "Transpose": shapes.transpose,
    "Trilu": shapes.triangle,
    "Unsqueeze": shapes.unsqueeze,
    "Upsample": shapes.upsample,
    # layers
    "AveragePool": layers.average_pool,
    "BatchNormalization": layers.batch_norm,
    "Col2Im": layers.col2im,
    "Conv": layers.conv,
    "ConvTranspose": layers.conv_transpose,
    "Dropout": layers.dropout,
    "GRU": layers.recurrent_layer("GRU"),
    "GlobalAveragePool": layers.global_pool("global_avg_pool"),
    "GlobalLpPool": layers.global_lp_pool,
    "GlobalMaxPool": layers.global_pool("global_max_pool"),
    "GridSample": layers.grid_sample,
    "GroupNormalization": layers.group_norm,
    "InstanceNormalization": layers.instance_norm,
    "LRN": layers.lrn,
    "LSTM": layers.recurrent_layer("LSTM"),
    "LayerNormalization": layers.layer_norm,
    "LpNormalization": layers.lp_norm,
    "LpPool": layers.lp_pool,
    "MaxPool": layers.max_pool,
    "MaxUnpool": layers.max_unpool,
    "MeanVarianceNormalization": layers.mean_variance_norm,
    "NegativeLogLikelihoodLoss": layers.nll_loss,
    "RMSNormalization": layers.rms_norm,
    "RNN": layers.recurrent_layer("RNN"),
    "SoftmaxCrossEntropyLoss": layers.cross_entropy,
}


def _host(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda step, *xs: function(*xs)


HOST: dict[str, Callable[..., Any]] = {
    "Abs": _host(np.abs),
    "Add": _host(np.add),
    "And": _host(np.logical_and),
    "Cast": arrays.cast,
    "CastLike": arrays.cast_like,
    "Ceil": _host(np.ceil),
    "Clip": arrays.host_clip,
    "Concat": arrays.host_concat,
    "Constant": shapes.constant,
    "ConstantOfShape": shapes.constant_of_shape,
    "Div": _host(arrays.quotient),
    "Equal": _host(np.equal),
    "Expand": shapes.host_expand,
    "Flatten": shapes.flatten,
    "Floor": _host(np.floor),
    "Gather": shapes.host_gather,
    "Greater": _host(np.greater),
    "GreaterOrEqual": _host(np.greater_equal),
    "Identity": shapes.identity,
    "If": shapes.squeeze_if,
    "Less": _host(np.less),
    "LessOrEqual": _host(np.less_equal),
    "Max": several(np.maximum),
    "Min": several(np.minimum),
    "Mul": _host(np.multiply),
    "Neg": _host(np.negative),
    "NonZero": shapes.host_non_zero,
    "Not": _host(np.logical_not),
    "Or": _host(np.logical_or),
    "Range": shapes.span,
    "ReduceMax": arrays.host_reduced(np.max),
    "ReduceMin": arrays.host_reduced(np.min),
    "ReduceProd": arrays.host_reduced(np.prod),
    "ReduceSum": arrays.host_reduced(np.sum),
    "Reshape": shapes.reshape,
    "Round": _host(np.rint),
    "Shape": shapes.shape,
    "Size": shapes.size,
    "Slice": shapes.cut,
    "Split": shapes.split,
    "Sqrt": _host(np.sqrt),
    "Squeeze": shapes.squeeze,
    "Sub": _host(np.subtract),
    "Tile": shapes.host_tile,
    "Transpose": shapes.transpose,
    "Unsqueeze": shapes.unsqueeze,
    "Where": _host(np.where),
}
