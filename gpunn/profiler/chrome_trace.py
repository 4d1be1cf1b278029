"""A profile in the Chrome trace event format.

Source: "Trace Event Format", the document that chrome://tracing links to: complete events ("X") and metadata ("M").
"""

from __future__ import annotations

import json
import os
from typing import Any

from gpunn.profiler.spans import COMMUNICATION, KERNEL, WHOLE, Recorder, Span

_COMPUTATION, _COLLECTIVES = 1, 2


def chrome_trace(recorder: Recorder, times: list[int], clock: str, figures: dict[str, Any]) -> bytes:
    """The file's content: ``figures`` are its ``otherData``; times begin at 0, in µs."""
    process, spans = os.getpid(), recorder.spans
    same = {"pid": process, "tid": _COMPUTATION}
    other = {"pid": process, "tid": _COLLECTIVES}
    names = [("process_name", same, "gpunn"), ("thread_name", same, f"computation ({clock})")]
    if recorder.collectives:
        names.append(("thread_name", other, "communication (wall clock)"))
    events: list[dict[str, Any]] = [
        {"name": kind, "ph": "M", "ts": 0, **where, "args": {"name": name}} for kind, where, name in names
    ]
    origin = times[spans[0].begin]
    for span in spans:
        if span.end < 0:
            continue
        begin, end = times[span.begin] - origin, times[span.end] - origin
        event = {"name": _name(span), "cat": span.kind, "ph": "X", "ts": begin / 1000, "dur": (end - begin) / 1000}
        events.append({**event, **same, "args": _arguments(span)})
    for name, begin, end in recorder.collectives:
        at = {"ts": (begin - origin) / 1000, "dur": (end - begin) / 1000}
        events.append({"name": name, "cat": COMMUNICATION, "ph": "X", **at, **other, "args": {}})
    content = {"traceEvents": events, "displayTimeUnit": "ms", "otherData": figures}
    return json.dumps(content, allow_nan=False).encode()


def _name(span: Span) -> str:
    if span.kind in (KERNEL, WHOLE):
        return span.name
    return f"{span.kind} {span.name or 'of no layer'}"


def _arguments(span: Span) -> dict[str, Any]:
    if span.kernel is not None:
        return {"file": span.kernel.file, "dtype": span.kernel.dtype, "bytes": span.bytes}
    found: dict[str, Any] = {"type": type(span.path[-1].module).__name__} if span.path else {}
    if span.bytes:
        found["output_bytes"] = span.bytes
    if span.peak:
        found["memory_bytes"] = span.peak
    return found
