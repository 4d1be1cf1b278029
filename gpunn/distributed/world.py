"""The ranks of a run, and what they do together."""

from __future__ import annotations

import os
import platform
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

import gpunn
from gpunn.backend import Array, check_array, check_device, gpu_count, is_floating
from gpunn.distributed.line import Line, Pending
from gpunn.distributed.mpi import REDUCTIONS, Mpi, differences, mpi, same
from gpunn.errors import ArgumentError, DistributedError, DtypeError, ShapeError, check, check_number, check_sizes, fail


class World:
    """The ranks that work together; :func:`init` makes that of all, :meth:`split` smaller ones.

    ``rank`` is this process's number, ``size`` how many there are, ``local_rank`` the number among those of this
    machine, ``device`` where this rank computes. All ranks call the same methods in the same order, with equal shapes
    and dtypes.

    >>> from gpunn import distributed
    >>> world = distributed.init()
    >>> world.rank, world.size, world.local_rank, world.device
    (0, 1, 0, 'cpu')
    """

    def __init__(self, mpi: Mpi | None, local_rank: int, device: str, name: str = "world") -> None:
        self.rank, self.size = (mpi.rank, mpi.size) if mpi else (0, 1)
        self.local_rank, self.device = local_rank, device
        self._mpi, self._name = mpi, name
        self._turn = threading.Lock()
        self._line = Line(f"gpunn {name}")

    def __repr__(self) -> str:
        return f"World(rank={self.rank}, size={self.size}, device={self.device!r})"

    # ---- arrays ----------------------------------------------------------------------------------------------------

    def all_reduce(self, array: Array, op: str = "sum") -> Array:
        """Reduce ``array`` over all ranks, in place, and return it: ``"sum"``, ``"mean"``, ``"max"`` or ``"min"``.

        >>> from gpunn import distributed
        >>> distributed.init().all_reduce(np.float32([1, 2]), "max")
        array([1., 2.], dtype=float32)

        Raises ArgumentError for another ``op`` and an array that is not contiguous or writable, DtypeError for a dtype
        that cannot be reduced so, DistributedError where ranks call different things.
        """
        _check_reduction("all_reduce", array, op)
        _check_in_place("all_reduce", array)
        return self._call(_text("all_reduce", array, op), self._all_reduce(array, op), array)

    def start_all_reduce(self, array: Array, op: str = "sum") -> Pending:
        """:meth:`all_reduce` behind the caller, who leaves ``array`` alone until ``wait`` of what it gets has ended.

        Those that are started run one after another, in the order of the calls, in a thread of their own.

        >>> from gpunn import distributed
        >>> pending = distributed.init().start_all_reduce(np.float32([1, 2]))
        >>> pending.wait()
        array([1., 2.], dtype=float32)

        Raises what :meth:`all_reduce` raises; DistributedError comes from ``wait``.
        """
        _check_reduction("start_all_reduce", array, op)
        _check_in_place("start_all_reduce", array)
        return self._start(_text("all_reduce", array, op), self._all_reduce(array, op), array)

    def _all_reduce(self, array: Array, op: str) -> Callable[[Mpi], None]:
        def work(mpi: Mpi) -> None:
            with _on_host(array) as host:
                mpi.all_reduce(host.reshape(-1), op)

        return work

    def broadcast(self, array: Array, root: int = 0) -> Array:
        """Fill ``array`` with that of the rank ``root``, in place, and return it.

        >>> from gpunn import distributed
        >>> distributed.init().broadcast(np.arange(3))
        array([0, 1, 2])

        Raises ArgumentError for a rank that is none and an array that is not contiguous or writable.
        """
        check_array("broadcast", array=array)
        _check_in_place("broadcast", array)
        self._check_root("broadcast", root)

        def work(mpi: Mpi) -> None:
            with _on_host(array) as host:
                mpi.broadcast(host.reshape(-1), root)

        return self._call(_text("broadcast", array, root), work, array)

    def all_gather(self, array: Array) -> Array:
        """The arrays of all ranks, of equal shapes: a new array (size, ...) in the order of the ranks.

        >>> from gpunn import distributed
        >>> distributed.init().all_gather(np.arange(3))
        array([[0, 1, 2]])
        """
        check_array("all_gather", array=array)
        array = _contiguous(array)
        if self.size == 1:
            return array[None].copy()
        out = _empty_like(array, (self.size, *array.shape))

        def work(mpi: Mpi) -> None:
            with _on_host(array, back=False) as host, _on_host(out) as every:
                mpi.all_gather(host.reshape(-1), every)

        return self._call(_text("all_gather", array), work, out)

    def reduce_scatter(self, array: Array, op: str = "sum") -> Array:
        """The rank's own of ``size`` equal pieces of the flat ``array``, reduced over all ranks: a new array.

        >>> from gpunn import distributed
        >>> distributed.init().reduce_scatter(np.float32([1, 2]))
        array([1., 2.], dtype=float32)

        Raises ShapeError for an array that is not flat, or whose length ``size`` does not divide; DtypeError for a
        dtype that cannot be reduced so.
        """
        _check_reduction("reduce_scatter", array, op)
        rule = "the array must be flat, of a length that the ranks divide"
        divides = array.ndim == 1 and array.size % self.size == 0
        check(divides, ShapeError, "reduce_scatter", rule, shape=array.shape, ranks=self.size)
        array = _contiguous(array)
        if self.size == 1:
            return array.copy()
        out = _empty_like(array, (array.size // self.size,))

        def work(mpi: Mpi) -> None:
            with _on_host(array, back=False) as host, _on_host(out) as piece:
                mpi.reduce_scatter(host, piece, op)

        return self._call(_text("reduce_scatter", array, op), work, out)

    # ---- objects ---------------------------------------------------------------------------------------------------

    def gather_objects(self, value: Any, root: int = 0) -> list[Any] | None:
        """The small Python objects of all ranks, as a list on the rank ``root``; None on the others.

        >>> from gpunn import distributed
        >>> distributed.init().gather_objects({"loss": 0.5})
        [{'loss': 0.5}]
        """
        self._check_root("gather_objects", root)
        every = self._all_gather_objects("gather_objects", value)
        return every if self.rank == root else None

    def broadcast_object(self, value: Any, root: int = 0) -> Any:
        """The small Python object of the rank ``root``.

        >>> from gpunn import distributed
        >>> distributed.init().broadcast_object("runs/digits-1")
        'runs/digits-1'
        """
        self._check_root("broadcast_object", root)
        every = self._all_gather_objects("broadcast_object", value if self.rank == root else None)
        return every[root]

    def agree(self, what: str, value: Any) -> None:
        """Check that ``value``, a small Python object, is equal on all ranks.

        >>> from gpunn import distributed
        >>> distributed.init().agree("the seed", 0)

        Raises DistributedError on every rank, which names the ranks that differ and what each has.
        """
        every = self._all_gather_objects("agree", (what, value))
        if not all(same(each, every[0]) for each in every):
            asked = [name for name, _ in every]
            if len(set(asked)) > 1:
                fail(DistributedError, "agree", f"all ranks must be asked the same: {differences(asked)}")
            found = differences([each for _, each in every])
            raise DistributedError(f"agree: {what} must be the same on all ranks, got {found}")

    def _all_gather_objects(self, name: str, value: Any) -> list[Any]:
        if self.size == 1:
            return [value]
        found: list[Any] = []
        self._call(name, lambda mpi: found.extend(mpi.all_gather_objects(value)), None)
        return found

    # ---- ranks -----------------------------------------------------------------------------------------------------

    def barrier(self) -> None:
        """Wait until all ranks are here.

        >>> from gpunn import distributed
        >>> distributed.init().barrier()
        """
        self._call("barrier", lambda mpi: mpi.barrier(), None)

    def split(self, color: int, key: int) -> World:
        """A world of the ranks that give the same ``color``, in the order of ``key``, then of their ranks here.

        >>> from gpunn import distributed
        >>> world = distributed.init()
        >>> towers = world.split(color=world.rank // 2, key=world.rank)  # pairs: ranks 0 and 1, 2 and 3, ...
        >>> towers.rank, towers.size
        (0, 1)

        Raises ArgumentError for a ``color`` that is no integer of at least 0, or a ``key`` that is none.
        """
        check_sizes("split", 0, color=color, key=key)
        made: list[Mpi] = []
        self._call("split", lambda mpi: made.append(mpi.split(color, key)), None)
        return World(made[0] if made else None, self.local_rank, self.device, f"{self._name}.{color}")

    @contextmanager
    def busy(self, what: str) -> Iterator[None]:
        """A context in which this rank is right to take long: the others wait for it without a limit.

        >>> from gpunn import distributed
        >>> with distributed.init().busy("writing a checkpoint"):
        ...     pass
        """
        yield

    # ---- how it is done --------------------------------------------------------------------------------------------

    def _call(self, text: str, work: Callable[[Mpi], None], result: Any) -> Any:
        if self.size == 1:
            return result
        if self._line.busy:
            return self._start(text, work, result).wait()
        return self._do(text, work, result)

    def _start(self, text: str, work: Callable[[Mpi], None], result: Any) -> Pending:
        if self.size == 1:
            pending = Pending(lambda: result)
            pending.run()
            return pending
        return self._line.put(lambda: self._do(text, work, result))

    def _do(self, text: str, work: Callable[[Mpi], None], result: Any) -> Any:
        assert self._mpi is not None
        with self._turn:
            self._mpi.announce(text)
            work(self._mpi)
        return result

    def _check_root(self, op: str, root: int) -> None:
        check_sizes(op, 0, root=root)
        check(root < self.size, ArgumentError, op, "root must be one of the ranks", root=root, ranks=self.size)


def _text(name: str, array: Array, *settings: object) -> str:
    """A call in words, the same on all ranks."""
    kind = "NumPy" if isinstance(array, np.ndarray) else "CuPy"
    return " ".join(map(str, (name, *settings, f"of {kind} {array.dtype}", array.shape)))


def _check_reduction(op: str, array: Array, reduction: str) -> None:
    check_array(op, array=array)
    rule = f"the reduction must be one of {', '.join(REDUCTIONS)}"
    check(reduction in REDUCTIONS, ArgumentError, op, rule, reduction=reduction)
    dtype = array.dtype
    if not is_floating(dtype):
        allowed = {"i": ("sum", "max", "min"), "u": ("sum", "max", "min"), "b": ("max", "min")}.get(dtype.kind, ())
        rule = "a mean is of floats, a sum of floats or integers, max and min of these and bool"
        check(reduction in allowed, DtypeError, op, rule, reduction=reduction, dtype=str(dtype))


def _check_in_place(op: str, array: Array) -> None:
    strides = array.strides
    check(
        array.flags.c_contiguous, ArgumentError, op, "the array must be contiguous", shape=array.shape, strides=strides
    )
    writable = not isinstance(array, np.ndarray) or array.flags.writeable
    check(writable, ArgumentError, op, "the array must be writable", shape=array.shape)


def _contiguous(array: Array) -> Array:
    if isinstance(array, np.ndarray):
        return np.ascontiguousarray(array).reshape(array.shape)
    with array.device:
        return sys.modules["cupy"].ascontiguousarray(array).reshape(array.shape)


def _empty_like(array: Array, shape: tuple[int, ...]) -> Array:
    if isinstance(array, np.ndarray):
        return np.empty(shape, array.dtype)
    with array.device:
        return sys.modules["cupy"].empty(shape, array.dtype)


@contextmanager
def _on_host(array: Array, back: bool = True) -> Iterator[Any]:
    """``array`` in memory of the CPU; a CuPy array by way of pinned memory, and ``back`` when the context is left."""
    if isinstance(array, np.ndarray):
        yield array
        return
    import cupyx

    with array.device:
        host = cupyx.empty_pinned(array.shape, array.dtype)
        array.get(out=host)
        yield host
        if back:
            array.set(host)


# ---- the start -----------------------------------------------------------------------------------------------------

_STARTED = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_RANK", "PMI_RANK", "MV2_COMM_WORLD_SIZE", "PALS_RANKID")
"""What mpirun and srun of the MPIs there are put into the environment of a rank."""

_world: World | None = None


def init(device: str = "cpu", timeout: float = 25.0, *, ranks: int | None = None) -> World:
    """The world of all ranks that ``mpirun`` started with this one; called again, the same one.

    Without ``mpirun`` that is one rank. ``device`` is ``"cpu"``, or ``"gpu"``: on each machine its first rank has the
    first GPU, the second rank the second, and so on, in turn where there are fewer. ``ranks``, if given, is how many
    there must be.

    >>> from gpunn import distributed
    >>> distributed.init()
    World(rank=0, size=1, device='cpu')

    Raises DistributedError for another number of ranks, or ranks with other versions or devices; PackageError without
    mpi4py; ArgumentError and DeviceError for a device that is none, or not there.
    """
    global _world
    check_number("init", timeout=timeout)
    check(device in ("cpu", "gpu", "cuda"), ArgumentError, "init", 'device must be "cpu" or "gpu"', device=device)
    if _world is None:
        _world = _start(device)
    check(_world.device[:3] == ("cpu" if device == "cpu" else "gpu"), ArgumentError, "init", "device may not change")
    if ranks is not None and ranks != _world.size:
        rule = f"start it with mpirun -n {ranks}"
        fail(DistributedError, "init", f"{rule}, it was asked for that many ranks", ranks=ranks, started=_world.size)
    return _world


def _start(device: str) -> World:
    if "mpi4py.MPI" not in sys.modules and not any(name in os.environ for name in _STARTED):
        return World(None, 0, check_device(device))
    comm = mpi("init").COMM_WORLD
    expected = os.environ.get("OMPI_COMM_WORLD_SIZE") or os.environ.get("PMI_SIZE")
    if expected and int(expected) != comm.Get_size():
        rule = "mpi4py must use the MPI whose mpirun started the ranks"
        fail(DistributedError, "init", rule, started=int(expected), mpi4py=comm.Get_size())
    machine = comm.Split_type(mpi("init").COMM_TYPE_SHARED)
    local_rank = machine.Get_rank()
    machine.Free()
    chosen = "cpu" if device == "cpu" else f"gpu:{local_rank % max(gpu_count(), 1)}"
    if comm.Get_size() == 1:
        return World(None, 0, check_device(chosen))
    world = World(Mpi(comm), local_rank, chosen)
    world.agree("the version of gpunn", gpunn.__version__)
    world.agree("the version of Python", platform.python_version())
    world.agree("the version of NumPy", np.__version__)
    world.agree("the device", chosen[:3])
    check_device(chosen)
    return world
