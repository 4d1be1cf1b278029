"""A roofline: how fast each counted kernel could be, between the DRAM and the arithmetic of a card."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpunn.cuda.emulator import Count
from gpunn.plot.figure import COLOURS, STYLES, Path, figure, legend, save

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def roofline(counted: Count, path: Path | None = None) -> Figure:
    """Draw what :func:`gpunn.cuda.count` has counted: a point for each kernel, under the rates of the card; return the
    figure. A ``path`` is a file to write.

    >>> import numpy as np
    >>> from gpunn.cuda.emulator import RawKernel, count
    >>> code = 'extern "C" __global__ void add_one(float* x) { x[threadIdx.x] += 1; }'
    >>> with count("A100") as counted:
    ...     RawKernel(code, "add_one", count=True)((1,), (32,), (np.zeros(32, np.float32),))
    >>> roofline(counted).axes[0].get_ylabel()
    'TFLOP/s at most'

    Kernels of which no operations are known have none. Raises PackageError where matplotlib is missing, FileError where
    it cannot be written. Source: Williams, Waterman and Patterson 2009, "Roofline".
    """
    page = figure(7, 5)
    axes = page.subplots()
    chip = counted.card
    rates = {"fp32": chip.fp32, "fp64": chip.fp64, **chip.tensor}
    knees = {rate / chip.bandwidth for rate in rates.values()}
    intensities = sorted({*(10.0**exponent for exponent in range(-2, 5)), *knees})
    for style, (kind, rate) in zip(STYLES, rates.items(), strict=False):
        reached = [min(rate, chip.bandwidth * intensity) / 1e12 for intensity in intensities]
        axes.plot(intensities, reached, color="black", linestyle=style, label=f"{kind}: {rate / 1e12:.3g} TFLOP/s")
    for i, kernel in enumerate(counted.kernels):
        operations = sum(kernel.total.operations.values())
        moved = kernel.read_bytes + kernel.written_bytes
        if operations and moved:
            place = [operations / moved], [operations / kernel.time / 1e12]
            axes.plot(*place, "o", color=COLOURS[i % len(COLOURS)], label=kernel.name)
    axes.set(xscale="log", yscale="log", xlabel="operations for each byte of DRAM", ylabel="TFLOP/s at most")
    axes.set_title(f"{chip.name}: {chip.bandwidth / 1e12:.3g} TB/s")
    legend(page, [axes])
    save(page, path)
    return page
