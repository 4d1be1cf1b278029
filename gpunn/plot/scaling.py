"""How training scales on paper: efficiency and the time of a step over the number of ranks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gpunn.distributed.cost import Plan
from gpunn.errors import ArgumentError, check
from gpunn.plot import figure as page
from gpunn.plot.figure import COLOURS, Path

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def scaling(plans: Sequence[Plan], path: Path | None = None, title: str = "") -> Figure:
    """Draw plans of growing numbers of ranks: the efficiency, and what a step's time is for; return the figure.

    A ``path`` is a file to write.

    >>> from gpunn.distributed.cost import Layer, Link, Network, Step, plan
    >>> step = Step(32, 0.1, (Layer("0", 1_000_000, 0.2),))
    >>> plans = [plan(step, ranks, Network(Link(1e9, 1e-5))) for ranks in (1, 2, 4)]
    >>> [axes.get_title() for axes in scaling(plans).axes]
    ['Efficiency', 'A step']

    Raises ArgumentError where there is no plan, FileError if ``path`` cannot be written.
    """
    check(len(plans) > 0, ArgumentError, "scaling", "there must be at least one plan", plans=plans)
    ranks = [plan.ranks for plan in plans]
    sheet = page.figure(width=11.0, height=4.0)
    left, right = sheet.subplots(1, 2)
    left.plot(ranks, [100 * plan.efficiency for plan in plans], marker="o", markersize=4, color=COLOURS[0])
    left.set(ylabel="efficiency (%)", title="Efficiency", ylim=(0, 105))
    parts = {
        "computing": [plan.compute for plan in plans],
        "waiting for the slowest": [plan.waiting for plan in plans],
        "exposed communication": [plan.exposed for plan in plans],
    }
    places = range(len(plans))
    below = [0.0] * len(plans)
    for (label, seconds), colour, hatch in zip(parts.items(), COLOURS, ("", "//", ".."), strict=False):
        heights = [1000 * each for each in seconds]
        right.bar(places, heights, bottom=below, label=label, color=colour, hatch=hatch, edgecolor="white")
        below = [lower + height for lower, height in zip(below, heights, strict=True)]
    hidden = [1000 * plan.hidden for plan in plans]
    right.plot(places, hidden, "o", color="black", markersize=4, label="hidden communication,\nbeside the computing")
    right.set(ylabel="milliseconds", title="A step")
    sheet.legend(*right.get_legend_handles_labels(), loc="outside right upper")
    left.set_xscale("log", base=2)
    left.set_xticks(ranks, labels=map(str, ranks), rotation=45)
    left.minorticks_off()
    right.set_xticks(places, labels=map(str, ranks), rotation=45)
    for axes in (left, right):
        axes.set(xlabel="ranks")
        axes.grid(alpha=0.3, axis="y")
    sheet.suptitle(title)
    page.save(sheet, path)
    return sheet
