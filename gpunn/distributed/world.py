"""The ranks of a run, and what they do together."""

from __future__ import annotations

import atexit
import os
import platform
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np

import gpunn
from gpunn.backend import Array, check_array, check_device, gpu_count, is_floating, use_device, why_no_gpu
from gpunn.distributed.line import Line, Pending, communicating, waiting
from gpunn.distributed.mpi import REDUCTIONS, Mpi, differences, library, same
from gpunn.distributed.nccl import Nccl
from gpunn.distributed.nccl import library as nccl_library
from gpunn.distributed.watch import Watch
from gpunn.errors import (
    ArgumentError,
    DeviceError,
    DistributedError,
    DtypeError,
    GpunnError,
    ShapeError,
    check,
    check_number,
    check_sizes,
    fail,
)


@dataclass
class Shared:
    """What all worlds of a process have in common."""

    local_rank: int = 0
    device: str = "cpu"
    agreed: bool = False
    watch: Watch | None = None
    link: float | None = None
    via: str = "host"
    """What moves CuPy arrays: "nccl"; "mpi", which reads the memory of GPUs; or "host", which MPI moves that of."""
    lines: list[Line] = field(default_factory=list)


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

    def __init__(self, shared: Shared, mpi: Mpi | None, members: tuple[int, ...], name: str = "world") -> None:
        self.rank: int = mpi.rank if mpi else 0
        self.size: int = len(members)
        self.local_rank, self.device = shared.local_rank, shared.device
        self._shared, self._mpi, self._members, self._name = shared, mpi, members, name
        self._nccl: Nccl | None = None
        self._splits = 0
        self._turn = threading.Lock()
        self._line = Line(f"gpunn {name}")
        shared.lines.append(self._line)
        self._connect()

    def __repr__(self) -> str:
        return f"World(rank={self.rank}, size={self.size}, device={self.device!r})"

    def __deepcopy__(self, memo: object) -> World:
        """A copy of a model that holds a world is one of the same ranks."""
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        rule = "a part of the ranks cannot be pickled with what holds it: save a state_dict()"
        check(self is current(), ArgumentError, "World", rule, ranks=self.size)
        return _all_ranks, ()

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
        return self._call(self._all_reduce(array, op))

    def start_all_reduce(self, array: Array, op: str = "sum") -> Pending:
        """:meth:`all_reduce` behind the caller, who leaves ``array`` alone until ``wait`` of what it gets has ended.

        Those that are started run one after another, in the order of the calls, in a thread of their own.

        >>> from gpunn import distributed
        >>> pending = distributed.init().start_all_reduce(np.float32([1, 2]))
        >>> pending.wait()
        array([1., 2.], dtype=float32)

        Raises what :meth:`all_reduce` raises; DistributedError comes from ``wait``, or ends the program at its end.
        """
        _check_reduction("start_all_reduce", array, op)
        _check_in_place("start_all_reduce", array)
        return self._start(self._all_reduce(array, op))

    def _all_reduce(self, array: Array, op: str) -> Collective:
        ready = _event(array)

        def work(mpi: Mpi) -> Array:
            with self._route(mpi, ready, array) as (way, flat, _):
                way.all_reduce(flat, op)
            return array

        return Collective(_text("all_reduce", array, op), work, array, 2 * self._others * array.nbytes)

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

        ready = _event(array)

        def work(mpi: Mpi) -> Array:
            with self._route(mpi, ready, array) as (way, flat, _):
                way.broadcast(flat, root)
            return array

        return self._call(Collective(_text("broadcast", array, "from", root), work, array, array.nbytes))

    def all_gather(self, array: Array) -> Array:
        """The arrays of all ranks, of equal shapes: a new array (size, ...) in the order of the ranks.

        >>> from gpunn import distributed
        >>> distributed.init().all_gather(np.arange(3))
        array([[0, 1, 2]])
        """
        check_array("all_gather", array=array)
        array = _contiguous(array)
        out = _empty_like(array, (self.size, *array.shape))
        if self.size == 1:
            out[0] = array
            return out

        ready = _event(array)

        def work(mpi: Mpi) -> Array:
            with self._route(mpi, ready, array, out) as (way, flat, every):
                way.all_gather(flat, every)
            return out

        return self._call(Collective(_text("all_gather", array), work, out, self._others * out.nbytes))

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

        ready = _event(array)

        def work(mpi: Mpi) -> Array:
            with self._route(mpi, ready, array, out) as (way, flat, piece):
                way.reduce_scatter(flat, piece, op)
            return out

        return self._call(Collective(_text("reduce_scatter", array, op), work, out, self._others * array.nbytes))

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
        found: list[Any] = self._call(Collective(name, lambda mpi: mpi.all_gather_objects(value), [value]))
        return found

    # ---- ranks -----------------------------------------------------------------------------------------------------

    def barrier(self) -> None:
        """Wait until all ranks are here.

        >>> from gpunn import distributed
        >>> distributed.init().barrier()
        """
        self._call(Collective("barrier", lambda mpi: mpi.barrier(), None))

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
        self._splits += 1

        def work(mpi: Mpi) -> tuple[Mpi, tuple[int, ...]]:
            made = mpi.split(color, key)
            return made, tuple(made.all_gather_objects(self._members[self.rank]))

        mpi, members = self._call(Collective("split", work, (None, self._members)))
        return World(self._shared, mpi, members, f"{self._name}.{self._splits}.{color}")

    def busy(self, what: str) -> AbstractContextManager[None]:
        """A context in which this rank is right to take long: the others wait for it without a limit.

        >>> from gpunn import distributed
        >>> with distributed.init().busy("writing a checkpoint"):
        ...     pass
        """
        return nullcontext() if self._shared.watch is None else self._shared.watch.busy(what)

    def fail(self, cause: BaseException | str) -> NoReturn:
        """End this program on all ranks, with a message that names this rank and the cause, and the exit code 1.

        Where all ranks do so with the same error of gpunn's, it is shown once, and the exit code is 2. An exception
        that nobody catches does this by itself, and shows its traceback.

        >>> from gpunn import distributed
        >>> distributed.init().fail("the disk is full")
        Traceback (most recent call last):
        gpunn.errors.DistributedError: the disk is full

        With one rank it is raised.
        """
        watch = self._shared.watch
        if watch is not None and watch.watching:
            watch.fail(cause)
        raise cause if isinstance(cause, BaseException) else DistributedError(cause)

    # ---- how it is done --------------------------------------------------------------------------------------------

    @property
    def _others(self) -> float:
        return (self.size - 1) / self.size

    def _call(self, collective: Collective) -> Any:
        if self.size == 1:
            return collective.alone
        if self._line.busy:
            return self._start(collective).wait()
        return waiting(collective.text, communicating(collective.text, lambda: self._do(collective)))

    def _start(self, collective: Collective) -> Pending:
        if self.size == 1:
            pending = Pending(collective.text, lambda: collective.alone)
            pending.run()
            return pending
        self._check_process()
        return self._line.put(collective.text, lambda: self._do(collective))

    def _do(self, collective: Collective) -> Any:
        mpi, watch, link = self._mpi, self._shared.watch, self._shared.link
        assert mpi is not None
        assert watch is not None
        self._check_process()
        with self._turn, watch.inside(self._name, self._members, collective.text):
            began = time.perf_counter()
            mpi.announce(collective.text)
            result = collective.work(mpi)
            if link is not None:
                time.sleep(max(0.0, collective.moved / link - (time.perf_counter() - began)))
        return result

    def _check_process(self) -> None:
        watch = self._shared.watch
        assert watch is not None
        rule = "a process that a rank has forked is no rank"
        check(os.getpid() == watch.process, DistributedError, "distributed", rule, pid=os.getpid(), rank=watch.process)

    def _connect(self) -> None:
        if self._shared.via == "nccl" and self.size > 1:
            with use_device(self.device):
                self._nccl = self._call(Collective("connect NCCL", Nccl, None))

    @contextmanager
    def _route(
        self, mpi: Mpi, ready: Any, array: Array, out: Array | None = None
    ) -> Iterator[tuple[Mpi | Nccl, Array, Array | None]]:
        """What moves the array, and the flat array and ``out`` in the memory that it takes.

        What a CuPy array needs runs on a stream of its own when ``ready`` is, and has ended when the context is left.
        """
        if isinstance(array, np.ndarray):
            yield mpi, array.reshape(-1), out
            return
        import cupy
        import cupyx

        result = array if out is None else out
        with array.device, cupy.cuda.Stream(non_blocking=True) as stream:
            stream.wait_event(ready)
            if self._nccl is not None and self._nccl.takes(array):
                yield self._nccl, array.reshape(-1), out
                mpi.compare()
                while not stream.done:
                    time.sleep(5e-5)
            elif self._shared.via == "mpi":
                yield mpi, array.reshape(-1), out
            else:
                host = cupyx.empty_pinned(array.shape, array.dtype)
                array.get(out=host, stream=stream)
                received = host if out is None else cupyx.empty_pinned(out.shape, out.dtype)
                yield mpi, host.reshape(-1), None if out is None else received
                result.set(received, stream=stream)
            stream.synchronize()

    def _check_root(self, op: str, root: int) -> None:
        check_sizes(op, 0, root=root)
        check(root < self.size, ArgumentError, op, "root must be one of the ranks", root=root, ranks=self.size)


@dataclass(frozen=True)
class Collective:
    """A call of all ranks."""

    text: str
    """The same on all ranks."""
    work: Callable[[Mpi], Any]
    alone: Any
    """What it gives where there is one rank."""
    moved: float = 0
    """The bytes that a rank sends at least."""


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


def _event(array: Array) -> Any:
    """For a CuPy array, when all that its device's current stream has to do now is done."""
    if isinstance(array, np.ndarray):
        return None
    with array.device:
        return sys.modules["cupy"].cuda.get_current_stream().record()


# ---- the start -----------------------------------------------------------------------------------------------------

_STARTED = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_RANK", "PMI_RANK", "MV2_COMM_WORLD_SIZE", "PALS_RANKID")
"""What mpirun and srun of the MPIs there are put into the environment of a rank."""

_TIMEOUT = 25.0

_world: World | None = None


def init(
    device: str = "cpu",
    timeout: float = _TIMEOUT,
    *,
    ranks: int | None = None,
    via: str | None = None,
    link: float | None = None,
) -> World:
    """The world of all ranks that ``mpirun`` started with this one; called again, the same one.

    Without ``mpirun`` that is one rank. ``device`` is ``"cpu"``, or ``"gpu"``: on each machine its first rank has the
    first GPU, the second rank the second, and so on, in turn where there are fewer. ``ranks``, if given, is how many
    there must be. A rank for which the others wait for longer than ``timeout`` seconds, or that shows no sign of life
    for as long, ends all of them; see :meth:`World.busy`. To begin they wait for one another for two minutes at least,
    and then end without knowing for whom. ``via`` is what moves CuPy arrays: ``"nccl"``; ``"mpi"``, for
    an MPI that reads the memory of GPUs ("CUDA-aware"); ``"host"``, for any MPI, by way of pinned memory. The default
    is NCCL where CuPy has it and each rank a GPU of its own, else the host. ``link``, or the environment variable
    ``GPUNN_LINK``, makes the ranks as slow as on a link of that many bytes a second, for trials.

    >>> from gpunn import distributed
    >>> distributed.init()
    World(rank=0, size=1, device='cpu')

    Raises DistributedError for another number of ranks, and ranks with other versions or devices; PackageError without
    mpi4py; ArgumentError for a setting that is none, DeviceError for a device or an NCCL that is not there.
    """
    global _world
    try:
        rate = _checked(device, timeout, via, link)
    except GpunnError:
        _world = _world or _started(_TIMEOUT, None)  # then the ranks, which may all be told so, say it once
        raise
    if _world is None:
        _world = _started(timeout, rate)
    kind = "cpu" if device == "cpu" else "gpu"
    if not _world._shared.agreed:
        _agree(_world, kind, via)
    elif _world.device[:3] != kind:
        fail(ArgumentError, "init", "the device may not change", device=device, before=_world.device)
    if ranks is not None and ranks != _world.size:
        rule = f"start the program with mpirun -n {ranks}"
        fail(DistributedError, "init", rule, ranks=ranks, started=_world.size)
    return _world


def started() -> bool:
    """Whether ``mpirun``, or what a cluster has in its place, started this process, as one of several or alone.

    Also if MPI is in use already.

    >>> started()
    False
    """
    return "mpi4py.MPI" in sys.modules or any(name in os.environ for name in _STARTED)


def current() -> World | None:
    """What :func:`init` gave, for code that is to work with one rank too; None before."""
    return _world


def _all_ranks() -> World:
    """Where a pickle of the world of all ranks is read, it is that of those there."""
    return current() or init()


def _checked(device: str, timeout: float, via: str | None, link: float | None) -> float | None:
    """The rate of the link."""
    check_number("init", timeout=timeout)
    check(timeout > 0, ArgumentError, "init", "timeout must be more than 0", timeout=timeout)
    check(via in (None, "nccl", "mpi", "host"), ArgumentError, "init", "via must be nccl, mpi or host", via=via)
    check(device in ("cpu", "gpu", "cuda"), ArgumentError, "init", 'device must be "cpu" or "gpu"', device=device)
    given = os.environ.get("GPUNN_LINK", "") if link is None else link
    if given == "":
        return None
    try:
        found = float(given)
    except (TypeError, ValueError):
        found = 0.0
    check(found > 0, ArgumentError, "init", "link must be more than 0 bytes a second", link=given)
    return found


def _started(timeout: float, link: float | None) -> World:
    if not started():
        return World(Shared(), None, (0,))
    processes = sys.modules.get("multiprocessing")
    if "__mp_main__" in sys.modules or (processes is not None and processes.parent_process() is not None):
        # It would take the rank's place in the memory that ranks share.
        rule = "a process that a rank starts, as of a DataLoader, is no rank: call it under if __name__ == '__main__'"
        fail(DistributedError, "init", rule)
    MPI = library("init", timeout)
    comm = MPI.COMM_WORLD
    expected = os.environ.get("OMPI_COMM_WORLD_SIZE") or os.environ.get("PMI_SIZE")
    if expected and int(expected) != comm.Get_size():
        rule = "mpi4py must use the MPI whose mpirun started the ranks"
        fail(DistributedError, "init", rule, started=int(expected), mpi4py=comm.Get_size())
    if comm.Get_size() == 1:
        return World(Shared(), None, (0,))
    # A thread that looks after a collective gets its turn beside one that computes in Python: Python's default is 5 ms.
    sys.setswitchinterval(min(sys.getswitchinterval(), 2e-4))
    watch = Watch(comm, timeout)
    watch.start()
    machine = comm.Split_type(MPI.COMM_TYPE_SHARED)
    shared = Shared(machine.Get_rank(), watch=watch, link=link)
    machine.Free()
    atexit.register(_leave, shared, watch)
    return World(shared, Mpi(comm), tuple(range(comm.Get_size())))


def _agree(world: World, device: str, via: str | None) -> None:
    """Choose where this rank computes, and see to it that the ranks fit together."""
    shared = world._shared
    if world.size == 1:
        world.device = shared.device = check_device(device)
        shared.agreed = True
        return
    world.agree("the version of gpunn", gpunn.__version__)
    world.agree("the version of Python", platform.python_version())
    world.agree("the version of NumPy", np.__version__)
    world.agree("the device", device)
    world.agree("what moves CuPy arrays", via)
    if device == "gpu":
        own = ("", _gpu(shared.local_rank), _why_no_nccl()) if not why_no_gpu() else (why_no_gpu(), "", "")
        every = world._all_gather_objects("GPUs", own)
        by_nccl = via is None
        for rank, (no_gpu, gpu, no_nccl) in enumerate(every):
            check(not no_gpu, DeviceError, "init", f"rank {rank} has no GPU: {no_gpu}")
            users = [str(other) for other, (_, its, _) in enumerate(every) if its == gpu]
            if len(users) > 1:
                no_nccl = f"ranks {', '.join(users)} share a GPU"
            check(via != "nccl" or not no_nccl, DeviceError, "init", f"rank {rank} cannot use NCCL: {no_nccl}")
            by_nccl = by_nccl and not no_nccl
        world.device = shared.device = f"gpu:{shared.local_rank % gpu_count()}"
        shared.via = "nccl" if by_nccl else via or "host"
        world._connect()
    shared.agreed = True


def _gpu(local_rank: int) -> str:
    """Which one of all machines' GPUs this rank has: its number is 0 for each rank that is shown one GPU alone."""
    import cupy

    return f"{socket.gethostname()} {cupy.cuda.Device(local_rank % gpu_count()).pci_bus_id}"


def _why_no_nccl() -> str:
    return "" if nccl_library() else "CuPy finds none: pip install nvidia-nccl-cu12, or nvidia-nccl-cu13"


def _leave(shared: Shared, watch: Watch) -> None:
    """The end of the program: what was started is done, and no rank leaves before the others are there."""
    if not watch.watching:
        return
    untold = [error for error in [line.close() for line in shared.lines] if error is not None]
    if not untold:
        watch.leave()
        return
    try:
        watch.fail(untold[0])
    except SystemExit as end:  # which would change nothing here
        sys.stdout.flush()
        os._exit(end.code if isinstance(end.code, int) else 1)
