"""Normalisation, forward and backward: by the statistics of a batch, a group or a layer, or of neighbouring channels.

    batch, group, layer      y = weight (x - mean) / sqrt(var + eps) + bias, with mean and var of other elements each
    rms                      y = weight x / sqrt(mean(x^2) + eps)
    lrn                      y[c] = x[c] / (k + a sum of x[j]^2 over the neighbours j of channel c)^beta

x is (N, C, ...). Each file has the formulas of its gradients and the sources. The ways to compute are
:mod:`gpunn.ops.norm.batch_kernel`, on which those of group and layer stand, and :mod:`gpunn.ops.norm.lrn_kernel`, and
for any array module :mod:`gpunn.ops.norm.batch_sums`, :mod:`gpunn.ops.norm.group_rows`,
:mod:`gpunn.ops.norm.layer_rows` and :mod:`gpunn.ops.norm.lrn_shifted`.
"""

from gpunn.ops.norm.batch import batch_norm, batch_norm_backward, batch_norm_kept, batch_norm_statistics
from gpunn.ops.norm.group import group_norm, group_norm_backward
from gpunn.ops.norm.layer import layer_norm, layer_norm_backward
from gpunn.ops.norm.lrn import local_response_norm, local_response_norm_backward, lrn_plan
from gpunn.ops.norm.lrn_geometry import AlphaMode, LrnPlan
from gpunn.ops.norm.rms import rms_norm, rms_norm_backward

__all__ = [
    "AlphaMode",
    "LrnPlan",
    "batch_norm",
    "batch_norm_backward",
    "batch_norm_kept",
    "batch_norm_statistics",
    "group_norm",
    "group_norm_backward",
    "layer_norm",
    "layer_norm_backward",
    "local_response_norm",
    "local_response_norm_backward",
    "lrn_plan",
    "rms_norm",
    "rms_norm_backward",
]
