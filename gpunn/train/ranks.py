"""What the ranks of a data parallel training tell one another."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol, cast

import numpy as np

from gpunn.backend import Array, is_array, random_generator, to_cpu, use_generator
from gpunn.checkpoint import State
from gpunn.distributed import Buckets, Pending, Sharded, World, apart, on_first, share_state, synchronised
from gpunn.errors import ArgumentError, check
from gpunn.nn import Module
from gpunn.optim import Optimizer
from gpunn.tensor import Tensor

NO_EXAMPLE = "a loss must be the mean of at least one example"


class Shared(Protocol):
    """Data of which each rank takes its share; :class:`gpunn.data.DataLoader` is such."""

    @property
    def dataset(self) -> Any: ...
    @property
    def seed(self) -> int: ...
    def __len__(self) -> int: ...
    def share(self, rank: int, ranks: int, /) -> None: ...
    def state_dict(self) -> dict[str, Any]: ...


class Ranks:
    """The ranks of ``world``, which train one model together, each on its share of ``data``."""

    def __init__(self, world: World, model: Module, optimizer: Optimizer, data: Any, bucket_bytes: int) -> None:
        self.world = world
        self.leaving = False
        """Whether a rank was asked, before the last step or in the epoch's end, to leave."""
        rule = "data that ranks share must be a DataLoader, or have its dataset, seed, share and state_dict"
        shares = all(hasattr(data, name) for name in ("dataset", "seed", "share", "state_dict"))
        check(shares, ArgumentError, "Trainer", rule, data=type(data).__name__)
        self._model, self._optimizer, self._data = model, optimizer, cast(Shared, data)
        self._data.share(world.rank, world.size)
        self._synchronised = bool(synchronised(model))
        batches: Any = getattr(data, "batch_sampler", None)
        size = getattr(batches, "batch_size", None)
        self.unit: float = 1.0 if size is None else size / world.size
        """What the examples of a loss are divided by for its gradient: a sum may be more than float16 has."""
        drawn = getattr(batches, "sampler", self._data.dataset)
        tail = 0 if size is None or getattr(batches, "drop_last", True) else len(drawn) % size
        self.check_share(tail == 0 or tail >= world.size)
        self._parameters: list[Tensor] = []
        self._buckets: Buckets | None = None
        self._bucket_bytes = bucket_bytes
        self._sums: Pending | None = None

    # ---- the start ------------------------------------------------------------------------------------------------

    def agree(self, settings: Any) -> None:
        """Raise DistributedError, on all ranks, if they would train different things."""
        agree = self.world.agree
        agree("the arrays of the model", [(n, x.shape, str(x.dtype)) for n, x in self._model.state_dict().items()])
        agree("the optimizer", (type(self._optimizer).__name__, self._groups()))
        agree("the settings of the trainer", settings)
        agree("the number of samples, and of batches of an epoch", (len(self._data.dataset), len(self._data)))
        agree("the seed of the data", self._data.seed)
        agree("the samples, as far as they were looked at (a digest of some),", _digest(self._data.dataset))

    def _groups(self) -> list[Any]:
        groups = self._optimizer.groups
        return [(group.names, sorted((n, repr(value)) for n, value in group.settings.items())) for group in groups]

    def share_state(self, state: Mapping[str, State]) -> dict[str, State]:
        """That of rank 0."""
        return share_state(self.world, state)

    def check_share(self, samples: bool) -> None:
        """Raise ArgumentError where a rank has no samples of a batch by which all normalise."""
        rule = "each rank must have samples of each batch for sync_batch_norm: DataLoader(drop_last=True)"
        fits = samples or not self._synchronised
        check(fits, ArgumentError, "Trainer", rule, ranks=self.world.size)

    # ---- a step ---------------------------------------------------------------------------------------------------

    def begin(self, total: float, examples: float, asked: bool) -> Callable[[Any], None] | None:
        """Before the last backward pass of a step; gives what is told of each gradient that is whole.

        ``total`` is the loss of this rank's ``examples``. It is known with the gradients, in the same round.
        """
        self._sums = self.world.start_all_reduce(np.array([total, examples, asked], np.float64))
        if isinstance(self._optimizer, Sharded):
            return None
        parameters = [p for group in self._optimizer.groups for p in group.parameters]
        if self._buckets is None or len(parameters) > len(self._parameters):  # a group was added
            self._parameters, self._buckets = parameters, Buckets(self.world, parameters, self._bucket_bytes)
        self._buckets.begin()
        return self._buckets.add

    def finish(self) -> tuple[float, float]:
        """Have the gradient of the mean over all ranks' examples; return loss and number of these.

        Each parameter has it whole, or the optimizer a piece of it, whose states are shared out.
        """
        total, examples, asked = cast(Pending, self._sums).wait().tolist()
        self.leaving = asked > 0
        check(examples > 0, ArgumentError, "Trainer", NO_EXAMPLE, examples=examples)
        if isinstance(self._optimizer, Sharded):
            self._optimizer.reduce_gradients(examples / self.unit)
        else:
            cast(Buckets, self._buckets).finish(examples / self.unit)
        return total, int(examples) if examples.is_integer() else examples

    # ---- between steps --------------------------------------------------------------------------------------------

    def share_buffers(self) -> None:
        """Give all ranks the buffers of rank 0: running statistics, which each has of its own examples."""
        for _, buffer in self._model.named_buffers():
            self.world.broadcast(buffer.data)
            buffer.mark_changed()

    def measured(self, measure: Callable[[], Mapping[str, float]]) -> dict[str, float]:
        """The measures, which rank 0 takes."""

        def job() -> dict[str, float]:
            with self.world.busy("measuring"), apart(self._model):
                return {name: float(value) for name, value in measure().items()}

        return cast(dict[str, float], on_first(self.world, job))

    def agree_to_end(self, stopped: bool, asked: bool) -> bool:
        """Whether a rank stops the run after this epoch; ``leaving`` says whether one wants to leave at once.

        Raises DistributedError, on all ranks, if a callback or the measure has left them with different things.
        """
        cause = "(what changes it on one must change it on all: a callback that has every_rank)"
        self.world.agree(f"the optimizer's settings {cause}", self._groups())
        learning = [name for name, p in self._model.named_parameters() if p.requires_grad]
        self.world.agree(f"the parameters that learn {cause}", learning)
        cause = "(a measure that loops over them needs a DataLoader of its own)"
        self.world.agree(f"where the data are {cause}", self._data.state_dict())
        either = self.world.all_reduce(np.array([stopped, asked], np.int64), "max").tolist()
        self.leaving = bool(either[1])
        return bool(either[0])

    def first(self, where: str, means_nothing: str) -> str:
        """The first rank's ``where`` that does not begin with ``means_nothing``, with the rank; else that of rank 0."""
        every = self.world.broadcast_object(self.world.gather_objects(where))
        found = [f"{each} (rank {rank})" for rank, each in enumerate(every) if not each.startswith(means_nothing)]
        return cast(str, [*found, *every][0])


def _digest(dataset: Any) -> str:
    """Of three samples, which need not be all that there are."""
    digest = hashlib.sha256()
    with _seeded():
        for number in sorted({0, len(dataset) // 2, len(dataset) - 1}):
            _feed(digest.update, dataset[number])
    return digest.hexdigest()[:16]


@contextmanager
def _seeded() -> Iterator[None]:
    """A context in which the global generators draw the same on all ranks; afterwards they are where they were."""
    # The legacy generator of NumPy is for data sets that draw from it.
    python, numpys = random.getstate(), np.random.get_state()  # noqa: NPY002
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    try:
        with use_generator(random_generator(0)):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpys)  # noqa: NPY002


def _feed(update: Callable[[bytes], None], sample: Any) -> None:
    if isinstance(sample, Mapping):
        sample = sorted(sample.items())
    if isinstance(sample, tuple | list):
        for part in sample:
            _feed(update, part)
    elif is_array(sample) or isinstance(sample, np.generic):
        array: Array = to_cpu(sample) if is_array(sample) else np.asarray(sample)
        update(f"{array.dtype} {array.shape}".encode())
        update(np.ascontiguousarray(array).tobytes())
    elif isinstance(sample, str | bytes | int | float | bool):
        update(repr(sample).encode())
