"""Work of a GPU captured as a CUDA graph: recorded once, then launched as a whole, which takes the host no time.

A graph repeats its launches with the same addresses and numbers. So whoever is captured keeps to three rules, each with
a function here, which outside of captures does the plain thing:

- numbers that change from one time to the next are read from memory: :func:`live`;
- nothing is read back on the way; what is wrong is read and told after the replay: :func:`alarm`;
- matrix products have kernels of this library, as CuPy refuses cuBLAS in a capture: they ask :func:`capturing`.

The addresses stay valid because memory comes from an :class:`Arena`, of which nobody else gets any.

Written after CuPy 14's sources, and tested with CuPy 14 on the emulated device of :mod:`gpunn.cuda.device`. It has not
yet run on a GPU.
"""

from __future__ import annotations

import contextlib
import sys
import traceback
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np

from gpunn.backend import Array, get_array_module, use_device
from gpunn.context import Setting, context
from gpunn.errors import CaptureError, DeviceError, GpunnError, check

Result = TypeVar("Result")
Values = np.ndarray[Any, Any]
Phase = Literal["rehearsal", "capture", "repetition"]

Report = Callable[[], None]


class _Work(NamedTuple):
    """Work under way: in a capture, or in a repetition of the host's part of what was ``captured``."""

    phase: Phase
    captured: Captured | None
    alarms: list[tuple[Array, Report]]


_current: Setting[_Work | None] = Setting("captured", None)


def _phase(phase: Phase, captured: Captured | None = None) -> AbstractContextManager[None]:
    return _current.using(_Work(phase, captured, []))


@context
def rehearsing() -> Iterator[None]:
    """Within this context work takes the kernels that it would take in a capture, and runs at once.

    >>> with rehearsing():
    ...     capturing()
    True
    """
    with _phase("rehearsal"):
        yield


# ---- what captured work asks for ------------------------------------------------------------------------------------


def capturing() -> bool:
    """True while work is captured as a CUDA graph, and while it is rehearsed: then it takes the same kernels.

    >>> capturing()
    False
    """
    return _current.get() is not None


def in_capture() -> bool:
    """True while work is captured: its launches are recorded and do not run, so there is nothing to measure."""
    work = _current.get()
    return work is not None and work.phase == "capture"


def repeating() -> bool:
    """True while the host repeats its part of work whose launches a graph holds: nothing must be launched."""
    work = _current.get()
    return work is not None and work.phase == "repetition"


def live(x: Array, values: Values, again: Callable[[], Values] | None = None) -> Array:
    """``values`` as an array where ``x`` is, which a captured launch finds renewed at every replay.

    The new values are those of ``again()``; without it, those of this call when the host repeats its part of the work.

    >>> live(np.zeros(2), np.array([0.1]))
    array([0.1])
    """
    work = _current.get()
    if work is None or work.captured is None:
        return get_array_module(x).asarray(values)
    return work.captured._repeat_slot(values) if repeating() else work.captured._new_slot(values, again)


def alarm(wrong: Array, report: Report) -> None:
    """Call ``report()``, which raises, if ``wrong``, an array of one boolean, is true.

    In a capture, and its rehearsal, that is left to the work itself: :func:`alarms`.

    >>> alarm(np.array(False), lambda: None)
    """
    work = _current.get()
    if work is not None:
        work.alarms.append((wrong, report))
    elif bool(wrong):
        report()


def alarms() -> list[tuple[Array, Report]]:
    """What :func:`alarm` was called with so far in the work under way."""
    work = _current.get()
    return [] if work is None else work.alarms


def refuse_capture(op: str, why: str) -> None:
    """Raise CaptureError if work is captured, or rehearsed for it."""
    if capturing():
        raise CaptureError(f"{op}: it cannot be captured in a CUDA graph: {why}")


# ---- where captured work lives --------------------------------------------------------------------------------------


class Arena:
    """A stream and a pool of memory for captured work: the addresses in its graphs are never given to anybody else.

    It lives as long as its graphs. CuPy frees a pool's unused blocks when memory runs out; of this pool they may belong
    to a graph, so here that is an error.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        with use_device(device):
            import cupy

            self.xp: Any = cupy
            self._stream = cupy.cuda.Stream(non_blocking=True)
        self._take_new_pool()

    def _take_new_pool(self) -> None:
        self._pool = _Pool(self.device)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """A context for work on the arena's stream and in its memory, in turn with the work of the current stream."""
        _give_back()
        with use_device(self.device):
            outer = self.xp.cuda.get_current_stream()
            self._stream.wait_event(outer.record())
            try:
                with self._stream, self.xp.cuda.using_allocator(self._pool.malloc):
                    yield
            except BaseException:
                self._take_new_pool()  # with the old one goes what the work had taken, unless a graph keeps that pool
                raise
            finally:
                outer.wait_event(self._stream.record())

    def rehearse(self, work: Callable[[], Result]) -> Result:
        """Do ``work`` as a capture would take it down: kernels are compiled and measured, and the pool is filled."""
        with self.entered(), rehearsing():
            return work()

    def capture(self, work: Callable[[], Result]) -> tuple[Captured, Result]:
        """Take ``work`` down; nothing of it has run before the first :meth:`Captured.replay`.

        Raises CaptureError that names what cannot be captured.
        """
        with self.entered():
            captured = Captured(self)
            self._stream.begin_capture()
            try:
                with _phase("capture", captured):
                    result = work()
            except BaseException as error:
                with contextlib.suppress(RuntimeError):  # the capture is not valid any more
                    self._stream.end_capture()
                if isinstance(error, RuntimeError) and not isinstance(error, GpunnError):
                    raise CaptureError(_explained(error)) from error
                raise
            captured._graph = self._stream.end_capture()
        return captured, result


class _Pool:
    """A pool of CuPy's whose memory is given back when this goes. CuPy's own keeps its unused blocks even then."""

    def __init__(self, device: str) -> None:
        import cupy

        with use_device(device):
            pool = cupy.cuda.MemoryPool(_allocate)
            pool.set_limit(size=0)  # at a limit it would free what it keeps
        self.malloc = pool.malloc
        weakref.finalize(self, _retire, device, pool).atexit = False


_retired: list[tuple[str, Any]] = []  # pools that nobody takes from any more


def _retire(device: str, pool: Any) -> None:
    _retired.append((device, pool))
    if not in_capture():  # garbage may be collected in one
        _give_back()


def _give_back() -> None:
    """Free what retired pools keep; they go when no unused part is left beside arrays that somebody still has."""
    for device, pool in tuple(_retired):
        with use_device(device):
            pool.free_all_blocks()
            if pool.n_free_blocks() == 0:
                with contextlib.suppress(ValueError):  # another thread has done it
                    _retired.remove((device, pool))


def _allocate(size: int) -> Any:
    import cupy

    cuda = cupy.cuda
    try:
        return cuda.MemoryPointer(cuda.Memory(size), 0)
    except cuda.runtime.CUDARuntimeError:
        cupy.get_default_memory_pool().free_all_blocks()
        _give_back()
    try:
        return cuda.MemoryPointer(cuda.Memory(size), 0)
    except cuda.runtime.CUDARuntimeError as error:
        raise DeviceError(
            f"cuda graph: there is no memory for {size} bytes more ({error}): take smaller batches, or no graph"
        ) from error


class Captured:
    """Work that was captured by :meth:`Arena.capture`."""

    _ROOM = 1 << 16  # bytes for the values of a graph
    _ALIGNMENT = 16

    def __init__(self, arena: Arena) -> None:
        self._arena, self._pool, self._graph = arena, arena._pool, None
        # One buffer for all live values, and so one transfer a replay.
        self._values = arena.xp.zeros(self._ROOM, np.uint8)
        import cupyx

        self._host: Values = cupyx.zeros_pinned(self._ROOM, np.uint8)
        self._copied: Any = None  # the event behind the last transfer from _host
        self._slots: list[tuple[slice, np.dtype[Any], Callable[[], Values] | None]] = []
        self._used = 0
        self._turn: Iterator[int] | None = None

    def __del__(self) -> None:
        # With this goes _host, which CuPy gives to others at once: also while it is read.
        copied = self.__dict__.get("_copied")
        if copied is not None and not sys.is_finalizing():
            copied.synchronize()

    def replay(self, repeat: Callable[[], object] | None = None, *, first: bool = False) -> None:
        """Do the captured work once more, with live values renewed; ``first`` with those of the capture itself.

        ``repeat()`` is the host's part of the work: counters, and what it computes the live values from.
        """
        if not first:
            if self._copied is not None:
                self._copied.synchronize()
            for number, (_, _, again) in enumerate(self._slots):
                if again is not None:
                    self._write(number, again())
            if repeat is not None:
                self._turn = iter([n for n, (_, _, again) in enumerate(self._slots) if again is None])
                with use_device(self._arena.device), _phase("repetition", self):
                    repeat()
                left = list(self._turn)
                check(not left, CaptureError, "cuda graph", _OTHER_WORK, values_left=len(left))
        with self._arena.entered():
            if self._used:
                self._values[: self._used].set(self._host[: self._used])
                self._copied = self._arena.xp.cuda.get_current_stream().record()
            assert self._graph is not None
            self._graph.launch()

    @property
    def counted_values(self) -> int:
        """How many live values the host's part of the work renews."""
        return sum(again is None for _, _, again in self._slots)

    def drawn_again(self) -> bool:
        """Whether what ``again`` gives now, of each live value that has it, is what the capture was given."""
        renewed = [(self._host[place].view(dtype), again()) for place, dtype, again in self._slots if again is not None]
        return all(np.array_equal(old, new) for old, new in renewed)

    def _new_slot(self, values: Values, again: Callable[[], Values] | None) -> Array:
        start, end = self._used, self._used + values.nbytes
        rule = "the captured work has too many values that change"
        check(end <= self._ROOM, CaptureError, "cuda graph", rule, room=self._ROOM, needed=end)
        self._used = -(-end // self._ALIGNMENT) * self._ALIGNMENT
        self._slots.append((slice(start, end), values.dtype, again))
        self._write(len(self._slots) - 1, values)
        return self._values[start:end].view(values.dtype).reshape(values.shape)

    def _repeat_slot(self, values: Values) -> Array:
        number = next(self._turn or iter(()), None)
        check(number is not None, CaptureError, "cuda graph", _OTHER_WORK)
        assert number is not None
        place, dtype, _ = self._slots[number]
        fits = (values.dtype, values.nbytes) == (dtype, place.stop - place.start)
        check(fits, CaptureError, "cuda graph", _OTHER_WORK, dtype=str(values.dtype), bytes=values.nbytes)
        self._write(number, values)
        return self._values[place].view(dtype).reshape(values.shape)

    def _write(self, number: int, values: Values) -> None:
        place, dtype, _ = self._slots[number]
        self._host[place].view(dtype)[...] = values.ravel()


_OTHER_WORK = "the host repeats other work than was captured"


# ---- errors ---------------------------------------------------------------------------------------------------------


def _explained(error: RuntimeError) -> str:
    """What cannot be captured, as CuPy says it, where, and what to do instead."""
    text = str(error)
    if "H2D" in text:
        advice = "copy nothing to the GPU on the way: make constants once, and have the loader place the batches"
    elif isinstance(error, NotImplementedError):
        advice = "of NVIDIA's libraries CuPy lets none be captured; products of two float32 or float64 matrices can be"
    else:
        advice = "read nothing back on the way: no item(), float() or bool(), and nothing that checks values"
    return f"cuda graph: {_place(error)} cannot be captured ({text}): {advice}"


def _place(error: BaseException) -> str:
    """The innermost public function of this library that is on the way to the error, else the innermost of all."""
    frames = traceback.extract_tb(error.__traceback__)
    library, own = str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve())
    inside = [f for f in frames if f.filename.startswith(library) and f.filename != own]
    public = [f for f in inside if not f.name.startswith(("_", "<")) or f.name.endswith("__")]
    frame = (public or inside or list(frames))[-1]
    return f"{frame.name}() ({Path(frame.filename).name}, line {frame.lineno})"
