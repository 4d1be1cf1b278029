"""Measure which configuration of a kernel is the fastest, and keep the choice.

Outside :func:`autotune` a function of the shapes alone decides, so that runs are reproducible; so it does in
:func:`deterministic` and where NumPy arrays are computed with, whose emulator has no times worth comparing.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from gpunn.backend import Array, get_array_module
from gpunn.context import Setting, context
from gpunn.cuda import cache, source

Choice = TypeVar("Choice")

_autotune: Setting[bool] = Setting("autotune", False)
_deterministic: Setting[bool] = Setting("deterministic", False)


@context
def autotune() -> Iterator[None]:
    """Within this context convolutions on a GPU use, for each shape, the configuration that was measured fastest.

    What has not been measured is: 3 to 8 configurations of tiles and of splits of the sum, some twenty launches each.
    The choices are kept in the user's cache folder, by operation, dtype, shape, device and kernel source, and found
    there by later processes, within this context only. Another configuration sums in another order: results can
    differ from those outside in their last bits. Not for use while a CUDA graph is being captured.

    >>> import gpunn, gpunn.functional as F
    >>> with gpunn.cuda.autotune():
    ...     F.conv2d(np.ones((1, 1, 3, 3)), np.ones((1, 1, 3, 3)))
    array([[[[9.]]]])
    """
    with _autotune.using(True):
        yield


@context
def deterministic() -> Iterator[None]:
    """Within this context :func:`autotune` has no effect, outside or inside of it: no choice depends on a time.

    Kernels give the same bits in every run in any case; here the same bits do not depend on what was measured either.

    >>> import gpunn
    >>> with gpunn.cuda.deterministic(), gpunn.cuda.autotune():
    ...     in_use()
    False
    """
    with _deterministic.using(True):
        yield


def in_use() -> bool:
    """True within :func:`autotune` and not within :func:`deterministic`."""
    return _autotune.get() and not _deterministic.get()


def fastest(
    op: str,
    file: str,
    shape: Sequence[int],
    candidates: Sequence[Choice],
    usual: Choice,
    run: Callable[..., object],
    arrays: Sequence[Array],
) -> Choice:
    """The candidate that makes ``run(candidate, *arrays)`` the shortest, or ``usual`` where nothing is tuned.

    Candidates are dataclasses; ``op`` and ``shape`` tell apart what needs choices of its own. ``run`` is called with
    copies of ``arrays`` too, and must write to no others.
    """
    device = _device(arrays[0]) if in_use() else None
    if device is None:
        return usual
    import hashlib  # these would slow down every `import gpunn`
    import json

    dtype = str(arrays[0].dtype)
    key: dict[str, object] = {"op": op, "dtype": dtype, "shape": list(shape), "device": device, "source": _digest(file)}
    path = _folder() / f"{op}-{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:32]}.json"
    if path not in _known:
        # A choice of which this process could not keep a file is remembered all the same.
        found = next((read for place in cache.places(path) if (read := _read(place, key, candidates))), None)
        _known[path] = _measure_and_keep(path, key, candidates, run, arrays) if found is None else found
    return _known[path]  # type: ignore[no-any-return]


_known: dict[Path, Any] = {}


def _folder() -> Path:
    return cache.folder() / "tuned"


def kept() -> int:
    """How many choices lie in the cache folder."""
    return len(list(_folder().glob("*.json")))


def _measure_and_keep(
    path: Path,
    key: dict[str, object],
    candidates: Sequence[Choice],
    run: Callable[..., object],
    arrays: Sequence[Array],
) -> Choice:
    import json

    times = [measure(functools.partial(run, candidate), arrays) for candidate in candidates]
    best = times.index(min(times))
    choice: Any = candidates[best]
    described = {"key": key, "choice": asdict(choice), "seconds": times[best]}
    with contextlib.suppress(OSError):  # neither in the cache, of which a warning has told, nor elsewhere
        cache.store(path, json.dumps(described).encode())
    return candidates[best]


def _read(path: Path, key: dict[str, object], candidates: Sequence[Any]) -> Any:
    """The candidate that the file names, or None: not there, not whole, of another key, or no longer a candidate."""
    import json

    try:
        stored = json.loads(path.read_bytes())
        if stored["key"] != key:
            return None
        return next((candidate for candidate in candidates if asdict(candidate) == stored["choice"]), None)
    except (OSError, ValueError, KeyError, TypeError):
        return None


@functools.cache
def _digest(file: str) -> str:
    import hashlib

    return hashlib.sha256(source.flatten(file).encode()).hexdigest()


def _device(x: Array) -> str | None:
    """The GPU that computes with ``x``: its name and number of multiprocessors. None for NumPy arrays."""
    xp = get_array_module(x)
    if xp is np:
        return None
    device = xp.cuda.Device()
    name = xp.cuda.runtime.getDeviceProperties(device.id)["name"].decode()
    return f"{name}, {device.attributes['MultiProcessorCount']} multiprocessors"


# ---- the clock -------------------------------------------------------------------------------------------------------

_REPEATS = 15
_HEAD_START_FILLS = 8


def measure(run: Callable[..., object], arrays: Sequence[Array]) -> float:
    """The median time in seconds of ``run(*arrays)`` on the GPU, by CUDA events, with nothing of it in the L2 cache.

    Runs take turns at copies of ``arrays`` that fill the cache twice over. The GPU is given other work first, so that
    it is the runs that are timed and not how fast Python launches them.
    """
    xp = get_array_module(*arrays)
    cached = 2 * max(int(xp.cuda.Device().attributes["L2CacheSize"]), 1)
    copies = -(-cached // max(1, sum(a.nbytes for a in arrays)))
    turns = [arrays, *(tuple(a.copy() for a in arrays) for _ in range(min(copies, _REPEATS - 1)))]
    run(*turns[0])  # compiles, and fills the pool of memory
    filler = xp.empty(4 * cached, xp.uint8)
    marks = [xp.cuda.Event() for _ in range(_REPEATS + 1)]
    for _ in range(_HEAD_START_FILLS):
        filler.fill(0)
    marks[0].record()
    for i, mark in enumerate(marks[1:]):
        run(*turns[i % len(turns)])
        mark.record()
    marks[-1].synchronize()
    times = sorted(float(xp.cuda.get_elapsed_time(a, b)) for a, b in itertools.pairwise(marks))
    return times[len(times) // 2] / 1000
