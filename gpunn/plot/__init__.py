"""Figures of data, networks and training, as files; drawn by matplotlib with no display and no pyplot state.

Arrays are NumPy's; colours and line styles differ so that every kind of colour blindness can tell them apart.
"""

from gpunn.plot.images import feature_maps, filters, misclassified, pictures
from gpunn.plot.layers import activation_statistics, gradient_flow
from gpunn.plot.roofline import roofline
from gpunn.plot.scaling import scaling
from gpunn.plot.surface import animate_decision_surface, decision_surface, surface
from gpunn.plot.training import confusion, curves, lines, panels

__all__ = [
    "activation_statistics",
    "animate_decision_surface",
    "confusion",
    "curves",
    "decision_surface",
    "feature_maps",
    "filters",
    "gradient_flow",
    "lines",
    "misclassified",
    "panels",
    "pictures",
    "roofline",
    "scaling",
    "surface",
]
