"""``gpunn.profile``: what a computation spends its time and memory on."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from gpunn.cuda.compilation import listening
from gpunn.errors import ArgumentError, FileError, check
from gpunn.files import write_atomically
from gpunn.profiler.chrome_trace import chrome_trace
from gpunn.profiler.measures import choose_clock, choose_memory
from gpunn.profiler.spans import WHOLE, Recorder, Span
from gpunn.profiler.sums import SORTS, KernelSums, LayerSums, Sums, add_up
from gpunn.profiler.table import html, table


class Profile:
    """What :func:`profile` gives; its figures are there when its context is left.

    ``layers`` has a :class:`LayerSums <gpunn.profiler.sums.LayerSums>` for each layer in the order in which they first
    ran, ``kernels`` a :class:`KernelSums <gpunn.profiler.sums.KernelSums>` for each kernel and dtype. ``seconds`` is
    the time of all, which is ``outside_seconds``, ``autograd_seconds``, ``compile_seconds`` and ``waiting_seconds`` and
    the ``self_seconds`` of the layers. ``clock`` and ``memory`` say what measured.
    """

    def __init__(self, model: Any = None, memory: bool = False) -> None:
        cupy = sys.modules.get("cupy")
        self._measured = memory
        self._clock, self._memory = choose_clock(cupy), choose_memory(cupy, memory)
        self._recorder = Recorder(model, self._clock, self._memory)
        self._contexts = ExitStack()
        self._whole: Span | None = None
        self._sums: Sums | None = None

    def __enter__(self) -> Self:
        check(self._whole is None, ArgumentError, "profile", "a profile is entered once: make another one")
        self._memory.start()
        self._contexts.callback(self._memory.stop)
        self._whole = self._recorder.open(WHOLE, WHOLE)
        self._contexts.enter_context(listening(self._recorder.hear))
        self._contexts.enter_context(self._recorder)
        return self

    def __exit__(self, *raised: object) -> None:
        assert self._whole is not None
        self._recorder.close(self._whole)
        self._contexts.close()
        self._sums = add_up(self._recorder, self._clock.times())

    # ---- figures --------------------------------------------------------------------------------------------------

    def _added(self) -> Sums:
        check(self._sums is not None, ArgumentError, "profile", "the figures are there when the context is left")
        assert self._sums is not None
        return self._sums

    @property
    def clock(self) -> str:
        """``"wall clock"``, or ``"CUDA events"``, in which a time is when the GPU was at it."""
        return self._clock.name

    @property
    def memory(self) -> str:
        """``"not measured"``, ``"tracemalloc"`` (what Python and NumPy allocate), or ``"CuPy's memory pool"``."""
        return self._memory.name

    @property
    def seconds(self) -> float:
        """From the beginning to the end of the context."""
        return self._added().seconds

    @property
    def outside_seconds(self) -> float:
        """The time in no layer: data, losses (and their gradients), optimizers."""
        return self._added().outside_seconds

    @property
    def autograd_seconds(self) -> float:
        """The time of backward passes in no node's gradient: the order of nodes, sums of gradients."""
        return self._added().autograd_seconds

    @property
    def compile_seconds(self) -> float:
        """The time in which kernels were compiled; it is in no layer's."""
        return self._added().compile_seconds

    @property
    def communication_seconds(self) -> float:
        """The time in collectives of several ranks, behind the computation or not."""
        return self._added().communication_seconds

    @property
    def waiting_seconds(self) -> float:
        """The time in which the computation waited for a collective; it is in no layer's."""
        return self._added().waiting_seconds

    @property
    def hidden_share(self) -> float:
        """The share of the communication that took place while something was computed; 1 where there was none."""
        sums = self._added()
        return 1 - min(1.0, sums.waiting_seconds / sums.communication_seconds) if sums.communication_seconds else 1.0

    @property
    def peak_bytes(self) -> int | None:
        """The most that was in use beyond what was when the context began; None where it is not measured."""
        return self._added().peak_bytes if self._measured else None

    @property
    def layers(self) -> list[LayerSums]:
        return self._added().layers

    @property
    def kernels(self) -> list[KernelSums]:
        """Those of gpunn that ran, emulated ones too; CuPy's own are not seen."""
        return self._added().kernels

    def as_dict(self) -> dict[str, Any]:
        """All figures, as JSON takes them; shares are of ``seconds``."""
        sums = self._added()
        own = {"seconds": sums.seconds, "clock": self.clock, "memory": self.memory, "peak_bytes": self.peak_bytes}
        if sums.communication_seconds:
            own |= {"communication_seconds": sums.communication_seconds, "waiting_seconds": sums.waiting_seconds}
            own |= {"hidden_share": self.hidden_share}
        own |= {"outside_seconds": sums.outside_seconds, "autograd_seconds": sums.autograd_seconds}
        own |= {"compile_seconds": sums.compile_seconds, "compiled": sums.compiled}
        layers = [each.as_dict(sums.seconds, self._measured) for each in sums.layers]
        return own | {"layers": layers, "kernels": [each.as_dict(sums.seconds) for each in sums.kernels]}

    def __str__(self) -> str:
        return self.table()

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(self.table())

    def _repr_html_(self) -> str:
        return html(self._added(), self.clock, self.memory, self._measured)

    def table(self, sort: str = "self") -> str:
        """A table of the layers and one of the kernels, the greatest ``sort`` first.

        ``sort`` is ``"self"``, ``"total"``, ``"forward"``, ``"backward"``, ``"calls"``, ``"memory"``, or ``"order"``:
        that in which the layers first ran. forward, backward and total are with the layers inside, self and its share
        are without. output is the largest of one call, memory the most that a call had in use beyond what was before,
        and kept what a forward left behind: its output, and what it keeps for gradients.

        Raises ArgumentError for another ``sort``.
        """
        check(sort in SORTS, ArgumentError, "profile", f"sort must be one of {', '.join(SORTS)}", sort=sort)
        return table(self._added(), self.clock, self.memory, self._measured, sort)

    def chrome_trace(self, path: str | os.PathLike[str]) -> None:
        """Write what ran when to ``path``, for chrome://tracing or https://ui.perfetto.dev.

        Raises FileError if it cannot be written.
        """
        self._added()
        content = chrome_trace(self._recorder, self._clock.times(), self.clock, self.as_dict())
        try:
            write_atomically(Path(path), content)
        except OSError as error:
            raise FileError(f"{path}: the trace cannot be written there: {error.strerror or error}") from error


def profile(model: Any = None, memory: bool = False) -> Profile:
    """A context that measures what runs in it, by layer and by kernel.

    A layer is called by its dotted name in ``model``; without that, or where it is not in it, in the outermost module
    that was called. The time of a gradient counts for the layer in whose forward it was recorded. Times are of the
    wall clock or, where CuPy is in use and has a GPU, of CUDA events. ``memory`` measures memory too, by tracemalloc
    or of CuPy's pool: tracemalloc makes small networks run at half their speed, so times are not those of a run
    without. One thread is seen, that of the context, and the collectives that it starts; all that runs is kept:
    profile some steps, not a whole run. What a CUDA graph holds is launched as a whole, and so is outside of layers.

    >>> import gpunn, numpy as np
    >>> from gpunn import nn, tensor
    >>> net = nn.Sequential(nn.Linear(64, 32), nn.ReLU())
    >>> with gpunn.profile() as profile:
    ...     net(tensor(np.ones((8, 64), np.float32))).sum().backward()
    >>> [(layer.name, layer.type, layer.calls) for layer in profile.layers]
    [('(Sequential)', 'Sequential', 1), ('0', 'Linear', 1), ('1', 'ReLU', 1)]
    >>> profile.table().splitlines()[0].split()
    ['layer', 'type', 'calls', 'forward', 'backward', 'total', 'self', 'share', 'output', 'parameters']
    """
    return Profile(model, memory)
