"""Times a job in gpunn and in the library it is compared with, on the same numbers.

A benchmark describes a job once, for both sides and both devices: NumPy arrays to begin with, and for each side a
function that takes them, where it computes, and returns what is timed.

On the CPU the two take turns in one process, with one thread, and what counts is the processor's time, which other
programs disturb little. With more threads, the number of which is OMP_NUM_THREADS, each side wants a process of its own
(``--side gpunn``, ``--side peer``), for in one process the threads of one that wait disturb the other; what counts then
is the time on the wall. Two such processes take turns if they are given the same empty folder (``--turns``).

On a GPU (CuPy arrays for gpunn, CUDA tensors for PyTorch) CUDA events time, each side by itself, and the inputs go
round: as many copies of them as are three times the L2 cache, so that no run finds its own in there.
"""

from __future__ import annotations

import importlib.util
import itertools
import math
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from importlib import metadata
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_info
from turns import Turns

import gpunn
from gpunn import backend, tensor
from gpunn import functional as F
from gpunn.cpu import onednn

SIDES = ("gpunn", "peer")
DEVICES = ("cpu", "gpu")

Run = Callable[[], object]
"""What is timed."""
Prepare = Callable[..., Run]
"""Takes the job's arrays, where they are to be computed with, and returns what is timed."""

CEILING = "ceiling: "
TRAINING = "training: "
"""Begin the names of what the machine itself can do, and of the jobs that go forward and backward through public
calls; behind it is the family."""

_PACKAGES = ("numpy", "cupy-cuda12x", "cupy-cuda13x", "torch", "scikit-image")
_WARM_UP_RUNS = 2
_SECONDS = 0.25  # of measuring, for each side of a job
_LEAST_ROUNDS, _MOST_ROUNDS = 3, 40
_LONG = 0.1  # seconds of a run that warms up enough, the first time
_A_ROUND = 2e-3  # at least so many seconds, on the CPU: a clock takes about 1e-6
_A_TURN = 30e-3  # the same where the other side's round is another process's
_WARM_UP_OF_A_TURN = 5e-3  # seconds, after that process's turn; at most, of a run
_LAUNCHES_A_ROUND = 20  # on a GPU: the events around them cost some microseconds too
_MOST_COPIES, _MOST_COPIED_BYTES = 64, 4 << 30


def arrays(*shapes: tuple[int, ...], dtype: Any = np.float32) -> list[np.ndarray]:
    """Normal random numbers, the same for every call; a million of them, which come again in larger arrays."""
    generator = np.random.default_rng(0)
    drawn = [generator.standard_normal(min(math.prod(shape), 1_000_003), dtype=np.float32) for shape in shapes]
    return [np.resize(a.astype(dtype, copy=False), shape) for a, shape in zip(drawn, shapes, strict=True)]


def threads() -> int:
    """How many threads each library has on the CPU."""
    return int(os.environ.get("OMP_NUM_THREADS", "1"))


def clock() -> tuple[Callable[[], float], str]:
    """What times on the CPU, and what it counts."""
    if threads() == 1:
        return time.process_time, "processor time"
    return time.perf_counter, "time on the wall"


def measured_by(alone: str = "") -> dict[str, Any]:
    """The packages, the libraries that compute on the CPU in this process, their threads, and what the clock counts.

    Of gpunn it is told whether it has oneDNN, unless the peer is ``alone`` here.
    """
    installed = {dist.name for dist in metadata.distributions()}
    packages = {"gpunn": gpunn.__version__}
    packages |= {name: metadata.version(name) for name in _PACKAGES if name in installed}
    libraries = []
    if alone != "peer":
        library, _ = onednn.found()
        libraries.append("gpunn without oneDNN" if library is None else f"gpunn's oneDNN {library.version_text}")
    pools = threadpool_info()
    names = [f"{each['internal_api']} {each['version'] or ''}".strip() for each in pools]
    libraries += sorted(f"{name}: {each['num_threads']}" for name, each in zip(names, pools, strict=True))
    return {"packages": packages, "libraries": libraries, "threads": threads(), "clock": clock()[1]}


def why_not(device: str, side: str, peer: str = "PyTorch") -> str:
    """Why a side cannot be timed on a device; an empty string where it can."""
    if device == "gpu" and (reason := backend.why_no_gpu()):
        return reason
    if side == "peer" and peer == "PyTorch":
        if not importlib.util.find_spec("torch"):
            return "PyTorch is not installed"
        if device == "gpu" and not torch.cuda.is_available():
            return "PyTorch has no GPU here"
    return ""


class _PyTorch:
    """PyTorch, imported when something of it is first asked for: gpunn is measured without it, too."""

    def __getattr__(self, name: str) -> Any:
        import torch

        return getattr(torch, name)


torch: Any = _PyTorch()


@dataclass
class Settings:
    """What is asked of a session, and what its jobs took: the seconds of each round, by job and shape, then side.

    A side that is ``alone`` here may have ``turns`` with the process of the other.
    """

    only: str = ""
    alone: str = ""
    seconds: float = _SECONDS
    turns: Turns | None = None
    taken: dict[tuple[str, str], dict[str, list[float]]] = field(default_factory=dict)

    def asks_for(self, job: str, shape: str) -> bool:
        """The ceilings always: without them no fraction of them could be told."""
        return job.startswith(CEILING) or fnmatchcase(f"{job} {shape}".lower(), f"*{self.only.lower()}*")


class Bench:
    """One side of a job on one device; ``fixture`` gives pytest-benchmark's, which wants to be used once asked for."""

    def __init__(
        self, fixture: Callable[[], Any], device: str, side: str, settings: Settings | None = None
    ) -> None:  # fmt: skip
        self.fixture, self.device, self.side, self.settings = fixture, device, side, settings or Settings()

    def batch(self, cpu: int, gpu: int) -> int:
        """How many images: a GPU needs more of them before it is busy."""
        return cpu if self.device == "cpu" else gpu

    def measure(
        self,
        job: str,
        shape: str,
        inputs: Sequence[np.ndarray] | Callable[[], Sequence[np.ndarray]],
        gpunn: Prepare,
        peer: Prepare | None,
        *,
        moved: int = 0,
        operations: int = 0,
        unit: str = "fp32",
        peer_name: str = "PyTorch",
        rotate: bool = True,
        timer: Callable[[], float] | None = None,
    ) -> None:
        """Time this side, and record what ``report.py`` needs.

        ``moved`` counts the bytes of every array that must be read or written, once; ``operations`` the
        multiplications and additions, done by ``unit`` (``"fp32"``, ``"tf32"``, ``"bf16"`` or ``"fp16"``). Another
        ``peer_name`` than PyTorch is a library of the CPU: it gets NumPy arrays. Without ``rotate`` there is one set
        of inputs: a training step brings its own model. ``timer`` is the CPU's, if another than :func:`clock`.
        """
        self._skip_unless_asked_for(job, shape)
        if reason := why_not(self.device, self.side, peer_name):
            pytest.skip(reason)
        sides = {"gpunn": gpunn, "peer": peer}
        if sides[self.side] is None:
            pytest.skip("this side has no such job")
        given = inputs() if callable(inputs) else inputs
        about: dict[str, Any] = {"bytes": moved, "operations": operations, "unit": unit}
        if self.device == "gpu":
            about["machine"] = gpu_name()
        on = place(self.device, self.side, peer_name)
        if on in ("cupy", "torch.cuda"):
            copies = copies_past_cache(sum(a.nbytes for a in given), cache_bytes()) if rotate else 1
            runs = [sides[self.side](*(moved_to(on, a) for a in given)) for _ in range(copies)]
            seconds = time_with_events(runs, events(on), self.settings.seconds)
        else:
            seconds = self._in_turn((job, shape), sides, given, peer_name, timer or clock()[0])
        self._record(job, shape, seconds, peer_name, **about)

    def _skip_unless_asked_for(self, job: str, shape: str) -> None:
        if not self.settings.asks_for(job, shape):
            pytest.skip("not asked for")

    def _in_turn(
        self, job: tuple[str, str], sides: Mapping[str, Prepare | None], given: Sequence[np.ndarray], peer_name: str,
        timer: Callable[[], float],
    ) -> list[float]:  # fmt: skip
        """The seconds of this side of a job on the CPU: it is timed when the first side is asked for, for both."""
        if job not in self.settings.taken:
            settings, runs = self.settings, {}
            alone = self.side if self.device == "gpu" else settings.alone
            there = [side for side, prepare in sides.items() if prepare and not why_not("cpu", side, peer_name)]
            turns = settings.turns if len(there) == len(SIDES) else None

            def make_runs() -> float:
                for side in there:
                    if alone in ("", side):
                        runs[side] = sides[side](*(moved_to(place("cpu", side, peer_name), a) for a in given))
                return 0.0

            if turns:
                turns.begin()
            _take(turns, make_runs)
            settings.taken[job] = time_in_turn(runs, timer, settings.seconds, turns)
        return self.settings.taken[job][self.side]

    def training(
        self,
        family: str,
        name: str,
        shapes: Sequence[tuple[int, ...]],
        out: tuple[int, ...],
        function: Callable[..., Any],
        *,
        theirs: Callable[..., Any] | None = None,
        data: Sequence[np.ndarray] = (),
        read_again: bool = True,
        operations: int = 0,
    ) -> None:
        """Time ``function(F, *tensors, *data)`` and its backward pass, as a user of either library calls them.

        F is ``gpunn.functional`` or ``torch.nn.functional``, the tensors are of ``shapes`` and need gradients, ``data``
        (indices, labels) do not; the result is of shape ``out``, which may be ``()`` for a loss. ``theirs`` is
        PyTorch's function, where it differs. Forward the inputs are read and the result is written, backward its
        gradient is read, those of the inputs are written and, with ``read_again``, the inputs are read once more.
        ``operations`` counts those of both passes.
        """
        count, scalar = len(shapes), out == ()

        def prepare(library: Any, call: Callable[..., Any], needs_gradient: Callable[[Any], Any]) -> Prepare:
            def prepared(gy: Any, *arrays: Any) -> Run:
                leaves, rest = [needs_gradient(a) for a in arrays[:count]], arrays[count:]
                above = () if scalar else (gy,)

                def run() -> None:
                    for leaf in leaves:
                        leaf.grad = None
                    call(library(), *leaves, *rest).backward(*above)

                return run

            return prepared

        ours = prepare(lambda: F, function, lambda a: tensor(a, requires_grad=True))
        its = prepare(lambda: torch.nn.functional, theirs or function, lambda a: a.requires_grad_())
        floats = sum(map(math.prod, shapes)) * (3 if read_again else 2) + 2 * math.prod(out)
        moved = 4 * floats + 2 * sum(a.nbytes for a in data)
        self.measure(
            TRAINING + family, f"{name} {shapes[0]}", lambda: [*arrays(out, *shapes), *data], ours, its, moved=moved,
            operations=operations,
        )  # fmt: skip

    def record(
        self, job: str, shape: str, measured: Callable[[], Sequence[float]], peer_name: str, **about: Any
    ) -> None:  # fmt: skip
        """Record the times that ``measured`` has of this side of a job, which the other side has, too."""
        self._skip_unless_asked_for(job, shape)
        seconds: list[float] = []

        def measure() -> float:
            seconds.extend(measured())
            return 0.0

        if self.settings.turns:
            self.settings.turns.begin()
        _take(self.settings.turns, measure)
        self._record(job, shape, seconds, peer_name, **about)

    def _record(self, job: str, shape: str, seconds: Sequence[float], peer_name: str, **about: Any) -> None:
        """Record the median of ``seconds`` and how the quartiles spread."""
        benchmark = self.fixture()
        benchmark.group = f"{self.device} {job} {shape}"
        benchmark.extra_info.update(
            {"bytes": 0, "operations": 0, "unit": "fp32"} | about, device=self.device, side=self.side, peer=peer_name,
            job=job, shape=shape, seconds=statistics.median(seconds), quartiles=quartiles(seconds), rounds=len(seconds),
        )  # fmt: skip
        benchmark.pedantic(lambda: None, rounds=1)  # it is to be among the results
        if benchmark.stats is not None:  # with --benchmark-disable there are none
            benchmark.stats.stats.data[:] = seconds  # for --benchmark-compare: the time of nothing at all says nothing


def quartiles(seconds: Sequence[float]) -> list[float]:
    """The first and the third."""
    return [float(value) for value in np.quantile(seconds, [0.25, 0.75])]


def time_in_turn(
    runs: Mapping[str, Run], timer: Callable[[], float], seconds: float, turns: Turns | None = None
) -> dict[str, list[float]]:  # fmt: skip
    """The seconds of a run in each round, by side; in a round each side runs, so often that the timer can tell.

    With ``turns`` a round of the other process follows each.
    """
    round_seconds = _A_TURN if turns else _A_ROUND
    once, often = {}, {}
    found: dict[str, list[float]] = {side: [] for side in runs}

    def warm_up() -> float:
        for side, run in runs.items():
            for _ in range(1 + _WARM_UP_RUNS):
                once[side] = _seconds(run, 1, timer)
                if once[side] > _LONG:
                    break
            often[side] = max(1, round(round_seconds / max(once[side], 1e-7)))
        return 0.0

    def take_turns() -> float:
        for side, run in runs.items():
            if turns and once[side] < _LONG:
                _seconds(run, math.ceil(_WARM_UP_OF_A_TURN / max(once[side], 1e-7)), timer)
            found[side].append(_seconds(run, often[side], timer))
        return max(times[-1] * often[side] for side, times in found.items())

    _take(turns, warm_up)
    longest = _take(turns, take_turns)
    for _ in range(rounds_for(longest, seconds) - 1):
        _take(turns, take_turns)
    return found


def _seconds(run: Run, often: int, timer: Callable[[], float]) -> float:
    """Of one run, in the mean."""
    times = range(often)
    start = timer()
    for _ in times:
        run()
    return (timer() - start) / often


def _take(turns: Turns | None, work: Callable[[], float]) -> float:
    return turns.take(work) if turns else work()


def time_with_events(runs: Sequence[Run], elapsed: Callable[[Run], float], seconds: float) -> list[float]:
    """The seconds of a run on a GPU in each round, by the events of the device."""
    in_turn = itertools.cycle(runs)
    launches = max(_LAUNCHES_A_ROUND, len(runs))

    def launch() -> None:
        for run in itertools.islice(in_turn, launches):
            run()

    for _ in range(_WARM_UP_RUNS):
        guess = elapsed(launch)
    return [elapsed(launch) / launches for _ in range(rounds_for(guess, seconds))]


def rounds_for(once: float, seconds: float) -> int:
    """How often to repeat what takes ``once``."""
    return min(_MOST_ROUNDS, max(_LEAST_ROUNDS, round(seconds / max(once, 1e-9))))


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

    cupy.get_default_memory_pool().free_all_blocks()
    if not why_not("gpu", "peer"):
        torch.cuda.empty_cache()


def gpu_name() -> str:
    import cupy

    return cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)["name"].decode()


def torch_precision(name: str) -> None:
    """Let PyTorch's float32 products and convolutions use tf32, for ``"tf32"``, or not."""
    chosen = "tf32" if name == "tf32" else "ieee"
    torch.backends.cuda.matmul.fp32_precision = chosen
    torch.backends.cudnn.conv.fp32_precision = chosen


# ---- PyTorch's gradients --------------------------------------------------------------------------------------------


def gradient(y: Any, inputs: Sequence[Any], gy: Any) -> Run:
    """PyTorch's backward pass alone, from ``y`` to the gradients of ``inputs``, as often as it is called."""
    return lambda: torch.autograd.grad(y, inputs, gy, retain_graph=True)
