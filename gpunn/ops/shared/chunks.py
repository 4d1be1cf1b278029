"""Work on arrays in chunks that stay in a CPU's cache; on a GPU in one, or in few."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import lru_cache
from typing import Any

import numpy as np

from gpunn.backend import Array, accumulation_dtype
from gpunn.cpu import blas, threads

# Where an operation is several NumPy calls, each of them would read and write its arrays in memory. Smaller chunks than
# these lose more to the calls than they gain; much larger ones leave the cache.
_CHUNK_BYTES = 2 << 20
_BLOCK_BYTES = 1 << 20
_SMALL = 1 << 14  # elements; so few stay in the cache, and views of them take longer than they save
_FEW = 1 << 13  # elements, with which BLAS stays in one thread anyway
_WORTH_THREADS = 3 << 20  # bytes; fewer are done before another thread has begun
_PART_BYTES = 2 << 20  # of a thread: between two operations it waits for the interpreter


def chunks(xp: Any, count: int, nbytes: int, on_cpu: int = 0, on_gpu: int = 0) -> list[slice]:
    """Consecutive slices of range(``count``), an entry of which takes ``nbytes`` bytes of the largest array.

    A slice takes ``on_cpu`` or ``on_gpu`` bytes at most, if that is given, but one entry at least. Else it takes what a
    CPU's cache holds, on a GPU all.

    >>> [part.stop for part in chunks(np, 5, 1_000_000)]
    [2, 4, 5]
    """
    most = (on_cpu or _CHUNK_BYTES) if xp is np else on_gpu
    if count > 0 and (not most or count * nbytes <= most):
        return [slice(0, count)]
    step = max(1, most // max(1, nbytes) if most else count)
    return [slice(start, min(start + step, count)) for start in range(0, count, step)]


def each_block(xp: Any, work: Callable[[slice], object], count: int, nbytes: int) -> None:
    """``work(part)`` for blocks of range(``count``), on the CPU in several threads.

    An entry takes ``nbytes`` bytes of an array; of so much a CPU's cache holds several arrays.
    """
    if xp is np and 0 < count * nbytes <= 4 * _FEW:
        work(slice(0, count))
    else:
        _run(xp, work, _blocks(xp, count, nbytes), count * nbytes)


def each_block_of(xp: Any, work: Callable[..., object], first: Array, *others: Array) -> None:
    """``work(first, *others)``, with some entries at a time of arrays that have as many, as :func:`each_block` does it.

    >>> def double(x, y):
    ...     y[...] = 2 * x
    >>> each_block_of(np, double, np.ones(2), y := np.zeros(2))
    >>> y.tolist()
    [2.0, 2.0]
    """
    if first.size <= _FEW:
        work(first, *others)
    else:
        size = first.size // len(first) * accumulation_dtype(first.dtype).itemsize
        each_block(xp, lambda part: work(first[part], *[a[part] for a in others]), len(first), size)


def each_thread(work: Callable[[slice], object], count: int, pays: bool) -> None:
    """``work(part)`` of range(``count``), in one part for each thread where that pays, else in one.

    >>> each_thread(lambda part: print(part.stop), 3, pays=False)
    3
    """
    parts = threads.count() if pays else 1
    threads.run(work, chunks(np, count, 1, on_cpu=-(-count // parts)))


def _blocks(xp: Any, count: int, nbytes: int) -> list[slice]:
    """They are the same for any number of threads: BLAS may round a row by its place in a block.

    So BLAS, too, has one thread in them.
    """
    return chunks(xp, count, nbytes, on_cpu=_BLOCK_BYTES if count * nbytes < _WORTH_THREADS else _PART_BYTES)


def _run(xp: Any, work: Callable[[Any], object], parts: Sequence[Any], nbytes: int) -> None:
    if xp is np and nbytes >= _WORTH_THREADS:
        threads.run(work, parts)
    else:
        with blas.one_thread() if xp is np and threads.count() > 1 else nullcontext():
            for part in parts:
                work(part)


def block_length(xp: Any, count: int, nbytes: int) -> int:
    """How many entries the first block of :func:`each_block` has, and none has more."""
    return int(_blocks(xp, count, nbytes)[0].stop)


def sum_over_blocks(xp: Any, work: Callable[[slice], Sequence[Array]], count: int, nbytes: int) -> list[Array]:
    """The sums of the arrays that ``work(part)`` gives for the blocks of :func:`each_block`, in the order of these.

    >>> sum_over_blocks(np, lambda part: [np.array([part.stop, 1])], 5, 400_000)
    [array([11,  3])]
    """
    parts = _blocks(xp, count, nbytes)
    if len(parts) == 1 and count * nbytes <= 4 * _FEW:
        return list(work(parts[0]))
    given: list[Any] = [None] * len(parts)

    def block(number: int) -> None:
        given[number] = work(parts[number])

    _run(xp, block, range(len(parts)), count * nbytes)
    totals = list(given[0])
    for more in given[1:]:
        for total, term in zip(totals, more, strict=True):
            total += term
    return totals


def by_element(xp: Any, work: Callable[..., object], *arrays: Array, wide: bool = True) -> Array:
    """``work(out, *arrays)``, which writes a function of the elements of arrays of one shape, in blocks.

    It works in the dtype of sums if ``wide``, on large arrays in one dimension; the result has the shape and dtype of
    the first array.

    >>> by_element(np, lambda out, x: np.square(x, out=out), np.float16([[1, 2]]))
    array([[1., 4.]], dtype=float16)
    """
    first = arrays[0]
    if first.ndim > 0 and first.size <= _SMALL and (not wide or accumulation_dtype(first.dtype) == first.dtype):
        y = xp.empty(first.shape, first.dtype)
        work(y, *arrays)
        return y
    y, acc = xp.empty(first.shape, first.dtype), accumulation_dtype(first.dtype) if wide else first.dtype
    result, flat = y.reshape(-1), [a.reshape(-1) for a in arrays]

    def block(part: slice) -> None:
        out = result[part]
        if acc == first.dtype:
            work(out, *[a[part] for a in flat])
            return
        result_of_sums = xp.empty(out.shape, acc)
        work(result_of_sums, *[a[part].astype(acc, copy=False) for a in flat])
        out[...] = result_of_sums

    each_block(xp, block, y.size, acc.itemsize)
    return y


def cut_off(xp: Any, x: Array, out: Array) -> Array:
    """``max(x, 0)``, written to ``out``; NaN stays NaN."""
    if xp is not np or x.ndim != 1 or x.size > _ZEROS:
        return xp.maximum(x, 0, out=out)
    return np.maximum(x, _zeros(x.dtype)[: x.size], out=out)  # three times as fast as with a single 0


_ZEROS = _PART_BYTES // 4


@lru_cache(8)
def _zeros(dtype: Any) -> Array:
    zeros = np.zeros(_ZEROS, dtype)
    zeros.flags.writeable = False
    return zeros
