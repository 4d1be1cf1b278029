"""From spans to the sums for each layer and each kernel."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, dataclass, field
from typing import Any

from gpunn.profiler.spans import (
    AUTOGRAD,
    BACKWARD,
    COMPILING,
    FORWARD,
    KERNEL,
    WAITING,
    WHOLE,
    Kernel,
    Layer,
    Recorder,
    Span,
)

SORTS = ("self", "total", "forward", "backward", "calls", "memory", "order")


@dataclass
class LayerSums:
    """The sums of a layer, in seconds and bytes; ``self`` is without the layers inside."""

    name: str
    type: str
    parameters: int
    calls: int = 0
    forward_seconds: float = 0.0
    backward_seconds: float = 0.0
    self_seconds: float = 0.0
    output_bytes: int = 0
    memory_bytes: int = 0
    kept_bytes: int = 0

    @property
    def total_seconds(self) -> float:
        return self.forward_seconds + self.backward_seconds

    def as_dict(self, seconds: float, measured: bool) -> dict[str, Any]:
        found = asdict(self) | {"total_seconds": self.total_seconds, "share": self.self_seconds / seconds}
        return found if measured else found | {"memory_bytes": None, "kept_bytes": None}

    def key(self, sort: str) -> float:
        """The greatest comes first."""
        if sort in ("calls", "memory", "order"):
            return {"calls": self.calls, "memory": self.memory_bytes, "order": 0}[sort]
        return float(getattr(self, f"{sort}_seconds"))


@dataclass
class KernelSums:
    """The sums of a kernel of one dtype; ``bytes`` are those of the arrays it was given, each counted once."""

    name: str
    file: str
    dtype: str
    launches: int = 0
    seconds: float = 0.0
    bytes: int = 0

    def as_dict(self, seconds: float) -> dict[str, Any]:
        return asdict(self) | {"share": self.seconds / seconds}


@dataclass
class Sums:
    """All of a profile."""

    seconds: float = 0.0
    outside_seconds: float = 0.0
    outside_backward_seconds: float = 0.0
    autograd_seconds: float = 0.0
    compile_seconds: float = 0.0
    compiled: int = 0
    waiting_seconds: float = 0.0
    communication_seconds: float = 0.0
    peak_bytes: int = 0
    layers: list[LayerSums] = field(default_factory=list)
    kernels: list[KernelSums] = field(default_factory=list)


def add_up(recorder: Recorder, times: list[int]) -> Sums:
    """The sums of all spans.

    A span's own time is without those in it, kernels aside, which are the layer's work. Compiling counts for no layer.
    """
    spans = [span for span in recorder.spans if span.end >= 0]
    inside: dict[int, int] = defaultdict(int)
    compiling: dict[int, int] = defaultdict(int)
    for span in spans:
        if span.parent is not None and span.kind != KERNEL:
            inside[id(span.parent)] += times[span.end] - times[span.begin]
        outer = span.parent if span.kind == COMPILING else None
        while outer is not None:
            compiling[id(outer)] += times[span.end] - times[span.begin]
            outer = outer.parent
    sums = Sums()
    layers = {id(layer): _sums_of(layer) for layer in recorder.layers.values()}
    kernels: dict[Kernel, KernelSums] = {}
    for span in spans:
        lasted = 1e-9 * (times[span.end] - times[span.begin])
        own = lasted - 1e-9 * inside[id(span)]
        if span.kind == WHOLE:
            sums.seconds, sums.peak_bytes = lasted, span.peak
            sums.outside_seconds += own
        elif span.kind == AUTOGRAD:
            sums.autograd_seconds += own
        elif span.kind == COMPILING:
            sums.compile_seconds += own
            sums.compiled += 1
        elif span.kind == WAITING:
            sums.waiting_seconds += own
        elif span.kernel is not None:
            each = kernels.setdefault(span.kernel, KernelSums(span.kernel.name, span.kernel.file, span.kernel.dtype))
            each.launches, each.seconds, each.bytes = each.launches + 1, each.seconds + lasted, each.bytes + span.bytes
        elif span.path:
            _add_to_layers(layers, span, lasted - 1e-9 * compiling[id(span)], own)
        else:
            sums.outside_seconds += own
            sums.outside_backward_seconds += own
    sums.communication_seconds = 1e-9 * sum(end - begin for _, begin, end in recorder.collectives)
    sums.layers = list(layers.values())
    sums.kernels = sorted(kernels.values(), key=lambda each: -each.seconds)
    return sums


def _sums_of(layer: Layer) -> LayerSums:
    return LayerSums(layer.name, type(layer.module).__name__, layer.parameters)


def _add_to_layers(layers: dict[int, LayerSums], span: Span, lasted: float, own: float) -> None:
    innermost = layers[id(span.path[-1])]
    innermost.self_seconds += own
    innermost.memory_bytes = max(innermost.memory_bytes, span.peak)
    if span.kind == FORWARD:
        innermost.calls += 1
        innermost.output_bytes = max(innermost.output_bytes, span.bytes)
        innermost.kept_bytes = max(innermost.kept_bytes, span.kept)
        if not _within(span, FORWARD, span.path[-1]):  # a layer in itself counts once
            innermost.forward_seconds += lasted
    elif span.kind == BACKWARD:
        for layer in {id(layer): layer for layer in span.path}.values():
            if not _within(span, BACKWARD, layer):
                layers[id(layer)].backward_seconds += lasted


def _within(span: Span, kind: str, layer: Layer) -> bool:
    """Whether ``span`` lies in another one of ``kind`` that counts for ``layer``."""
    outer = span.parent
    while outer is not None:
        if outer.kind == kind and any(each is layer for each in outer.path):
            return True
        outer = outer.parent
    return False
