"""Batches of a data set, made ahead of their use by threads or processes, in an order that does not depend on them.

An epoch is a pure function of the data set, the seed and the epoch's number. So where a run was, is three integers.
"""

from __future__ import annotations

import hashlib
import pickle
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from contextvars import copy_context
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import numpy as np

from gpunn.backend import check_device, default_generator, gpu_count
from gpunn.data.collate import default_collate
from gpunn.data.dataset import Dataset, Indices
from gpunn.data.sampler import (
    BatchSampler,
    FixedSizeBatches,
    RandomSampler,
    Sampler,
    SequentialSampler,
    batch_generator,
    order_generator,
    own_share,
    seed_global_generators,
)
from gpunn.data.staging import staged
from gpunn.errors import ArgumentError, DataError, check, check_sizes, fail

if TYPE_CHECKING:
    from gpunn.data.processes import Processes

_STATE = ("seed", "epoch", "batches", "batches_per_epoch", "samples")


class DataLoader:
    """Iterate over a data set in batches; each ``for`` loop over the loader is one epoch.

    ``batch_size`` samples make a batch, ``shuffle`` visits them in a new random order each epoch, ``drop_last`` leaves
    out a shorter last batch. A ``sampler`` decides the order instead of ``shuffle``, a ``batch_sampler`` the batches
    instead of all four.

    ``transform(sample, generator)`` may change each sample, ``collate(samples)`` puts them together, and
    ``augment(batch, generator)`` may change the batch. The generator is the stream of ``(seed, epoch, batch number)``.

    ``workers`` make batches ahead of their use, at most ``prefetch`` of them each; with 0 the caller makes each batch
    when it asks for it. Workers are threads, which suit what leaves the interpreter's lock (NumPy, decoding, reading
    files); or processes (``worker_kind="process"``) for Python code that holds it. Processes need data set, transform,
    collate and augment that can be pickled, so made of functions and classes of a module (not lambdas). They live as
    long as the loader, and each holds its own copy of the data set, sent again if an epoch begins with another: let
    that be files rather than arrays. A script that uses them keeps its start under ``if __name__ == "__main__":``.

    ``seed`` is drawn from the default generator if it is None. ``device`` moves the arrays of each batch there; for a
    GPU through pinned memory on a stream of its own, while the last batch is computed with.

    The batches depend on the seed and nothing else: not on the workers, not on their timing. That holds for what draws
    from the generators it is given. A data set may also draw from the global ones (``random``, ``numpy.random`` and
    gpunn's default generator): in worker processes they are seeded anew for each batch, from (seed, epoch, batch
    number), so that the batches are the same with any number of processes; threads and the caller share theirs, so
    that no number comes twice, but which sample gets it depends on the timing. A generator that the data set holds is
    copied to every process, and gives the same numbers in each: use ``transform`` instead.

    >>> from gpunn.data import ArrayDataset
    >>> loader = DataLoader(ArrayDataset(np.arange(5)), batch_size=2, shuffle=True, seed=0, workers=2)
    >>> [batch.tolist() for batch in loader]
    [[0, 2], [4, 1], [3]]

    Raises DataError in the loop, with the number of the sample, when a sample or a batch cannot be made.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        batch_size: int = 1,
        shuffle: bool = False,
        sampler: Sampler | None = None,
        batch_sampler: BatchSampler | None = None,
        drop_last: bool = False,
        *,
        transform: Callable[[Any, np.random.Generator], Any] | None = None,
        collate: Callable[[Sequence[Any]], Any] = default_collate,
        augment: Callable[[Any, np.random.Generator], Any] | None = None,
        workers: int = 0,
        worker_kind: Literal["thread", "process"] = "thread",
        prefetch: int = 2,
        seed: int | None = None,
        device: str | None = None,
    ) -> None:
        rule = "a batch_sampler stands alone: leave batch_size, shuffle, sampler and drop_last out"
        alone = batch_sampler is None or (batch_size == 1 and not shuffle and sampler is None and not drop_last)
        check(alone, ArgumentError, "DataLoader", rule, batch_size=batch_size, shuffle=shuffle, drop_last=drop_last)
        rule = "a sampler decides the order: leave shuffle out"
        check(sampler is None or not shuffle, ArgumentError, "DataLoader", rule, shuffle=shuffle)
        check_sizes("DataLoader", batch_size=batch_size, prefetch=prefetch)
        check_sizes("DataLoader", 0, workers=workers)
        rule = 'worker_kind must be "thread" or "process"'
        check(worker_kind in ("thread", "process"), ArgumentError, "DataLoader", rule, worker_kind=worker_kind)
        if seed is None:
            seed = int(default_generator().integers(1 << 63))
        valid = isinstance(seed, int | np.integer) and not isinstance(seed, bool) and 0 <= seed < 1 << 64
        check(valid, ArgumentError, "DataLoader", "seed must be an integer from 0 to 2^64 - 1", seed=seed)
        if sampler is None:
            sampler = RandomSampler(dataset) if shuffle else SequentialSampler(dataset)
        self.batch_sampler = batch_sampler or FixedSizeBatches(sampler, batch_size, drop_last)
        self.workers, self.worker_kind, self.prefetch = workers, worker_kind, prefetch
        self.device = None if device is None else check_device(device)
        self._job = _Job(dataset, transform, collate, augment, seed)
        self._rank, self._ranks = 0, 1
        self._epoch = self._batches = 0
        self._at_start = True  # the next loop begins at (_epoch, _batches), instead of with the epoch after it
        self._resting: Processes | None = None  # between two epochs
        self._digest = b""  # of what they were sent
        self._current: object = None  # the loop whose position the state is

    @property
    def dataset(self) -> Dataset[Any]:
        """The data set that the samples come from."""
        return self._job.dataset

    def __len__(self) -> int:
        """The number of batches of an epoch."""
        return len(self.batch_sampler)

    @property
    def seed(self) -> int:
        """What the order of the samples and the streams of the batches come from."""
        return self._job.seed

    def share(self, rank: int, ranks: int) -> None:
        """From the next loop on give ``rank`` of so many ``ranks`` its share of each batch; None if that is empty.

        The shares of a batch follow one another in the order of the ranks, and their lengths differ by at most one: all
        ranks together have the samples of one process, in its order, whatever their number. The state is that of the
        whole, so another number of ranks can go on. Only ``transform`` and ``augment`` draw other numbers on another
        number of ranks: each rank has the stream of ``(seed, epoch, batch number, rank)``.

        >>> from gpunn.data import ArrayDataset
        >>> loader = DataLoader(ArrayDataset(np.arange(5)), batch_size=4)
        >>> loader.share(rank=1, ranks=2)
        >>> list(loader)
        [array([2, 3]), None]

        Raises ArgumentError for a ``rank`` that is none of them, a data set of fewer samples than ranks, and a
        ``batch_size`` that they do not divide.
        """
        op = "DataLoader.share"
        check_sizes(op, ranks=ranks)
        check_sizes(op, 0, rank=rank)
        check(rank < ranks, ArgumentError, op, "rank must be below the number of ranks", rank=rank, ranks=ranks)
        samples = len(self.dataset)
        check(samples >= ranks, ArgumentError, op, "each rank must have a sample", samples=samples, ranks=ranks)
        size = getattr(self.batch_sampler, "batch_size", ranks)
        check(size % ranks == 0, ArgumentError, op, "the ranks must divide batch_size", batch_size=size, ranks=ranks)
        self._rank, self._ranks = rank, ranks

    def __iter__(self) -> Iterator[Any]:
        """Begin the next epoch, or, after :meth:`load_state_dict`, the rest of the one that was saved."""
        if not self._at_start:
            self._epoch, self._batches = self._epoch + 1, 0
        self._at_start = False
        self._current = loop = object()
        return self._loop(loop, self._epoch, self._batches)

    def _loop(self, loop: object, epoch: int, first: int) -> Iterator[Any]:
        tasks = self._tasks(epoch, first)
        batches = self._in_caller(tasks) if self.workers == 0 else self._ahead(tasks)
        with closing(staged(batches, self.device) if self.device else batches) as ready:
            for number, batch in enumerate(ready, first + 1):
                if self._current is loop:
                    self._batches = number
                yield batch
        if self._current is loop:
            self._epoch, self._batches, self._at_start = epoch + 1, 0, True

    def _tasks(self, epoch: int, first: int) -> Iterator[_Task]:
        order = self.batch_sampler.batches(order_generator(self._job.seed, epoch))[first:]
        if self._ranks > 1:
            order = [own_share(np.asarray(indices), self._rank, self._ranks) for indices in order]
        return ((epoch, first + i, self._rank, np.asarray(indices)) for i, indices in enumerate(order))

    def __getstate__(self) -> dict[str, Any]:
        """Without the processes that rest, and apart from a loop under way."""
        return vars(self) | {"_resting": None, "_current": None}

    # ---- workers ---------------------------------------------------------------------------------------------------

    def _in_caller(self, tasks: Iterator[_Task]) -> Generator[Any, None, None]:
        for task in tasks:
            yield self._job.make(*task)

    def _ahead(self, tasks: Iterator[_Task]) -> Generator[Any, None, None]:
        workers = self._threads() if self.worker_kind == "thread" else self._processes()
        under_way = 0
        try:
            for task in islice(tasks, self.workers * self.prefetch):
                workers.submit(*task)
                under_way += 1
            while under_way:
                batch = workers.result()
                under_way -= 1
                for task in islice(tasks, 1):  # before the batch is handed out: workers are busy while it is used
                    workers.submit(*task)
                    under_way += 1
                yield batch
                del batch
        finally:
            # Also where the loop is left early, or by Ctrl-C: what has not begun never does, what has is waited for.
            self._leave(workers)

    def _threads(self) -> _Threads:
        return _Threads(self.workers, self._job.make)

    def _processes(self) -> Processes:
        """Those of the epoch before, as they take long to start; others if what they were sent has changed."""
        try:
            job = pickle.dumps(self._job, protocol=5)
        except Exception as error:  # whatever an object's __reduce__ raises
            raise ArgumentError(
                "DataLoader: worker processes need a data set, transform, collate and augment that can be pickled "
                f'({type(error).__name__}: {error}): use functions and classes of a module, or worker_kind="thread"'
            ) from error
        from gpunn.data.processes import Processes  # with multiprocessing: it would slow down `import gpunn.data`

        digest = hashlib.sha256(job).digest()
        resting, self._resting = self._resting, None  # a loop has them for itself
        if resting is None or self._digest != digest:
            resting, self._digest = Processes(self.workers, self.prefetch, job), digest
        return resting

    def _leave(self, workers: _Threads | Processes) -> None:
        usable = workers.forget()
        if usable and not isinstance(workers, _Threads):
            self._resting = workers

    # ---- where the run is ------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, int]:
        """Where the loop is: the batches handed out of which epoch, and what the rest depends on.

        A loader made with the same arguments gives exactly the rest after :meth:`load_state_dict`, bit for bit. There
        is no generator's state: order and augmentation are streams numbered by seed, epoch and batch.
        """
        values = (self._job.seed, self._epoch, self._batches, len(self), len(self.dataset))
        return dict(zip(_STATE, values, strict=True))

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go to where another loader was; the next loop gives the rest of its epoch.

        >>> from gpunn.data import ArrayDataset
        >>> data = ArrayDataset(np.arange(5))
        >>> loader = DataLoader(data, 2, shuffle=True, seed=0)
        >>> for batch in loader:
        ...     state = loader.state_dict()
        ...     break
        >>> resumed = DataLoader(data, 2, shuffle=True)
        >>> resumed.load_state_dict(state)
        >>> [batch.tolist() for batch in resumed]
        [[4, 1], [3]]

        Raises ArgumentError, and changes nothing, if it is the state of a loader of another data set or batch size.
        """
        op = "DataLoader.load_state_dict"
        check(
            set(state) == set(_STATE), ArgumentError, op, f"the state must have {', '.join(_STATE)}", keys=list(state)
        )
        whole = all(isinstance(value, (int, np.integer)) and value >= 0 for value in state.values())
        check(whole, ArgumentError, op, "the state must be integers of at least 0", state=dict(state))
        for name, own in (("samples", len(self.dataset)), ("batches_per_epoch", len(self))):
            if state[name] != own:
                why = "" if name == "samples" else " (another batch size, or drop_last)"
                fail(
                    ArgumentError, op, f"the state is of a loader with other {name}{why}", state=state[name], loader=own
                )
        rule = "batches must be at most batches_per_epoch"
        check(state["batches"] <= len(self), ArgumentError, op, rule, batches=state["batches"], of=len(self))
        check(state["seed"] < 1 << 64, ArgumentError, op, "seed must be below 2^64", seed=state["seed"])
        self._job = self._job.with_seed(int(state["seed"]))
        self._epoch, self._batches = int(state["epoch"]), int(state["batches"])
        self._at_start, self._current = True, None


_Task = tuple[int, int, int, Indices]  # epoch, number of the batch, rank, numbers of its samples


@dataclass(frozen=True)
class _Job:
    """All that it takes to make any batch."""

    dataset: Dataset[Any]
    transform: Callable[[Any, np.random.Generator], Any] | None
    collate: Callable[[Sequence[Any]], Any]
    augment: Callable[[Any, np.random.Generator], Any] | None
    seed: int

    def with_seed(self, seed: int) -> _Job:
        return _Job(self.dataset, self.transform, self.collate, self.augment, seed)

    def make(self, epoch: int, number: int, rank: int, indices: Indices) -> Any:
        if rank and not len(indices):
            return None
        generator = batch_generator(self.seed, epoch, number, rank)
        batch = self._whole(indices)
        try:
            if batch is None:
                batch = self.collate([self._sample(int(i), generator, epoch, number) for i in indices])
            return batch if self.augment is None else self.augment(batch, generator)
        except DataError as error:
            if hasattr(error, "sample"):
                raise
            _cannot(f"batch {number} of epoch {epoch}, samples {_shortened(indices)},", error)
        except Exception as error:
            _cannot(f"batch {number} of epoch {epoch}, samples {_shortened(indices)},", error)

    def make_apart(self, epoch: int, number: int, rank: int, indices: Indices) -> Any:
        """What ``make`` gives, in a process where nobody else draws from the global generators."""
        seed_global_generators(self.seed, epoch, number, rank)
        return self.make(epoch, number, rank, indices)

    def _whole(self, indices: Indices) -> Any:
        """The batch by the data set's own ``batch``, or None where it has none, or where that fails."""
        if self.transform is not None or self.collate is not default_collate or not hasattr(self.dataset, "batch"):
            return None
        try:
            return self.dataset.batch(indices)
        except Exception:  # sample by sample the error comes again, with the number of the sample
            return None

    def _sample(self, index: int, generator: np.random.Generator, epoch: int, number: int) -> Any:
        try:
            sample = self.dataset[index]
            return sample if self.transform is None else self.transform(sample, generator)
        except Exception as error:
            _cannot(f"sample {index} (batch {number} of epoch {epoch})", error, index)


def _cannot(what: str, error: Exception, sample: int | None = None) -> NoReturn:
    failure = DataError(f"DataLoader: {what} cannot be made: {type(error).__name__}: {error}")
    if sample is not None:
        failure.sample = sample  # type: ignore[attr-defined]
    raise failure from error


def _shortened(indices: Indices) -> str:
    numbers = [str(i) for i in indices[:8]]
    return ", ".join([*numbers, "..."] if len(indices) > 8 else numbers)


def _current_gpu() -> int | None:
    return int(sys.modules["cupy"].cuda.runtime.getDevice()) if "cupy" in sys.modules and gpu_count() else None


def _start_thread(gpu: int | None) -> None:
    if gpu is not None:  # each thread has a current device of its own
        sys.modules["cupy"].cuda.Device(gpu).use()


class _Threads:
    """Threads that make batches; the interface of :class:`Processes`."""

    def __init__(self, number: int, make: Callable[..., Any]) -> None:
        self._pool = ThreadPoolExecutor(number, "gpunn-data", _start_thread, (_current_gpu(),))
        self._make, self._pending = make, deque[Future[Any]]()

    def submit(self, *task: Any) -> None:
        # In the caller's context, with its default generator, precision, emulation: as if there were no workers.
        self._pending.append(self._pool.submit(copy_context().run, self._make, *task))

    def result(self) -> Any:
        return self._pending.popleft().result()

    def forget(self) -> bool:
        self._pool.shutdown(wait=True, cancel_futures=True)
        return False
