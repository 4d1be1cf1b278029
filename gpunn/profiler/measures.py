"""What a profile reads at the beginning and at the end of each span: a clock, and the memory in use."""

from __future__ import annotations

import time
import tracemalloc
from typing import Any, Protocol


class Clock(Protocol):
    """Marks that become times later."""

    name: str

    def mark(self) -> int: ...

    def times(self) -> list[int]:
        """The time of each mark so far, in ns."""


class WallClock:
    """The processor's wall clock."""

    name = "wall clock"

    def __init__(self) -> None:
        self._times: list[int] = []

    def mark(self) -> int:
        self._times.append(time.perf_counter_ns())
        return len(self._times) - 1

    def times(self) -> list[int]:
        return self._times


class EventClock:
    """Events on the current stream of the current GPU: the work is not slowed down, nor waited for.

    A mark's time is when the GPU came to it. The times of each GPU are put on the wall clock's line at its first mark.
    """

    name = "CUDA events"

    def __init__(self, cupy: Any) -> None:
        self._cupy = cupy
        self._marks: list[tuple[int, Any]] = []
        self._origins: dict[int, int] = {}

    def mark(self) -> int:
        device = self._cupy.cuda.Device()
        if device.id not in self._origins:
            device.synchronize()
            self._origins[device.id] = time.perf_counter_ns()
        event = self._cupy.cuda.Event()
        event.record()
        self._marks.append((device.id, event))
        return len(self._marks) - 1

    def times(self) -> list[int]:
        last: dict[int, tuple[Any, int]] = {}
        found = []
        for device, event in self._marks:
            with self._cupy.cuda.Device(device):
                event.synchronize()
                at = self._origins[device]
                if device in last:
                    # From mark to mark: the float32 milliseconds since the first one would be coarse in a long run.
                    before, at = last[device]
                    at += round(1e6 * self._cupy.cuda.get_elapsed_time(before, event))
            last[device] = event, at
            found.append(at)
        return found


def choose_clock(cupy: Any) -> Clock:
    """Events where CuPy is in use and has a GPU."""
    return EventClock(cupy) if _has_gpu(cupy) else WallClock()


def _has_gpu(cupy: Any) -> bool:
    if cupy is None:
        return False
    try:
        return bool(cupy.cuda.runtime.getDeviceCount())
    except cupy.cuda.runtime.CUDARuntimeError:
        return False


class Memory(Protocol):
    """Bytes in use."""

    name: str

    def start(self) -> None: ...
    def stop(self) -> None: ...

    def read(self) -> tuple[int, int]:
        """The bytes in use now, and the most that were since the last call."""


class NoMemory:
    """Memory that is not measured."""

    name = "not measured"

    def start(self) -> None: ...
    def stop(self) -> None: ...

    def read(self) -> tuple[int, int]:
        return 0, 0


class TracedMemory:
    """What Python and NumPy have allocated since this began, or since the caller began tracing."""

    name = "tracemalloc"

    def __init__(self) -> None:
        self._was_tracing = tracemalloc.is_tracing()

    def start(self) -> None:
        if not self._was_tracing:
            tracemalloc.start()

    def stop(self) -> None:
        if not self._was_tracing:
            tracemalloc.stop()

    def read(self) -> tuple[int, int]:
        found = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        return found


class PoolMemory:
    """What is in use of CuPy's memory pool on the current GPU, counted as blocks are taken and given back."""

    name = "CuPy's memory pool"

    def __init__(self, cupy: Any) -> None:
        self._cupy = cupy
        self._used = self._peak = 0
        self._device = -1
        self._hook: Any = None

    def start(self) -> None:
        cupy = self._cupy
        self._device = cupy.cuda.Device().id
        self._used = self._peak = cupy.get_default_memory_pool().used_bytes()

        def taken(hook: Any, **block: Any) -> None:
            self._count(block["device_id"], block["mem_size"])

        def given_back(hook: Any, **block: Any) -> None:
            self._count(block["device_id"], -block["mem_size"])

        methods = {"name": "gpunn.profile", "malloc_postprocess": taken, "free_postprocess": given_back}
        self._hook = type("Hook", (cupy.cuda.MemoryHook,), methods)()  # CuPy is not here when this file is imported
        self._hook.__enter__()

    def stop(self) -> None:
        self._hook.__exit__(None, None, None)

    def read(self) -> tuple[int, int]:
        peak, self._peak = self._peak, self._used
        return self._used, peak

    def _count(self, device: int, size: int) -> None:
        if device == self._device:
            self._used += size
            self._peak = max(self._peak, self._used)


def choose_memory(cupy: Any, wanted: bool) -> Memory:
    """The pool's where CuPy is in use and has a GPU."""
    if not wanted:
        return NoMemory()
    return PoolMemory(cupy) if _has_gpu(cupy) else TracedMemory()
