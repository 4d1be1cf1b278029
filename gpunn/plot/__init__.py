"""Figures of data, networks and training; drawn by matplotlib with no display and no pyplot state.

Each function returns matplotlib's figure, which a notebook shows. Where it is given a path it writes it there, as PNG
or what else the name ends in. Pictures, weights, activations and gradients are arrays of NumPy or CuPy, or Tensors;
points and curves are NumPy's. Colours and line styles differ so that every kind of colour blindness can tell them
apart.
"""

from gpunn.plot.images import feature_maps, filters, misclassified, pictures
from gpunn.plot.layers import activation_statistics, gradient_flow
from gpunn.plot.roofline import roofline
from gpunn.plot.scaling import scaling
from gpunn.plot.surface import Film, animate_decision_surface, decision_surface, surface
from gpunn.plot.training import confusion, curves, lines, panels

__all__ = [
    "Film",
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
