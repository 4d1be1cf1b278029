"""Times a job in gpunn and in the library it is compared with, on the same numbers, in one process.

A benchmark describes a job once, for both sides and both devices: NumPy arrays to begin with, and for each side a
function that takes them, where it computes, and returns what is timed. On the CPU pytest-benchmark's clock times it. On
a GPU (CuPy arrays for gpunn, CUDA tensors for PyTorch) CUDA events do, and the inputs go round: as many copies of them
as are three times the L2 cache, so that no run finds its own in there.
"""

from __future__ import annotations

import itertools
import math
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from gpunn import backend

SIDES = ("gpunn", "peer")
DEVICES = ("cpu", "gpu")

Run = Callable[[], object]
"""What is timed."""
Prepare = Callable[..., Run]
"""Takes the job's arrays, where they are to be computed with, and returns what is timed."""

_WARM_UP_RUNS = 2
_SECONDS = 0.25  # of measuring, for each side of a job
_LEAST_ROUNDS, _MOST_ROUNDS = 5, 40
_LAUNCHES_A_ROUND = 20  # on a GPU: the events around them cost some microseconds too
_MOST_COPIES, _MOST_COPIED_BYTES = 64, 4 << 30


def arrays(*shapes: tuple[int, ...], dtype: Any = np.float32) -> list[np.ndarray]:
    """Normal random numbers, the same for every call; a million of them, which come again in larger arrays."""
    generator = np.random.default_rng(0)
    drawn = [generator.standard_normal(min(math.prod(shape), 1_000_003), dtype=np.float32) for shape in shapes]
    return [np.resize(a.astype(dtype, copy=False), shape) for a, shape in zip(drawn, shapes, strict=True)]


def why_not(device: str, side: str, peer: str = "PyTorch") -> str:
    """Why a side cannot be timed on a device; an empty string where it can."""
    if device == "gpu" and (reason := backend.why_no_gpu()):
        return reason
    if side == "peer" and peer == "PyTorch" and device == "gpu":
        import torch

        return "" if torch.cuda.is_available() else "PyTorch has no GPU here"
    return ""


class Bench:
    """One side of a job on one device; ``fixture`` gives pytest-benchmark's, which wants to be used once asked for."""

    def __init__(self, fixture: Callable[[], Any], device: str, side: str) -> None:
        self.fixture, self.device, self.side = fixture, device, side

    def batch(self, cpu: int, gpu: int) -> int:
        """How many images: a GPU needs more of them before it is busy."""
        return cpu if self.device == "cpu" else gpu

    def measure(
        self,
        job: str,
        shape: str,
        inputs: Sequence[np.ndarray],
        gpunn: Prepare,
        peer: Prepare | None,
        *,
        moved: int = 0,
        operations: int = 0,
        unit: str = "fp32",
        peer_name: str = "PyTorch",
        rotate: bool = True,
    ) -> None:
        """Time this side, and record what ``report.py`` needs.

        ``moved`` counts the bytes of every array that must be read or written, once; ``operations`` the
        multiplications and additions, done by ``unit`` (``"fp32"``, ``"tf32"``, ``"bf16"`` or ``"fp16"``). Another
        ``peer_name`` than PyTorch is a library of the CPU: it gets NumPy arrays. Without ``rotate`` there is one set
        of inputs: a training step brings its own model.
        """
        if reason := why_not(self.device, self.side, peer_name):
            pytest.skip(reason)
        prepare = gpunn if self.side == "gpunn" else peer
        if prepare is None:
            pytest.skip("the peer has no such job")
        on = place(self.device, self.side, peer_name)
        size = sum(a.nbytes for a in inputs)
        copies = copies_past_cache(size, cache_bytes()) if on != "numpy" and on != "torch" and rotate else 1
        runs = [prepare(*(moved_to(on, a) for a in inputs)) for _ in range(copies)]
        benchmark = self.fixture()
        benchmark.group = f"{self.device} {job} {shape}"
        benchmark.extra_info.update(
            device=self.device, side=self.side, peer=peer_name, job=job, shape=shape, bytes=moved,
            operations=operations, unit=unit,
        )  # fmt: skip
        if on in ("numpy", "torch"):
            time_with_clock(benchmark, runs[0])
        else:
            time_with_events(benchmark, runs, events(on))
        if self.device == "gpu":
            benchmark.extra_info["machine"] = gpu_name()

    def record(self, job: str, shape: str, seconds: dict[str, float], peer_name: str) -> None:
        """Record the time of this side of a job of which both sides were timed together, elsewhere."""
        benchmark = self.fixture()
        benchmark.group = f"{self.device} {job} {shape}"
        benchmark.extra_info.update(
            device=self.device, side=self.side, peer=peer_name, job=job, shape=shape, bytes=0, operations=0,
            unit="fp32", seconds=seconds[self.side],
        )  # fmt: skip
        benchmark.pedantic(lambda: None, rounds=1)


def time_with_clock(benchmark: Any, run: Run) -> None:
    """Times on the CPU: pytest-benchmark's."""
    for _ in range(_WARM_UP_RUNS):
        run()
    start = time.perf_counter()
    run()
    benchmark.pedantic(run, rounds=rounds_for(time.perf_counter() - start))


def time_with_events(benchmark: Any, runs: Sequence[Run], elapsed: Callable[[Run], float]) -> None:
    """Times on a GPU: pytest-benchmark's are those of the host; ``seconds`` is added, the device's for one run."""
    in_turn = itertools.cycle(runs)
    launches = max(_LAUNCHES_A_ROUND, len(runs))

    def launch() -> None:
        for run in itertools.islice(in_turn, launches):
            run()

    for _ in range(_WARM_UP_RUNS):
        guess = elapsed(launch)
    seconds: list[float] = []
    benchmark.pedantic(lambda: seconds.append(elapsed(launch) / launches), rounds=rounds_for(guess))
    benchmark.extra_info["seconds"] = statistics.median(seconds)


def rounds_for(seconds: float) -> int:
    """How often to repeat what takes ``seconds``."""
    return min(_MOST_ROUNDS, max(_LEAST_ROUNDS, round(_SECONDS / max(seconds, 1e-9))))


def copies_past_cache(size: int, cache: int) -> int:
    """How many copies of ``size`` bytes are three times ``cache``; fewer where that were too many."""
    wanted = -(-3 * cache // max(size, 1)) + 1
    return max(1, min(wanted, _MOST_COPIES, _MOST_COPIED_BYTES // max(size, 1)))


# ---- devices --------------------------------------------------------------------------------------------------------


def place(device: str, side: str, peer_name: str) -> str:
    """Whose arrays a side computes with: ``"numpy"``, ``"cupy"``, ``"torch"`` or ``"torch.cuda"``."""
    if side == "gpunn":
        return "numpy" if device == "cpu" else "cupy"
    if peer_name != "PyTorch":
        return "numpy"
    return "torch" if device == "cpu" else "torch.cuda"


def moved_to(on: str, array: np.ndarray) -> Any:
    """A copy of ``array`` as one of :func:`place`."""
    if on == "numpy":
        return array.copy()
    if on == "cupy":
        import cupy

        return cupy.array(array)
    import torch

    tensor = torch.from_numpy(array.copy())
    return tensor if on == "torch" else tensor.cuda()


def events(on: str) -> Callable[[Run], float]:
    """A function that gives the seconds between two CUDA events around what it calls."""
    if on == "cupy":
        import cupy

        start, end = cupy.cuda.Event(), cupy.cuda.Event()

        def of_cupy(run: Run) -> float:
            start.record()
            run()
            end.record()
            end.synchronize()
            return float(cupy.cuda.get_elapsed_time(start, end)) * 1e-3

        return of_cupy

    import torch

    begin, finish = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)

    def of_torch(run: Run) -> float:
        begin.record()
        run()
        finish.record()
        finish.synchronize()
        return float(begin.elapsed_time(finish)) * 1e-3

    return of_torch


def cache_bytes() -> int:
    """The L2 cache of the GPU."""
    import cupy

    return int(cupy.cuda.Device().attributes["L2CacheSize"])


def free_memory() -> None:
    """Give back what CuPy and PyTorch keep of the GPU's memory, each for itself."""
    import cupy
    import torch

    cupy.get_default_memory_pool().free_all_blocks()
    torch.cuda.empty_cache()


def gpu_name() -> str:
    import cupy

    return cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)["name"].decode()


def torch_precision(name: str) -> None:
    """Let PyTorch's float32 products and convolutions use tf32, for ``"tf32"``, or not."""
    import torch

    chosen = "tf32" if name == "tf32" else "ieee"
    torch.backends.cuda.matmul.fp32_precision = chosen
    torch.backends.cudnn.conv.fp32_precision = chosen


# ---- PyTorch's gradients --------------------------------------------------------------------------------------------


def gradient(y: Any, inputs: Sequence[Any], gy: Any) -> Run:
    """PyTorch's backward pass alone, from ``y`` to the gradients of ``inputs``, as often as it is called."""
    import torch

    return lambda: torch.autograd.grad(y, inputs, gy, retain_graph=True)
