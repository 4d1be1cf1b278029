"""A roofline: how fast each counted kernel could be, between the DRAM and the arithmetic of a card."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gpunn.cuda.emulator.counting import Count


def draw(counted: Count, path: Path) -> None:
    """Write the picture; raises ImportError where matplotlib is missing."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("a roofline is drawn by matplotlib, which is missing: pip install 'gpunn[train]'") from error
    chip = counted.card
    figure = Figure(figsize=(7, 5), layout="constrained")
    axes = figure.subplots()
    rates = {"fp32": chip.fp32, "fp64": chip.fp64, **chip.tensor}
    knees = {rate / chip.bandwidth for rate in rates.values()}
    intensities = sorted({*(10.0**exponent for exponent in range(-2, 5)), *knees})
    for style, (kind, rate) in zip(("-", "--", "-.", ":"), rates.items(), strict=True):
        axes.plot(
            intensities,
            [min(rate, chip.bandwidth * intensity) / 1e12 for intensity in intensities],
            style,
            color="black",
            linewidth=1,
            label=f"{kind}: {rate / 1e12:.3g} TFLOP/s",
        )
    for kernel in counted.kernels:
        operations = sum(kernel.total.operations.values())
        moved = kernel.read_bytes + kernel.written_bytes
        if operations and moved:
            axes.plot([operations / moved], [operations / kernel.time / 1e12], "o", label=kernel.name)
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="operations for each byte of DRAM",
        ylabel="TFLOP/s at most",
        title=f"{chip.name}: {chip.bandwidth / 1e12:.3g} TB/s",
    )
    axes.legend(fontsize="small")
    figure.savefig(path)
