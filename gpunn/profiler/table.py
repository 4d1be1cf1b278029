"""A profile as tables, in plain text and in HTML."""

from __future__ import annotations

from collections.abc import Sequence

from gpunn import notebook
from gpunn.profiler.sums import KernelSums, LayerSums, Sums

_LEFT = ("layer", "type", "kernel", "file", "dtype")
_UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))


_Part = tuple[list[str], list[list[str]], list[list[str]]]  # a head, rows, and sums


def table(sums: Sums, clock: str, memory: str, measured: bool, sort: str) -> str:
    """See :meth:`gpunn.profiler.Profile.table`."""
    parts, notes = _parts(sums, clock, memory, measured, sort)
    return "\n\n".join([*(_aligned(*part) for part in parts), "\n".join(notes)])


def html(sums: Sums, clock: str, memory: str, measured: bool) -> str:
    """The same as HTML, in the order of the time of their own."""
    parts, notes = _parts(sums, clock, memory, measured, "self")
    tables = [
        notebook.table([head, *rows, *last], sum(name in _LEFT for name in head), len(last))
        for head, rows, last in parts
    ]
    return "".join([*tables, *(f"<p>{note}</p>" for note in notes)])


def _parts(sums: Sums, clock: str, memory: str, measured: bool, sort: str) -> tuple[list[_Part], list[str]]:
    unit, name = next(((unit, name) for unit, name in _UNITS if sums.seconds >= 10 * unit), _UNITS[-1])
    parts = [_layers(sums, measured, sort, unit)]
    if sums.kernels:
        parts.append(_kernels(sums, sort, unit, clock == "CUDA events"))
    notes = [f"Times in {name}, by {'the wall clock' if clock == 'wall clock' else clock}."]
    if measured:
        notes.append(f"Peak memory {_bytes(sums.peak_bytes)} beyond what was in use before, by {memory}.")
        if memory == "tracemalloc":
            notes.append("tracemalloc takes time itself: for times, profile without memory.")
    return parts, notes


def _layers(sums: Sums, measured: bool, sort: str, unit: float) -> _Part:
    head = ["layer", "type", "calls", "forward", "backward", "total", "self", "share", "output", "parameters"]
    head += ["memory", "kept"] if measured else []
    rows = [_layer(each, sums.seconds, measured, unit) for each in sorted(sums.layers, key=lambda x: -x.key(sort))]
    outside, back = sums.outside_seconds, sums.outside_backward_seconds
    rest = [_other("outside layers", outside, sums.seconds, unit, forward=outside - back, backward=back)]
    if sums.autograd_seconds:
        rest.append(_other("autograd", sums.autograd_seconds, sums.seconds, unit, backward=sums.autograd_seconds))
    if sums.compiled:
        rest.append(_other("compiling kernels", sums.compile_seconds, sums.seconds, unit, calls=str(sums.compiled)))
    rest.append(_other("all", sums.seconds, sums.seconds, unit))
    return head, rows, [row + [""] * (len(head) - len(row)) for row in rest]


def _layer(each: LayerSums, seconds: float, measured: bool, unit: float) -> list[str]:
    times = (each.forward_seconds, each.backward_seconds, each.total_seconds, each.self_seconds)
    row = [each.name, each.type, f"{each.calls:,}", *(_time(time, unit) for time in times)]
    row += [f"{each.self_seconds / seconds:.1%}", _bytes(each.output_bytes), f"{each.parameters:,}"]
    return row + ([_bytes(each.memory_bytes), _bytes(each.kept_bytes)] if measured else [])


def _other(
    name: str, own: float, seconds: float, unit: float, forward: float = 0, backward: float = 0, calls: str = ""
) -> list[str]:
    parts = [_time(time, unit) if time else "" for time in (forward, backward)]
    return [name, "", calls, *parts, _time(own, unit), _time(own, unit), f"{own / seconds:.1%}"]


def _kernels(sums: Sums, sort: str, unit: float, on_gpu: bool) -> _Part:
    head = ["kernel", "file", "dtype", "launches", "time", "share", "arrays"]
    head += ["GB/s"] if on_gpu else []
    by_launches = sort == "calls"
    ordered = sorted(sums.kernels, key=lambda each: -(each.launches if by_launches else each.seconds))
    all_of_them = KernelSums("all", "", "", *(
        sum(getattr(each, name) for each in ordered) for name in ("launches", "seconds", "bytes")
    ))  # fmt: skip
    rows = [_kernel(each, sums.seconds, unit)[: len(head)] for each in (*ordered, all_of_them)]
    return head, rows[:-1], rows[-1:]


def _kernel(each: KernelSums, seconds: float, unit: float) -> list[str]:
    rate = f"{1e-9 * each.bytes / each.seconds:.1f}" if each.seconds > 0 else ""
    row = [each.name, each.file, each.dtype, f"{each.launches:,}", _time(each.seconds, unit)]
    return [*row, f"{each.seconds / seconds:.1%}", _bytes(each.bytes), rate]


def _time(seconds: float, unit: float) -> str:
    return f"{seconds / unit:,.2f}"


def _bytes(count: float) -> str:
    """
    >>> [_bytes(count) for count in (-512, 999, 1234, 5.6e6, 7.25e10)]
    ['-512 B', '999 B', '1.2 kB', '5.6 MB', '72.5 GB']
    """
    units = ("B", "kB", "MB", "GB", "TB")
    place = next((at for at in range(len(units)) if abs(count) < 1000 ** (at + 1)), len(units) - 1)
    return f"{count / 1000**place:.{1 if place else 0}f} {units[place]}"


def _aligned(head: Sequence[str], rows: list[list[str]], last: list[list[str]]) -> str:
    widths = [max(len(row[at]) for row in (head, *rows, *last)) for at in range(len(head))]
    rule = "  ".join("─" * width for width in widths)

    def line(row: Sequence[str]) -> str:
        texts = (f"{text:{'<' if name in _LEFT else '>'}{width}}" for text, name, width in
                 zip(row, head, widths, strict=True))  # fmt: skip
        return "  ".join(texts).rstrip()

    return "\n".join([line(head), rule, *map(line, rows), rule, *map(line, last)])
