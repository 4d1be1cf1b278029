"""What flows through a network: the statistics of activations and of gradients, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from gpunn.errors import ArgumentError, check
from gpunn.plot import figure as page
from gpunn.plot.figure import COLOURS, Path
from gpunn.tensor import Tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Arrays = Mapping[str, np.ndarray[Any, Any] | Tensor]


def activation_statistics(activations: Arrays, path: Path | None = None) -> Figure:
    """Draw mean, deviation and share of zeros of each layer's activations, ``{layer: array}``; return the figure.

    A mean far from 0 or a deviation that shrinks or grows from layer to layer says that the initial weights do not
    fit; a share of zeros near 100 % is a layer of dead units. ``gpunn.nn.Module.activations`` gives the arrays. A
    ``path`` is a file to write.

    >>> drawn = activation_statistics({"0 Linear": np.array([1.0, -1.0]), "1 ReLU": np.array([1.0, 0.0])})
    >>> [axes.get_title() for axes in drawn.axes]
    ['Mean and deviation', 'Zeros']

    Raises ArgumentError where there is no layer, or one without values.
    """
    layers = _checked("activation_statistics", activations)
    rows = np.arange(len(layers))
    values = [a.astype(np.float64) for a in layers.values()]
    sheet = page.figure(width=9.0, height=1.4 + 0.3 * len(rows))
    spread, zeros = sheet.subplots(1, 2, sharey=True)
    spread.errorbar([v.mean() for v in values], rows, xerr=[v.std() for v in values], fmt="o", capsize=3,
                    color=COLOURS[0])  # fmt: skip
    spread.set(xlabel="activation, mean ± deviation", title="Mean and deviation", ylim=(len(rows) - 0.5, -0.5))
    spread.set_yticks(rows, labels=list(layers))
    zeros.barh(rows, [100 * float((v == 0).mean()) for v in values], color=COLOURS[1], height=0.6)
    zeros.set(xlabel="activations that are 0 (%)", xlim=(0, 100), title="Zeros")
    for axes in (spread, zeros):
        axes.grid(alpha=0.3)
    page.save(sheet, path)
    return sheet


def gradient_flow(gradients: Arrays, path: Path | None = None) -> Figure:
    """Draw the root mean square and the maximum of each parameter's gradient, ``{name: array}``; return the figure.

    Values that fall from the last layer to the first are a vanishing gradient, values that rise an exploding one. A
    ``path`` is a file to write.

    >>> drawn = gradient_flow({"0.weight": np.array([0.1, -0.2]), "1.weight": np.array([1.0])})
    >>> [label.get_text() for label in drawn.axes[0].get_yticklabels()]
    ['0.weight', '1.weight']

    Raises ArgumentError where there is no parameter, or one without values.
    """
    parameters = _checked("gradient_flow", gradients)
    rows = np.arange(len(parameters))
    sizes = [np.abs(g.astype(np.float64)) for g in parameters.values()]
    sheet = page.figure(width=6.5, height=1.4 + 0.3 * len(rows))
    axes = sheet.subplots()
    means = [float(np.sqrt((s * s).mean())) for s in sizes]
    axes.plot([float(s.max()) for s in sizes], rows, "s--", color=COLOURS[1], label="maximum")
    axes.plot(means, rows, "o-", color=COLOURS[0], label="root mean square")
    axes.set(xlabel="size of the gradient", title="Gradient by parameter, first layer on top")
    axes.set_ylim(len(rows) - 0.5, -0.5)
    if min(means) > 0:
        axes.set_xscale("log")
        page.ticks(axes.xaxis, min(means), max(float(s.max()) for s in sizes))
    else:  # a gradient that is all 0 has no logarithm
        least = min((mean for mean in means if mean > 0), default=1.0)
        axes.set_xscale("symlog", linthresh=least)
        axes.set_xlim(left=-0.2 * least)
    axes.set_yticks(rows, labels=list(parameters))
    axes.grid(alpha=0.3)
    page.legend(sheet, [axes])
    page.save(sheet, path)
    return sheet


def _checked(op: str, given: Arrays) -> dict[str, np.ndarray[Any, Any]]:
    check(
        isinstance(given, Mapping),
        ArgumentError,
        op,
        "arrays must be given as {name: array}",
        type=type(given).__name__,
    )
    arrays = {name: page.array(op, **{name: a}) for name, a in given.items()}
    filled = len(arrays) > 0 and all(a.size for a in arrays.values())
    rule = "there must be at least one array, and none without values"
    check(filled, ArgumentError, op, rule, shapes={name: a.shape for name, a in arrays.items()})
    return arrays
