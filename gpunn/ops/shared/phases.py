"""Windows over contiguous memory, for the operations that go without a kernel.

NumPy is slow on views that skip elements and on short rows. So a batch of planes is split into its *phases*, one for
each remainder of an index modulo the stride: element r of every window along an axis lies in phase r mod stride, at a
fixed distance from the window's number. With the planes of a phase one after the other, an element of all windows is
one contiguous run, which starts ``shift`` elements into the phase. Windows are counted on a grid that is somewhat
larger than the output; those outside it take in elements of the next row, and are cut away by :meth:`Phases.crop`.
"""

from __future__ import annotations

from itertools import product
from math import prod
from typing import Any

from gpunn.backend import Array
from gpunn.ops.shared.checks import Size
from gpunn.ops.shared.window import Window


class Phases:
    """How planes of ``size``, padded for ``win``, are split, so that ``out`` windows along each axis are runs."""

    def __init__(self, win: Window, size: Size, out: Size) -> None:
        self.size, self.out, self.stride = size, out, win.stride
        self.before = tuple(before for before, _ in win.pads)
        reach = win.reach(size, out)
        self.grid = tuple(-(-length // step) for length, step in zip(reach, win.stride, strict=True))
        self.pixels = prod(self.grid)
        self.taps = [self._tap(place, win) for place in product(*map(range, win.kernel))]
        """The phase and the shift of each element of the window, in row-major order."""
        self.tail = max(shift for _, shift in self.taps)
        self.elements = self.pixels * prod(win.stride)
        """Of one plane, in all phases."""
        self.pieces = [self._piece(place) for place in product(*map(range, win.stride))]

    def _tap(self, place: Size, win: Window) -> tuple[int, int]:
        phase = shift = 0
        for index, apart, step, length in zip(place, win.dilation, win.stride, self.grid, strict=True):
            phase = phase * step + index * apart % step
            shift = shift * length + index * apart // step
        return phase, shift

    def _piece(self, remainders: Size) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """Where a phase lies in the image, and where that lies on the grid."""
        image, grid = [], []
        for remainder, step, before, length in zip(remainders, self.stride, self.before, self.size, strict=True):
            start = (remainder - before) % step
            first, count = (start + before) // step, max(0, -(-(length - start) // step))
            image.append(slice(start, None, step))
            grid.append(slice(first, first + count))
        return (..., *image), (..., *grid)

    def empty(self, xp: Any, planes: int, fill: float, dtype: Any) -> Array:
        """The phases of so many planes, a row each."""
        return xp.full((len(self.pieces), planes * self.pixels + self.tail), fill, dtype)

    def split(self, planes: Array, phases: Array) -> None:
        """Write ``planes`` (P, *size) into ``phases``, made by :meth:`empty`."""
        for row, (image, grid) in zip(phases, self.pieces, strict=True):
            self.on_grid(row[: len(row) - self.tail])[grid] = planes[image]

    def join(self, phases: Array, planes: Array) -> None:
        """The opposite of :meth:`split`."""
        for row, (image, grid) in zip(phases, self.pieces, strict=True):
            planes[image] = self.on_grid(row[: len(row) - self.tail])[grid]

    def views(self, phases: Array) -> list[Array]:
        """The elements of all windows, a run (P * pixels,) for each element of a window."""
        length = phases.shape[1] - self.tail
        return [phases[phase, shift : shift + length] for phase, shift in self.taps]

    def on_grid(self, run: Array) -> Array:
        """A run (P * pixels,) as (P, *grid), or (..., pixels) as (..., *grid)."""
        return run.reshape(*((-1,) if run.ndim == 1 else run.shape[:-1]), *self.grid)

    def crop(self, run: Array) -> Array:
        """What of a run belongs to the output: (P, *out), or (..., *out)."""
        return self.on_grid(run)[(..., *(slice(0, length) for length in self.out))]
