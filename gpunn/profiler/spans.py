"""What a profile writes down while it watches: spans of time that lie in each other, each with its layer or kernel."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from gpunn.backend import is_array
from gpunn.cuda.capture import in_capture
from gpunn.cuda.compilation import Compilation
from gpunn.graph import arrays_in
from gpunn.observer import Observer, Run
from gpunn.profiler.measures import Clock, Memory

FORWARD, BACKWARD, AUTOGRAD, KERNEL, COMPILING = "forward", "backward", "autograd", "kernel", "compiling"
COMMUNICATION, WAITING = "communication", "waiting"
WHOLE = "profile"


@dataclass(eq=False)
class Layer:
    """A module as one row: its name, and what is the same in each of its calls."""

    name: str
    module: Any
    parameters: int


@dataclass(frozen=True)
class Kernel:
    """A kernel as one row."""

    name: str
    file: str
    dtype: str


@dataclass(eq=False)
class Span:
    """From one mark to another; ``path`` are the layers it counts for, the innermost one last."""

    kind: str
    name: str
    parent: Span | None
    begin: int
    end: int = -1
    path: tuple[Layer, ...] = ()
    kernel: Kernel | None = None
    bytes: int = 0
    """Of the output of a forward, or of the arrays of a kernel."""
    held: int = 0
    """In use when it began; peak and kept are beyond that."""
    peak: int = 0
    kept: int = 0


@dataclass(eq=False)
class _Names:
    """The names of the modules in one that was called from outside of all modules."""

    prefix: str
    root: Any
    by_id: dict[int, str]
    made: dict[tuple[str, type], Layer] = field(default_factory=dict)


class Recorder(Observer):
    """Records spans; of other threads than its own only the collectives that this one starts are seen."""

    def __init__(self, model: Any, clock: Clock, memory: Memory) -> None:
        self.spans: list[Span] = []
        self.layers: dict[int, Layer] = {}
        self.collectives: list[tuple[str, int, int]] = []
        """The name of each, and the wall clock at its begin and its end, in ns."""
        self._clock, self._memory, self._thread = clock, memory, threading.get_ident()
        self._stack: list[Span] = []
        self._roots: list[_Names] = []
        self._root_of: dict[int, _Names] = {}
        if model is not None:
            self._add_root(model)

    # ---- spans ----------------------------------------------------------------------------------------------------

    def open(self, kind: str, name: str, **known: Any) -> Span:
        parent = self._stack[-1] if self._stack else None
        held, peak = self._memory.read()
        if parent is not None:
            parent.peak = max(parent.peak, peak)
        span = Span(kind, name, parent, self._clock.mark(), held=held, peak=held, **known)
        self.spans.append(span)
        self._stack.append(span)
        return span

    def close(self, span: Span) -> None:
        """End ``span`` and those in it; nothing if it has ended, as all do when the profile is left."""
        while span in self._stack:
            each = self._stack.pop()
            each.end = self._clock.mark()
            held, peak = self._memory.read()
            each.peak, each.kept = max(each.peak, peak) - each.held, held - each.held
            if self._stack:
                self._stack[-1].peak = max(self._stack[-1].peak, each.peak + each.held)

    @contextmanager
    def _span(self, kind: str, name: str, **known: Any) -> Iterator[Span]:
        span = self.open(kind, name, **known)
        try:
            yield span
        finally:
            self.close(span)

    def _watching(self) -> bool:
        return bool(self._stack) and threading.get_ident() == self._thread and not in_capture()

    # ---- what runs ------------------------------------------------------------------------------------------------

    def around_module(self, module: Any, run: Run) -> Run:
        if not self._watching():
            return run

        def timed(*args: Any, **settings: Any) -> Any:
            path = (*self._path(), self._layer(module))
            with self._span(FORWARD, path[-1].name, path=path) as span:
                y = run(*args, **settings)
                span.bytes = sum(x.nbytes for x in arrays_in(y))
            return y

        return timed

    def around_gradient(self, run: Run) -> Run:
        if not self._watching():
            return run
        path = self._path()

        def timed(gy: Any, needs: Any) -> Any:
            if not self._watching():
                return run(gy, needs)
            with self._span(BACKWARD, path[-1].name if path else "", path=path):
                return run(gy, needs)

        return timed

    def around_backward(self, run: Run) -> Run:
        if not self._watching():
            return run

        def timed(*args: Any) -> Any:
            with self._span(AUTOGRAD, "backward"):
                return run(*args)

        return timed

    def around_launch(self, file: str, kernel: str, args: Sequence[Any], run: Run) -> Run:
        if not self._watching():
            return run
        arrays = [a for a in args if is_array(a)]
        dtype = next((a.dtype for a in arrays if a.dtype.kind == "f"), arrays[0].dtype if arrays else "")
        launched = Kernel(kernel, file, str(dtype))

        def timed(*launch: Any) -> Any:
            total = sum({id(a): a.nbytes for a in arrays}.values())
            with self._span(KERNEL, kernel, path=self._path(), kernel=launched, bytes=total):
                return run(*launch)

        return timed

    def around_collective(self, text: str, run: Run) -> Run:
        if not self._watching():
            return run

        def timed() -> Any:
            began = time.perf_counter_ns()
            try:
                return run()
            finally:
                self.collectives.append((text, began, time.perf_counter_ns()))

        return timed

    def around_wait(self, text: str, run: Run) -> Run:
        if not self._watching():
            return run

        def timed() -> Any:
            with self._span(WAITING, text):
                return run()

        return timed

    def hear(self, compilation: Compilation) -> None:
        """A :data:`gpunn.cuda.compilation.Listener`."""
        if not self._watching():
            return
        if compilation.seconds is None:
            self.open(COMPILING, compilation.what)
        elif self._stack[-1].kind == COMPILING:
            self.close(self._stack[-1])

    # ---- names ----------------------------------------------------------------------------------------------------

    def _path(self) -> tuple[Layer, ...]:
        """The layers under way."""
        return next((span.path for span in reversed(self._stack) if span.path), ())

    def _layer(self, module: Any) -> Layer:
        if (known := self.layers.get(id(module))) is not None:
            return known
        path = self._path()
        names = self._names_of(module, path)
        if id(module) in names.by_id:
            name = names.by_id[id(module)]
            made = Layer(_joined(names.prefix, name) or f"({type(module).__name__})", module, _size(module))
            self.layers[id(module)] = made
            return made
        # Made on the way and held by nobody: all of one type in one place are one row.
        place = path[-1].name
        key = place, type(module)
        if key not in names.made:
            names.made[key] = Layer(f"{place}.({type(module).__name__})", module, _size(module))
            self.layers[-1 - len(self.layers)] = names.made[key]
        return names.made[key]

    def _names_of(self, module: Any, path: tuple[Layer, ...]) -> _Names:
        given = next((names for names in self._roots if id(module) in names.by_id), None)
        if given is not None:
            return given
        return self._root_of[id(path[0].module)] if path else self._add_root(module)

    def _add_root(self, module: Any) -> _Names:
        kind = type(module).__name__
        same = sum(type(names.root) is type(module) for names in self._roots)
        prefix = "" if not self._roots else f"({kind} {same + 1})" if same else f"({kind})"
        names = _Names(prefix, module, {id(each): name for name, each in module.named_modules()})
        self._roots.append(names)
        self._root_of |= dict.fromkeys(names.by_id, names)
        return names


def _joined(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix and name else prefix or name


def _size(module: Any) -> int:
    return sum(p.size for p in module.parameters())
